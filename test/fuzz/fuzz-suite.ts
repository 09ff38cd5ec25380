import { beforeAll, describe, expect, it } from 'vitest';
import { type FuzzSettings, type FuzzTarget, formatTally, runFuzz } from './fuzz-run.js';
import { HangWatch } from './hang-watch.js';

export interface FuzzSuite {
  /** What holds for every case. */
  readonly claim: string;
  readonly cases: number;
  /** Outcomes that have to come up: without them the input would never get anywhere. Default: more than one. */
  readonly reaches?: readonly string[];
}

/**
 * A test for each target, always the same cases. The environment asks for others: `FUZZ_TARGET` for one target only,
 * `FUZZ_SEED` for the number of the first case, `FUZZ_CASES` for how many, `FUZZ_TALLY=1` for what came of them.
 */
export function describeFuzz(targets: readonly FuzzTarget[], { claim, cases, reaches = [] }: FuzzSuite): void {
  let watch: HangWatch;
  beforeAll(() => {
    watch = new HangWatch();
    return () => watch.stop();
  });

  describe.each(targets.filter(isWanted))('$name', (target) => {
    it(claim, async () => {
      const settings = settingsFor({ firstSeed: 1, cases, watch });
      const tally = await runFuzz(target, settings);
      if (process.env.FUZZ_TALLY !== undefined) console.log(`${target.name}: ${formatTally(tally)}`);
      if (settings.cases < cases) return;
      expect([...tally.keys()]).toEqual(expect.arrayContaining([...reaches]));
      expect(tally.size).toBeGreaterThan(1);
    });
  });

  // A file without any test is an error.
  if (!targets.some(isWanted)) it('has nothing to do with the target asked for', () => {});
}

function isWanted({ name }: FuzzTarget): boolean {
  const { FUZZ_TARGET } = process.env;
  return FUZZ_TARGET === undefined || FUZZ_TARGET === name;
}

function settingsFor(usual: FuzzSettings): FuzzSettings {
  const { FUZZ_SEED, FUZZ_CASES } = process.env;
  return {
    ...usual,
    firstSeed: FUZZ_SEED === undefined ? usual.firstSeed : Number(FUZZ_SEED),
    cases: FUZZ_CASES === undefined ? usual.cases : Number(FUZZ_CASES),
  };
}
