import type { FuzzRandom } from './fuzz-random.js';

/** As much as a transport lets through. */
export const LONG_BYTES: number = 1024 * 1024;

/** What breaks parsers, a piece at a time: structure, white space, and everything that is not quite UTF-8. */
const PIECES: readonly (readonly number[])[] = [
  [0x00],
  [0x7b],
  [0x7d],
  [0x5b],
  [0x5d],
  [0x22],
  [0x5c],
  [0x2c],
  [0x3a],
  [0x20],
  [0x0a],
  [0x0d, 0x0a],
  [0x25],
  [0x26],
  [0x3d],
  [0x3f],
  [0x2f],
  [0x23],
  [0x2b],
  [0x2d],
  [0x30],
  [0x39],
  [0x7f],
  // continuation alone, overlong, surrogate, beyond Unicode, broken off, byte order mark, line separator, bidi override
  [0x80],
  [0xc0, 0x80],
  [0xe0, 0x80, 0xaf],
  [0xed, 0xa0, 0x80],
  [0xf4, 0x90, 0x80, 0x80],
  [0xf5],
  [0xff],
  [0xc3],
  [0xe2, 0x82],
  [0xf0, 0x9f, 0x98],
  [0xef, 0xbb, 0xbf],
  [0xe2, 0x80, 0xa8],
  [0xe2, 0x80, 0xae],
  [0x6e, 0x75, 0x6c, 0x6c],
  [0x31, 0x65, 0x33, 0x30, 0x38, 0x30],
];

/** A few random changes of `valid`; now and then something else altogether, or very long. */
export function mutateBytes(random: FuzzRandom, valid: Uint8Array): Uint8Array {
  if (random.chance(0.02)) return random.bytes(random.below(64));
  // A copy of its own: a Buffer's `slice` would share its memory.
  let bytes: Uint8Array = new Uint8Array(valid);
  for (let changes = random.between(1, 4); changes > 0; changes -= 1) bytes = changeOnce(random, bytes);
  return random.chance(0.002) ? lengthen(random, bytes) : bytes;
}

/** The same for text: what comes of it are code units, lone surrogates among them. */
export function mutateText(random: FuzzRandom, valid: string): string {
  if (random.chance(0.02)) return randomText(random, random.below(64));
  let text = valid;
  for (let changes = random.between(1, 4); changes > 0; changes -= 1) {
    const at = random.below(text.length + 1);
    const end = Math.min(text.length, at + random.between(0, random.chance(0.3) ? 40 : 2));
    const piece = random.chance(0.4) ? '' : randomText(random, random.between(1, 4));
    text = random.chance(0.1) ? text + text.slice(at, end) : text.slice(0, at) + piece + text.slice(end);
  }
  return random.chance(0.002) ? text + random.pick(LONG_PIECES).repeat(LONG_BYTES / 16) : text;
}

/** ASCII for the most part, then anything a code unit can be. */
export function randomText(random: FuzzRandom, length: number): string {
  const unit = (): number => {
    if (random.chance(0.7)) return random.between(0x20, 0x7e);
    return random.chance(0.5) ? random.below(0x20) : random.below(0x10000);
  };
  return String.fromCharCode(...Array.from({ length }, unit));
}

const LONG_PIECES: readonly string[] = [
  'A',
  '-',
  '%',
  '%20',
  '=',
  '/',
  '0',
  '\u0000',
  ':',
  '.',
  '-----BEGIN ',
  '[',
  '&a=b',
  'é',
];

function changeOnce(random: FuzzRandom, bytes: Uint8Array): Uint8Array {
  const at = random.below(bytes.length + 1);
  const end = Math.min(bytes.length, at + random.between(1, random.chance(0.3) ? 40 : 3));
  switch (random.below(8)) {
    case 0:
      return bytes.slice(0, at);
    case 1:
      return splice(bytes, at, end, []);
    case 2:
      return splice(bytes, at, at, bytes.subarray(at, end));
    case 3:
      return splice(bytes, at, at, random.pick(PIECES));
    case 4:
      return splice(bytes, at, end, random.pick(PIECES));
    case 5:
      return splice(bytes, at, at, random.bytes(random.between(1, 8)));
    default:
      return withBitFlipped(random, bytes);
  }
}

function withBitFlipped(random: FuzzRandom, bytes: Uint8Array): Uint8Array {
  if (bytes.length === 0) return bytes;
  const flipped = bytes.slice();
  const at = random.below(bytes.length);
  flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8));
  return flipped;
}

function lengthen(random: FuzzRandom, bytes: Uint8Array): Uint8Array {
  const long = new Uint8Array(LONG_BYTES);
  const piece = random.pick(PIECES);
  for (let index = 0; index < long.length; index += 1) long[index] = piece[index % piece.length] ?? 0;
  long.set(bytes.subarray(0, long.length), random.chance(0.5) ? 0 : Math.max(0, long.length - bytes.length));
  return long;
}

function splice(bytes: Uint8Array, start: number, end: number, piece: ArrayLike<number>): Uint8Array {
  const result = new Uint8Array(bytes.length - (end - start) + piece.length);
  result.set(bytes.subarray(0, start));
  result.set(piece, start);
  result.set(bytes.subarray(end), start + piece.length);
  return result;
}
