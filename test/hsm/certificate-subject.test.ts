import { X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readCommonNames } from '../../hsm/certificate-subject.js';
import { makeSelfSigned } from '../../src/emulator/pki.js';

/** DER by hand: tag, length (short form), content. */
function der(tag: number, ...contents: readonly (readonly number[])[]): number[] {
  const content = contents.flat();
  return [tag, content.length, ...content];
}

/** A certificate as far as the subject is concerned; version 3 has a `[0]` in front, version 1 has not. */
function certificate(subject: readonly number[], version: 1 | 3 = 3): Uint8Array {
  const empty = der(0x30);
  const fields = [der(0x02, [1]), empty, empty, empty, [...subject], empty];
  return Uint8Array.from(der(0x30, der(0x30, ...(version === 3 ? [der(0xa0, der(0x02, [2]))] : []), ...fields)));
}

function commonName(tag: number, bytes: readonly number[]): number[] {
  return der(0x31, der(0x30, der(0x06, [0x55, 0x04, 0x03]), der(tag, bytes)));
}

describe('readCommonNames', () => {
  it.each([
    ['UTF8String', 0x0c, [0x64, 0xc3, 0xa9], 'dé'],
    ['PrintableString', 0x13, [0x64, 0x31], 'd1'],
    ['IA5String', 0x16, [0x64, 0x31], 'd1'],
    ['T61String', 0x14, [0x64, 0xe9], 'dé'],
    ['BMPString', 0x1e, [0x00, 0x64, 0x20, 0xac], 'd€'],
    ['UniversalString', 0x1c, [0, 0, 0, 0x64, 0, 1, 0xf6, 0], 'd\u{1f600}'],
    ['UTF8String that is not UTF-8', 0x0c, [0x64, 0xc3], '\uFFFD'],
    ['BMPString of odd length', 0x1e, [0x00, 0x64, 0x20], '\uFFFD'],
    ['UniversalString past Unicode', 0x1c, [0, 0x11, 0, 0], '\uFFFD'],
  ])('reads a %s', (_, tag, bytes, text) => {
    expect(readCommonNames(certificate(der(0x30, commonName(tag, bytes))))).toEqual([text]);
    expect(readCommonNames(certificate(der(0x30, commonName(tag, bytes)), 1))).toEqual([text]);
  });

  it('reads all of them in order, and no other attribute', () => {
    const organization = der(0x30, der(0x06, [0x55, 0x04, 0x0a]), der(0x0c, [0x78]));
    const inside = der(0x30, der(0x06, [0x55, 0x04, 0x03]), der(0x0c, [0x61]));
    const subject = der(0x30, der(0x31, organization, inside), commonName(0x13, [0x62]));
    expect(readCommonNames(certificate(subject))).toEqual(['a', 'b']);
    expect(readCommonNames(certificate(der(0x30)))).toEqual([]);
  });

  it('has no answer for what is no certificate', () => {
    for (const bytes of [[], [0x30], [0x30, 0x80], [0x30, 0x85, 1, 1, 1, 1, 1], [0x30, 0x82, 1], [0x04, 0]]) {
      expect(readCommonNames(Uint8Array.from(bytes))).toBeUndefined();
    }
    expect(readCommonNames(certificate(der(0x04)))).toBeUndefined();
    expect(readCommonNames(certificate(der(0x30, der(0x31, der(0x30, der(0x04))))))).toBeUndefined();
  });

  it('reads a real one, and no cut or changed one makes it throw', async () => {
    const { raw } = new X509Certificate((await makeSelfSigned({ commonName: 'dev-1' })).certificatePem);
    expect(readCommonNames(raw)).toEqual(['dev-1']);
    for (let length = 0; length < raw.length; length += 1)
      expect(readCommonNames(raw.subarray(0, length))).toBeUndefined();
    fc.assert(
      fc.property(fc.nat(raw.length - 1), fc.nat(255), (index, byte) => {
        const changed = Uint8Array.from(raw);
        changed[index] = byte;
        readCommonNames(changed);
      }),
      { numRuns: 2000 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void readCommonNames(bytes)));
  });
});
