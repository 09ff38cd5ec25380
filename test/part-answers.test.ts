import { describe, expect, it } from 'vitest';
import {
  checkedConnection,
  checkedLoad,
  checkedReply,
  checkedSession,
  checkedWholeSession,
} from '../src/part-answers.js';
import { sampleRecord } from './durable/sample-record.js';
import { FakeHubSession } from './fakes/fake-hub-session.js';

const refusal = (option: string, message: string): unknown =>
  expect.objectContaining({
    name: 'ConfigurationError',
    code: 'ERR_DPS_CONFIG_OPTION',
    option,
    message: expect.stringContaining(message),
  });

const nothing = async (): Promise<void> => {};
const body = new Uint8Array();

const circular: Record<string, unknown> = {};
circular.self = circular;

/** What every part might give by mistake. */
const JUNK: readonly (readonly [unknown, string])[] = [
  [undefined, 'not undefined'],
  [null, 'not null'],
  ['secret', 'not a text'],
  [5, 'not a number'],
  [[], 'not a list'],
  [{}, 'not an object'],
];

describe('checkedConnection', () => {
  it('takes what can exchange and close, be it the instance of a class', () => {
    class Own {
      exchange(): void {}
      close(): void {}
    }
    const own = new Own();
    expect(checkedConnection(own)).toBe(own);
  });

  it.each([...JUNK, [{ exchange: nothing }, 'not an object'] as const])('refuses %o', (given, words) => {
    expect(() => checkedConnection(given)).toThrow(refusal('transport', 'open() of an object of your own'));
    expect(() => checkedConnection(given)).toThrow(refusal('transport', words));
  });
});

describe('checkedReply', () => {
  it.each([
    { kind: 'reply', status: 200, body },
    { kind: 'reply', status: 200, body: Buffer.from('x'), retryAfter: '3' },
    { kind: 'challenge', authenticationKey: body },
  ])('takes %o', (reply) => {
    expect(checkedReply(reply)).toBe(reply);
  });

  it.each([
    ...JUNK,
    [{ kind: 'reply', status: '200', body }, 'not an object'] as const,
    [{ kind: 'reply', status: 200.5, body }, 'not an object'] as const,
    [{ kind: 'reply', status: 200, body: '{}' }, 'body as a Uint8Array'] as const,
    [{ kind: 'challenge', authenticationKey: 'AAEC' }, 'not an object'] as const,
  ])('refuses %o', (given, words) => {
    expect(() => checkedReply(given)).toThrow(refusal('transport', words));
  });
});

describe('checkedSession', () => {
  const twin = { desired: { version: 1, properties: {} }, reported: { version: 1, properties: {} } };
  const closed = Promise.resolve(undefined);

  it('takes what has a twin and can be closed: more is not needed to provision', () => {
    const session = { twin, closed, close: nothing };
    expect(checkedSession(session)).toBe(session);
  });

  it.each([
    ...JUNK,
    [{ twin, closed }, 'not an object'] as const,
    [{ twin, close: nothing }, 'not an object'] as const,
    [{ twin, closed: undefined, close: nothing }, 'closed'] as const,
    [{ closed, close: nothing }, 'twin'] as const,
    [{ twin: { ...twin, reported: undefined }, closed, close: nothing }, 'twin'] as const,
    [{ twin: { ...twin, desired: { version: '1', properties: {} } }, closed, close: nothing }, 'twin'] as const,
    [{ twin: { ...twin, desired: { version: 1, properties: null } }, closed, close: nothing }, 'twin'] as const,
  ])('refuses %o', (given, words) => {
    expect(() => checkedSession(given)).toThrow(refusal('hubTransport', words));
  });
});

describe('checkedWholeSession', () => {
  it('takes a session that can do everything', () => {
    const session = new FakeHubSession();
    expect(checkedWholeSession(session)).toBe(session);
  });

  it.each(['onDesiredChange', 'report', 'sendTelemetry', 'onMessage', 'onMethod', 'close'])(
    'names %s, when that is what it lacks',
    (name) => {
      const session = Object.assign(new FakeHubSession(), { [name]: undefined });
      expect(() => checkedWholeSession(session)).toThrow(refusal('hubTransport', `${name}()`));
    },
  );
});

describe('checkedLoad', () => {
  const record = sampleRecord(1);
  const { binding, assignment, twin, ...rest } = record;

  it.each([{ kind: 'none' }, { kind: 'damaged', what: 'It is torn.' }])('takes %o', (loaded) => {
    expect(checkedLoad(loaded)).toBe(loaded);
  });

  it('takes a copy of a record, as if it had been read from bytes', () => {
    const given = JSON.parse(JSON.stringify(record));
    const loaded = checkedLoad({ kind: 'record', record: given, damaged: 'The other file is torn.' });
    given.assignment.assignedHub = 'elsewhere.example';
    expect(loaded).toEqual({ kind: 'record', record, damaged: 'The other file is torn.' });
    expect(loaded.kind === 'record' && loaded.record.assignment.raw).toMatchObject({ deviceId: assignment.deviceId });
    expect(checkedLoad({ kind: 'record', record: given, damaged: 5 })).not.toHaveProperty('damaged');
  });

  it.each(JUNK)('refuses %o', (given, words) => {
    expect(() => checkedLoad(given)).toThrow(refusal('state', words));
  });

  it.each([
    [{ kind: 'damaged' }, 'not an object'],
    [{ kind: 'record' }, 'not an object'],
    [{ kind: 'record', record: 'text' }, 'not an object'],
  ])('refuses %o, too', (given, words) => {
    expect(() => checkedLoad(given)).toThrow(refusal('state', words));
  });

  it.each<[object, string]>([
    [{ slot: -5 }, 'member slot should be a whole number from 0'],
    [{ slot: '0' }, 'member slot should be a whole number from 0'],
    [{ binding: 'x' }, 'member binding should be an object'],
    [{ binding: { ...binding, idScope: 5 } }, 'member idScope should be text'],
    [{ assignment: undefined }, 'member assignment should be an object, and there is nothing'],
    [{ assignment: { ...assignment, assignedHub: 'not a host\0/evil' } }, 'member assignedHub cannot be used'],
    [{ assignment: { ...assignment, deviceId: 'a/b/../c?#\n' } }, 'member deviceId cannot be used'],
    [{ twin: {} }, 'member desired should be an object'],
    [
      { twin: { ...twin, desired: { version: Number.NaN, properties: {} } } },
      'member version should be a whole number',
    ],
    [{ hubTransport: 'a\nb' }, 'member hubTransport cannot be used'],
    [{ keyIds: [''] }, 'member keyIds cannot be used'],
    [{ twin: { ...twin, reported: { version: 1, properties: circular } } }, 'nests more than 64 levels deep'],
    [{ twin: { ...twin, reported: { version: 1, properties: { n: 1n } } } }, 'The record is no plain data: '],
    [{ assignment: { ...assignment, payload: 'x'.repeat(1_100_000) } }, '1048576 are the most'],
  ])('takes a record with %o for a damaged one, and says why', (part, words) => {
    const given = { binding, assignment, twin, ...rest, ...part };
    expect(checkedLoad({ kind: 'record', record: given })).toEqual({
      kind: 'damaged',
      what: expect.stringContaining(words),
    });
    expect(checkedLoad({ kind: 'record', record: given, damaged: 'And more.' })).toMatchObject({
      what: expect.stringMatching(/ And more\.$/),
    });
  });
});
