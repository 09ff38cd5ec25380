import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SystemCallTracer } from '../../durable/system-call-tracer.js';
import { makeChangeTracer, tamperWithEachCall } from './traced-change.js';

let tracer: SystemCallTracer;
beforeAll(async () => {
  tracer = await makeChangeTracer();
});
afterAll(() => tracer.remove());

/** Kinds of calls without which the cases below would show little. */
const TELLING = ['openat', 'pwrite64', 'fsync', 'rename', 'link', 'unlink', 'close'];

// Some two hundred processes under strace: minutes on a slow machine. The other changes: npm run soak.
describe('a process that changes a key store', { timeout: 600_000 }, () => {
  it('and is killed at any system call of a commit leaves both keys or the new one', async () => {
    const cases = await tamperWithEachCall(tracer, 'commit', 'signal=KILL');
    expect(cases.map(({ call }) => call.name)).toEqual(expect.arrayContaining(TELLING));
    expect(cases.every(({ outcome }) => outcome.kind === 'killed')).toBe(true);
  });

  it('and is killed at any system call of a re-sealing leaves it sealed as before, or anew', async () => {
    const cases = await tamperWithEachCall(tracer, 'seal', 'signal=KILL');
    expect(cases.map(({ call }) => call.name)).toEqual(expect.arrayContaining(TELLING));
  });

  it('on a disk that is full at any system call of staging leaves the old key alone, or both, and says so', async () => {
    const cases = await tamperWithEachCall(tracer, 'stage', 'error=ENOSPC');
    const failed = cases.filter(({ outcome }) => outcome.kind === 'failed');
    const codes = failed.map(({ outcome }) => outcome.kind === 'failed' && outcome.code);
    expect(new Set(codes)).toEqual(new Set(['ERR_DPS_STORE_FULL']));
    const failedCalls = new Set(failed.map(({ call }) => call.name));
    for (const name of ['openat', 'pwrite64', 'fsync', 'rename', 'link']) expect(failedCalls).toContain(name);
  });
});
