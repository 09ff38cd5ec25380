import { createHash } from 'node:crypto';
import { concatBytes } from '../../src/core/bytes.js';

/**
 * Reading and writing what TPM 2.0 Library, Part 2 "Structures" defines. All integers are big-endian; a `TPM2B` is a
 * two-byte size and that many bytes.
 */

export const TPM_ALG = {
  RSA: 0x0001,
  AES: 0x0006,
  KEYEDHASH: 0x0008,
  SHA256: 0x000b,
  HMAC: 0x0005,
  NULL: 0x0010,
  ECC: 0x0023,
  SYMCIPHER: 0x0025,
  CFB: 0x0043,
} as const;

/** `TPMA_OBJECT`, the bits that matter here. */
export const OBJECT_ATTRIBUTE = {
  restricted: 0x0001_0000,
  decrypt: 0x0002_0000,
  sign: 0x0004_0000,
} as const;

/** Bytes that are not what their place asks for: too few, too many, or the wrong ones. */
export class TpmFormatError extends Error {
  override readonly name: string = 'TpmFormatError';
}

export function u8(value: number): Uint8Array {
  return Uint8Array.of(value);
}

export function u16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value);
}

export function u32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

export function tpm2b(bytes: Uint8Array): Uint8Array {
  return concatBytes(u16(bytes.length), bytes);
}

export const EMPTY_TPM2B: Uint8Array = u16(0);

/** Reads from the front. Never beyond the end, and `end()` refuses what is left over. */
export class TpmReader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #offset = 0;

  /** `what` names the whole in messages: `the response to ReadPublic`. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  get left(): number {
    return this.#bytes.length - this.#offset;
  }

  /** @throws {TpmFormatError} when fewer bytes are left. */
  take(length: number, part: string): Uint8Array {
    if (length > this.left) {
      throw new TpmFormatError(`${part} of ${this.#what} needs ${length} bytes, and only ${this.left} are left`);
    }
    this.#offset += length;
    return this.#bytes.slice(this.#offset - length, this.#offset);
  }

  u8(part: string): number {
    return readUnsigned(this.take(1, part));
  }

  u16(part: string): number {
    return readUnsigned(this.take(2, part));
  }

  u32(part: string): number {
    return readUnsigned(this.take(4, part));
  }

  /** What is inside a `TPM2B`. */
  tpm2b(part: string): Uint8Array {
    return this.take(this.u16(`the size of ${part}`), part);
  }

  /** Whatever is left. */
  rest(): Uint8Array {
    return this.take(this.left, 'the rest');
  }

  /** @throws {TpmFormatError} when something is left. */
  end(): void {
    if (this.left > 0) throw new TpmFormatError(`${this.left} bytes follow the end of ${this.#what}`);
  }
}

function readUnsigned(bytes: Uint8Array): number {
  return bytes.reduce((value, byte) => value * 256 + byte, 0);
}

interface PublicBase {
  readonly nameAlg: number;
  readonly attributes: number;
  readonly authPolicy: Uint8Array;
}

export interface RsaPublic extends PublicBase {
  readonly type: 'rsa';
  /** Undefined for a key that is no storage key. */
  readonly symmetric: { readonly algorithm: number; readonly keyBits: number; readonly mode: number } | undefined;
  readonly scheme: number;
  readonly keyBits: number;
  /** 0 on the wire means 65537. */
  readonly exponent: number;
  readonly modulus: Uint8Array;
}

export interface KeyedHashPublic extends PublicBase {
  readonly type: 'keyedHash';
  readonly scheme: number;
  /** Of an HMAC scheme. */
  readonly hash: number | undefined;
}

export interface OtherPublic extends PublicBase {
  readonly type: 'other';
  readonly algorithm: number;
}

/** `TPMT_PUBLIC` of the kinds of keys that attestation deals in; of others only that they are others. */
export type TpmtPublic = RsaPublic | KeyedHashPublic | OtherPublic;

/** @throws {TpmFormatError} */
export function readTpmtPublic(bytes: Uint8Array, what: string): TpmtPublic {
  const reader = new TpmReader(bytes, what);
  const algorithm = reader.u16('the type');
  const base: PublicBase = {
    nameAlg: reader.u16('the name algorithm'),
    attributes: reader.u32('the attributes'),
    authPolicy: reader.tpm2b('the policy'),
  };
  if (algorithm === TPM_ALG.RSA) return readRsa(reader, base);
  if (algorithm === TPM_ALG.KEYEDHASH) return readKeyedHash(reader, base);
  return { type: 'other', algorithm, ...base };
}

function readRsa(reader: TpmReader, base: PublicBase): RsaPublic {
  const algorithm = reader.u16('the symmetric algorithm');
  const symmetric =
    algorithm === TPM_ALG.NULL
      ? undefined
      : { algorithm, keyBits: reader.u16('the symmetric key size'), mode: reader.u16('the symmetric mode') };
  const scheme = reader.u16('the scheme');
  // RSAES (0x0015) alone has no hash with it.
  if (scheme !== TPM_ALG.NULL && scheme !== 0x0015) reader.u16("the scheme's hash");
  const keyBits = reader.u16('the key size');
  const exponent = reader.u32('the exponent');
  const modulus = reader.tpm2b('the modulus');
  reader.end();
  return { type: 'rsa', ...base, symmetric, scheme, keyBits, exponent: exponent === 0 ? 65537 : exponent, modulus };
}

function readKeyedHash(reader: TpmReader, base: PublicBase): KeyedHashPublic {
  const scheme = reader.u16('the scheme');
  const hash = scheme === TPM_ALG.NULL ? undefined : reader.u16("the scheme's hash");
  // The XOR scheme names its key derivation as well.
  if (scheme !== TPM_ALG.NULL && scheme !== TPM_ALG.HMAC) reader.u16("the scheme's key derivation");
  reader.tpm2b('the unique value');
  reader.end();
  return { type: 'keyedHash', ...base, scheme, hash };
}

/**
 * The name of an object: `nameAlg || H(TPMT_PUBLIC)`, the public area without its size prefix. Only for SHA-256.
 *
 * @see TPM 2.0 Library, Part 1, section 16 "Names"
 */
export function nameOf(publicArea: Uint8Array): Uint8Array {
  return concatBytes(u16(TPM_ALG.SHA256), sha256(publicArea));
}

export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return plain(hash.digest());
}

/** A `Buffer` prints and compares differently from what the contracts say. */
export function plain(buffer: Uint8Array): Uint8Array {
  return new Uint8Array(buffer);
}

/** A handle or code as the specification and tpm2-tools write it. */
export function hex(value: number, digits = 8): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}
