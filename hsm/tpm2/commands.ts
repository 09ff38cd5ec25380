import { concatBytes } from '../../src/core/bytes.js';
import { EMPTY_TPM2B, TPM_ALG, type TpmReader, tpm2b, u8, u16, u32 } from './structures.js';

/**
 * The commands that attestation needs, each with its code, handles, parameters and the reader of its response.
 *
 * @see TPM 2.0 Library, Part 3 "Commands"
 */

/** Something with a handle. `name` is what sessions authorize; only permanent handles are their own name. */
export interface TpmEntity {
  readonly handle: number;
  readonly name?: Uint8Array;
}

export const OWNER: TpmEntity = { handle: 0x4000_0001 };
export const ENDORSEMENT: TpmEntity = { handle: 0x4000_000b };
const NULL_HIERARCHY: TpmEntity = { handle: 0x4000_0007 };

export interface TpmCommand<T> {
  readonly name: string;
  readonly code: number;
  readonly handles: readonly TpmEntity[];
  readonly parameters: Uint8Array;
  /** Whether a handle comes back, of an object or session that has to be flushed some time. */
  readonly givesHandle: boolean;
  /** Reads the response's parameters; the handle is 0 when none comes back. The caller sees to trailing bytes. */
  readonly read: (reader: TpmReader, handle: number) => T;
}

const nothing = (): void => undefined;

/** After power-on, TPM_SU_CLEAR. */
export function startup(): TpmCommand<void> {
  return command('Startup', 0x144, [], u16(0), nothing);
}

/** One `TPM_PT` property, or undefined when the TPM has none of that number. */
export function getProperty(property: number): TpmCommand<number | undefined> {
  const TPM_CAP_TPM_PROPERTIES = 6;
  const parameters = concatBytes(u32(TPM_CAP_TPM_PROPERTIES), u32(property), u32(1));
  return command('GetCapability', 0x17a, [], parameters, (reader) => {
    reader.u8('moreData');
    reader.u32('the capability');
    const count = reader.u32('the count');
    const found = Array.from({ length: Math.min(count, 1) }, () => [reader.u32('property'), reader.u32('value')]);
    return found[0]?.[0] === property ? found[0][1] : undefined;
  });
}

export function readPublic(handle: number): TpmCommand<{ publicArea: Uint8Array; name: Uint8Array }> {
  return command('ReadPublic', 0x173, [{ handle }], new Uint8Array(), (reader) => {
    const publicArea = reader.tpm2b('outPublic');
    const name = reader.tpm2b('name');
    reader.tpm2b('qualifiedName');
    return { publicArea, name };
  });
}

/** A primary key with an empty authorization value; `template` is a `TPMT_PUBLIC`. */
export function createPrimary(
  hierarchy: TpmEntity,
  template: Uint8Array,
): TpmCommand<{ handle: number; publicArea: Uint8Array }> {
  const emptySensitive = tpm2b(concatBytes(EMPTY_TPM2B, EMPTY_TPM2B));
  const parameters = concatBytes(emptySensitive, tpm2b(template), EMPTY_TPM2B, u32(0));
  return creating('CreatePrimary', 0x131, [hierarchy], parameters, (reader, handle) => {
    const publicArea = reader.tpm2b('outPublic');
    reader.tpm2b('creationData');
    reader.tpm2b('creationHash');
    readTicket(reader);
    reader.tpm2b('name');
    return { handle, publicArea };
  });
}

/** Under owner authorization: makes the loaded `object` persistent at `persistentHandle`, or removes the one there. */
export function evictControl(object: TpmEntity, persistentHandle: number): TpmCommand<void> {
  return command('EvictControl', 0x120, [OWNER, object], u32(persistentHandle), nothing);
}

/** The handle is a parameter here, not in the handle area. */
export function flushContext(handle: number): TpmCommand<void> {
  return command('FlushContext', 0x165, [], u32(handle), nothing);
}

export function contextSave(handle: number): TpmCommand<Uint8Array> {
  return command('ContextSave', 0x162, [{ handle }], new Uint8Array(), (reader) => reader.rest());
}

export function contextLoad(context: Uint8Array): TpmCommand<number> {
  return creating('ContextLoad', 0x161, [], context, (_reader, handle) => handle);
}

interface SessionStart {
  readonly nonceCaller: Uint8Array;
  readonly type: 'hmac' | 'policy';
  /** Key that `encryptedSalt` is encrypted to. */
  readonly tpmKey?: TpmEntity;
  readonly encryptedSalt?: Uint8Array;
}

/** Unbound, SHA-256; with AES-128-CFB for parameters when it is an HMAC session. */
export function startAuthSession({
  nonceCaller,
  type,
  tpmKey = NULL_HIERARCHY,
  encryptedSalt = new Uint8Array(),
}: SessionStart): TpmCommand<{ handle: number; nonceTpm: Uint8Array }> {
  const symmetric = type === 'hmac' ? AES_128_CFB : u16(TPM_ALG.NULL);
  const parameters = concatBytes(
    tpm2b(nonceCaller),
    tpm2b(encryptedSalt),
    u8(type === 'hmac' ? 0 : 1),
    symmetric,
    u16(TPM_ALG.SHA256),
  );
  return creating('StartAuthSession', 0x176, [tpmKey, NULL_HIERARCHY], parameters, (reader, handle) => ({
    handle,
    nonceTpm: reader.tpm2b('nonceTPM'),
  }));
}

/** Satisfies the policy of the default EK. */
export function policySecret(hierarchy: TpmEntity, session: number): TpmCommand<void> {
  const parameters = concatBytes(EMPTY_TPM2B, EMPTY_TPM2B, EMPTY_TPM2B, u32(0));
  return command('PolicySecret', 0x151, [hierarchy, { handle: session }], parameters, (reader) => {
    reader.tpm2b('timeout');
    readTicket(reader);
  });
}

/** Opens what was sealed to both `key` and the name of `activated`. Both are the insides of their `TPM2B`. */
export function activateCredential(
  activated: TpmEntity,
  key: TpmEntity,
  credential: Uint8Array,
  secret: Uint8Array,
): TpmCommand<Uint8Array> {
  const parameters = concatBytes(tpm2b(credential), tpm2b(secret));
  return command('ActivateCredential', 0x147, [activated, key], parameters, (reader) => reader.tpm2b('certInfo'));
}

export interface DuplicatedKey {
  readonly innerKey: Uint8Array;
  readonly publicArea: Uint8Array;
  readonly duplicate: Uint8Array;
  readonly encryptedSeed: Uint8Array;
}

/** Gives the private part as `parent` wraps it: useless anywhere but under it. */
export function importKey(parent: TpmEntity, key: DuplicatedKey): TpmCommand<Uint8Array> {
  const { innerKey, publicArea, duplicate, encryptedSeed } = key;
  const symmetric = concatBytes(u16(TPM_ALG.AES), u16(innerKey.length * 8), u16(TPM_ALG.CFB));
  const parameters = concatBytes(tpm2b(innerKey), tpm2b(publicArea), tpm2b(duplicate), tpm2b(encryptedSeed), symmetric);
  return command('Import', 0x156, [parent], parameters, (reader) => reader.tpm2b('outPrivate'));
}

export function load(
  parent: TpmEntity,
  privateArea: Uint8Array,
  publicArea: Uint8Array,
): TpmCommand<{ handle: number; name: Uint8Array }> {
  const parameters = concatBytes(tpm2b(privateArea), tpm2b(publicArea));
  return creating('Load', 0x157, [parent], parameters, (reader, handle) => ({ handle, name: reader.tpm2b('name') }));
}

/** With the key's own hash. `data` is no longer than the TPM's input buffer. */
export function hmac(key: TpmEntity, data: Uint8Array): TpmCommand<Uint8Array> {
  const parameters = concatBytes(tpm2b(data), u16(TPM_ALG.NULL));
  return command('HMAC', 0x155, [key], parameters, (reader) => reader.tpm2b('outHMAC'));
}

export function hmacStart(key: TpmEntity): TpmCommand<number> {
  const parameters = concatBytes(EMPTY_TPM2B, u16(TPM_ALG.NULL));
  return creating('HMAC_Start', 0x15b, [key], parameters, (_reader, handle) => handle);
}

export function sequenceUpdate(sequence: number, data: Uint8Array): TpmCommand<void> {
  return command('SequenceUpdate', 0x15c, [{ handle: sequence }], tpm2b(data), nothing);
}

/** The TPM drops the sequence with it. */
export function sequenceComplete(sequence: number, data: Uint8Array): TpmCommand<Uint8Array> {
  const parameters = concatBytes(tpm2b(data), u32(NULL_HIERARCHY.handle));
  return command('SequenceComplete', 0x13e, [{ handle: sequence }], parameters, (reader) => {
    const digest = reader.tpm2b('result');
    readTicket(reader);
    return digest;
  });
}

/** `TPMT_TK_…`: tag, hierarchy, digest. Nothing here asks for one. */
function readTicket(reader: TpmReader): void {
  reader.u16("the ticket's tag");
  reader.u32("the ticket's hierarchy");
  reader.tpm2b("the ticket's digest");
}

const AES_128_CFB = concatBytes(u16(TPM_ALG.AES), u16(128), u16(TPM_ALG.CFB));

function command<T>(
  name: string,
  code: number,
  handles: readonly TpmEntity[],
  parameters: Uint8Array,
  read: (reader: TpmReader, handle: number) => T,
): TpmCommand<T> {
  return { name, code, handles, parameters, givesHandle: false, read };
}

/** A command whose response begins with the handle of what it made. */
function creating<T>(...parts: Parameters<typeof command<T>>): TpmCommand<T> {
  return { ...command(...parts), givesHandle: true };
}
