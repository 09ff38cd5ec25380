import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatTally, runFuzz, settingsFor } from './fuzz-run.js';
import { HangWatch } from './hang-watch.js';
import { TEXT_TARGETS } from './text-targets.js';
import { WIRE_TARGETS } from './wire-targets.js';

const CASES = 1_000;

let watch: HangWatch;
beforeAll(() => {
  watch = new HangWatch();
});
afterAll(() => watch.stop());

describe.each([...WIRE_TARGETS, ...TEXT_TARGETS])('$name', (target) => {
  it('gives a value or a typed error, whatever it is fed', async () => {
    const settings = settingsFor(target, { firstSeed: 1, cases: CASES, watch });
    if (settings === undefined) return;
    const tally = await runFuzz(target, settings);
    if (process.env.FUZZ_TALLY !== undefined) console.log(target.name, formatTally(tally));
    // One outcome only would mean that the input never gets anywhere, or is never wrong.
    if (settings.cases >= CASES && target.name !== 'hub error') expect([...tally.keys()].length).toBeGreaterThan(1);
  });
});
