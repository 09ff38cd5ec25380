import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatTally, runFuzz, settingsFor } from './fuzz-run.js';
import { HangWatch } from './hang-watch.js';
import { loopTarget } from './loop-targets.js';

const CASES = 600;

let watch: HangWatch;
beforeAll(() => {
  watch = new HangWatch();
});
afterAll(() => watch.stop());

describe.each([loopTarget()])('$name', (target) => {
  it('settles in time and leaves nothing behind, whatever its parts do', async () => {
    const settings = settingsFor(target, { firstSeed: 1, cases: CASES, watch });
    if (settings === undefined) return;
    const tally = await runFuzz(target, settings);
    if (process.env.FUZZ_TALLY !== undefined) console.log(target.name, formatTally(tally));
    if (settings.cases < CASES) return;
    expect([...tally.keys()]).toEqual(expect.arrayContaining(['provisioned', 'ERR_DPS_DEADLINE', 'ERR_DPS_CANCELLED']));
  });
});
