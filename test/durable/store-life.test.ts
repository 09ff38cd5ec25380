import { describe, expect, it } from 'vitest';
import { MISHAPS } from './disk-mishap.js';
import { randomLife } from './random-life.js';
import { liveThrough, type StoreLife } from './store-life.js';

/** Other outcomes of the same power cut. */
const SEEDS = [1, 2, 3];

describe.each(MISHAPS)('a record store through %s', (kind) => {
  it.each([
    ['the first save', 'save', 0],
    ['the second save', 'save', 1],
    ['the third save', 'save', 2],
    ['forgetting', 'forget', 2],
    ['forgetting the only one', 'forget', 1],
  ] as const)('in every call of %s keeps the old record or the new', async (_, doing, savesBefore) => {
    for (const seed of SEEDS) {
      const at = (atCall: number): StoreLife => ({ seed, savesBefore, doing, mishap: { kind, atCall } });
      const calls = await liveThrough(at(Number.MAX_SAFE_INTEGER));
      expect(calls).toBeGreaterThan(10);
      for (let atCall = 0; atCall < calls; atCall += 1) await liveThrough(at(atCall));
    }
  });

  it('keeps the old record or the new beside a lock that was left, a damaged slot, or a disk that lies about syncs', async () => {
    for (const before of ['a dead process left its lock', 'a slot is damaged', 'syncs are lies from now on'] as const) {
      for (let atCall = 0; atCall < 60; atCall += 1) {
        await liveThrough({ seed: atCall, savesBefore: 2, doing: 'save', mishap: { kind, atCall }, before });
      }
    }
  });
});

describe('a record store', () => {
  it('lives through whatever comes', async () => {
    for (let seed = 0; seed < 300; seed += 1) await liveThrough(randomLife(seed));
  });
});
