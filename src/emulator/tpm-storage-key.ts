/** What the service reads of a TPM's endorsement key and storage root key: TPM2B_PUBLIC of RSA 2048 with AES-128-CFB. */
import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { concatBytes, toHex } from '../core/bytes.js';

/** A key that a TPM decrypts with, by its public area. */
export interface StorageKey {
  /** TPM2B_PUBLIC as it was received, with its size. */
  readonly bytes: Uint8Array;
  /** The TPM's name for it: the hash algorithm's number, and the SHA-256 of the public area. */
  readonly name: Uint8Array;
  readonly publicKey: KeyObject;
}

const MODULUS_BYTES = 256;

/** Fields that must have one value, by their place; between the attributes and the cipher stands the policy. */
const HEAD: readonly Field[] = [
  { bytes: 2, value: '0001', problem: 'it is no RSA key' },
  { bytes: 2, value: '000b', problem: 'its name algorithm is not SHA-256' },
];
const TAIL: readonly Field[] = [
  { bytes: 6, value: '000600800043', problem: 'its cipher is not AES-128-CFB' },
  { bytes: 2, value: '0010', problem: 'it has a signing or encryption scheme' },
  { bytes: 2, value: '0800', problem: 'it has not 2048 bits' },
  { bytes: 4, value: '00000000', problem: 'its exponent is not the default 65537' },
];

interface Field {
  readonly bytes: number;
  readonly value: string;
  readonly problem: string;
}

/** `problem` says what kind of key, or no key, it is. */
export function parseStorageKey(bytes: Uint8Array): StorageKey | { readonly problem: string } {
  try {
    const modulus = readModulus(bytes);
    return {
      bytes,
      name: nameOf(bytes.subarray(2)),
      publicKey: createPublicKey({
        key: { kty: 'RSA', n: Buffer.from(modulus).toString('base64url'), e: 'AQAB' },
        format: 'jwk',
      }),
    };
  } catch (error) {
    if (error instanceof LayoutError) return { problem: error.message };
    throw error;
  }
}

/** `000b` and the SHA-256 of a public area without its size. */
export function nameOf(publicArea: Uint8Array): Uint8Array {
  return concatBytes(Uint8Array.of(0x00, 0x0b), createHash('sha256').update(publicArea).digest());
}

class LayoutError extends Error {}

function readModulus(bytes: Uint8Array): Uint8Array {
  const [high = 0, low = 0] = bytes;
  if (bytes.length < 2 || high * 256 + low !== bytes.length - 2) {
    throw new LayoutError('it is no TPM2B_PUBLIC: its first two bytes are not the size of the rest');
  }
  const area = new AreaReader(bytes.subarray(2));
  for (const field of HEAD) area.expect(field);
  area.take(4);
  area.takeSized();
  for (const field of TAIL) area.expect(field);
  const modulus = area.takeSized();
  area.end();
  if (modulus.length === MODULUS_BYTES && (modulus[0] ?? 0) >= 0x80) return modulus;
  throw new LayoutError('its modulus has not 2048 bits');
}

/** Reads big-endian fields, never beyond the end. */
class AreaReader {
  readonly #bytes: Uint8Array;
  #position = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  take(length: number): Uint8Array {
    const end = this.#position + length;
    if (end > this.#bytes.length) throw new LayoutError('it is cut short');
    const taken = this.#bytes.subarray(this.#position, end);
    this.#position = end;
    return taken;
  }

  takeSized(): Uint8Array {
    const [high = 0, low = 0] = this.take(2);
    return this.take(high * 256 + low);
  }

  expect({ bytes, value, problem }: Field): void {
    if (toHex(this.take(bytes)) !== value) throw new LayoutError(problem);
  }

  end(): void {
    if (this.#position !== this.#bytes.length) throw new LayoutError('something follows after its end');
  }
}
