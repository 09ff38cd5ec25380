import { createHash } from 'node:crypto';
import { concatBytes, decodeUtf8, encodeUtf8 } from '../core/bytes.js';

/**
 * One slot of an A/B file: a line of text, then the content.
 *
 * ```
 * dps-device-slot 1 0000000000000042 00001234 5f70bf18a086…c1b2\n{"format":1,…
 *                 |  generation       length   SHA-256 of name, line up to here, and content
 *                 format
 * ```
 *
 * Generation and length in decimal, zero-padded. Every later format keeps this line and the rule of its checksum, so
 * that a format that is newer can be told from a digit that flipped.
 */
export interface Slot {
  readonly format: number;
  readonly generation: number;
  readonly bytes: Uint8Array;
}

export type DecodedSlot =
  | { readonly kind: 'slot'; readonly slot: Slot }
  | { readonly kind: 'damaged'; readonly what: string };

export const SLOT_FORMAT: number = 1;
/** Bytes of the line, its end included. */
export const SLOT_HEADER_BYTES: number = 109;

const HEADER = /^dps-device-slot (\d) (\d{16}) (\d{8}) ([0-9a-f]{64})\n$/;

/** `name` is that of the A/B file: a slot does not count under another one's name. */
export function encodeSlot(name: string, slot: Slot): Uint8Array {
  const line = `dps-device-slot ${slot.format} ${pad(slot.generation, 16)} ${pad(slot.bytes.length, 8)} `;
  return concatBytes(encodeUtf8(`${line}${checksum(name, line, slot.bytes)}\n`), slot.bytes);
}

/** Never throws. */
export function decodeSlot(name: string, file: Uint8Array): DecodedSlot {
  if (file.length === 0) return { kind: 'damaged', what: 'it is empty' };
  const header = decodeUtf8(file.subarray(0, SLOT_HEADER_BYTES)) ?? '';
  const [, format, generationText, length, digest] = HEADER.exec(header) ?? [];
  if (format === undefined) return { kind: 'damaged', what: 'it does not begin as a slot does' };
  const generation = Number(generationText);
  const bytes = file.slice(SLOT_HEADER_BYTES);
  const isWhole = bytes.length === Number(length) && Number.isSafeInteger(generation);
  const line = header.slice(0, header.lastIndexOf(' ') + 1);
  if (isWhole && checksum(name, line, bytes) === digest) {
    return { kind: 'slot', slot: { format: Number(format), generation, bytes } };
  }
  const what = isWhole
    ? 'its checksum does not match: bytes have changed, or it was made under another name'
    : `it should have ${Number(length)} bytes of content and has ${bytes.length}`;
  return { kind: 'damaged', what };
}

function checksum(name: string, line: string, bytes: Uint8Array): string {
  return createHash('sha256').update(`${name}\n${line}`).update(bytes).digest('hex');
}

function pad(value: number, digits: number): string {
  return String(value).padStart(digits, '0');
}
