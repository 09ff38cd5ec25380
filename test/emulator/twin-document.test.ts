import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../src/emulator/json.js';
import { deviceView, makeTwin, patchSection, replaceSection } from '../../src/emulator/twin-document.js';

const section = (properties: JsonObject, version = 1) => ({ version, properties });

function nested(levels: number): JsonObject {
  return levels === 0 ? { value: 1 } : { level: nested(levels - 1) };
}

describe('a patch', () => {
  it('merges objects, replaces scalars and arrays, deletes by null', () => {
    const before = section({ fan: 1, led: { on: true, color: 'red' }, list: [1, 2, 3], gone: { a: 1 } }, 4);
    expect(patchSection(before, { fan: 2, led: { on: false }, list: [9], gone: null, fresh: { a: { b: 1 } } })).toEqual(
      {
        section: {
          version: 5,
          properties: { fan: 2, led: { on: false, color: 'red' }, list: [9], fresh: { a: { b: 1 } } },
        },
        pushed: { fan: 2, led: { on: false }, list: [9], gone: null, fresh: { a: { b: 1 } } },
      },
    );
  });

  it('counts up also when it changes nothing', () => {
    expect(patchSection(section({ a: 1 }, 7), {})).toMatchObject({ section: { version: 8 } });
  });

  it('is told as it was sent, without comparing values', () => {
    expect(patchSection(section({ a: 1 }), { a: 1 })).toMatchObject({ pushed: { a: 1 } });
  });

  it('replaces a scalar by an object without its nulls', () => {
    expect(patchSection(section({ a: 1 }), { a: { b: null, c: 2 } })).toMatchObject({
      section: { properties: { a: { c: 2 } } },
    });
  });

  it('takes __proto__ for a key like any other', () => {
    const patch = JSON.parse('{"__proto__":{"polluted":true}}') as JsonObject;
    const write = patchSection(section({ a: { b: 1 } }), { a: patch });
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    expect(JSON.stringify(write)).toContain('"properties":{"a":{"b":1,"__proto__":{"polluted":true}}}');
  });

  it.each<[string, unknown]>([
    ['an array', []],
    ['null', null],
    ['a text', 'x'],
    ['no JSON', undefined],
  ])('must be an object, not %s', (_what, patch) => {
    expect(patchSection(section({}), patch as never)).toHaveProperty('problem');
  });
});

describe('a replacement', () => {
  it('is told whole, with null for what is gone', () => {
    const before = section({ keep: { x: 1, y: 2 }, gone: 1, other: { z: 1 } });
    expect(replaceSection(before, { keep: { x: 5 }, other: 3, fresh: true })).toEqual({
      section: { version: 2, properties: { keep: { x: 5 }, other: 3, fresh: true } },
      pushed: { keep: { x: 5, y: null }, other: 3, fresh: true, gone: null },
    });
  });
});

describe('the limits', () => {
  const isTaken = (patch: JsonObject): boolean => 'section' in patchSection(section({}), patch);

  it.each<[string, JsonObject, boolean]>([
    ['a key with a dot', { 'a.b': 1 }, false],
    ['a key with a dollar', { $version: 3 }, false],
    ['a key with a space', { 'a b': 1 }, false],
    ['a key with a C0 control character', { 'a\u0001': 1 }, false],
    ['a key with a C1 control character', { 'a\u0085': 1 }, false],
    ['a bad key deep inside', { a: { b: [{ 'c.d': 1 }] } }, false],
    ['a key of 1024 bytes', { ['k'.repeat(1024)]: 1 }, true],
    ['a key of 1025 bytes', { [`${'k'.repeat(1023)}é`]: 1 }, false],
    ['a string of 4096 bytes', { a: 'v'.repeat(4096) }, true],
    ['a string of 4097 bytes', { a: `${'v'.repeat(4095)}é` }, false],
    ['ten levels', nested(10), true],
    ['eleven levels', nested(11), false],
    ['the largest integer', { a: 4503599627370495 }, true],
    ['one more', { a: 4503599627370496 }, false],
    ['the smallest integer', { a: -4503599627370496 }, true],
    ['one less', { a: -4503599627370497 }, false],
    ['a fraction', { a: 0.1 }, true],
    ['non-ASCII', { größe: '漢字 🙂' }, true],
    ['a component marker', { comp1: { __t: 'c', temp: 21 } }, true],
  ])('%s', (_what, patch, expected) => {
    expect(isTaken(patch)).toBe(expected);
  });

  it('holds a section to 32 KB by the documented arithmetic', () => {
    // Eight strings of 4096 with one-letter keys: 8 * 4097 = 32776; without keys' letters it would fit exactly.
    const eight = Object.fromEntries([...'abcdefgh'].map((key) => [key, 'v'.repeat(4096)]));
    expect(isTaken(eight)).toBe(false);
    expect(isTaken({ ...eight, h: 'v'.repeat(4088) })).toBe(true);
    // A number counts 8, a boolean 4, a control character nothing.
    expect(isTaken({ ...eight, h: 'v'.repeat(4088 - 9), i: 1 })).toBe(true);
    expect(isTaken({ ...eight, h: 'v'.repeat(4088 - 8), i: 1 })).toBe(false);
    expect(isTaken({ ...eight, h: 'v'.repeat(4088 - 5), i: true })).toBe(true);
    expect(isTaken({ ...eight, h: 'v'.repeat(4088 - 4), i: true })).toBe(false);
    expect(isTaken({ ...eight, h: `${'v'.repeat(4088)}\n\n\n` })).toBe(true);
  });

  it('looks at the result, not only at the patch', () => {
    const full = section(Object.fromEntries([...'abcdefg'].map((key) => [key, 'v'.repeat(4096)])));
    expect(patchSection(full, { h: 'v'.repeat(4096) })).toHaveProperty('problem');
    expect(patchSection(full, { a: null, h: 'v'.repeat(4096) })).toHaveProperty('section');
  });
});

describe('what a device is shown', () => {
  it('has both sections with their versions and nothing else', () => {
    const twin = makeTwin({ tags: { line: 3 }, desired: { led: { on: true } }, reported: {} });
    expect(JSON.stringify(deviceView(twin))).toBe(
      '{"desired":{"led":{"on":true},"$version":1},"reported":{"$version":1}}',
    );
  });
});
