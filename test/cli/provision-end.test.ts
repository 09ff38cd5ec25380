import { describe, expect, it } from 'vitest';
import type { CliIo } from '../../src/cli/io.js';
import { CancelledError, DeadlineError, TransportError } from '../../src/errors.js';
import { type FakeIo, fakeIo } from './fake-io.js';
import { DEVICE_KEY, fakeProvision, goWell } from './fake-provision.js';
import { KEY_FLAGS, run, start } from './provision-bench.js';

describe('a reader that does not read', () => {
  const reachingOutput = async (io: FakeIo): Promise<void> => {
    while (!io.out().includes('provisioned')) await new Promise((resolve) => setImmediate(resolve));
  };

  it('of standard output is waited for until the time limit', async () => {
    const io = fakeIo({ stuck: ['stdout'] });
    const ended = start([...KEY_FLAGS, '--timeout', '60'], io, fakeProvision());
    await reachingOutput(io);
    io.clock.advance(60_000);
    expect(await ended).toBe(74);
    expect(io.err()).toContain('Nobody read the result from standard output within 60000 ms');
    expect(io.clock.pending).toBe(0);
  });

  it('of standard output does not outlast a signal', async () => {
    const io = fakeIo({ stuck: ['stdout'] });
    const ended = start(KEY_FLAGS, io, fakeProvision());
    await reachingOutput(io);
    io.send('SIGTERM');
    io.clock.advance(2_000);
    expect(await ended).toBe(143);
    expect(io.clock.pending).toBe(0);
  });

  it('of standard output that has gone is no success', async () => {
    const { status, io } = await run(KEY_FLAGS, {
      stdoutFailure: Object.assign(new Error('EPIPE'), { code: 'EPIPE' }),
    });
    expect(status).toBe(74);
    expect(io.err()).toContain('error ERR_DPS_OUTPUT: Nobody took the result');
  });

  it('of standard error holds up nothing, and misses what does not fit', async () => {
    const io = fakeIo({ stuck: ['stderr'] });
    const many = fakeProvision(async (options, log) => {
      for (let attempt = 1; attempt <= 2_000; attempt += 1) {
        log.append({ type: 'connecting', to: 'dps', peer: 'p'.repeat(2_000), attempt });
      }
      return goWell(options, log);
    });
    const ended = start(KEY_FLAGS, io, many);
    await reachingOutput(io);
    while (io.clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
    io.clock.advance(2_000);
    expect(await ended).toBe(0);
    expect(io.err().length).toBeLessThan(1_100_000);
  });
});

describe('the time limit', () => {
  const silent = [...KEY_FLAGS.slice(0, 4), '--symmetric-key-file', '-'];

  it.each([
    ['a key', [...silent, '--timeout', '7'], 7_000],
    ['a key, by default', silent, 300_000],
    ['a configuration', ['--config', '-', '--timeout', '7'], 7_000],
  ])('bounds the wait for %s from standard input', async (_, args, limitMs) => {
    const io = fakeIo({ isStdinSilent: true });
    const ended = start(args, io, fakeProvision());
    while (io.clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
    io.clock.advance(limitMs - 1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(io.err()).toBe('');
    io.clock.advance(1);
    expect(await ended).toBe(75);
    expect(io.err()).toContain(`error ERR_DPS_DEADLINE: Not finished within ${limitMs} ms`);
    expect(io.clock.pending).toBe(0);
  });

  it('counts what reading took, and is told as it was given', async () => {
    const io = fakeIo();
    const slow: CliIo['stdin'] = {
      isTerminal: false,
      read: async () => {
        io.clock.advance(3_000);
        return new TextEncoder().encode(DEVICE_KEY);
      },
    };
    const late = new TransportError({
      code: 'ERR_DPS_CONNECT',
      message: 'm',
      phase: 'connect',
      peer: 'p',
      retryable: true,
    });
    const fake = fakeProvision(({ deadlineMs = 0 }) =>
      Promise.reject(new DeadlineError({ state: 'connecting', deadlineMs, cause: late })),
    );
    expect(await start([...silent, '--timeout', '7'], { ...io, stdin: slow }, fake)).toBe(75);
    expect(fake.calls[0]?.deadlineMs).toBe(4_000);
    expect(io.err()).toContain('Not finished within 7000 ms: time ran out while connecting.');
    expect(io.err()).toContain('  caused by:      ERR_DPS_CONNECT: m\n');
  });
});

describe('signals', () => {
  const untilAborted = fakeProvision(
    ({ signal }) =>
      new Promise((_, reject) => {
        signal?.addEventListener('abort', () => reject(new CancelledError({ state: 'waiting', cause: signal.reason })));
      }),
  );

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s ends the work in order', async (signal, expected) => {
    const io = fakeIo();
    const fake = fakeProvision((options, log) => {
      queueMicrotask(() => io.send(signal));
      return untilAborted.provision(options).finally(() => log.end());
    });
    expect(await start(KEY_FLAGS, io, fake)).toBe(expected);
    expect(io.out()).toBe('');
    expect(io.err()).toContain(`received ${signal}`);
    expect(io.exits).toEqual([]);
    expect(io.listeners()).toBe(0);
  });

  it('a second one ends it at once', async () => {
    const io = fakeIo();
    const fake = fakeProvision(async (options, log) => {
      io.send('SIGINT');
      expect(io.exits).toEqual([]);
      io.send('SIGTERM');
      return goWell(options, log);
    });
    await start(KEY_FLAGS, io, fake);
    expect(io.exits).toEqual(['SIGTERM']);
  });

  it('end the wait for standard input', async () => {
    const io = fakeIo({ isStdinSilent: true });
    const ended = start([...KEY_FLAGS.slice(0, 4), '--symmetric-key-file', '-'], io, fakeProvision());
    io.send('SIGTERM');
    expect(await ended).toBe(143);
  });

  it('that come too late do not undo a success', async () => {
    const io = fakeIo();
    const fake = fakeProvision(async (options, log) => {
      const device = await goWell(options, log);
      io.send('SIGTERM');
      return device;
    });
    expect(await start(KEY_FLAGS, io, fake)).toBe(0);
    expect(JSON.parse(io.out())).toMatchObject({ status: 'provisioned' });
  });
});
