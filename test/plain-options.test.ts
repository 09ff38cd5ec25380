import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { ConfigurationError, provision, type RunOptions, run } from '../src/index.js';
import { readProvisionOptions, readRunOptions } from '../src/provision-options.js';

const description = { kind: 'symmetricKey', registrationId: 'dev-1', key: 'MDEyMzQ1Njc4OWFiY2RlZg==' };
const own = {
  kind: 'symmetricKey',
  registrationId: () => Promise.reject(new Error('the identity was asked for')),
  sign: async () => new Uint8Array(32),
};
const valid = { idScope: 'x', hsm: description };

const throwing = (what: string): never => {
  throw new TypeError(`${what} cannot be read`);
};

/** An object of which every member is read through a trap; `reads` has each name as often as it was read. */
function watched<T extends object>(target: T, reads: string[], change: (name: string) => unknown = () => undefined): T {
  return new Proxy(target, {
    get: (object, name, receiver) => {
      const isAgain = reads.includes(String(name));
      if (typeof name === 'string') reads.push(name);
      return isAgain ? change(String(name)) : Reflect.get(object, name, receiver);
    },
  });
}

const revoked = (): object => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
};

/** Options that throw when they are looked at, and which of them is named. */
const HOSTILE: readonly (readonly [string, () => object, string])[] = [
  ...(['idScope', 'hsm', 'endpoint', 'transport', 'ca', 'payload', 'state', 'signal', 'clock'] as const).map(
    (name) =>
      [
        `a getter for ${name}`,
        () => Object.defineProperty({ ...valid }, name, { enumerable: true, get: () => throwing(name) }),
        name,
      ] as const,
  ),
  [
    'all of them behind a proxy that throws',
    () => new Proxy({ ...valid }, { ownKeys: () => throwing('keys') }),
    'options',
  ],
  ['all of them behind a proxy that was revoked', revoked, 'options'],
  ['an HSM behind a proxy that was revoked', () => ({ idScope: 'x', hsm: revoked() }), 'hsm'],
  [
    'a description with a getter',
    () => ({
      idScope: 'x',
      hsm: {
        ...description,
        get key() {
          return throwing('key');
        },
      },
    }),
    'hsm',
  ],
  [
    'an own HSM with a getter for its kind',
    () => ({ idScope: 'x', hsm: Object.defineProperty({ ...own }, 'kind', { get: () => throwing('kind') }) }),
    'hsm',
  ],
  [
    'a list with a getter',
    () => ({ ...valid, transport: Object.defineProperty(['mqtt'], 0, { get: () => throwing('0') }) }),
    'transport',
  ],
  ['a list without end', () => ({ ...valid, ca: new Array(4_000_000_000) }), 'ca'],
  [
    'an own transport with a getter',
    () => ({
      ...valid,
      transport: {
        get open() {
          return throwing('open');
        },
      },
    }),
    'transport',
  ],
  [
    'a signal with a getter',
    () => ({
      ...valid,
      signal: {
        get aborted() {
          return throwing('aborted');
        },
      },
    }),
    'signal',
  ],
  [
    'a payload with a getter',
    () => ({
      ...valid,
      payload: {
        get site() {
          return throwing('site');
        },
      },
    }),
    'payload',
  ],
  [
    'a payload that throws what is no error',
    () => ({
      ...valid,
      payload: {
        toJSON: () => {
          throw null;
        },
      },
    }),
    'payload',
  ],
];

const FOR_RUN_ALONE: typeof HOSTILE = (['onStrayError', 'reprovisionOn'] as const).map((name) => [
  `a getter for ${name}`,
  () => Object.defineProperty({ ...valid }, name, { enumerable: true, get: () => throwing(name) }),
  name,
]);

describe('options that throw when they are read', () => {
  it.each(HOSTILE)('%s: provision() rejects with what names it', async (_, options, option) => {
    const journey = provision(options() as never);
    const error: unknown = await journey.catch((reason: unknown) => reason);
    expect(error, inspect(error)).toBeInstanceOf(ConfigurationError);
    expect(error).toMatchObject({ code: 'ERR_DPS_CONFIG_OPTION', option });
    for await (const event of journey.events) throw new Error(`there was ${event.type}`);
  });

  it.each([...HOSTILE, ...FOR_RUN_ALONE])('%s: run() ends with what names it', async (_, options, option) => {
    const device = run(options() as never);
    const error = await device.closed;
    expect(error, inspect(error)).toBeInstanceOf(ConfigurationError);
    expect(error).toMatchObject({ code: 'ERR_DPS_CONFIG_OPTION', option });
    await expect(device.ready).rejects.toBe(error);
  });

  it('says what was thrown, and keeps it as the cause', async () => {
    const error = await run({
      ...valid,
      get signal(): never {
        return throwing('signal');
      },
    } as never).closed;
    expect(error?.message).toBe(
      'Option signal: it could not be read; give plain values. Reading it failed: signal cannot be read',
    );
    expect(error?.cause).toBeInstanceOf(TypeError);
  });
});

describe('options that change', () => {
  it('count as they were read first, each once', () => {
    const reads: string[] = [];
    const entries: string[] = [];
    const members: string[] = [];
    const source: string[] = [];
    const triggers: string[] = [];
    const options = watched(
      {
        idScope: 'x',
        hsm: watched({ ...description, key: watched({ file: 'device.key' }, source) }, members),
        transport: watched(['mqtt', 'https'], entries),
        payload: { toJSON: () => ({ at: reads.push('toJSON') }) },
        reprovisionOn: watched({ method: 'again' }, triggers),
      },
      reads,
    );
    const plain = readRunOptions(options) as RunOptions;
    expect(plain).toMatchObject({
      idScope: 'x',
      hsm: { ...description, key: { file: 'device.key' } },
      transport: ['mqtt', 'https'],
      payload: { at: expect.any(Number) },
      reprovisionOn: { method: 'again' },
    });
    for (const [what, names] of Object.entries({ reads, entries, members, source, triggers })) {
      // Looked for in whatever may be an HSM of the application's own.
      const once = names.filter((name) => name !== 'constructor' && name !== 'sign');
      expect(once, what).toEqual([...new Set(once)]);
    }
    const before = [reads.length, entries.length, members.length];
    JSON.stringify(plain);
    expect([reads.length, entries.length, members.length]).toEqual(before);
  });

  it.each([
    ['a list of transports', () => ({ transport: watched(['mqtt'], [], (name) => (name === '0' ? 7 : 1)) })],
    [
      'the names in it',
      () => ({ transport: new Proxy(['mqtt'], { get: changing({ '0': ['mqtt', 'carrier-pigeon'] }) }) }),
    ],
    ['a transport for a list', () => changingOption('transport', [['mqtt'], 7])],
    ['a hub transport', () => changingOption('hubTransport', ['mqtt', 'carrier-pigeon'])],
    ['a clock for none', () => changingOption('clock', [undefined, 'noon'])],
    ['a state', () => changingOption('state', [undefined, 5])],
  ])('%s gives no untyped error', async (_, change) => {
    const options = Object.defineProperties({ idScope: 'x', hsm: own }, Object.getOwnPropertyDescriptors(change()));
    const error: unknown = await provision(options as never).catch((reason: unknown) => reason);
    // The first step after the options.
    expect(error, inspect(error)).toMatchObject({
      code: 'ERR_DPS_HSM_OPERATION',
      message: expect.stringContaining('the identity was asked for'),
    });
  });

  it('that are parts of the application’s own, with methods or a class, are taken as they are', () => {
    class Identity {
      readonly kind = 'symmetricKey';
      registrationId = async (): Promise<string> => 'dev-1';
      async sign(): Promise<Uint8Array> {
        return new Uint8Array(32);
      }
    }
    const clock = { monotonicMs: () => 0, wallMs: () => 0, after: () => () => undefined };
    const hsm = new Identity();
    const state = { load() {}, save() {}, forget() {} };
    const { signal } = new AbortController();
    const plain = readProvisionOptions({ idScope: 'x', hsm, clock, state, signal }) as unknown as RunOptions;
    expect([plain.hsm, plain.clock, plain.state, plain.signal]).toEqual([hsm, clock, state, signal]);
    for (const [given, taken] of [
      [hsm, plain.hsm],
      [clock, plain.clock],
      [state, plain.state],
    ])
      expect(taken).toBe(given);
    const described = readProvisionOptions({ idScope: 'x', hsm: { kind: 'tpm', clock, handles: { identity: 1 } } });
    expect((described as unknown as { hsm: { clock: unknown } }).hsm.clock).toBe(clock);
  });

  it('may come from a prototype', () => {
    const defaults = { idScope: 'x', hsm: Object.create(description, { key: { value: 'k', enumerable: true } }) };
    const plain = readProvisionOptions(Object.create(defaults, { deadlineMs: { value: 5, enumerable: true } }));
    expect(plain).toMatchObject({ idScope: 'x', deadlineMs: 5, hsm: { kind: 'symmetricKey', key: 'k' } });
  });
});

/** A trap that gives each value in turn, and the last one for ever. */
function changing(values: Readonly<Record<string, readonly unknown[]>>): NonNullable<ProxyHandler<object>['get']> {
  const seen: Record<string, number> = {};
  return (target, name) => {
    const turn = values[String(name)];
    if (turn === undefined) return Reflect.get(target, name);
    seen[String(name)] = (seen[String(name)] ?? -1) + 1;
    return turn[Math.min(seen[String(name)] ?? 0, turn.length - 1)];
  };
}

function changingOption(name: string, values: readonly unknown[]): object {
  let reads = 0;
  const get = (): unknown => values[Math.min(reads++, values.length - 1)];
  return Object.defineProperty({}, name, { enumerable: true, get });
}
