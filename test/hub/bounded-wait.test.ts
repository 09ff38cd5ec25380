import { describe, expect, it } from 'vitest';
import { CancelledError } from '../../src/errors.js';
import { waitWithin } from '../../src/hub/bounded-wait.js';
import { Lifeline } from '../../src/hub/lifeline.js';
import { CountingAbort, failureOf } from '../fakes/hub-bench.js';
import { HubClock } from '../fakes/hub-clock.js';

function bench() {
  const clock = new HubClock();
  const lifeline = new Lifeline();
  const abort = new CountingAbort();
  const timeout = { clock, afterMs: 100, error: () => new Error('late') };
  const seen: AbortSignal[] = [];
  let resolve: (value: string) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const discarded: string[] = [];
  const start = (): Promise<string> =>
    waitWithin(
      { doing: 'waiting', signal: abort.signal, lifeline, timeout, discard: (late) => discarded.push(late) },
      (signal) => {
        seen.push(signal);
        return new Promise<string>((onValue, onError) => {
          resolve = onValue;
          reject = onError;
        });
      },
    );
  const leftovers = (): number[] => [clock.pending, lifeline.listenerCount, abort.listeners];
  return {
    clock,
    lifeline,
    abort,
    seen,
    discarded,
    start,
    leftovers,
    resolve: (value: string) => resolve(value),
    reject: (error: Error) => reject(error),
  };
}

describe('waitWithin', () => {
  it('brings the value and leaves nothing', async () => {
    const world = bench();
    const waiting = world.start();
    expect(world.leftovers()).toEqual([1, 1, 1]);
    world.resolve('value');
    expect(await waiting).toBe('value');
    expect(world.leftovers()).toEqual([0, 0, 0]);
    expect(world.seen[0]?.aborted).toBe(false);
  });

  it('hangs one listener on a signal, however many waits it ends', async () => {
    const abort = new CountingAbort();
    const waits = Array.from({ length: 50 }, () =>
      failureOf(waitWithin({ doing: 'waiting', signal: abort.signal }, () => new Promise<string>(() => {}))),
    );
    expect(abort.listeners).toBe(1);
    abort.abort();
    for (const error of await Promise.all(waits)) expect(error).toBeInstanceOf(CancelledError);
    expect(abort.listeners).toBe(0);
  });

  it('brings the error and leaves nothing', async () => {
    const world = bench();
    const waiting = failureOf(world.start());
    world.reject(new Error('broken'));
    expect((await waiting).message).toBe('broken');
    expect(world.leftovers()).toEqual([0, 0, 0]);
  });

  it('brings what the work throws before it returns a promise', async () => {
    const lifeline = new Lifeline();
    const waiting = waitWithin({ doing: 'waiting', lifeline }, () => {
      throw new Error('at once');
    });
    expect((await failureOf(waiting)).message).toBe('at once');
    expect(lifeline.listenerCount).toBe(0);
  });

  it.each<[string, (world: ReturnType<typeof bench>) => void, string]>([
    ['its time', (world) => world.clock.advance(100), 'late'],
    ['the life it depends on', (world) => world.lifeline.end(new Error('over')), 'over'],
    ['its caller', (world) => world.abort.abort(), 'Cancelled while waiting.'],
  ])('ends with %s, tells the work, and discards what comes late', async (_name, end, message) => {
    const world = bench();
    const failing = failureOf(world.start());
    end(world);
    const error = await failing;
    expect(error.message).toBe(message);
    expect(world.leftovers()).toEqual([0, 0, 0]);
    expect([world.seen[0]?.aborted, world.seen[0]?.reason]).toEqual([true, error]);
    world.resolve('too late');
    await Promise.resolve();
    expect(world.discarded).toEqual(['too late']);
  });

  it('does not start what is cancelled or over already', async () => {
    const cancelled = bench();
    cancelled.abort.abort();
    expect(await failureOf(cancelled.start())).toBeInstanceOf(CancelledError);
    const over = bench();
    over.lifeline.end(new Error('over'));
    expect((await failureOf(over.start())).message).toBe('over');
    expect([...cancelled.seen, ...over.seen]).toEqual([]);
    expect([...cancelled.leftovers(), ...over.leftovers()]).toEqual([0, 0, 0, 0, 0, 0]);
  });
});

describe('a lifeline', () => {
  it('ends once', () => {
    const lifeline = new Lifeline();
    const heard: string[] = [];
    lifeline.onEnd((error) => heard.push(`a ${error.message}`));
    lifeline.onEnd((error) => heard.push(`b ${error.message}`))();
    lifeline.end(new Error('first'));
    lifeline.end(new Error('second'));
    expect(heard).toEqual(['a first']);
    expect(lifeline.error?.message).toBe('first');
  });
});
