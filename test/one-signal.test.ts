import { getEventListeners } from 'node:events';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { DpsTransport } from '../src/core/transport.js';
import { provision } from '../src/index.js';
import { ManualClock } from './fakes/manual-clock.js';

/** Never opens, and says when it is asked to. */
function silentDps(): { readonly transport: DpsTransport; readonly asked: Promise<void>[] } {
  const announcements: (() => void)[] = [];
  const asked = Array.from({ length: 50 }, () => new Promise<void>((resolve) => announcements.push(resolve)));
  const open: DpsTransport['open'] = (_parameters, signal) => {
    announcements.shift()?.();
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  };
  return { transport: { name: 'silent', open }, asked };
}

describe('one signal', () => {
  it('ends fifty journeys without a warning of a leak', async () => {
    const emitWarning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    onTestFinished(() => emitWarning.mockRestore());
    const { transport, asked } = silentDps();
    const caller = new AbortController();
    const key = Buffer.alloc(32).toString('base64');
    const journeys = asked.map((_, index) =>
      provision({
        idScope: '0ne00111111',
        hsm: { kind: 'symmetricKey', registrationId: `dev-${index}`, key },
        transport,
        clock: new ManualClock(),
        signal: caller.signal,
      }),
    );
    const outcomes = Promise.allSettled(journeys);
    await Promise.all(asked);
    expect(getEventListeners(caller.signal, 'abort')).toHaveLength(1);
    caller.abort();
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_DPS_CANCELLED' } });
    }
    expect(getEventListeners(caller.signal, 'abort')).toEqual([]);
    expect(emitWarning.mock.calls).toEqual([]);
  });
});
