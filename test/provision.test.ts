import { describe, expect, it } from 'vitest';
import type { SymmetricKeyHsm, TpmHsm } from '../src/core/attestation.js';
import { encodeUtf8 } from '../src/core/bytes.js';
import type { HubSession, HubTransport } from '../src/core/hub.js';
import type { ProgressEvent } from '../src/core/progress.js';
import type { ProvisionedDevice } from '../src/core/provisioned-device.js';
import type { LoadedRecord } from '../src/core/store.js';
import type { DpsChallenge, DpsCredential, DpsReply, DpsTransport } from '../src/core/transport.js';
import type { Twin } from '../src/core/twin.js';
import { ConfigurationError, StoreError, TransportError } from '../src/errors.js';
import { ProgressLog } from '../src/progress-log.js';
import { provisionWith, reporter } from '../src/provision.js';
import type { ProvisioningParts } from '../src/provisioning-parts.js';
import { ManualClock } from './fakes/manual-clock.js';
import { assignedTo, FakeStore, turns } from './fakes/run-world.js';

const TWIN: Twin = { desired: { version: 2, properties: { led: true } }, reported: { version: 1, properties: {} } };
const reply = (status: number, body: unknown): DpsReply => ({
  kind: 'reply',
  status,
  body: encodeUtf8(JSON.stringify(body)),
});
const ASSIGNING = reply(202, { operationId: 'op', status: 'assigning' });
const assigned = (extra: object = {}): DpsReply => assignedTo('hub.example', extra);

const never = (signal: { addEventListener(type: 'abort', fn: () => void): void; reason?: unknown }): Promise<never> =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));

interface World {
  readonly clock: ManualClock;
  readonly journal: string[];
  readonly credentials: DpsCredential[];
  readonly parts: ProvisioningParts;
}

/** Parts that do as told: each exchange takes the next answer; 'hang' never answers. */
function world(
  answers: readonly (DpsReply | DpsChallenge | Error | 'hang')[],
  overrides: Partial<ProvisioningParts> & { readonly open?: 'hang' | Error; readonly hub?: HubTransport } = {},
): World {
  const { open, ...parts } = overrides;
  const clock = new ManualClock();
  const journal: string[] = [];
  const credentials: DpsCredential[] = [];
  const left = [...answers];
  const hsm: SymmetricKeyHsm = {
    kind: 'symmetricKey',
    registrationId: async () => 'dev-1',
    sign: async () => new Uint8Array(32),
  };
  const dps: DpsTransport = {
    name: 'fake',
    async open({ credential }, signal) {
      journal.push('open');
      credentials.push(credential);
      if (open === 'hang') return never(signal);
      if (open !== undefined) throw open;
      return {
        async exchange(request, within) {
          journal.push(request.kind);
          const next = left.shift() ?? 'hang';
          if (next === 'hang') return never(within);
          if (next instanceof Error) throw next;
          return next;
        },
        async close() {
          journal.push('close');
        },
      };
    },
  };
  const hub: HubTransport = {
    name: 'fake',
    async open() {
      journal.push('hub open');
      return {
        twin: TWIN,
        closed: new Promise(() => {}),
        close: async () => void journal.push('hub close'),
      } as unknown as HubSession;
    },
    connectionInfo: ({ hostName, deviceId }) => ({
      mqttOptions: async () => ({ host: hostName }) as never,
      connectionString: async () => `HostName=${hostName};DeviceId=${deviceId}`,
    }),
  };
  return {
    clock,
    journal,
    credentials,
    parts: {
      idScope: '0ne00111111',
      endpoint: 'dps.example',
      hsm,
      dps,
      hub,
      clock,
      random: () => 0,
      deadlineMs: 100_000,
      connectTimeoutMs: 20_000,
      requestTimeoutMs: 10_000,
      hubTimeoutMs: 50_000,
      tokenLifeSeconds: 3_600,
      ...parts,
    },
  };
}

/** Lets promises settle and time pass until the journey ends. */
async function finish({ clock }: World, device: Promise<ProvisionedDevice>): Promise<ProvisionedDevice> {
  let over = false;
  const ended = device.finally(() => {
    over = true;
  });
  ended.catch(() => {});
  for (let round = 0; !over && round < 500; round++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (!over) clock.advanceToNext();
  }
  return ended;
}

const run = (w: World, log = new ProgressLog()): Promise<ProvisionedDevice> => finish(w, provisionWith(w.parts, log));

async function read(log: ProgressLog): Promise<ProgressEvent[]> {
  const events: ProgressEvent[] = [];
  for await (const event of log) events.push(event);
  return events;
}

describe('the loop', () => {
  it('performs what the core orders, in order, and closes everything', async () => {
    const w = world([ASSIGNING, assigned()]);
    const device = await run(w);
    expect(w.journal).toEqual(['open', 'register', 'operationStatus', 'close', 'hub open', 'hub close']);
    expect(device).toMatchObject({ assignedHub: 'hub.example', deviceId: 'dev-1', source: 'registered', twin: TWIN });
    expect(await device.connectionString()).toBe('HostName=hub.example;DeviceId=dev-1');
    expect(w.clock.pending).toBe(0);
    expect(w.credentials).toMatchObject([
      { kind: 'sas', token: expect.stringContaining('sr=0ne00111111%2Fregistrations%2Fdev-1&sig=') },
    ]);
  });

  it('shows every step to readers that come early and late', async () => {
    const w = world([ASSIGNING, assigned()]);
    const log = new ProgressLog();
    const early = read(log);
    await run(w, log);
    const types = (await early).map((event) => event.type);
    expect(types[0]).toBe('started');
    expect(types.at(-1)).toBe('provisioned');
    expect((await read(log)).map((event) => event.type)).toEqual(types);
  });

  it('survives a lost connection and asks for the same operation', async () => {
    const lost = new TransportError({
      code: 'ERR_DPS_CONNECTION_LOST',
      message: 'x',
      phase: 'request',
      peer: 'p',
      retryable: true,
    });
    const w = world([ASSIGNING, lost, assigned()]);
    await run(w);
    expect(w.journal).toEqual([
      'open',
      'register',
      'operationStatus',
      'close',
      'open',
      'operationStatus',
      'close',
      'hub open',
      'hub close',
    ]);
  });

  it('abandons a request that is never answered, and ends in bounded time', async () => {
    const w = world(['hang', 'hang', 'hang', 'hang', 'hang', 'hang', 'hang', 'hang', 'hang', 'hang', 'hang']);
    await expect(run(w)).rejects.toMatchObject({ code: expect.stringMatching(/ERR_DPS_(REQUEST_TIMEOUT|DEADLINE)/) });
    expect(w.clock.monotonicMs()).toBeLessThanOrEqual(w.parts.deadlineMs);
    expect(w.clock.pending).toBe(0);
    expect(w.journal.filter((entry) => entry === 'open')).toHaveLength(
      w.journal.filter((entry) => entry === 'close').length,
    );
  });

  it('lets a bug in an injected part surface as it is', async () => {
    const bug = new RangeError('oops');
    await expect(run(world([bug]))).rejects.toBe(bug);
  });

  it('closes a connection that opened too late', async () => {
    const w = world([]);
    let open: (() => void) | undefined;
    const late: DpsTransport = {
      name: 'late',
      open: () =>
        new Promise((resolve) => {
          open = () =>
            resolve({
              exchange: () => Promise.reject(new Error('unused')),
              close: async () => void w.journal.push('late close'),
            });
        }),
    };
    const abort = new AbortController();
    const ended = provisionWith({ ...w.parts, dps: late, signal: abort.signal }, new ProgressLog());
    ended.catch(() => {});
    await new Promise((resolve) => setImmediate(resolve));
    abort.abort();
    open?.();
    await expect(ended).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    await new Promise((resolve) => setImmediate(resolve));
    expect(w.journal).toEqual(['late close']);
  });
});

describe('cancellation', () => {
  it.each([
    ['before the start', 'hang', []],
    ['while connecting', 'hang', []],
    ['while registering', undefined, ['hang']],
    ['while waiting to poll', undefined, [ASSIGNING]],
  ] as const)('%s ends at once and leaves nothing behind', async (when, open, answers) => {
    const w = world(answers as never, open === undefined ? {} : { open });
    const abort = new AbortController();
    const reason = new Error('enough');
    if (when === 'before the start') abort.abort(reason);
    const ended = provisionWith({ ...w.parts, signal: abort.signal }, new ProgressLog());
    ended.catch(() => {});
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    abort.abort(reason);
    await expect(ended).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED', cause: reason });
    expect(w.clock.pending).toBe(0);
    expect(w.journal.filter((entry) => entry === 'close').length).toBe(open === 'hang' ? 0 : 1);
  });
});

describe('an HSM of one’s own', () => {
  const hsm = (part: Partial<SymmetricKeyHsm>): SymmetricKeyHsm => ({
    kind: 'symmetricKey',
    registrationId: async () => 'dev-1',
    sign: async () => new Uint8Array(32),
    ...part,
  });

  it('that throws becomes an HsmError with the cause', async () => {
    const cause = new Error('bus error');
    const failing = hsm({ sign: () => Promise.reject(cause) });
    await expect(run(world([], { hsm: failing }))).rejects.toMatchObject({
      code: 'ERR_DPS_HSM_OPERATION',
      operation: 'sign',
      cause,
    });
    const nameless = hsm({ registrationId: () => Promise.reject(cause) });
    await expect(run(world([], { hsm: nameless }))).rejects.toMatchObject({
      code: 'ERR_DPS_HSM_OPERATION',
      operation: 'read identity',
    });
  });

  it('that throws what has no text form ends in an HsmError too', async () => {
    const failing = hsm({ registrationId: () => Promise.reject(Object.create(null)) });
    await expect(run(world([], { hsm: failing }))).rejects.toMatchObject({ code: 'ERR_DPS_HSM_OPERATION' });
  });

  it('that never answers ends at the deadline', async () => {
    await expect(run(world([], { hsm: hsm({ sign: (_, __, signal) => never(signal) }) }))).rejects.toMatchObject({
      code: 'ERR_DPS_DEADLINE',
    });
    await expect(run(world([], { hsm: hsm({ registrationId: never }) }))).rejects.toMatchObject({
      code: 'ERR_DPS_DEADLINE',
    });
  });

  it.each<[string, unknown, number | undefined, string]>([
    ['with a hole', Object.assign(new Array(2), { 1: 'a' }), 2, 'a list of 1 to 64 texts'],
    ['that are no texts', [1, 2], 2, 'a list of 1 to 64 texts'],
    ['that nobody can see', ['a\n', 'b'], 2, 'a list of 1 to 64 texts'],
    ['that are no list', 'ab', 2, 'a list of 1 to 64 texts'],
    ['fewer than slots', ['a'], 2, 'as many as its slots, 2, not 1'],
    ['more than slots', ['a', 'b'], undefined, 'as many as its slots, 1, not 2'],
  ])('that names its keys, %s, is refused before anything is sent', async (_what, keyIds, slots, says) => {
    const w = world([assigned()]);
    const named = { ...w.parts.hsm, keyIds, ...(slots === undefined ? {} : { slots }) } as SymmetricKeyHsm;
    await expect(run({ ...w, parts: { ...w.parts, hsm: named } })).rejects.toMatchObject({
      code: 'ERR_DPS_CONFIG_OPTION',
      option: 'hsm',
      message: expect.stringContaining(says),
    });
    expect(w.journal).toEqual([]);
  });

  it('of the TPM kind is challenged, staged and committed', async () => {
    const calls: string[] = [];
    const tpm: TpmHsm = {
      kind: 'tpm',
      registrationId: async () => 'dev-1',
      endorsement: async () => ({ endorsementKey: new Uint8Array([1]), storageRootKey: new Uint8Array([2]) }),
      activate: async (blob) => void calls.push(`activate ${blob}`),
      sign: async () => new Uint8Array(32),
      stage: async (blob) => void calls.push(`stage ${blob}`),
      commit: async () => void calls.push('commit'),
      discard: async () => void calls.push('discard'),
    };
    const challenge: DpsChallenge = { kind: 'challenge', authenticationKey: new Uint8Array([7]) };
    const w = world([challenge, ASSIGNING, assigned({ tpm: { authenticationKey: 'CQ==' } })], { hsm: tpm });
    await run(w);
    expect(calls).toEqual(['activate 7', 'stage 9', 'commit']);
    expect(w.credentials.map((credential) => ('token' in credential ? 'token' : 'no token'))).toEqual([
      'no token',
      'token',
    ]);
  });
});

describe('a store', () => {
  const stored = (hub: string): LoadedRecord => ({
    kind: 'record',
    record: {
      binding: {
        endpoint: 'dps.example',
        idScope: '0ne00111111',
        registrationId: 'dev-1',
        attestation: 'symmetricKey',
      },
      assignment: { registrationId: 'dev-1', assignedHub: hub, deviceId: 'dev-1', status: 'assigned', raw: {} },
      slot: 0,
      dpsTransport: 'fake',
      hubTransport: 'fake',
      twin: TWIN,
    },
  });
  const storeWith = (loaded: LoadedRecord): FakeStore => Object.assign(new FakeStore(), { loaded });

  it('with a record sends the device straight to its hub', async () => {
    const store = storeWith(stored('known.example'));
    const w = world([], { store });
    expect(await run(w)).toMatchObject({ assignedHub: 'known.example', source: 'stored' });
    expect(w.journal).toEqual(['hub open', 'hub close']);
    expect(w.clock.pending).toBe(0);
  });

  it('is passed by when DPS is to be asked, and gets what DPS says before the promise settles', async () => {
    const store = storeWith(stored('known.example'));
    const w = world([ASSIGNING, assigned()], { store, reprovision: true });
    expect(await run(w)).toMatchObject({ assignedHub: 'hub.example', source: 'registered' });
    // First that the device was sent elsewhere, then that it arrived.
    expect(store.saved).toMatchObject([
      { assignment: { assignedHub: 'known.example' }, movedTo: 'hub.example' },
      { assignment: { assignedHub: 'hub.example' } },
    ]);
  });

  it.each([
    ['cannot save', new StoreError({ code: 'ERR_DPS_STORE_FULL', message: 'full', operation: 'write', path: 'x' })],
  ])('that %s costs a warning among the events, no more', async (_, saving) => {
    const log = new ProgressLog();
    const store = Object.assign(new FakeStore(), { saving });
    expect(await run(world([assigned()], { store }), log)).toMatchObject({ assignedHub: 'hub.example' });
    expect(await read(log)).toContainEqual({ type: 'record', outcome: 'unsaved', detail: 'full' });
  });

  it('that is locked ends the journey before anything is sent', async () => {
    const locked = new StoreError({ code: 'ERR_DPS_STORE_LOCKED', message: 'locked', operation: 'lock', path: 'x' });
    const w = world([], { store: Object.assign(new FakeStore(), { loaded: locked }) });
    await expect(run(w)).rejects.toBe(locked);
    expect(w.journal).toEqual([]);
  });

  it('of one’s own that gives nonsense is named', async () => {
    const w = world([], { store: storeWith({ kind: 'record' } as never) });
    await expect(run(w)).rejects.toMatchObject({ code: 'ERR_DPS_CONFIG_OPTION', option: 'state' });
  });

  it.each([
    ['found', stored('known.example')],
    ['missing', { kind: 'none' } as const],
  ])('is given back at the end, record %s', async (_, loaded) => {
    let released = 0;
    const release = async (): Promise<void> => {
      released += 1;
    };
    const hubRefuses: HubTransport = {
      ...world([]).parts.hub,
      open: () => Promise.reject(new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', message: 'x', option: 'x' })),
    };
    await run(world([assigned()], { store: storeWith(loaded), release }));
    await expect(run(world([assigned()], { store: storeWith(loaded), release, hub: hubRefuses }))).rejects.toThrow('x');
    expect(released).toBe(2);
  });
});

describe('a start that is spread', () => {
  it('sends nothing before its time', async () => {
    const w = world([assigned()], { startSpreadMs: 60_000, random: () => 0.25 });
    const log = new ProgressLog();
    const ended = provisionWith(w.parts, log);
    await turns();
    w.clock.advance(14_999);
    await turns();
    expect(w.journal).toEqual([]);
    w.clock.advance(1);
    await turns();
    expect(w.journal.slice(0, 2)).toEqual(['open', 'register']);
    await finish(w, ended);
    expect(await read(log)).toContainEqual({ type: 'waiting', forMs: 15_000, reason: 'spread' });
  });
});

describe('a wait', () => {
  it('is told in whole milliseconds, never as shorter than it is', () => {
    const log = new ProgressLog();
    const report = reporter(log);
    report({ type: 'waiting', forMs: 21_677.619165945456, reason: 'network' });
    report({ type: 'waiting', forMs: 3_000, reason: 'poll' });
    log.end();
    return expect(read(log)).resolves.toEqual([
      { type: 'waiting', forMs: 21_678, reason: 'network' },
      { type: 'waiting', forMs: 3_000, reason: 'poll' },
    ]);
  });
});

describe('parts of one’s own that answer nonsense', () => {
  it.each([
    ['a connection', { dps: { name: 'own', open: async () => ({}) } }, 'transport'],
    [
      'a reply',
      { dps: { name: 'own', open: async () => ({ exchange: async () => 'ok', close: async () => {} }) } },
      'transport',
    ],
    ['a session', { hub: { ...world([]).parts.hub, open: async () => ({ twin: {} }) } }, 'hubTransport'],
  ])('as %s are named', async (_, parts, option) => {
    await expect(run(world([assigned()], parts as never))).rejects.toMatchObject({
      name: 'ConfigurationError',
      option,
    });
  });
});
