import { describe, expect, it } from 'vitest';
import { reportedPatchProblem } from '../../src/core/reported-patch.js';
import type { JsonObject, JsonValue } from '../../src/core/twin.js';

const nested = (levels: number): JsonObject => (levels === 0 ? { leaf: 1 } : { in: nested(levels - 1) });
const strange = (value: unknown): JsonObject => ({ a: value as JsonValue });

describe('reportedPatchProblem', () => {
  it.each<[string, JsonObject]>([
    ['an empty patch', {}],
    ['every kind of value', { a: null, b: true, c: 1.5, d: 'x', e: { f: [1, 'x', null, { g: false }] } }],
    ['Plug and Play', { comp1: { __t: 'c', temp: 21, target: { value: 1, ac: 200, av: 3, ad: 'ok' } } }],
    ['the widest integers', { low: -4503599627370496, high: 4503599627370495 }],
    ['a number that JSON writes with an exponent', { avogadro: 6.02214076e23 }],
    ['ten levels of objects', nested(10)],
    ['a string of 4096 bytes', { s: 'ä'.repeat(2048) }],
    ['a key of 1024 bytes', { ['k'.repeat(1024)]: 1 }],
    ['a key called __proto__', JSON.parse('{"__proto__":1}')],
    [
      'deleting more than a section may hold',
      Object.fromEntries(Array.from({ length: 9000 }, (_, n) => [`key${n}`, null])),
    ],
    ['control characters, which do not count', { s: '\u0001'.repeat(4096), t: 'x' }],
    ['an object without a prototype', Object.assign(Object.create(null), { a: 1 })],
  ])('lets %s pass', (_name, patch) => {
    expect(reportedPatchProblem(patch)).toBeUndefined();
  });

  it.each<[string, JsonObject, string, RegExp]>([
    ['$version', { $version: 3 }, 'reported.$version', /belong to the hub/],
    ['a $ key further down', { a: { $metadata: {} } }, 'reported.a.$metadata', /belong to the hub/],
    ['a $ inside a key', { a$b: 1 }, 'reported.a$b', /dot, \$, space/],
    ['a dot in a key', { net: { 'ip.v4': 1 } }, 'reported.net.ip.v4', /dot, \$, space/],
    ['a space in a key', { 'a b': 1 }, 'reported.a b', /dot, \$, space/],
    ['a C0 character in a key', { 'a\u0007': 1 }, 'reported.a\u0007', /control character/],
    ['a C1 character in a key', { 'a\u0085': 1 }, 'reported.a\u0085', /control character/],
    ['a key of 1025 bytes', { ['k'.repeat(1025)]: 1 }, `reported.${'k'.repeat(40)}…`, /1024 bytes/],
    ['a string of 4097 bytes', { s: `${'ä'.repeat(2048)}x` }, 'reported.s', /4096 bytes/],
    ['eleven levels', nested(11), `reported${'.in'.repeat(11)}`, /10 levels/],
    ['an integer too large', { a: [1, { n: 4503599627370496 }] }, 'reported.a[1].n', /within -4503599627370496 and/],
    ['an integer too small', { n: -4503599627370497 }, 'reported.n', /within/],
    ['NaN, which would delete', { n: Number.NaN }, 'reported.n', /NaN/],
    ['Infinity', { n: Number.POSITIVE_INFINITY }, 'reported.n', /Infinity/],
    ['undefined', strange(undefined), 'reported.a', /only boolean/],
    ['a function', strange(() => 1), 'reported.a', /only boolean/],
    ['a bigint', strange(1n), 'reported.a', /only boolean/],
    ['a symbol', strange(Symbol('x')), 'reported.a', /only boolean/],
    ['a date', strange(new Date(0)), 'reported.a', /only boolean/],
    ['a map', strange(new Map([['x', 1]])), 'reported.a', /only boolean/],
    ['a hole in an array', strange(Object.assign([1], { length: 3 })), 'reported.a[1]', /only boolean/],
    ['a patch that is an array', [1] as unknown as JsonObject, 'reported', /plain object/],
    ['a patch that is null', null as unknown as JsonObject, 'reported', /plain object/],
  ])('refuses %s and names the place', (_name, patch, path, problem) => {
    expect(reportedPatchProblem(patch)).toEqual({ path, problem: expect.stringMatching(problem) });
  });

  it('counts as the hub does: 32 KB of keys and values', () => {
    const chunk = 'x'.repeat(4095);
    const full = Object.fromEntries(Array.from({ length: 8 }, (_, n) => [String(n), chunk]));
    expect(reportedPatchProblem(full)).toBeUndefined();
    expect(reportedPatchProblem({ ...full, n: 1 })).toEqual({
      path: 'reported',
      problem: '32777 bytes of keys and values; the hub allows 32768',
    });
    expect(reportedPatchProblem({ ...full, b: true })?.problem).toMatch(/^32773 /);
    expect(reportedPatchProblem({ ...full, n: null })).toBeUndefined();
  });

  it('comes back from a structure that contains itself', () => {
    const object: Record<string, unknown> = {};
    object.self = object;
    expect(reportedPatchProblem(object as JsonObject)?.problem).toMatch(/10 levels/);
    const array: unknown[] = [];
    array.push(array);
    expect(reportedPatchProblem(strange(array))?.problem).toMatch(/too deeply/);
  });

  it('never repeats a value', () => {
    const problem = reportedPatchProblem({ secret: `hunter2${'x'.repeat(5000)}` });
    expect(JSON.stringify(problem)).not.toContain('hunter2');
  });
});
