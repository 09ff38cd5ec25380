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
/** Of what can be read: the one after it would be no safe integer. No device writes that often. */
export const MAX_GENERATION: number = Number.MAX_SAFE_INTEGER - 1;
/** Bytes of the line, its end included. */
export const SLOT_HEADER_BYTES: number = 109;

const START = 'dps-device-slot ';
const HEADER = /^dps-device-slot (\d) (\d{16}) (\d{8}) ([0-9a-f]{64})\n$/;

/** `name` is that of the A/B file: a slot does not count under another one's name. */
export function encodeSlot(name: string, slot: Slot): Uint8Array {
  const line = `dps-device-slot ${slot.format} ${pad(slot.generation, 16)} ${pad(slot.bytes.length, 8)} `;
  return concatBytes(encodeUtf8(`${line}${checksum(name, line, slot.bytes)}\n`), slot.bytes);
}

/** Never throws. */
export function decodeSlot(name: string, file: Uint8Array): DecodedSlot {
  const header = decodeUtf8(file.subarray(0, SLOT_HEADER_BYTES)) ?? '';
  const [, format, generationText, length, digest] = HEADER.exec(header) ?? [];
  if (format === undefined) return { kind: 'damaged', what: describeNoSlot(file) };
  const generation = Number(generationText);
  const bytes = file.slice(SLOT_HEADER_BYTES);
  const what = lengthDamage(bytes.length, Number(length));
  if (what !== undefined) return { kind: 'damaged', what };
  const line = header.slice(0, header.lastIndexOf(' ') + 1);
  if (checksum(name, line, bytes) !== digest) return { kind: 'damaged', what: CHECKSUM_DIFFERS };
  if (generation > MAX_GENERATION) {
    return { kind: 'damaged', what: `it says generation ${generationText}, after which there can be no other` };
  }
  return { kind: 'slot', slot: { format: Number(format), generation, bytes } };
}

const CHECKSUM_DIFFERS = 'its checksum does not match: bytes have changed, or it was made under another name';

function describeNoSlot(file: Uint8Array): string {
  if (file.length === 0) return 'it is empty';
  const start = decodeUtf8(file.subarray(0, START.length)) ?? '';
  return file.length < SLOT_HEADER_BYTES && START.startsWith(start)
    ? `it is cut off: ${file.length} bytes are left, less than its first line has`
    : 'it is no file of dps-device, or its first line has changed';
}

function lengthDamage(found: number, expected: number): string | undefined {
  if (found === expected) return undefined;
  return found < expected
    ? `it is cut off: ${found} of ${expected} bytes of content are left`
    : `it should have ${expected} bytes of content and has ${found}`;
}

function checksum(name: string, line: string, bytes: Uint8Array): string {
  return createHash('sha256').update(`${name}\n${line}`).update(bytes).digest('hex');
}

function pad(value: number, digits: number): string {
  return String(value).padStart(digits, '0');
}
