import { encodeUtf8 } from '../../src/core/bytes.js';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import type { Clock } from '../../src/core/clock.js';
import { registrationIdProblem } from '../../src/core/identifiers.js';
import { HsmError } from '../../src/errors.js';
import { systemClock } from '../../src/system-clock.js';
import { kindOf } from '../../src/value-kind.js';
import {
  checkOptionNames,
  type OptionBag,
  optionalSecret,
  optionalText,
  optionError,
  type SecretSource,
} from '../hsm-options.js';
import {
  completeHandles,
  DEFAULT_HANDLES,
  HANDLE_NAMES,
  isOwnerHandle,
  OWNER_RANGE,
  type TpmHandles,
} from './handles.js';
import type { TpmLink } from './links/link.js';
import { DEFAULT_TPM_LINK, parseTpmLink } from './links/link-uri.js';
import { openTpmLink } from './links/open-link.js';
import { hex } from './structures.js';
import { KEY_TEMPLATE_NAMES, type KeyTemplateName } from './templates.js';

export interface Tpm2HsmOptions {
  /** The way to the TPM, such as `tpm2:/dev/tpmrm0` (default) or `tpm2:swtpm:host=127.0.0.1,port=2321`, or one of your own. */
  readonly link?: string | TpmLink;
  /** Default: derived from the endorsement key. */
  readonly registrationId?: string;
  readonly handles?: Partial<TpmHandles>;
  /** What EK and SRK are made from where there is none yet; see `KeyTemplateName`. Default `tcg`. */
  readonly template?: KeyTemplateName;
  /** Derive EK and SRK whenever they are needed instead of keeping them at handles. Default false. */
  readonly transientPrimaries?: boolean;
  /** Password of the owner hierarchy: text, or the file that holds it (mode 0600). Default: none. */
  readonly ownerAuth?: SecretSource;
  /** Password of the endorsement hierarchy. Default: none. */
  readonly endorsementAuth?: SecretSource;
  /** Hide from listeners on the bus what only the TPM shall know. Default true. */
  readonly encryptParameters?: boolean;
  /** Bound on one command. Default 60,000 ms, and 300,000 for one that makes a key. */
  readonly commandTimeoutMs?: number;
  readonly clock?: Clock;
}

/** The options, checked and complete. */
export interface Tpm2Settings {
  readonly link: TpmLink;
  readonly registrationId: string | undefined;
  readonly handles: TpmHandles;
  readonly template: KeyTemplateName;
  readonly transientPrimaries: boolean;
  readonly ownerAuth: Uint8Array;
  readonly endorsementAuth: Uint8Array;
  readonly encryptParameters: boolean;
  readonly commandTimeoutMs: number;
  readonly clock: Clock;
}

const DEFAULT_COMMAND_TIMEOUT_MS = 60_000;
/** The longest that a timer of Node can wait. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;
/** The longest digest of a TPM, which is the longest password of a hierarchy. */
const MAX_AUTH_BYTES = 64;

const OPTION_NAMES = [
  'link',
  'registrationId',
  'handles',
  'template',
  'transientPrimaries',
  'ownerAuth',
  'endorsementAuth',
  'encryptParameters',
  'commandTimeoutMs',
  'clock',
];

/**
 * @throws {ConfigurationError} when an option is unknown, of the wrong type, or cannot be right.
 * @throws {HsmError} `ERR_DPS_HSM_REGISTRATION_ID`, or what `readSecretFile` throws.
 */
export async function readTpm2Options(options: Tpm2HsmOptions, signal?: CancelSignal): Promise<Tpm2Settings> {
  const bag = checkOptionNames(options, OPTION_NAMES, 'the TPM HSM');
  const clock = optionalClock(bag);
  const settings = {
    registrationId: optionalRegistrationId(bag),
    handles: optionalHandles(bag),
    template: optionalTemplate(bag),
    transientPrimaries: optionalFlag(bag, 'transientPrimaries') ?? false,
    encryptParameters: optionalFlag(bag, 'encryptParameters') ?? true,
    commandTimeoutMs: optionalTimeout(bag),
    clock,
  };
  const makeLink = optionalLink(bag, clock);
  return {
    ...settings,
    ownerAuth: await readAuth(bag, 'ownerAuth', signal),
    endorsementAuth: await readAuth(bag, 'endorsementAuth', signal),
    link: await makeLink(),
  };
}

function optionalLink({ link }: OptionBag, clock: Clock): () => Promise<TpmLink> {
  if (typeof link === 'object' && link !== null && typeof (link as TpmLink).transceive === 'function') {
    return async () => link as TpmLink;
  }
  if (link !== undefined && typeof link !== 'string') {
    throw optionError(
      'ERR_DPS_CONFIG_OPTION',
      'link',
      `Option hsm.link must be a text or a link, not ${kindOf(link)}.`,
    );
  }
  const name = parseTpmLink(link ?? DEFAULT_TPM_LINK);
  return () => openTpmLink(name, clock);
}

function optionalRegistrationId(bag: OptionBag): string | undefined {
  const registrationId = optionalText(bag, 'registrationId');
  const problem = registrationId === undefined ? undefined : registrationIdProblem(registrationId);
  if (problem === undefined) return registrationId;
  throw new HsmError({ code: 'ERR_DPS_HSM_REGISTRATION_ID', operation: 'read identity', message: problem });
}

function optionalHandles({ handles }: OptionBag): TpmHandles {
  if (handles === undefined) return DEFAULT_HANDLES;
  if (typeof handles !== 'object' || handles === null) {
    const message = `Option hsm.handles must be an object with some of ${HANDLE_NAMES.join(', ')}, not ${kindOf(handles)}.`;
    throw optionError('ERR_DPS_CONFIG_OPTION', 'handles', message);
  }
  for (const name of Object.keys(handles)) {
    if (HANDLE_NAMES.includes(name)) continue;
    const message = `Option hsm.handles knows ${HANDLE_NAMES.join(', ')}; ${JSON.stringify(name)} is none of them.`;
    throw optionError('ERR_DPS_CONFIG_UNKNOWN_OPTION', 'handles', message);
  }
  const given = Object.entries(handles).filter(([, value]) => value !== undefined);
  for (const [name, value] of given) requireOwnerHandle(name, value);
  const all = completeHandles(Object.fromEntries(given));
  if (all !== undefined) return all;
  throw optionError(
    'ERR_DPS_CONFIG_OPTION',
    'handles',
    'Option hsm.handles names one handle twice; give four different ones.',
  );
}

function requireOwnerHandle(name: string, value: unknown): void {
  if (isOwnerHandle(value)) return;
  const got =
    typeof value === 'number'
      ? `not ${Number.isInteger(value) && value >= 0 ? hex(value) : value}`
      : `not ${kindOf(value)}`;
  throw optionError(
    'ERR_DPS_CONFIG_OPTION',
    'handles',
    `Option hsm.handles.${name} must be a number ${OWNER_RANGE}, ${got}.`,
  );
}

function optionalTemplate(bag: OptionBag): KeyTemplateName {
  const text = optionalText(bag, 'template') ?? 'tcg';
  const name = KEY_TEMPLATE_NAMES.find((known) => known === text);
  if (name !== undefined) return name;
  throw optionError(
    'ERR_DPS_CONFIG_OPTION',
    'template',
    `Option hsm.template must be one of ${KEY_TEMPLATE_NAMES.join(', ')}.`,
  );
}

function optionalFlag(bag: OptionBag, option: string): boolean | undefined {
  const value = bag[option];
  if (value === undefined || typeof value === 'boolean') return value;
  throw optionError(
    'ERR_DPS_CONFIG_OPTION',
    option,
    `Option hsm.${option} must be true or false, not ${kindOf(value)}.`,
  );
}

function optionalTimeout({ commandTimeoutMs }: OptionBag): number {
  if (commandTimeoutMs === undefined) return DEFAULT_COMMAND_TIMEOUT_MS;
  const isUsable =
    typeof commandTimeoutMs === 'number' && commandTimeoutMs > 0 && commandTimeoutMs <= LONGEST_TIMEOUT_MS;
  if (isUsable) return commandTimeoutMs;
  const message = `Option hsm.commandTimeoutMs must be a number of milliseconds above 0 and at most ${LONGEST_TIMEOUT_MS}.`;
  throw optionError('ERR_DPS_CONFIG_OPTION', 'commandTimeoutMs', message);
}

function optionalClock({ clock }: OptionBag): Clock {
  if (clock === undefined) return systemClock;
  if (typeof (clock as Clock | null)?.after === 'function') return clock as Clock;
  throw optionError('ERR_DPS_CONFIG_OPTION', 'clock', `Option hsm.clock must have after(), not be ${kindOf(clock)}.`);
}

async function readAuth(bag: OptionBag, option: string, signal: CancelSignal | undefined): Promise<Uint8Array> {
  const source = optionalSecret(bag, option);
  if (source === undefined) return new Uint8Array();
  const auth = typeof source === 'string' ? encodeUtf8(source) : await readAuthFile(source.file, signal);
  if (auth.length <= MAX_AUTH_BYTES) return auth;
  const message = `Option hsm.${option} has ${auth.length} bytes; no TPM takes a password of more than ${MAX_AUTH_BYTES}.`;
  throw optionError('ERR_DPS_CONFIG_OPTION', option, message);
}

/** Editors end the last line of a file; tpm2-tools drop that line end, too. */
async function readAuthFile(path: string, signal: CancelSignal | undefined): Promise<Uint8Array> {
  const { readSecretFile } = await import('../secret-file.js');
  const bytes = await readSecretFile(path, { what: 'TPM password', signal });
  let end = bytes.length;
  if (bytes[end - 1] === 0x0a) end -= 1;
  if (bytes[end - 1] === 0x0d) end -= 1;
  return bytes.slice(0, end);
}
