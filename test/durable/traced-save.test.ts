import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SystemCallTracer } from './system-call-tracer.js';
import { tamperWithEachCall } from './traced-cases.js';
import { makeSaveTracer } from './traced-save.js';

let tracer: SystemCallTracer;
beforeAll(async () => {
  tracer = await makeSaveTracer();
});
afterAll(() => tracer.remove());

/** Kinds of calls without which the cases below would show little. */
const TELLING = ['openat', 'pwrite64', 'fsync', 'rename', 'link', 'unlink', 'close'];

// Some two hundred processes under strace: minutes on a slow machine.
describe('a process that saves a record', { timeout: 600_000 }, () => {
  it('and is killed at any system call leaves the old record or the new', async () => {
    const cases = await tamperWithEachCall(tracer, { savesBefore: 3, doing: 'save', tampering: 'signal=KILL' });
    expect(cases.map(({ call }) => call.name)).toEqual(expect.arrayContaining(TELLING));
    expect(cases.every(({ outcome }) => outcome.kind === 'killed')).toBe(true);
  });

  it('for the first time, and is killed at any system call, leaves none or the new one', async () => {
    const cases = await tamperWithEachCall(tracer, { savesBefore: 0, doing: 'save', tampering: 'signal=KILL' });
    expect(cases.map(({ call }) => call.name)).toEqual(expect.arrayContaining([...TELLING, 'mkdir']));
  });

  it('on a disk that is full at any system call leaves the old record or the new, and says so', async () => {
    const cases = await tamperWithEachCall(tracer, { savesBefore: 2, doing: 'save', tampering: 'error=ENOSPC' });
    const failed = cases.filter(({ outcome }) => outcome.kind === 'failed');
    expect(new Set(failed.map(({ outcome }) => outcome.kind === 'failed' && outcome.code))).toEqual(
      new Set(['ERR_DPS_STORE_FULL']),
    );
    const failedCalls = new Set(failed.map(({ call }) => call.name));
    for (const name of ['openat', 'pwrite64', 'fsync', 'rename', 'link']) expect(failedCalls).toContain(name);
  });
});
