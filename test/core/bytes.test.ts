import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  concatBytes,
  decodeBase64,
  decodePercent,
  decodeUtf8,
  encodeBase64,
  encodeUriComponentStrict,
  encodeUtf8,
  equalBytes,
  toHex,
} from '../../src/core/bytes.js';

/** Any UTF-16, lone surrogates included. */
const anyText = fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)) });
const wellFormedText = fc.string({ unit: 'binary' });
const MEBIBYTE = 1 << 20;

describe('encodeUtf8', () => {
  it.each([
    ['', ''],
    ['A', '41'],
    ['\u007f\u0080', '7fc280'],
    ['Grüße', '4772c3bcc39f65'],
    ['\u07ff\u0800', 'dfbfe0a080'],
    ['€', 'e282ac'],
    ['\uffff', 'efbfbf'],
    ['\u{10000}\u{10ffff}', 'f0908080f48fbfbf'],
    ['😀', 'f09f9880'],
    ['\ufeff{', 'efbbbf7b'],
    ['a\ud800b', '61efbfbd62'],
    ['\udc00\ud800', 'efbfbdefbfbd'],
  ])('%j', (text, hex) => {
    expect(Buffer.from(encodeUtf8(text)).toString('hex')).toBe(hex);
  });

  it('agrees with the host on any text', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(toHex(encodeUtf8(text))).toBe(Buffer.from(new TextEncoder().encode(text)).toString('hex'));
      }),
    );
  });
});

describe('decodeUtf8', () => {
  it.each([
    ['a continuation byte in front', '80'],
    ['overlong NUL', 'c080'],
    ['overlong slash, two bytes', 'c0af'],
    ['overlong slash, three bytes', 'e080af'],
    ['overlong slash, four bytes', 'f08080af'],
    ['overlong U+007F', 'c1bf'],
    ['overlong U+07FF', 'e09fbf'],
    ['overlong U+FFFF', 'f08fbfbf'],
    ['lowest surrogate', 'eda080'],
    ['highest surrogate', 'edbfbf'],
    ['a pair of surrogates (CESU-8)', 'eda0bdedb880'],
    ['U+110000', 'f4908080'],
    ['first byte F5', 'f5808080'],
    ['first byte FF', 'ff'],
    ['two bytes cut short', 'c3'],
    ['three bytes cut short', 'e282'],
    ['four bytes cut short', 'f09f98'],
    ['a sequence broken by ASCII', 'e28241'],
  ])('refuses %s', (_name, hex) => {
    expect(decodeUtf8(Buffer.from(hex, 'hex'))).toBeUndefined();
    expect(decodeUtf8(Buffer.from(`41${hex}`, 'hex'))).toBeUndefined();
  });

  it('keeps a byte order mark, so that nothing is lost', () => {
    expect(decodeUtf8(Buffer.from('efbbbf7b7d', 'hex'))).toBe('\ufeff{}');
  });

  it('agrees with the host on any bytes', () => {
    const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    const byte = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0xc3, 0xe2, 0x82, 0xf0, 0x9f, 0x80, 0xed));
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 12 }), (values) => {
        const bytes = Uint8Array.from(values);
        let expected: string | undefined;
        try {
          expected = strict.decode(bytes);
        } catch {
          expected = undefined;
        }
        expect(decodeUtf8(bytes)).toBe(expected);
      }),
      { numRuns: 2000 },
    );
  });

  it('undoes encodeUtf8', () => {
    fc.assert(
      fc.property(wellFormedText, (text) => {
        expect(decodeUtf8(encodeUtf8(text))).toBe(text);
      }),
    );
  });

  it('carries a mebibyte of four-byte characters over every chunk border', () => {
    const text = `a${'😀'.repeat(MEBIBYTE / 4)}`;
    expect(decodeUtf8(encodeUtf8(text)) === text).toBe(true);
  });
});

describe('Base64', () => {
  // RFC 4648 section 10
  it.each([
    ['', ''],
    ['f', 'Zg=='],
    ['fo', 'Zm8='],
    ['foo', 'Zm9v'],
    ['foob', 'Zm9vYg=='],
    ['fooba', 'Zm9vYmE='],
    ['foobar', 'Zm9vYmFy'],
  ])('%j is %j', (text, base64) => {
    expect(encodeBase64(encodeUtf8(text))).toBe(base64);
    expect(toHex(decodeBase64(base64) ?? new Uint8Array([0xff]))).toBe(toHex(encodeUtf8(text)));
  });

  it.each([
    ['no padding', 'Zg'],
    ['half the padding', 'Zg='],
    ['too much padding', 'Zm8=='],
    ['padding alone', '===='],
    ['three padding characters', 'Z==='],
    ['padding inside', 'Zg==Zg=='],
    ['padding before the end', 'Z=g='],
    ['a line end behind', 'Zm9v\n'],
    ['a line end inside', 'Zm9v\nZm9'],
    ['a space in front', ' Zm9'],
    ['the URL alphabet', 'Zm-_'],
    ['a letter outside ASCII', 'Zm9é'],
    ['a letter that is alphabetic modulo 256', 'Zm9\u0141'],
    ['NUL', 'Zm9\0'],
  ])('refuses %s', (_name, text) => {
    expect(decodeBase64(text)).toBeUndefined();
  });

  it('reads all 64 letters', () => {
    const text = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
    expect(encodeBase64(decodeBase64(text) ?? new Uint8Array())).toBe(text);
  });

  it('ignores spare bits of the last letter, as the service does', () => {
    expect(decodeBase64('Zh==')).toEqual(encodeUtf8('f'));
  });

  it('agrees with the host, and comes back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const text = encodeBase64(bytes);
        expect(text).toBe(Buffer.from(bytes).toString('base64'));
        expect(decodeBase64(text)).toEqual(bytes);
      }),
    );
  });

  it('carries a mebibyte', () => {
    const bytes = Uint8Array.from({ length: MEBIBYTE }, (_, index) => index * 7);
    const text = encodeBase64(bytes);
    expect(text === Buffer.from(bytes).toString('base64')).toBe(true);
    expect(equalBytes(decodeBase64(text) ?? new Uint8Array(), bytes)).toBe(true);
  });
});

describe('bytes', () => {
  it('concatenates', () => {
    expect(concatBytes()).toEqual(new Uint8Array());
    expect(concatBytes(Uint8Array.of(1), new Uint8Array(), Uint8Array.of(2, 3))).toEqual(Uint8Array.of(1, 2, 3));
  });

  it.each([
    [[], [], true],
    [[1, 2], [1, 2], true],
    [[1, 2], [1, 3], false],
    [[0, 2], [1, 2], false],
    [[1], [1, 0], false],
  ])('compares %j with %j', (a, b, expected) => {
    expect(equalBytes(Uint8Array.from(a), Uint8Array.from(b))).toBe(expected);
  });

  it('writes lower-case hex', () => {
    expect(toHex(Uint8Array.of(0x00, 0x09, 0x0a, 0x9f, 0xa0, 0xff))).toBe('00090a9fa0ff');
  });
});

describe('percent encoding', () => {
  it.each([
    ['0ne00111111/registrations/dev-1', '0ne00111111%2Fregistrations%2Fdev-1'],
    ["AZaz09-._~!'()*", 'AZaz09-._~%21%27%28%29%2A'],
    [' +&=%#?:@$', '%20%2B%26%3D%25%23%3F%3A%40%24'],
    ['ü😀', '%C3%BC%F0%9F%98%80'],
    ['\ud83d', '%EF%BF%BD'],
    ['a\ude00b', 'a%EF%BF%BDb'],
  ])('encodes %j', (text, encoded) => {
    expect(encodeUriComponentStrict(text)).toBe(encoded);
  });

  it.each([
    ['a%2fb%2Fc', 'a/b/c'],
    ['a+b', 'a+b'],
    ['%C3%BC', 'ü'],
    ['%', undefined],
    ['%2', undefined],
    ['%zz', undefined],
    ['%C3', undefined],
    ['%C0%AF', undefined],
    ['%ED%A0%80', undefined],
  ])('decodes %j', (encoded, text) => {
    expect(decodePercent(encoded)).toBe(text);
  });

  it('never throws and comes back', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        decodePercent(text);
        const encoded = encodeUriComponentStrict(text);
        expect(encoded).toMatch(/^(?:[A-Za-z0-9\-._~]|%[0-9A-F]{2})*$/);
        expect(encodeUriComponentStrict(decodePercent(encoded) ?? '!')).toBe(encoded);
      }),
    );
    fc.assert(
      fc.property(wellFormedText, (text) => {
        expect(decodePercent(encodeUriComponentStrict(text))).toBe(text);
      }),
    );
  });
});
