import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { ServiceError, StoreError } from '../src/errors.js';
import { FakeHubSession, twinOf } from './fakes/fake-hub-session.js';
import { expectNothingLeft, LOST, never, RunWorld, turns, watchUnhandled } from './fakes/run-world.js';

const UNKNOWN = new ServiceError({
  code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
  message: 'unknown',
  service: 'dps',
  status: 401,
  errorCode: 401002,
});

describe('close()', () => {
  /** Brings a life to a phase. */
  const phases: readonly (readonly [string, (world: RunWorld) => Promise<ReturnType<RunWorld['start']>>])[] = [
    ['at once', async (world) => world.start()],
    [
      'while keys are read',
      async (world) => {
        const running = world.start({ parts: { hsm: hangingHsm('registrationId') } });
        await turns();
        return running;
      },
    ],
    [
      'while the record is read',
      async (world) => {
        world.store.loaded = 'hang';
        const running = world.start();
        await turns();
        return running;
      },
    ],
    [
      'while the start is spread',
      async (world) => {
        const running = world.start({ parts: { startSpreadMs: 60_000, random: () => 0.5 } });
        await world.until(() => world.told().length > 0);
        expect(world.told()).toEqual(['waiting spread 30000']);
        return running;
      },
    ],
    [
      'while a token is signed',
      async (world) => {
        const running = world.start({ parts: { hsm: hangingHsm('sign') } });
        await world.until(() => world.told().length > 0);
        return running;
      },
    ],
    ...(['hang open', 'hang'] as const).map(
      (how) =>
        [
          how === 'hang' ? 'while DPS thinks' : 'while connecting to DPS',
          async (world: RunWorld) => {
            world.dpsFailures.push(how);
            const running = world.start();
            await world.until(() => world.journal.includes('dps'));
            await turns();
            return running;
          },
        ] as const,
    ),
    [
      'while waiting to ask DPS again',
      async (world) => {
        world.dpsFailures.push(UNKNOWN);
        const running = world.start();
        await world.until(() => world.told().includes('waiting refused 1800000'));
        return running;
      },
    ],
    [
      'while connecting to the hub',
      async (world) => {
        world.hubFailures.push('hang');
        const running = world.start();
        await world.until(() => world.journal.includes('hub.example'));
        return running;
      },
    ],
    [
      'while waiting for the hub',
      async (world) => {
        world.hubFailures.push(LOST);
        const running = world.start();
        await world.until(() => world.told().includes('waiting network 1000'));
        return running;
      },
    ],
    [
      'at the hub',
      async (world) => {
        const running = world.start({ triggers: { method: 'reprovision', desiredProperty: 'again' } });
        await world.untilOnline();
        return running;
      },
    ],
    [
      'while a record is being saved',
      async (world) => {
        world.store.saving = 'hang';
        const running = world.start();
        await world.untilOnline();
        return running;
      },
    ],
    [
      'between the order of a method and its journey to DPS',
      async (world) => {
        const running = world.start({ triggers: { method: 'reprovision' } });
        await world.untilOnline();
        await world.session.call('reprovision');
        return running;
      },
    ],
  ];

  it.each(phases)('%s ends at once and leaves nothing behind', async (_, reach) => {
    const unhandled = watchUnhandled();
    const world = new RunWorld();
    const abort = new AbortController();
    const waiting = reach(world).then(async (running) => {
      const sent = running.session.sendTelemetry({ body: 1 }, abort.signal).catch((error) => error.code);
      await turns();
      await running.close();
      await running.close();
      return { running, sent: await sent };
    });
    // The last save may hang; it is given five seconds.
    let isOver = false;
    waiting.finally(() => {
      isOver = true;
    });
    for (let round = 0; round < 30 && !isOver; round += 1) {
      await turns();
      if (world.store.saving === 'hang') world.clock.advance(1_000);
    }
    const { running, sent } = await waiting;
    expect(await running.closed).toBeUndefined();
    expect(await running.session.closed).toBeUndefined();
    expect([undefined, 'ERR_DPS_SESSION_CLOSED']).toContain(sent);
    expect(getEventListeners(abort.signal, 'abort')).toEqual([]);
    await turns();
    expect(unhandled).toEqual([]);
    // Whoever awaits ready only learns of the end there.
    if (world.sessions.length === 0) await expect(running.ready).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    expect({ timers: world.clock.pending, open: world.open }).toEqual({ timers: 0, open: 0 });
    // The end of the events was told.
    for await (const event of running.events) expect(event).toBeDefined();
    running.reprovision();
    await turns();
    expect(world.clock.pending).toBe(0);
  });

  it('may be called by the handle and from its listeners', async () => {
    const world = new RunWorld();
    const running = world.start();
    running.session.onMethod('stop', async () => {
      await running.session.close();
      return { status: 200 };
    });
    await world.untilOnline();
    await world.session.call('stop');
    expect(await running.closed).toBeUndefined();
    expectNothingLeft(world);
  });

  it('does not wait for ever for parts that never finish closing', async () => {
    const world = new RunWorld();
    const running = world.start();
    await world.untilOnline();
    world.session.close = () => new Promise(() => {});
    const closing = running.close();
    await turns();
    world.clock.advance(5_000);
    await closing;
    expect(world.clock.pending).toBe(0);
  });
});

describe('a signal of the application’s', () => {
  it('ends the life as close() does', async () => {
    const world = new RunWorld();
    const abort = new AbortController();
    const running = world.start({ signal: abort.signal });
    await world.untilOnline();
    expect(getEventListeners(abort.signal, 'abort')).toHaveLength(1);
    abort.abort(new Error('enough'));
    expect(await running.closed).toBeUndefined();
    expect(world.told().at(-1)).toBe('ended ERR_DPS_CANCELLED');
    expect(getEventListeners(abort.signal, 'abort')).toEqual([]);
    expectNothingLeft(world);
  });

  it('that has aborted already leaves nothing to do, and its reason in ready', async () => {
    const world = new RunWorld();
    const reason = new Error('never mind');
    const running = world.start({ signal: AbortSignal.abort(reason) });
    expect(await running.closed).toBeUndefined();
    await expect(running.ready).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED', cause: reason });
    expect(world.journal).toEqual([]);
    expectNothingLeft(world);
  });

  it('is left alone when the life ends by itself', async () => {
    const world = new RunWorld();
    const abort = new AbortController();
    const running = world.start({ signal: abort.signal, makeParts: () => Promise.reject(new Error('no parts')) });
    await expect(running.closed).rejects.toThrow('no parts');
    expect(getEventListeners(abort.signal, 'abort')).toEqual([]);
  });
});

describe('the end that nobody asked for', () => {
  it('is told in ready, closed, the handle and the events', async () => {
    const world = new RunWorld();
    const damaged = new StoreError({
      code: 'ERR_DPS_STORE_NEWER_FORMAT',
      message: 'newer',
      operation: 'read',
      path: 'x',
    });
    world.store.loaded = damaged;
    const running = world.start();
    await expect(running.ready).rejects.toBe(damaged);
    expect(await running.closed).toBe(damaged);
    expect(await running.session.closed).toBe(damaged);
    await turns();
    expect(world.told()).toEqual(['ended ERR_DPS_STORE_NEWER_FORMAT']);
    await running.close();
    expectNothingLeft(world);
  });

  it.each(['ready', 'closed', 'neither'])('is no unhandled rejection for who reads %s', async (read) => {
    const unhandled = watchUnhandled();
    const world = new RunWorld();
    const bug = new RangeError('oops');
    world.dpsFailures.push(bug);
    const running = world.start();
    if (read === 'ready') await expect(running.ready).rejects.toBe(bug);
    if (read === 'closed') await expect(running.closed).rejects.toBe(bug);
    await turns(20);
    await running.close();
    expect(unhandled).toEqual([]);
    expect(await running.session.closed).toBe(bug);
    expectNothingLeft(world);
  });

  it('by a session that cannot do what a session must names what is missing', async () => {
    const world = new RunWorld();
    world.newSession = () => {
      const { twin, closed } = new FakeHubSession();
      return { twin, closed, onDesiredChange: () => () => {}, close: async () => void world.journal.push('closed') };
    };
    const running = world.start();
    expect(await running.closed).toMatchObject({
      code: 'ERR_DPS_CONFIG_OPTION',
      option: 'hubTransport',
      message: expect.stringContaining('report()'),
    });
    expect(world.journal.at(-1)).toBe('closed');
    expectNothingLeft(world);
  });

  it('of a session whose closed rejects is a loss like any other', async () => {
    const unhandled = watchUnhandled();
    const world = new RunWorld();
    const odd = Object.defineProperty(new FakeHubSession(), 'closed', { value: Promise.reject(new Error('odd')) });
    const sessions: unknown[] = [odd, new FakeHubSession()];
    world.newSession = () => sessions.shift();
    const running = world.start();
    await world.until(() => sessions.length === 0);
    expect(world.told()).toContain('offline ERR_DPS_CONNECTION_LOST');
    await running.close();
    expect(await running.closed).toBeUndefined();
    expect(unhandled).toEqual([]);
  });

  it('is not undone by what a crashed life still hears', async () => {
    const world = new RunWorld();
    const running = world.start();
    await world.untilOnline();
    const bug = new RangeError('oops');
    const { session } = world;
    world.clock.after = () => {
      Reflect.deleteProperty(world.clock, 'after');
      // The handle will look at the twin once more.
      session.twin = twinOf(9, { b: 1 });
      throw bug;
    };
    session.change({ a: 1 });
    await expect(running.closed).rejects.toBe(bug);
    expect(running.session.twin.desired.version).toBe(9);
    expect(world.clock.pending).toBe(0);
  });
});

/** Never answers one of its questions. */

describe('a signal that cannot be listened to', () => {
  it('ends the life with what it throws', async () => {
    const oops = new RangeError('oops');
    const signal = {
      aborted: false,
      reason: undefined,
      addEventListener: () => {
        throw oops;
      },
      removeEventListener: () => {},
    };
    const running = new RunWorld().start({ signal: signal as never });
    await expect(running.closed).rejects.toBe(oops);
    await expect(running.ready).rejects.toBe(oops);
    await running.close();
  });
});

describe('a store that never gives its lock back', () => {
  it('is waited for five seconds', async () => {
    const world = new RunWorld();
    const running = world.start({ parts: { release: () => new Promise<void>(() => {}) } });
    await world.untilOnline();
    let isOver = false;
    const closing = running.close().then(() => {
      isOver = true;
    });
    await turns();
    world.clock.advance(4_999);
    await turns();
    expect(isOver).toBe(false);
    world.clock.advance(1);
    await closing;
    expect([await running.closed, world.clock.pending]).toEqual([undefined, 0]);
  });
});

function hangingHsm(method: 'registrationId' | 'sign'): never {
  return {
    kind: 'symmetricKey',
    registrationId: async () => 'dev-1',
    sign: async () => new Uint8Array(32),
    [method]: (...given: unknown[]) => never(given.at(-1) as AbortSignal),
  } as never;
}
