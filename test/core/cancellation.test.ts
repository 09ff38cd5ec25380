import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { throwIfCancelled, unlessCancelled } from '../../src/core/cancellation.js';

const cancelled = (state: string, cause: unknown): unknown =>
  expect.objectContaining({ name: 'CancelledError', code: 'ERR_DPS_CANCELLED', state, cause });

describe('throwIfCancelled', () => {
  it('throws with what was going on and the reason, once the signal has aborted', () => {
    const caller = new AbortController();
    throwIfCancelled(undefined, 'signing');
    throwIfCancelled(caller.signal, 'signing');
    caller.abort('enough');
    expect(() => throwIfCancelled(caller.signal, 'signing')).toThrow(cancelled('signing', 'enough') as Error);
  });
});

describe('unlessCancelled', () => {
  it('does not start with a signal that has aborted', async () => {
    let starts = 0;
    const work = async (): Promise<void> => {
      starts += 1;
    };
    await expect(unlessCancelled(AbortSignal.abort('enough'), 'signing', work)).rejects.toEqual(
      cancelled('signing', 'enough'),
    );
    expect(starts).toBe(0);
  });

  it('rejects as soon as the signal aborts, whatever becomes of the work', async () => {
    const caller = new AbortController();
    let fail: (error: Error) => void = () => {};
    const outcome = unlessCancelled(caller.signal, 'signing', () => new Promise((_, reject) => (fail = reject)));
    caller.abort('enough');
    await expect(outcome).rejects.toEqual(cancelled('signing', 'enough'));
    // Nobody hears of it: vitest would report a rejection that nobody handles.
    fail(new Error('too late'));
  });

  it.each([
    ['gives', async () => 7, 7],
    ['rejects with', () => Promise.reject(new Error('no')), 'no'],
    [
      'throws',
      () => {
        throw new Error('not even begun');
      },
      'not even begun',
    ],
  ])('passes on what the work %s, and leaves no listener', async (_, work: () => Promise<number>, result) => {
    const { signal } = new AbortController();
    const outcome = unlessCancelled(signal, 'signing', work).catch((error: Error) => error.message);
    expect(await outcome).toBe(result);
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
  });

  it('needs no signal', async () => {
    expect(await unlessCancelled(undefined, 'signing', async () => 7)).toBe(7);
  });
});
