import { createSecretKey, hkdf, type KeyObject, randomBytes, scrypt } from 'node:crypto';
import { promisify } from 'node:util';
import { concatBytes, decodeBase64, encodeBase64, encodeUtf8 } from '../../src/core/bytes.js';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { unlessCancelled } from '../../src/core/cancellation.js';
import { excerptOf, memberOf, objectMember, textMember } from '../../src/core/json-body.js';
import { wordsOf } from '../../src/core/thrown-words.js';
import type { JsonObject } from '../../src/core/twin.js';
import { newerFormatError } from '../../src/durable/store-failure.js';
import { HsmError } from '../../src/errors.js';
import { INSTEAD_OF_NEWER, keyStoreError } from './key-store-error.js';
import { openBox, readBox, SEALING_KEY_BYTES, type SealedBox, sealBox } from './sealed-box.js';
import type { SealingSecret } from './sealing-secret.js';

/**
 * The header of a key store: the data key, under which all entries are sealed, sealed itself under what the owner gives.
 * To change what seals the store is to write this one small file.
 */
export interface StoreHeader {
  /** Random, of this store: an entry says to which store it belongs. */
  readonly storeId: string;
  readonly sealing: Sealing;
  /** The other slot of the file may still be sealed as it was before; who may write makes up for that. */
  readonly isSpareOlder: boolean;
  readonly box: SealedBox;
}

/** How the key that seals the data key comes from the secret. */
export type Sealing =
  | { readonly kind: 'passphrase'; readonly log2N: number; readonly p: number; readonly salt: Uint8Array }
  | { readonly kind: 'key'; readonly salt: Uint8Array };

/** Far more than a header has. */
export const MAX_HEADER_BYTES: number = 4096;

const TYPE = 'dps-device key store';
const FORMAT = 1;
const SPARE_IS_OLDER = 'spare-is-older';
const SALT_BYTES = 16;

/** 32 MiB and three passes: as hard as OWASP asks for, in memory that a small device has (Password Storage Cheat Sheet, 2024). */
const NEW_SCRYPT = { log2N: 15, p: 3 };
const SCRYPT_R = 8;
const MIN_LOG2_N = 15;
/** 128 MiB: what a header may make this process take before anything of it is known to be genuine. */
const MAX_LOG2_N = 17;
const MAX_P = 4;

const deriveScrypt: (
  password: Uint8Array,
  salt: Uint8Array,
  length: number,
  options: { N: number; r: number; p: number; maxmem: number },
) => Promise<Buffer> = promisify(scrypt);
const deriveHkdf = promisify(hkdf);

/** A store's id and its data key, new. */
export function makeStoreKey(): StoreKey {
  const bytes = randomBytes(SEALING_KEY_BYTES);
  const dataKey = createSecretKey(bytes);
  bytes.fill(0);
  return { storeId: randomBytes(16).toString('hex'), dataKey };
}

/** What the store is, apart from how it is sealed. */
export interface StoreKey {
  readonly storeId: string;
  readonly dataKey: KeyObject;
}

/** The header's file: the data key sealed under `secret`. */
export async function sealHeader(
  { storeId, dataKey }: StoreKey,
  secret: SealingSecret,
  signal: CancelSignal | undefined,
): Promise<Uint8Array> {
  const salt = randomBytes(SALT_BYTES);
  const sealing: Sealing = secret.kind === 'key' ? { kind: 'key', salt } : { kind: 'passphrase', ...NEW_SCRYPT, salt };
  const sealingKey = await deriveSealingKey(sealing, secret, signal);
  const label = { format: FORMAT, type: TYPE, id: storeId, sealing: describeSealing(sealing) };
  const bytes = dataKey.export();
  const file = sealBox(sealingKey, label, bytes);
  bytes.fill(0);
  return file;
}

/** The same header with the remark that makes `isSpareOlder`. */
export function markSpareOlder(file: Uint8Array): Uint8Array {
  return concatBytes(file, encodeUtf8(`${SPARE_IS_OLDER}\n`));
}

/** The same header without any remark. */
export function withoutRemarks(file: Uint8Array): Uint8Array {
  const end = file.indexOf(LINE_FEED, file.indexOf(LINE_FEED) + 1);
  return file.slice(0, end + 1);
}

/**
 * @throws {HsmError} `ERR_DPS_HSM_STORE_DAMAGED` for anything that is no header, or asks for more than is allowed.
 * @throws {StoreError} `ERR_DPS_STORE_NEWER_FORMAT`.
 */
export function readHeader(file: Uint8Array, path: string): StoreHeader {
  const box = readBox(file);
  if (box === undefined || textMember(box.label, 'type') !== TYPE) throw damaged(path, 'it is not that of a key store');
  const format = memberOf(box.label, 'format');
  if (typeof format === 'number' && format > FORMAT)
    throw newerFormatError({ operation: 'read', path }, format, INSTEAD_OF_NEWER);
  const storeId = textMember(box.label, 'id');
  const sealing = readSealing(objectMember(box.label, 'sealing') ?? {});
  if (format !== FORMAT || storeId === undefined || !/^[0-9a-f]{32}$/.test(storeId)) {
    throw damaged(path, 'format or id make no sense');
  }
  if (sealing === undefined) throw damaged(path, 'it does not say in a way known here how it is sealed');
  return { storeId, sealing, isSpareOlder: box.remarks.includes(SPARE_IS_OLDER), box };
}

/**
 * The data key.
 *
 * @throws {HsmError} `ERR_DPS_HSM_PASSPHRASE` when the secret is of the other kind, or not the right one.
 * @throws {CancelledError} when the signal aborts, while the key is derived, too.
 */
export async function openHeader(
  { sealing, box }: StoreHeader,
  secret: SealingSecret,
  directory: string,
  signal: CancelSignal | undefined,
): Promise<KeyObject> {
  if (secret.kind !== sealing.kind) throw wrongSecret(explainOtherKind(sealing, directory));
  const bytes = openBox(await deriveSealingKey(sealing, secret, signal), box);
  if (bytes === undefined || bytes.length !== SEALING_KEY_BYTES) {
    const what = sealing.kind === 'key' ? 'sealing key' : 'passphrase';
    throw wrongSecret(
      `The ${what} from ${secret.place} does not open the key store ${directory}: it is not the one that seals it, or somebody has changed the store's header. Nothing was changed. Give the right one, or put the folder back from a backup.`,
    );
  }
  const dataKey = createSecretKey(bytes);
  bytes.fill(0);
  return dataKey;
}

/** Bound to the use, so that a key file that is used elsewhere, too, gives nothing away there. */
const HKDF_INFO = 'dps-device key store, sealing key, 1';

async function deriveSealingKey(
  sealing: Sealing,
  secret: SealingSecret,
  signal: CancelSignal | undefined,
): Promise<KeyObject> {
  const derived = await unlessCancelled(signal, 'deriving the sealing key', async () => {
    if (sealing.kind === 'key') {
      return new Uint8Array(await deriveHkdf('sha256', secret.bytes, sealing.salt, HKDF_INFO, SEALING_KEY_BYTES));
    }
    const N = 2 ** sealing.log2N;
    // Node's own bound is 32 MiB; what is asked for here plus a little for the blocks of each pass.
    const maxmem = 128 * SCRYPT_R * (N + sealing.p) + 1_048_576;
    const options = { N, r: SCRYPT_R, p: sealing.p, maxmem };
    return deriveScrypt(secret.bytes, sealing.salt, SEALING_KEY_BYTES, options).catch((error: unknown) => {
      throw scryptError(N, error);
    });
  });
  const key = createSecretKey(derived);
  derived.fill(0);
  return key;
}

/** What it was asked for is within bounds: what can be in its way is that there is no memory, or no scrypt (FIPS). */
function scryptError(N: number, cause: unknown): Error {
  const mebibytes = (128 * SCRYPT_R * N) / 1_048_576;
  const isShortage = /malloc failure|out of memory/i.test(wordsOf(cause));
  const message = isShortage
    ? `The passphrase of the key store could not be tried: that takes ${mebibytes} MiB of memory, and this process got none. Nothing was changed. Free memory or raise the limit of the process, then try again; a store sealed with a key file takes none.`
    : `The passphrase of the key store could not be tried: the OpenSSL of this Node refused scrypt (${excerptOf(wordsOf(cause))}). In FIPS mode it has none; seal the store with a key file there.`;
  return new HsmError({
    code: 'ERR_DPS_HSM_OPERATION',
    operation: 'open key store',
    message,
    cause,
    retryable: isShortage,
  });
}

function describeSealing(sealing: Sealing): JsonObject {
  const salt = encodeBase64(sealing.salt);
  if (sealing.kind === 'key') return { kind: 'key', kdf: 'hkdf-sha256', salt };
  return { kind: 'passphrase', kdf: 'scrypt', log2N: sealing.log2N, r: SCRYPT_R, p: sealing.p, salt };
}

/** `undefined` for what this release would not have written, and is not going to work on. */
function readSealing(value: JsonObject): Sealing | undefined {
  const salt = decodeBase64(textMember(value, 'salt') ?? '');
  const kdf = textMember(value, 'kdf');
  if (salt === undefined || salt.length !== SALT_BYTES) return undefined;
  if (textMember(value, 'kind') === 'key') return kdf === 'hkdf-sha256' ? { kind: 'key', salt } : undefined;
  if (textMember(value, 'kind') !== 'passphrase' || kdf !== 'scrypt') return undefined;
  const log2N = memberOf(value, 'log2N');
  const p = memberOf(value, 'p');
  if (!isWithin(log2N, MIN_LOG2_N, MAX_LOG2_N) || !isWithin(p, 1, MAX_P)) return undefined;
  return memberOf(value, 'r') === SCRYPT_R ? { kind: 'passphrase', log2N, p, salt } : undefined;
}

function isWithin(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && Number(value) >= least && Number(value) <= most;
}

function explainOtherKind(sealing: Sealing, directory: string): string {
  return sealing.kind === 'key'
    ? `The key store ${directory} is sealed with a key, not a passphrase: give { file: … } as option hsm.sealingKey.`
    : `The key store ${directory} is sealed with a passphrase, not a key: give { file: … } as option hsm.passphrase.`;
}

function wrongSecret(message: string): Error {
  return keyStoreError('ERR_DPS_HSM_PASSPHRASE', 'open key store', message);
}

function damaged(path: string, what: string): Error {
  const message = `The header of the key store, ${path}, cannot be used: ${what}. Put the folder back from a backup; without its header no entry can be opened.`;
  return keyStoreError('ERR_DPS_HSM_STORE_DAMAGED', 'open key store', message);
}

const LINE_FEED = 0x0a;
