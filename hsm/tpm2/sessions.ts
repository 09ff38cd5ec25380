import {
  constants,
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  type KeyObject,
  publicEncrypt,
} from 'node:crypto';
import { concatBytes, equalBytes } from '../../src/core/bytes.js';
import { asciiBytes, hmacSha256, kdfa } from './key-derivation.js';
import { EMPTY_TPM2B, plain, type RsaPublic, TpmFormatError, tpm2b, u8, u32 } from './structures.js';

/**
 * What a command is authorized by, or its parameters are encrypted by: entries of the authorization area, in the order
 * of the handles they are for, sessions without a handle last.
 *
 * @see TPM 2.0 Library, Part 1, sections 19 "Authorizations and Acknowledgments" and 21 "Session-based encryption"
 */
export interface CommandSession {
  /** Replaces the inside of the first parameter, which is a `TPM2B`, on its way to the TPM. */
  encrypt?(parameter: Uint8Array): Uint8Array;
  /** The entry; `digest` gives cpHash. */
  authorize(digest: () => Uint8Array): Uint8Array;
  /** Looks at the TPM's answer to the entry; `digest` gives rpHash. @throws {TpmFormatError} when it is forged. */
  acknowledge?(answer: SessionAnswer, digest: () => Uint8Array): void;
  /** Opens the inside of the first parameter of the response. After `acknowledge`. */
  decrypt?(parameter: Uint8Array): Uint8Array;
}

export interface SessionAnswer {
  readonly nonceTpm: Uint8Array;
  readonly attributes: number;
  readonly hmac: Uint8Array;
}

const PASSWORD_HANDLE = 0x4000_0009;
const CONTINUE_SESSION = 0x01;
const DECRYPT = 0x20;
const ENCRYPT = 0x40;

/** The authorization value itself: it crosses the bus in the clear, as the value of an untouched hierarchy is empty. */
export function password(value: Uint8Array = new Uint8Array()): CommandSession {
  const entry = concatBytes(u32(PASSWORD_HANDLE), EMPTY_TPM2B, u8(CONTINUE_SESSION), tpm2b(value));
  return { authorize: () => entry };
}

/** A satisfied policy that asks for no HMAC. The session ends with the command if that succeeds. */
export function satisfiedPolicy(session: number): CommandSession {
  const entry = concatBytes(u32(session), EMPTY_TPM2B, u8(0), EMPTY_TPM2B);
  return { authorize: () => entry };
}

const NONCE_BYTES = 16;

/**
 * An HMAC session salted to a key of the TPM, for encrypting parameters: what crosses the bus can then be read, and
 * changed, by nobody who only listens there. It authorizes nothing by itself.
 */
export class EncryptingSession {
  readonly handle: number;
  readonly #key: Uint8Array;
  readonly #random: (bytes: number) => Uint8Array;
  #nonceTpm: Uint8Array;
  #nonceCaller: Uint8Array = new Uint8Array();

  constructor(
    start: { readonly handle: number; readonly nonceTpm: Uint8Array },
    { salt, nonceCaller }: SessionSalt,
    random: (bytes: number) => Uint8Array,
  ) {
    this.handle = start.handle;
    this.#nonceTpm = start.nonceTpm;
    this.#key = kdfa(salt, 'ATH', start.nonceTpm, nonceCaller, 256);
    this.#random = random;
  }

  /** For a command whose first parameter is a secret. The session ends with it. */
  forCommand(): CommandSession {
    return {
      encrypt: (parameter) => {
        this.#nonceCaller = this.#random(NONCE_BYTES);
        const [key, iv] = this.#cipherKey(this.#nonceCaller, this.#nonceTpm);
        return plain(createCipheriv('aes-128-cfb', key, iv).update(parameter));
      },
      authorize: (digest) => this.#entry(DECRYPT, digest()),
      acknowledge: (answer, digest) => this.#check(answer, digest()),
    };
  }

  /** For a command whose response begins with a secret. The session goes on. */
  forResponse(): CommandSession {
    return {
      authorize: (digest) => {
        this.#nonceCaller = this.#random(NONCE_BYTES);
        return this.#entry(ENCRYPT | CONTINUE_SESSION, digest());
      },
      acknowledge: (answer, digest) => this.#check(answer, digest()),
      decrypt: (parameter) => {
        const [key, iv] = this.#cipherKey(this.#nonceTpm, this.#nonceCaller);
        return plain(createDecipheriv('aes-128-cfb', key, iv).update(parameter));
      },
    };
  }

  #entry(attributes: number, cpHash: Uint8Array): Uint8Array {
    const hmac = hmacSha256(this.#key, cpHash, this.#nonceCaller, this.#nonceTpm, u8(attributes));
    return concatBytes(u32(this.handle), tpm2b(this.#nonceCaller), u8(attributes), tpm2b(hmac));
  }

  #check({ nonceTpm, attributes, hmac }: SessionAnswer, rpHash: Uint8Array): void {
    const expected = hmacSha256(this.#key, rpHash, nonceTpm, this.#nonceCaller, u8(attributes));
    if (!equalBytes(hmac, expected)) {
      throw new TpmFormatError('the HMAC of the response is wrong: it was changed on its way from the TPM');
    }
    this.#nonceTpm = nonceTpm;
  }

  #cipherKey(newer: Uint8Array, older: Uint8Array): [key: Uint8Array, iv: Uint8Array] {
    const derived = kdfa(this.#key, 'CFB', newer, older, 256);
    return [derived.subarray(0, 16), derived.subarray(16)];
  }
}

export interface SessionSalt {
  readonly salt: Uint8Array;
  readonly nonceCaller: Uint8Array;
  readonly encryptedSalt: Uint8Array;
}

/** Salt and first nonce of a session, for the holder of `key` only. */
export function makeSessionSalt(key: RsaPublic, random: (bytes: number) => Uint8Array): SessionSalt {
  const salt = random(32);
  const encryptedSalt = publicEncrypt(
    {
      key: publicKeyOf(key),
      padding: constants.RSA_PKCS1_OAEP_PADDING,
      oaepHash: 'sha256',
      oaepLabel: asciiBytes('SECRET\0'),
    },
    salt,
  );
  return { salt, nonceCaller: random(NONCE_BYTES), encryptedSalt: plain(encryptedSalt) };
}

function publicKeyOf({ modulus, exponent }: RsaPublic): KeyObject {
  const base64url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  return createPublicKey({
    key: { kty: 'RSA', n: base64url(modulus), e: base64url(u32(exponent)) },
    format: 'jwk',
  });
}
