import { describe, expect, it } from 'vitest';
import { readDerElement, readDerElements } from '../../hsm/der.js';

describe('readDerElement', () => {
  it.each([
    ['a short length', [0x04, 2, 7, 8, 9], 0, { tag: 4, content: [7, 8], end: 4 }],
    ['no content', [0x05, 0], 0, { tag: 5, content: [], end: 2 }],
    ['a start further in', [9, 9, 0x04, 1, 7], 2, { tag: 4, content: [7], end: 5 }],
    ['a long length of one byte', [0x04, 0x81, 2, 7, 8], 0, { tag: 4, content: [7, 8], end: 5 }],
    [
      'a long length of two bytes',
      [0x04, 0x82, 1, 0, ...Array(256).fill(7)],
      0,
      { tag: 4, content: Array(256).fill(7), end: 260 },
    ],
  ])('reads %s', (_, bytes, start, element) => {
    const { tag, content, end } = readDerElement(Uint8Array.from(bytes), start) ?? {};
    expect({ tag, content: [...(content ?? [])], end }).toEqual(element);
  });

  it.each([
    ['nothing', []],
    ['a tag alone', [0x04]],
    ['the indefinite length', [0x30, 0x80, 0, 0]],
    ['a length of five bytes', [0x04, 0x85, 0, 0, 0, 0, 1, 7]],
    ['a cut length', [0x04, 0x82, 1]],
    ['cut content', [0x04, 2, 7]],
    ['content of four gigabytes', [0x04, 0x84, 0xff, 0xff, 0xff, 0xff, 7]],
  ])('refuses %s', (_, bytes) => {
    expect(readDerElement(Uint8Array.from(bytes), 0)).toBeUndefined();
  });
});

describe('readDerElements', () => {
  it('reads all there are, and none when the last is cut', () => {
    const bytes = Uint8Array.from([0x05, 0, 0x04, 1, 7]);
    expect(readDerElements(bytes)?.map(({ tag }) => tag)).toEqual([5, 4]);
    expect(readDerElements(bytes.subarray(0, 4))).toBeUndefined();
    expect(readDerElements(new Uint8Array())).toEqual([]);
  });
});
