import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { asError, wordsOf } from '../../src/core/thrown-words.js';

const fails = (): never => {
  throw new Error('no');
};

class Mute extends Error {
  override get message(): string {
    return fails();
  }
}

const UNPRINTABLE: readonly (readonly [string, unknown])[] = [
  ['an error whose message throws', Object.create(Mute.prototype)],
  ['a proxy that throws at every look', new Proxy({}, { get: fails, getPrototypeOf: fails, has: fails })],
  ['a list that has been revoked', revoked()],
  ['an object without a text form', { toString: fails, [Symbol.toPrimitive]: fails }],
  ['an object without a prototype', Object.create(null)],
  ['a message that is no text', Object.assign(new Error('x'), { message: Symbol('m') })],
  ['a name that throws', Object.defineProperty(new Error(''), 'name', { get: fails })],
  ['a symbol', Symbol('s')],
  ['a function', fails],
];

function revoked(): unknown {
  const { proxy, revoke } = Proxy.revocable([], {});
  revoke();
  return proxy;
}

describe('wordsOf', () => {
  it.each<[string, unknown]>([
    ['chip on fire', new Error('chip on fire')],
    ['TypeError', new TypeError('')],
    ['CKR_PIN_INCORRECT', 'CKR_PIN_INCORRECT'],
    ['of another realm', runInNewContext("new Error('of another realm')")],
    ['only a message', { message: 'only a message' }],
    ['one line', 'one\r\n\u0007 line\u2028'],
    ['no reason given', ''],
    ['no reason given', ' \n'],
    ['it threw undefined', undefined],
    ['it threw null', null],
    ['it threw a number', 7],
    ['it threw a bigint', 7n],
    ['it threw a symbol', Symbol('s')],
    ['it threw a function', fails],
    ['it threw a list', [1]],
    ['it threw an object', {}],
    ['it threw an object', Object.create(null)],
  ])('says %j', (words, thrown) => {
    expect(wordsOf(thrown)).toBe(words);
  });

  it.each(UNPRINTABLE)('never throws: %s', (_name, thrown) => {
    expect(wordsOf(thrown)).toMatch(/^\S.{4,}$/);
  });

  it('is never longer than 300 characters, and cuts no character in two', () => {
    expect(wordsOf('x'.repeat(300))).toBe('x'.repeat(300));
    expect(wordsOf('x'.repeat(301))).toBe(`${'x'.repeat(299)}…`);
    expect(wordsOf(`${'x'.repeat(298)}😀😀`)).toBe(`${'x'.repeat(298)}…`);
    expect(wordsOf(new Error('y'.repeat(50_000_000))).length).toBe(300);
  });
});

describe('asError', () => {
  it('leaves an error as it is', () => {
    const error = new TypeError('x');
    expect(asError(error)).toBe(error);
  });

  it.each<readonly [string, unknown]>([['a text', 'why'], ...UNPRINTABLE.filter(([, thrown]) => !isError(thrown))])(
    'makes one of %s',
    (_n, thrown) => {
      const error = asError(thrown);
      expect(error).toBeInstanceOf(Error);
      expect(error.message).toBe(wordsOf(thrown));
      expect(Object.is(error.cause, thrown)).toBe(true);
    },
  );
});

function isError(thrown: unknown): boolean {
  try {
    return thrown instanceof Error;
  } catch {
    return false;
  }
}
