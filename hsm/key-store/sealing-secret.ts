import { randomBytes } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { decodeUtf8, encodeUtf8 } from '../../src/core/bytes.js';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { throwIfCancelled } from '../../src/core/cancellation.js';
import { type DurableIo, nodeDurableIo } from '../../src/durable/durable-io.js';
import { writePrivateFile } from '../../src/durable/private-file.js';
import { syncFolder } from '../../src/durable/private-folder.js';
import { storeErrorFrom, systemCodeOf } from '../../src/durable/store-failure.js';
import { kindOf } from '../../src/value-kind.js';
import { type OptionBag, optionalPath, optionalText, optionError } from '../hsm-options.js';
import { readPublicFile, readSecretFile } from '../secret-file.js';
import { keyStoreError } from './key-store-error.js';
import { SEALING_KEY_BYTES } from './sealed-box.js';

export type { CredentialSource, SealingOptions } from './key-store-options.js';

export const SEALING_OPTION_NAMES: readonly string[] = ['passphrase', 'sealingKey', 'credentialsDirectory'];

/** A secret that was read, to be wiped after use. */
export interface SealingSecret {
  readonly kind: 'passphrase' | 'key';
  readonly bytes: Uint8Array;
  /** Where it came from: `the passphrase file /etc/x`; never the secret. */
  readonly place: string;
}

/** Whether the secret is to open a store that is there, or to seal one from now on. */
export type SecretUse = 'open' | 'seal';

/**
 * Reads the passphrase or key that the options name.
 *
 * @throws {ConfigurationError} when neither or both are given, or one is not what it should be.
 * @throws {HsmError} `ERR_DPS_HSM_PASSPHRASE` when the secret cannot be one, or what `readSecretFile` throws.
 */
export async function readSealingSecret(
  options: OptionBag,
  use: SecretUse,
  signal: CancelSignal | undefined,
): Promise<SealingSecret> {
  const source = chooseSource(options);
  if ('text' in source) {
    throwIfCancelled(signal, 'reading the passphrase');
    return passphraseSecret(encodeUtf8(source.text), source.place);
  }
  const { kind, path, place, isCredential } = source;
  const what = kind === 'key' ? 'sealing key' : 'passphrase';
  // systemd guards its credentials by their folder; an access control list may look like a mode of 0440.
  const read = isCredential ? readPublicFile : readSecretFile;
  const bytes = await read(path, { what, signal });
  return kind === 'key' ? keySecret(bytes, place, use) : passphraseSecret(bytes, place);
}

/** Shorter ones are guessed whatever is done to slow the guessing down. Judged when a store is sealed, not when it is opened. */
const MIN_PASSPHRASE_CHARACTERS = 8;

/** @throws {HsmError} `ERR_DPS_HSM_PASSPHRASE` for a passphrase too short to seal with. */
export function checkNewSecret({ kind, bytes, place }: SealingSecret): void {
  if (kind === 'key' || (decodeUtf8(bytes)?.length ?? 0) >= MIN_PASSPHRASE_CHARACTERS) return;
  throw passphraseError(
    `The passphrase from ${place} is too short to seal with: it must have at least ${MIN_PASSPHRASE_CHARACTERS} characters. Better, seal with a key file of random bytes.`,
  );
}

/**
 * Makes a sealing key: a new file of 32 random bytes, mode 0600, on the disk when this settles. Its folder must be there.
 *
 * @returns false when there is something of that name already; it is left as it is.
 * @throws {StoreError} when it cannot be written.
 */
export async function makeKeyFile(
  path: string,
  signal?: CancelSignal,
  io: DurableIo = nodeDurableIo,
): Promise<boolean> {
  throwIfCancelled(signal, 'making a key file');
  const bytes = randomBytes(SEALING_KEY_BYTES);
  // Under its name there is never half a key, which would be taken for one that was damaged.
  const draft = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.new`);
  try {
    await writePrivateFile(io, draft, bytes, { isSynced: true });
    await io.link(draft, path);
    await syncFolder(io, dirname(path));
    return true;
  } catch (error) {
    if (systemCodeOf(error) === 'EEXIST') return false;
    throw storeErrorFrom(error, { operation: 'write', path }, io.userId);
  } finally {
    bytes.fill(0);
    await io.unlink(draft).catch(() => undefined);
  }
}

type ChosenSource =
  | { readonly text: string; readonly place: string }
  | {
      readonly kind: SealingSecret['kind'];
      readonly path: string;
      readonly place: string;
      readonly isCredential: boolean;
    };

function chooseSource(options: OptionBag): ChosenSource {
  const { passphrase, sealingKey } = options;
  if (passphrase !== undefined && sealingKey !== undefined) {
    const message =
      'Give either option hsm.passphrase or option hsm.sealingKey, not both: one of them seals the key store.';
    throw optionError('ERR_DPS_CONFIG_OPTION', 'sealingKey', message);
  }
  if (typeof passphrase === 'string') return { text: passphrase, place: 'option hsm.passphrase' };
  if (passphrase !== undefined) return fileSource(options, 'passphrase', 'passphrase');
  if (sealingKey !== undefined) return fileSource(options, 'sealingKey', 'key');
  const message =
    'Nothing opens the key store: give { file: … } as option hsm.passphrase, or { file: … } as option hsm.sealingKey.';
  throw optionError('ERR_DPS_CONFIG_MISSING_OPTION', 'passphrase', message);
}

function fileSource(
  options: OptionBag,
  option: 'passphrase' | 'sealingKey',
  kind: SealingSecret['kind'],
): ChosenSource {
  const what = kind === 'key' ? 'the sealing key' : 'the passphrase';
  const value = options[option];
  if (typeof value === 'object' && value !== null && 'file' in value) {
    const name = `${option}.file`;
    const path = optionalPath({ [name]: value.file }, name, 'store.key');
    if (path !== undefined) return { kind, path, place: `${what} file ${path}`, isCredential: false };
  }
  if (typeof value === 'object' && value !== null && 'credential' in value) {
    const name = optionalText({ [`${option}.credential`]: value.credential }, `${option}.credential`);
    if (name !== undefined) return credentialSource(options, option, kind, name);
  }
  const text = option === 'passphrase' ? 'a text, ' : '';
  const message = `Option hsm.${option} must be ${text}{ file: path } or { credential: name }, not ${kindOf(value)}.`;
  throw optionError('ERR_DPS_CONFIG_OPTION', option, message);
}

function credentialSource(
  options: OptionBag,
  option: string,
  kind: SealingSecret['kind'],
  credential: string,
): ChosenSource {
  if (!/^[A-Za-z0-9_.-]{1,255}$/.test(credential) || /^\.+$/.test(credential)) {
    const message = `Option hsm.${option}.credential must be the name of a systemd credential: letters, digits and _ . -`;
    throw optionError('ERR_DPS_CONFIG_OPTION', `${option}.credential`, message);
  }
  const folder = optionalText(options, 'credentialsDirectory') ?? process.env.CREDENTIALS_DIRECTORY;
  if (folder === undefined || folder === '') {
    const message = `Option hsm.${option} names the systemd credential ${credential}, but CREDENTIALS_DIRECTORY is not set: systemd sets it for services with LoadCredential= or LoadCredentialEncrypted=.`;
    throw optionError('ERR_DPS_CONFIG_OPTION', option, message);
  }
  return { kind, path: join(folder, credential), place: `systemd credential ${credential}`, isCredential: true };
}

/** As it was typed, whatever keyboard composed its accents; one line end is what editors and `echo` add. */
function passphraseSecret(bytes: Uint8Array, place: string): SealingSecret {
  const text = decodeUtf8(bytes);
  bytes.fill(0);
  if (text === undefined) {
    throw passphraseError(
      `The passphrase from ${place} is not UTF-8 text. A key of random bytes goes into option hsm.sealingKey.`,
    );
  }
  const phrase = text.replace(/\r?\n$/, '').normalize('NFC');
  if (phrase === '') throw passphraseError(`The passphrase from ${place} is empty.`);
  return { kind: 'passphrase', bytes: encodeUtf8(phrase), place };
}

function keySecret(bytes: Uint8Array, place: string, use: SecretUse): SealingSecret {
  if (bytes.length === SEALING_KEY_BYTES) return { kind: 'key', bytes, place };
  const what = `The sealing key from ${place} has ${bytes.length} bytes; it must have exactly ${SEALING_KEY_BYTES}`;
  const advice = use === 'seal' ? HOW_TO_MAKE : `. ${explainDamagedKey(bytes)} ${KEEP_THE_KEY}`;
  bytes.fill(0);
  throw passphraseError(`${what}${advice}`);
}

const HOW_TO_MAKE = `, random ones and not as text. Make one under a new name: head -c ${SEALING_KEY_BYTES} /dev/urandom > NEW-FILE; chmod 600 NEW-FILE`;
const KEEP_THE_KEY =
  'Keep the file, and put the right one back from its copy; a new key does not open a store that another one has sealed.';

/** What became of the key, as far as its length and last bytes show. */
function explainDamagedKey(bytes: Uint8Array): string {
  const lineEnd = bytes.at(-1) !== LINE_FEED ? 0 : bytes.at(-2) === CARRIAGE_RETURN ? 2 : 1;
  if (lineEnd > 0 && bytes.length - lineEnd === SEALING_KEY_BYTES) {
    return `It ends in a line end, which an editor or a transfer may have added: try its first ${SEALING_KEY_BYTES} bytes, copied to a new file (head -c ${SEALING_KEY_BYTES}).`;
  }
  return bytes.length < SEALING_KEY_BYTES
    ? 'So it is not the key of this key store, or was cut off.'
    : 'So it is not the key of this key store, or something has changed it: an editor, a transfer as text.';
}

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

function passphraseError(message: string): Error {
  return keyStoreError('ERR_DPS_HSM_PASSPHRASE', 'open key store', message);
}
