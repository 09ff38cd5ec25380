import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SystemCallTracer } from '../durable/system-call-tracer.js';
import { CHANGES } from '../hsm/key-store/change-plan.js';
import { keyFile } from '../hsm/key-store/store-bench.js';
import { liveThrough, randomLife } from '../hsm/key-store/store-life.js';
import { makeChangeTracer, tamperWithEachCall } from '../hsm/key-store/traced-change.js';

const CASES = Number(process.env.SOAK_STORE_CASES ?? 10_000);
/** Of the first case; the others count up from there. A failure names its own. */
const SEED = Number(process.env.SOAK_SEED ?? Date.now() % 0x4000_0000);

describe('the key store', () => {
  const folder = mkdtempSync(join(tmpdir(), 'dps-device-key-soak-'));
  const keyFiles = { oldKeyFile: keyFile(folder, 7), newKeyFile: keyFile(folder, 9) };
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it(`lives through ${CASES} mishaps: power cuts with torn sectors, kills, failing calls`, async () => {
    for (let seed = SEED; seed < SEED + CASES; seed += 1) await liveThrough(randomLife(seed), keyFiles);
    console.log(`${CASES} mishaps from seed ${SEED}: as before or as after each time`);
  });
});

describe('a process under strace', () => {
  let tracer: SystemCallTracer;
  beforeAll(async () => {
    tracer = await makeChangeTracer();
  });
  afterAll(() => tracer.remove());

  it.each(
    CHANGES.flatMap((change) => ['signal=KILL', 'error=ENOSPC', 'error=EIO'].map((what) => [change, what] as const)),
  )('that makes the change "%s" is met by %s at every system call', async (change, tampering) => {
    const cases = await tamperWithEachCall(tracer, change, tampering);
    const ends = cases.map(({ outcome }) => (outcome.kind === 'failed' ? outcome.code : outcome.kind));
    console.log(`${change}, ${tampering}: ${cases.length} calls, ended ${[...new Set(ends)].join(', ')}`);
    expect(cases.length).toBeGreaterThan(30);
    expect(ends).not.toContain('untyped');
  });
});
