import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { raceForLock } from '../durable/lock-race.js';
import { randomLife } from '../durable/random-life.js';
import { liveThrough } from '../durable/store-life.js';
import type { SystemCallTracer } from '../durable/system-call-tracer.js';
import { tamperWithEachCall } from '../durable/traced-cases.js';
import { makeSaveTracer } from '../durable/traced-save.js';

const CASES = Number(process.env.SOAK_STORE_CASES ?? 10_000);
/** Of the first case; the others count up from there. A failure names its own. */
const SEED = Number(process.env.SOAK_SEED ?? Date.now() % 0x4000_0000);

describe('the record store', () => {
  it(`lives through ${CASES} mishaps: power cuts with torn sectors, kills, failing calls, bit flips`, async () => {
    for (let seed = SEED; seed < SEED + CASES; seed += 1) await liveThrough(randomLife(seed));
    console.log(`${CASES} mishaps from seed ${SEED}: old or new each time`);
  });

  it(`has one owner at a time in ${CASES * 5} fights for its lock`, async () => {
    let taken = 0;
    for (let seed = SEED; seed < SEED + CASES * 5; seed += 1) taken += (await raceForLock(seed)).taken;
    console.log(`${CASES * 5} fights from seed ${SEED}: the lock was taken ${taken} times, never by two`);
    expect(taken).toBeGreaterThan(CASES);
  });
});

describe('a process under strace', () => {
  let tracer: SystemCallTracer;
  beforeAll(async () => {
    tracer = await makeSaveTracer();
  });
  afterAll(() => tracer.remove());

  it.each(['signal=KILL', 'error=ENOSPC', 'error=EIO', 'error=EROFS', 'error=EACCES', 'error=EMFILE'])(
    'survives %s at each system call of each save, and of forgetting',
    async (tampering) => {
      let count = 0;
      for (const doing of ['save', 'forget'] as const) {
        for (const savesBefore of [0, 1, 2, 3]) {
          count += (await tamperWithEachCall(tracer, { savesBefore, doing, tampering })).length;
        }
      }
      console.log(`${tampering}: ${count} system calls, old or new each time`);
    },
  );
});
