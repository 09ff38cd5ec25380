import { describe, expect, it } from 'vitest';
import { type LifeSummary, liveLife } from '../life/life.js';

/** The acceptance run's count by default; fewer while working on it. */
const LIVES = Number(process.env.SOAK_LIVES ?? 10_000);
const FIRST_SEED = Number(process.env.DPS_LIFE_SEED ?? 1);

describe(`${LIVES} lives of ten years, from seed ${FIRST_SEED} on`, () => {
  it('go well', () => {
    const startedAtMs = performance.now();
    const lives: LifeSummary[] = [];
    for (let seed = FIRST_SEED; seed < FIRST_SEED + LIVES; seed += 1) {
      lives.push(liveLife(seed));
      if (lives.length % 1_000 === 0) console.log(`${lives.length} lives`);
    }
    const seconds = (performance.now() - startedAtMs) / 1000;
    const sum = (of: (life: LifeSummary) => number): number => lives.reduce((total, life) => total + of(life), 0);
    const most = (of: (life: LifeSummary) => number): number => lives.reduce((top, life) => Math.max(top, of(life)), 0);
    console.log(
      [
        `${lives.length} lives, ${lives.length * 10} years, ${sum(({ events }) => events)} events in ${seconds.toFixed(0)} s`,
        `${sum(({ boots }) => boots)} boots, ${sum(({ arrivals }) => arrivals)} arrivals at a hub`,
        `${sum(({ registrations }) => registrations)} register requests`,
        `longest way back to the hub once the world was good: ${Math.ceil(most((life) => life.longestRecoveryMs) / 60_000)} min`,
        `most requests to DPS in a day: ${most((life) => life.mostRequestsPerDay)}`,
      ].join('; '),
    );
    expect(lives.every(({ arrivals }) => arrivals > 0)).toBe(true);
  });
});
