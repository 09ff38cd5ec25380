import { describe, expect, it } from 'vitest';
import { checkClock, compareClocks } from '../../src/doctor/clock-check.js';
import { ManualClock } from '../fakes/manual-clock.js';

const NOW_MS = Date.UTC(2026, 10, 21);
const MINUTE_MS = 60_000;

describe('checkClock', () => {
  it('tells a clock that was never set', () => {
    expect(checkClock(new ManualClock(0))).toMatchObject({
      verdict: 'failed',
      message: 'The clock says 1970-01-01T00:00:00.000Z, which cannot be right.',
      fix: expect.stringContaining('timedatectl set-ntp true'),
      error: { code: 'ERR_DPS_CLOCK_IMPLAUSIBLE' },
    });
    expect(checkClock(new ManualClock(Number.MAX_VALUE)).verdict).toBe('failed');
    expect(checkClock(new ManualClock(NOW_MS))).toMatchObject({ verdict: 'ok' });
  });
});

describe('compareClocks', () => {
  it.each([
    [0, 'ok', 'The clock agrees with that of dps.'],
    [4, 'ok', 'The clock agrees with that of dps.'],
    [10, 'warning', 'The clock is 10 minutes ahead of that of dps.'],
    [-10, 'warning', 'The clock is 10 minutes behind that of dps.'],
    [3 * 60, 'warning', 'The clock is 3 hours ahead of that of dps.'],
    [-56, 'failed', 'The clock is 56 minutes behind that of dps, so that tokens have expired when they arrive.'],
    [-3 * 24 * 60, 'failed', 'The clock is 3 days behind that of dps, so that tokens have expired when they arrive.'],
  ] as const)('%i minutes: %s', (minutes, verdict, message) => {
    const finding = compareClocks(new ManualClock(NOW_MS + minutes * MINUTE_MS), NOW_MS, 'dps');
    expect([finding.verdict, finding.message, finding.fix !== undefined]).toEqual([verdict, message, verdict !== 'ok']);
  });
});
