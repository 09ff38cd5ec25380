/** Just enough of DER (X.690) to find a name in a certificate: elements with tags of one byte and definite lengths. */

export const DER_OBJECT_IDENTIFIER = 0x06;
export const DER_UTF8_STRING = 0x0c;
export const DER_BMP_STRING = 0x1e;
export const DER_UNIVERSAL_STRING = 0x1c;
export const DER_SEQUENCE = 0x30;
export const DER_SET = 0x31;
/** `[0] EXPLICIT`, as around a certificate's version. */
export const DER_CONTEXT_0 = 0xa0;

/** One element: its tag, its content, and where it ends in what it was read from. */
export interface DerElement {
  readonly tag: number;
  readonly content: Uint8Array;
  readonly end: number;
}

/** The element at `start`, or `undefined` when it does not lie wholly within `bytes`. */
export function readDerElement(bytes: Uint8Array, start: number): DerElement | undefined {
  const tag = bytes[start];
  const first = bytes[start + 1];
  // 0x80 is the indefinite length of BER; more than four bytes of length are more than anybody has.
  if (tag === undefined || first === undefined || first === 0x80 || first > 0x84) return undefined;
  const contentStart = start + 2 + (first < 0x80 ? 0 : first - 0x80);
  if (contentStart > bytes.length) return undefined;
  let length = first < 0x80 ? first : 0;
  for (let index = start + 2; index < contentStart; index += 1) length = length * 256 + (bytes[index] ?? 0);
  const end = contentStart + length;
  return end > bytes.length ? undefined : { tag, content: bytes.subarray(contentStart, end), end };
}

/** The elements that `bytes` consist of, or `undefined` when the last one is cut. */
export function readDerElements(bytes: Uint8Array): DerElement[] | undefined {
  const elements: DerElement[] = [];
  for (let start = 0; start < bytes.length; ) {
    const element = readDerElement(bytes, start);
    if (element === undefined) return undefined;
    elements.push(element);
    start = element.end;
  }
  return elements;
}
