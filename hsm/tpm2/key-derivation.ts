import { createHmac } from 'node:crypto';
import { concatBytes } from '../../src/core/bytes.js';
import { plain, u8, u32 } from './structures.js';

/**
 * KDFa with SHA-256: SP800-108 in counter mode. `bits` is a multiple of 8.
 *
 * @see TPM 2.0 Library, Part 1, section 11.4.10.2 "KDFa()"
 */
export function kdfa(
  key: Uint8Array,
  label: string,
  contextU: Uint8Array,
  contextV: Uint8Array,
  bits: number,
): Uint8Array {
  const bytes = bits / 8;
  const fixed = concatBytes(asciiBytes(label), u8(0), contextU, contextV, u32(bits));
  let out = new Uint8Array();
  for (let counter = 1; out.length < bytes; counter += 1) {
    out = concatBytes(out, hmacSha256(key, u32(counter), fixed)) as Uint8Array<ArrayBuffer>;
  }
  return out.slice(0, bytes);
}

export function hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const hmac = createHmac('sha256', key);
  for (const part of parts) hmac.update(part);
  return plain(hmac.digest());
}

/** Labels are ASCII; those of OAEP count their ending NUL, those of KDFa bring it themselves. */
export function asciiBytes(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}
