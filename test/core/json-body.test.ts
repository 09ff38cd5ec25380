import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeUtf8 } from '../../src/core/bytes.js';
import { excerptOf, MAX_JSON_DEPTH, memberOf, readJsonObject } from '../../src/core/json-body.js';

function read(text: string): ReturnType<typeof readJsonObject> {
  return readJsonObject(encodeUtf8(text));
}

describe('readJsonObject', () => {
  it.each([
    ['{}', {}],
    ['{"a":null}', { a: null }],
    [' \r\n\t{"a":[1,"ü😀"]}\n', { a: [1, 'ü😀'] }],
    ['\ufeff{"a":1}', { a: 1 }],
    ['{"a":1,"a":2}', { a: 2 }],
    ['{"a":"[[[{{{\\"[[["}', { a: '[[[{{{"[[[' }],
  ])('reads %j', (text, value) => {
    expect(read(text)).toEqual({ kind: 'object', value });
  });

  it.each([[''], [' '], ['\r\n'], ['\ufeff']])('finds %j empty', (text) => {
    expect(read(text)).toEqual({ kind: 'empty' });
  });

  it.each([
    ['{"a":1', '6 bytes of JSON that break off or are malformed'],
    ['{"a":1}}', '8 bytes of JSON that break off or are malformed'],
    ['[', '1 bytes of JSON that break off or are malformed'],
    ['[1]', 'a JSON array'],
    ['"text"', 'a JSON string'],
    ['7', 'a JSON number'],
    ['true', 'a JSON boolean'],
    ['null', 'JSON null'],
  ])('finds %j damaged and shows none of it', (text, got) => {
    expect(read(text)).toEqual({ kind: 'damaged', got });
  });

  it.each([
    ['<html><body>Sign in</body></html>', 'text that begins "<html><body>Sign in</body></html>"'],
    ['Access\u0000 denied\r\n\tby \u202egateway', 'text that begins "Access denied by gateway"'],
    ['undefined', 'text that begins "undefined"'],
  ])('finds %j foreign', (text, got) => {
    expect(read(text)).toEqual({ kind: 'foreign', got });
  });

  it('tells bytes that are not UTF-8 by how they begin', () => {
    expect(readJsonObject(Uint8Array.of(0x1f, 0x8b, 0x08))).toEqual({
      kind: 'foreign',
      got: '3 bytes that are not UTF-8 text',
    });
    expect(readJsonObject(Uint8Array.of(0x20, 0x7b, 0x22, 0xff))).toEqual({
      kind: 'damaged',
      got: '4 bytes that are not UTF-8 text',
    });
  });

  it.each([
    ['arrays', '[', ']'],
    ['objects', '{"a":', '}'],
  ])('refuses %s nested without end, closed or not', (_name, open, close) => {
    for (const text of [open.repeat(100_000), `${open.repeat(100_000)}1${close.repeat(100_000)}`]) {
      expect(read(`{"a":${text}}`)).toEqual({ kind: 'damaged', got: 'JSON nested more than 64 levels deep' });
    }
  });

  it('reads what nests as deep as it may', () => {
    const inner = MAX_JSON_DEPTH - 1;
    expect(read(`{"a":${'['.repeat(inner)}${']'.repeat(inner)}}`).kind).toBe('object');
    expect(read(`{"a":${'['.repeat(inner + 1)}${']'.repeat(inner + 1)}}`).kind).toBe('damaged');
  });

  it('counts no brackets inside of text', () => {
    const text = `\\"${'['.repeat(100)}\\\\`;
    expect(read(`{"a":"${text}","b":1}`)).toMatchObject({ kind: 'object', value: { b: 1 } });
    expect(read(`{"a":"${text}","b":${'['.repeat(100)}`)).toMatchObject({ got: expect.stringContaining('nested') });
  });

  it('reads a mebibyte', () => {
    const text = 'ü'.repeat(1 << 19);
    const body = read(`{"a":"${text}"}`);
    expect(body.kind === 'object' && body.value.a === text).toBe(true);
  });

  it('never throws, and reads every object that JSON can write', () => {
    fc.assert(fc.property(fc.uint8Array(), (bytes) => void readJsonObject(bytes)));
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
        const text = JSON.stringify(value);
        expect(read(text)).toEqual({ kind: 'object', value: JSON.parse(text) });
      }),
    );
  });
});

describe('memberOf', () => {
  it('has own members only, and null counts as absent', () => {
    expect(memberOf({ a: 0, b: null }, 'a')).toBe(0);
    expect(memberOf({ a: 0, b: null }, 'b')).toBeUndefined();
    expect(memberOf({}, 'toString')).toBeUndefined();
  });
});

describe('excerptOf', () => {
  it('shortens, and never within a pair', () => {
    expect(excerptOf('ab '.repeat(100), 10)).toBe('ab ab ab a…');
    expect(excerptOf(`${'a'.repeat(9)}😀x`, 10)).toBe('aaaaaaaaa…');
  });

  it('leaves long runs out', () => {
    expect(excerptOf(`key=${'A'.repeat(44)}; ok`)).toBe('[…]; ok');
    expect(excerptOf('a '.repeat(10).concat('B'.repeat(88)), 25)).toBe('a a a a a a a a a a […]');
  });

  it.each([
    'echo: Authorization: SharedAccessSignature sr=x&sig=y',
    '{"authenticationKey":"ADQA"',
    'HostName=h;SharedAccessKey=abc',
    '-----BEGIN EC PRIVATE KEY-----',
  ])('shows nothing of %j', (text) => {
    expect(excerptOf(`${'x '.repeat(500)}${text}`)).toBe('[left out: it may hold a secret]');
  });
});
