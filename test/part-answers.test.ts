import { describe, expect, it } from 'vitest';
import {
  checkedConnection,
  checkedLoad,
  checkedReply,
  checkedSession,
  checkedWholeSession,
} from '../src/part-answers.js';
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
  const record = {
    binding: { endpoint: 'e', idScope: 's', registrationId: 'r', attestation: 'x509' },
    assignment: { assignedHub: 'hub.example', deviceId: 'dev-1' },
    slot: 0,
    twin: { desired: { version: 1, properties: {} }, reported: { version: 1, properties: {} } },
  };

  it.each([{ kind: 'none' }, { kind: 'damaged', what: 'It is torn.' }, { kind: 'record', record }])(
    'takes %o',
    (loaded) => {
      expect(checkedLoad(loaded)).toBe(loaded);
    },
  );

  it.each([
    ...JUNK,
    [{ kind: 'damaged' }, 'not an object'] as const,
    [{ kind: 'record' }, 'not an object'] as const,
    [{ kind: 'record', record: {} }, 'not an object'] as const,
    ...[
      { binding: 'x' },
      { binding: { ...record.binding, idScope: 5 } },
      { assignment: undefined },
      { assignment: { assignedHub: 'hub.example' } },
      { slot: '0' },
      { twin: {} },
    ].map((part) => [{ kind: 'record', record: { ...record, ...part } }, 'not an object'] as const),
  ])('refuses %o', (given, words) => {
    expect(() => checkedLoad(given)).toThrow(refusal('state', words));
  });
});
