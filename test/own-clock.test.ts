import { describe, expect, it } from 'vitest';
import type { Clock } from '../src/core/clock.js';
import { provision } from '../src/index.js';
import { checkedClock, checkedRandom } from '../src/own-clock.js';
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

  it('takes no order that is carried out before it is given', () => {
    let calls = 0;
    const good = new ManualClock();
    const own: Clock = {
      monotonicMs: () => 0,
      wallMs: () => 0,
      after: (delayMs, fn) => {
        if (delayMs === 0) fn();
        return good.after(delayMs, fn);
      },
    };
    const call = (): void => {
      calls += 1;
    };
    const order = (delayMs: number): unknown => checkedClock(own).after(delayMs, call);
    expect(() => order(0)).toThrow('Option clock: its after() must call back later, not before it returns.');
    order(1);
    good.advance(1);
    expect(calls).toBe(1);
  });
});

describe('checkedRandom', () => {
  it('hands on what is in [0, 1)', () => {
    const drawn = [0, 0.5, 1 - Number.EPSILON];
    const random = checkedRandom(() => drawn.shift() ?? 0);
    expect([random(), random(), random()]).toEqual([0, 0.5, 1 - Number.EPSILON]);
  });

  it.each<[unknown, string]>([
    [Number.NaN, 'NaN'],
    [1e300, '1e+300'],
    [1, '1'],
    [-1, '-1'],
    ['a', 'a text'],
    [undefined, 'undefined'],
  ])('names %s as what it is', (drawn, got) => {
    expect(checkedRandom(() => drawn as number)).toThrow(
      expect.objectContaining({
        code: 'ERR_DPS_CONFIG_OPTION',
        option: 'random',
        message: `Option random: it must give a number from 0 to below 1, not ${got}.`,
      }),
    );
  });
});

describe('time and chance as options', () => {
  const hsm = {
    kind: 'symmetricKey',
    registrationId: async () => 'dev-1',
    sign: async () => new Uint8Array(32),
  } as const;
  const after = (_: number, fn: () => void): (() => void) => {
    fn();
    return () => {};
  };

  it.each([
    ['random', { random: () => Number.NaN }],
    ['clock', { clock: { monotonicMs: () => 0, wallMs: () => Date.now(), after } }],
  ])('end the journey when they are of no use: %s', async (option, part) => {
    await expect(provision({ idScope: 'x', endpoint: '127.0.0.1:1', hsm, ...part })).rejects.toMatchObject({
      code: 'ERR_DPS_CONFIG_OPTION',
      option,
    });
  });
});
