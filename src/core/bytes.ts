/**
 * UTF-8, Base64, hex and percent encoding in the language alone: the core has no `TextEncoder` and no `Buffer`.
 * Everything here runs in time proportional to its input.
 */

const REPLACEMENT_CHARACTER = 0xfffd;

/** UTF-8 of `text`. A surrogate without its other half becomes U+FFFD, as in `TextEncoder`. */
export function encodeUtf8(text: string): Uint8Array {
  // One UTF-16 unit takes three bytes at most; a pair takes four.
  const bytes = new Uint8Array(text.length * 3);
  let end = 0;
  for (let index = 0; index < text.length; index += 1) {
    const codePoint = scalarAt(text, index);
    if (codePoint > 0xffff) index += 1;
    end = writeUtf8(bytes, end, codePoint);
  }
  return bytes.slice(0, end);
}

/**
 * Text of UTF-8 `bytes`, or `undefined` when they are not UTF-8: overlong forms, surrogates, code points past U+10FFFF,
 * and sequences that break off are all refused. A leading byte order mark stays in the text as U+FEFF, so that
 * decoding loses nothing; whoever parses the text skips it.
 */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  const units = new Uint16Array(bytes.length);
  let end = 0;
  for (let index = 0; index < bytes.length; ) {
    const first = bytes[index] ?? 0;
    const length = sequenceLength(first);
    const codePoint = length === 1 ? first : readSequence(bytes, index, length);
    if (codePoint === undefined) return undefined;
    index += length;
    if (codePoint > 0xffff) {
      units[end++] = 0xd7c0 + (codePoint >> 10);
      units[end++] = 0xdc00 | (codePoint & 0x3ff);
    } else {
      units[end++] = codePoint;
    }
  }
  return textOfUnits(units.subarray(0, end));
}

const BASE64_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const BASE64_CODES: Uint8Array = Uint8Array.from(BASE64_ALPHABET, (letter) => letter.charCodeAt(0));
const NOT_BASE64 = 0xff;
const BASE64_VALUES: Uint8Array = new Uint8Array(128).fill(NOT_BASE64);
for (const [value, code] of BASE64_CODES.entries()) BASE64_VALUES[code] = value;
const PADDING = 0x3d;

/** Base64 of RFC 4648 section 4, padded. */
export function encodeBase64(bytes: Uint8Array): string {
  const codes = new Uint8Array(Math.ceil(bytes.length / 3) * 4);
  let end = 0;
  for (let index = 0; index < bytes.length; index += 3) {
    const left = bytes.length - index;
    const group = ((bytes[index] ?? 0) << 16) | ((bytes[index + 1] ?? 0) << 8) | (bytes[index + 2] ?? 0);
    codes[end++] = BASE64_CODES[group >> 18] ?? 0;
    codes[end++] = BASE64_CODES[(group >> 12) & 63] ?? 0;
    codes[end++] = left > 1 ? (BASE64_CODES[(group >> 6) & 63] ?? 0) : PADDING;
    codes[end++] = left > 2 ? (BASE64_CODES[group & 63] ?? 0) : PADDING;
  }
  return textOfUnits(codes);
}

/**
 * Bytes of Base64 `text`, or `undefined` when it is malformed: standard alphabet, padding required, nothing else
 * between or around, not even a line end. Bits that the last letter has to spare are ignored: the service ignores them
 * too, and a key that works there must work here.
 */
export function decodeBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0) return undefined;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const letters = text.length - padding;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  let end = 0;
  let bits = 0;
  for (let index = 0; index < letters; index += 1) {
    const value = BASE64_VALUES[text.charCodeAt(index)] ?? NOT_BASE64;
    if (value === NOT_BASE64) return undefined;
    bits = ((bits << 6) | value) & 0xffffff;
    if (index % 4 > 0) bytes[end++] = bits >> (6 - 2 * (index % 4));
  }
  return bytes;
}

/** All `parts`, one after the other, in a new array. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let end = 0;
  for (const part of parts) {
    all.set(part, end);
    end += part.length;
  }
  return all;
}

/** Whether both hold the same bytes. For equal lengths it takes the same steps wherever they differ. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let index = 0; index < a.length; index += 1) difference |= (a[index] ?? 0) ^ (b[index] ?? 0);
  return difference === 0;
}

/** Two lower-case hex digits a byte. */
export function toHex(bytes: Uint8Array): string {
  const codes = new Uint8Array(bytes.length * 2);
  for (const [index, byte] of bytes.entries()) {
    codes[index * 2] = hexDigitCode(byte >> 4);
    codes[index * 2 + 1] = hexDigitCode(byte & 15);
  }
  return textOfUnits(codes);
}

/**
 * Percent-encodes all but the unreserved characters of RFC 3986 (letters, digits, `-._~`), upper-case hex, so also
 * `! ' ( ) *`, which `encodeURIComponent` leaves. A surrogate without its other half goes as U+FFFD.
 */
export function encodeUriComponentStrict(text: string): string {
  // With the `u` flag the class meets whole code points only, hence surrogates only where they stand alone.
  const wellFormed = text.replace(/[\uD800-\uDFFF]/gu, '\uFFFD');
  return encodeURIComponent(wellFormed).replace(
    /[!'()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** Undoes percent encoding, hex digits in either case; `+` stays `+`. `undefined` when the encoding is malformed. */
export function decodePercent(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function scalarAt(text: string, index: number): number {
  const codePoint = text.codePointAt(index) ?? 0;
  return codePoint >= 0xd800 && codePoint <= 0xdfff ? REPLACEMENT_CHARACTER : codePoint;
}

function writeUtf8(bytes: Uint8Array, start: number, codePoint: number): number {
  let end = start;
  if (codePoint < 0x80) {
    bytes[end++] = codePoint;
    return end;
  }
  if (codePoint < 0x800) {
    bytes[end++] = 0xc0 | (codePoint >> 6);
  } else {
    if (codePoint < 0x10000) {
      bytes[end++] = 0xe0 | (codePoint >> 12);
    } else {
      bytes[end++] = 0xf0 | (codePoint >> 18);
      bytes[end++] = 0x80 | ((codePoint >> 12) & 0x3f);
    }
    bytes[end++] = 0x80 | ((codePoint >> 6) & 0x3f);
  }
  bytes[end++] = 0x80 | (codePoint & 0x3f);
  return end;
}

/** Length that the first byte announces; 0 for a byte that cannot be first. */
function sequenceLength(first: number): number {
  if (first < 0x80) return 1;
  if (first < 0xc2) return 0;
  if (first < 0xe0) return 2;
  if (first < 0xf0) return 3;
  return first < 0xf5 ? 4 : 0;
}

/** Smallest code point that needs a sequence of so many bytes. */
const SMALLEST_BY_LENGTH: readonly number[] = [0, 0, 0x80, 0x800, 0x10000];

function readSequence(bytes: Uint8Array, start: number, length: number): number | undefined {
  if (length === 0 || start + length > bytes.length) return undefined;
  let codePoint = (bytes[start] ?? 0) & (0xff >> (length + 1));
  for (let index = start + 1; index < start + length; index += 1) {
    const byte = bytes[index] ?? 0;
    if ((byte & 0xc0) !== 0x80) return undefined;
    codePoint = (codePoint << 6) | (byte & 0x3f);
  }
  const isOverlong = codePoint < (SMALLEST_BY_LENGTH[length] ?? 0);
  const isSurrogate = codePoint >= 0xd800 && codePoint <= 0xdfff;
  return isOverlong || isSurrogate || codePoint > 0x10ffff ? undefined : codePoint;
}

function hexDigitCode(value: number): number {
  return value < 10 ? 0x30 + value : 0x57 + value;
}

/** Few enough arguments for every engine's stack. */
const UNITS_PER_CALL = 8192;

function textOfUnits(units: Uint8Array | Uint16Array): string {
  const parts: string[] = [];
  for (let start = 0; start < units.length; start += UNITS_PER_CALL) {
    parts.push(String.fromCharCode(...units.subarray(start, start + UNITS_PER_CALL)));
  }
  return parts.join('');
}
