import { describe, expect, it } from 'vitest';
import { liveLife } from './life.js';

const { DPS_LIFE_SEED, DPS_LIFE_COUNT } = process.env;
const FIRST_SEED = Number(DPS_LIFE_SEED ?? 1);
const COUNT = Number(DPS_LIFE_COUNT ?? (DPS_LIFE_SEED === undefined ? 50 : 1));

describe('ten years of a device', () => {
  it(`goes well, from seed ${FIRST_SEED} on, ${COUNT} times`, () => {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + COUNT; seed += 1) {
      expect(liveLife(seed).arrivals).toBeGreaterThan(0);
    }
  });

  it('is the same again for the same seed', () => {
    expect(liveLife(FIRST_SEED)).toEqual(liveLife(FIRST_SEED));
  });
});
