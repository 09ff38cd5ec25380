import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import type { SymmetricKeyHsm } from '../src/core/attestation.js';
import { decodeBase64, decodeUtf8 } from '../src/core/bytes.js';
import type { CancelSignal } from '../src/core/cancel-signal.js';
import { throwIfCancelled } from '../src/core/cancellation.js';
import { registrationIdProblem } from '../src/core/identifiers.js';
import { deviceKeyMessage } from '../src/core/sas.js';
import { HsmError } from '../src/errors.js';
import {
  checkOptionNames,
  type OptionBag,
  optionalSecret,
  optionError,
  requiredText,
  type SecretSource,
} from './hsm-options.js';
import { holdsOnlyCertificates } from './pem.js';
import { readSecretFile } from './secret-file.js';

/** Where a key comes from: its Base64 text, or the file that holds it (mode 0600). */
export type KeySource = SecretSource;

/** Keys of an individual enrollment, or keys derived for this device by whoever has the group's. */
interface DeviceKeys {
  readonly key: KeySource;
  /** Tried when the service refuses the first, e.g. while keys are rolled. */
  readonly secondaryKey?: KeySource;
}

/** Keys of an enrollment group. Who holds one can be any device of the group: for test benches, not for devices. */
interface GroupKeys {
  readonly groupKey: KeySource;
  readonly secondaryGroupKey?: KeySource;
}

export type SymmetricKeyHsmOptions = { readonly registrationId: string } & (DeviceKeys | GroupKeys);

/** Of a decoded key. The service makes keys of 64 bytes and takes any of 16 to 64. */
const MIN_KEY_BYTES = 16;
const MAX_KEY_BYTES = 64;

const OPTION_NAMES = ['registrationId', 'key', 'secondaryKey', 'groupKey', 'secondaryGroupKey'];

/**
 * Holds one or two symmetric keys in memory and signs with them. From a group key the device's own key is derived
 * (`HMAC-SHA256(group key, registration id)`), and the group key is dropped.
 *
 * @throws {ConfigurationError} when an option is missing, unknown, of the wrong type, or does not go with another.
 * @throws {HsmError} `ERR_DPS_HSM_REGISTRATION_ID`, `ERR_DPS_HSM_KEY_INVALID`, or what `readSecretFile` throws.
 * @throws {CancelledError} when the signal aborts.
 */
export async function symmetricKeyHsm(
  options: SymmetricKeyHsmOptions,
  signal?: CancelSignal,
): Promise<SymmetricKeyHsm> {
  const bag = checkOptionNames(options, OPTION_NAMES, 'the symmetric key HSM');
  const registrationId = requiredText(bag, 'registrationId', 'the name of this device in its enrollment');
  const problem = registrationIdProblem(registrationId);
  if (problem !== undefined) {
    throw new HsmError({ code: 'ERR_DPS_HSM_REGISTRATION_ID', operation: 'load device key', message: problem });
  }
  const keys: KeyObject[] = [];
  for (const { isGroupKey, ...named } of chooseSources(bag)) {
    const bytes = await loadKey(named, isGroupKey ? 'group key' : 'device key', signal);
    keys.push(isGroupKey ? deriveDeviceKey(bytes, registrationId) : sealKey(bytes));
  }
  return new KeysInMemory(registrationId, keys);
}

class KeysInMemory implements SymmetricKeyHsm {
  readonly kind = 'symmetricKey';
  readonly #registrationId: string;
  readonly #keys: readonly KeyObject[];

  constructor(registrationId: string, keys: readonly KeyObject[]) {
    this.#registrationId = registrationId;
    this.#keys = keys;
  }

  get slots(): number {
    return this.#keys.length;
  }

  async registrationId(signal: CancelSignal): Promise<string> {
    throwIfCancelled(signal, 'reading the registration id');
    return this.#registrationId;
  }

  async sign(data: Uint8Array, slot: number, signal: CancelSignal): Promise<Uint8Array> {
    throwIfCancelled(signal, 'signing');
    return new Uint8Array(createHmac('sha256', this.#key(slot, 'sign')).update(data).digest());
  }

  async exportKey(slot: number, signal: CancelSignal): Promise<string> {
    throwIfCancelled(signal, 'exporting the device key');
    return this.#key(slot, 'export key').export().toString('base64');
  }

  #key(slot: number, operation: string): KeyObject {
    const key = this.#keys[slot];
    if (key !== undefined) return key;
    const message = `There is no device key in slot ${slot}; slots count from 0, and there are ${this.#keys.length}.`;
    throw new HsmError({ code: 'ERR_DPS_HSM_OPERATION', operation, message });
  }
}

interface NamedSource {
  readonly option: string;
  readonly source: KeySource;
  readonly isGroupKey: boolean;
}

function chooseSources(options: OptionBag): NamedSource[] {
  const device = findPair(options, 'key', 'secondaryKey');
  const group = findPair(options, 'groupKey', 'secondaryGroupKey');
  if (device.length > 0 && group.length > 0) {
    const message =
      'Give either option hsm.key (the key of this device) or option hsm.groupKey (the key of its enrollment group), not both.';
    throw optionError('ERR_DPS_CONFIG_OPTION', 'groupKey', message);
  }
  if (device.length + group.length > 0) return [...device, ...group];
  const message = 'Option hsm.key is missing: give the Base64 key of this device, or { file: path } of a file with it.';
  throw optionError('ERR_DPS_CONFIG_MISSING_OPTION', 'key', message);
}

function findPair(options: OptionBag, first: string, second: string): NamedSource[] {
  const isGroupKey = first === 'groupKey';
  const primary = optionalSecret(options, first);
  const secondary = optionalSecret(options, second);
  if (primary === undefined && secondary !== undefined) {
    throw optionError(
      'ERR_DPS_CONFIG_MISSING_OPTION',
      first,
      `Option hsm.${second} is given without option hsm.${first}. Give both.`,
    );
  }
  return [
    ...(primary === undefined ? [] : [{ option: first, source: primary, isGroupKey }]),
    ...(secondary === undefined ? [] : [{ option: second, source: secondary, isGroupKey }]),
  ];
}

async function loadKey(
  { option, source }: { readonly option: string; readonly source: KeySource },
  what: string,
  signal: CancelSignal | undefined,
): Promise<Uint8Array> {
  if (typeof source === 'string') return decodeKeyText(source, option);
  const place = `The ${what} file ${source.file}`;
  const bytes = await readSecretFile(source.file, {
    what,
    signal,
    mistakeIn: (content) => {
      const text = decodeUtf8(content);
      return text !== undefined && holdsOnlyCertificates(text) ? keyError(`${place} ${IS_PEM}`) : undefined;
    },
  });
  const text = decodeUtf8(bytes);
  bytes.fill(0);
  if (text === undefined) throw keyError(`${place} is not text; it must hold the key in Base64.`);
  return decodeKey(text, place);
}

function decodeKeyText(text: string, option: string): Uint8Array {
  const place = `The text of option hsm.${option}`;
  if (!looksLikePath(text)) return decodeKey(text, place);
  return decodeKey(text, place, ` To read it from a file give { file: … } as option hsm.${option}.`);
}

/** Letters of a short path may all be letters of Base64, too; then this is only a hint beside what is wrong. */
function looksLikePath(text: string): boolean {
  return /^(?:\.{0,2}\/|~|[A-Za-z]:\\)[^\s=]+$|^[^\s=]+\.[A-Za-z0-9]{1,8}$/.test(text.trim());
}

/** `hint` follows what is wrong, if anything is. */
function decodeKey(text: string, place: string, hint = ''): Uint8Array {
  // Files end in a line break, and some editors begin them with a byte order mark.
  const base64 = text.replace(/^\uFEFF/, '').trim();
  const bytes = decodeBase64(base64);
  if (bytes === undefined) throw keyError(`${place} ${explainNotBase64(base64)}${hint}`);
  if (bytes.length >= MIN_KEY_BYTES && bytes.length <= MAX_KEY_BYTES) return bytes;
  const found = bytes.length === 0 ? 'is empty' : `decodes to ${bytes.length} bytes`;
  throw keyError(`${place} ${found}; a key has ${MIN_KEY_BYTES} to ${MAX_KEY_BYTES} bytes. ${COPY_IT}${hint}`);
}

const COPY_IT = 'Copy the whole key from the enrollment.';
const IS_PEM = 'is PEM, which belongs to X.509; give the Base64 key from the enrollment.';

/** What it is instead, without a character of it. */
function explainNotBase64(text: string): string {
  if (/SharedAccessKey=/i.test(text)) {
    return 'is a connection string; give only what follows SharedAccessKey= in it.';
  }
  if (text.includes('-----BEGIN')) return IS_PEM;
  if (/^[A-Za-z0-9_-]+={0,2}$/.test(text) && /[-_]/.test(text)) {
    return 'is in the URL-safe alphabet of Base64; write + for - and / for _, and pad with = to a multiple of 4.';
  }
  const strange = text.search(/[^A-Za-z0-9+/=]/);
  if (strange >= 0) return `is not Base64: character ${strange + 1} cannot be in it. ${COPY_IT}`;
  return text.length % 4 === 0
    ? `is not Base64: there is padding (=) before its end. ${COPY_IT}`
    : `is not Base64: its length ${text.length} is no multiple of 4, so it was cut or lost its padding (=). ${COPY_IT}`;
}

function keyError(message: string): HsmError {
  return new HsmError({ code: 'ERR_DPS_HSM_KEY_INVALID', operation: 'load device key', message });
}

function deriveDeviceKey(groupKey: Uint8Array, registrationId: string): KeyObject {
  const derived = createHmac('sha256', groupKey).update(deviceKeyMessage(registrationId)).digest();
  groupKey.fill(0);
  return sealKey(derived);
}

function sealKey(bytes: Uint8Array): KeyObject {
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}
