import { describe, expect, it } from 'vitest';
import type { Clock } from '../src/core/clock.js';
import { checkedClock } from '../src/own-clock.js';
import { ManualClock } from './fakes/manual-clock.js';

describe('checkedClock', () => {
  it('hands a good clock’s answers on', () => {
    const own = new ManualClock(Date.UTC(2026, 10, 21));
    const clock = checkedClock(own);
    let calls = 0;
    const takeBack = clock.after(10, () => {
      calls += 1;
    });
    clock.after(20, () => {
      calls += 10;
    });
    takeBack();
    own.advance(20);
    expect([clock.monotonicMs(), clock.wallMs(), calls]).toEqual([20, Date.UTC(2026, 10, 21) + 20, 10]);
  });

  it.each<[Partial<Record<keyof Clock, unknown>>, keyof Clock, string]>([
    [{ after: () => undefined }, 'after', 'after() must give the function that takes the order back, not undefined.'],
    [{ after: () => 7 }, 'after', 'after() must give the function that takes the order back, not a number.'],
    [{ monotonicMs: () => 7n }, 'monotonicMs', 'monotonicMs() must give milliseconds as a number, not a bigint.'],
    [{ monotonicMs: () => Number.NaN }, 'monotonicMs', 'monotonicMs() must give milliseconds as a number, not NaN.'],
    [{ wallMs: () => new Date() }, 'wallMs', 'wallMs() must give milliseconds as a number, not an object.'],
  ])('names what another one does wrong (%#)', (methods, method, words) => {
    const good = new ManualClock();
    const own = { after: good.after.bind(good), monotonicMs: () => 0, wallMs: () => 0, ...methods } as unknown as Clock;
    const clock = checkedClock(own);
    const use = { after: () => clock.after(1, () => {}), monotonicMs: clock.monotonicMs, wallMs: clock.wallMs };
    expect(use[method]).toThrow(
      expect.objectContaining({
        code: 'ERR_DPS_CONFIG_OPTION',
        option: 'clock',
        message: `Option clock: its ${words}`,
      }),
    );
  });
});
