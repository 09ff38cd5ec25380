import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatTally, runFuzz, settingsFor } from './fuzz-run.js';
import { HangWatch } from './hang-watch.js';
import { journeyTarget, registrationTarget } from './machine-targets.js';

const CASES = 1_500;

let watch: HangWatch;
beforeAll(() => {
  watch = new HangWatch();
});
afterAll(() => watch.stop());

describe.each([registrationTarget(), journeyTarget()])('$name', (target) => {
  it('ends in time, politely and with a typed outcome, whatever a service answers whenever', async () => {
    const settings = settingsFor(target, { firstSeed: 1, cases: CASES, watch });
    if (settings === undefined) return;
    const tally = await runFuzz(target, settings);
    if (process.env.FUZZ_TALLY !== undefined) console.log(target.name, formatTally(tally));
    if (settings.cases < CASES) return;
    expect([...tally.keys()]).toEqual(
      expect.arrayContaining([target.name.startsWith('journey') ? 'provisioned' : 'assigned', 'ERR_DPS_DEADLINE']),
    );
  });
});
