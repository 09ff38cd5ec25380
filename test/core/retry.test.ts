import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BACKOFF_CAP_MS,
  BACKOFF_FLOOR_MS,
  backoffMs,
  capRetryAfterMs,
  DEFAULT_POLL_DELAY_MS,
  MAX_RETRY_AFTER_MS,
  newRequestBudget,
  parseRetryAfter,
  pollDelayMs,
  REQUEST_BURST,
  REQUEST_REFILL_MS,
  takeRequest,
  throttleDelayMs,
} from '../../src/core/retry.js';

const WALL_MS = Date.UTC(2026, 10, 21, 12, 0, 0);
const CLOCK_NEVER_SET_MS = 17_000;
const ALMOST_ONE = 1 - Number.EPSILON;

describe('parseRetryAfter', () => {
  it.each([
    ['3', 3000],
    ['0', 0],
    ['-0', 0],
    ['-7', 0],
    [' 3 ', 3000],
    ['003', 3000],
    ['1.5', 1500],
    ['0.0004', 0],
    ['4294967296', 4_294_967_296_000],
    ['9'.repeat(400), Number.MAX_SAFE_INTEGER],
  ])('reads %j as %d ms, whatever the clocks say', (text, expectedMs) => {
    expect(parseRetryAfter(text, undefined, WALL_MS)).toBe(expectedMs);
    expect(parseRetryAfter(text, 'nonsense', CLOCK_NEVER_SET_MS)).toBe(expectedMs);
  });

  it.each([
    undefined,
    '',
    ' ',
    'soon',
    '3s',
    '3, 3',
    '1e3',
    '0x10',
    '+3',
    '--3',
    '1.',
    '.5',
    '1,5',
    'NaN',
    'Infinity',
    '٣',
    '2026-11-21T12:00:10Z',
    'foo 1',
    'Sat, 21 Nov 2026 12:00:10',
    'Sat, 21 Nov 2026 12:00:10 UTC',
    'Sat, 21 Nov 2026 24:00:00 GMT',
    'Sat, 21 Nov 2026 12:60:00 GMT',
    'Sat, 31 Nov 2026 12:00:00 GMT',
    'Sat, 00 Nov 2026 12:00:00 GMT',
    'Sat, 21 Foo 2026 12:00:00 GMT',
    'Sat, 21 Nov 2026 12:00:10 GMT, Sat, 21 Nov 2026 12:00:10 GMT',
  ])('has nothing to go by in %j', (text) => {
    expect(parseRetryAfter(text, undefined, WALL_MS)).toBeUndefined();
  });

  it.each([
    'Sat, 21 Nov 2026 12:00:10 GMT',
    'sat, 21 nov 2026 12:00:10 gmt',
    'Saturday, 21-Nov-26 12:00:10 GMT',
    'Sat Nov 21 12:00:10 2026',
  ])('reads the date %j', (text) => {
    expect(parseRetryAfter(text, undefined, WALL_MS)).toBe(10_000);
  });

  it('reads the three spellings of RFC 9110 as one moment', () => {
    const [fixdate, rfc850, asctime] = [
      'Sun, 06 Nov 1994 08:49:37 GMT',
      'Sunday, 06-Nov-94 08:49:37 GMT',
      'Sun Nov  6 08:49:37 1994',
    ];
    for (const text of [fixdate, rfc850, asctime]) {
      expect(parseRetryAfter('Sun, 06 Nov 1994 08:50:00 GMT', text, WALL_MS)).toBe(23_000);
    }
  });

  it("reads a date against the reply's own date, not the device's clock", () => {
    const until = 'Sat, 21 Nov 2026 12:00:10 GMT';
    expect(parseRetryAfter(until, 'Sat, 21 Nov 2026 12:00:06 GMT', CLOCK_NEVER_SET_MS)).toBe(4000);
    expect(parseRetryAfter(until, 'Sat, 21 Nov 2026 12:00:06 GMT', WALL_MS - 86_400_000)).toBe(4000);
  });

  it('falls back on a plausible clock only', () => {
    const until = 'Sat, 21 Nov 2026 12:00:10 GMT';
    expect(parseRetryAfter(until, 'yesterday', WALL_MS)).toBe(10_000);
    expect(parseRetryAfter(until, 'yesterday', CLOCK_NEVER_SET_MS)).toBeUndefined();
    expect(parseRetryAfter(until, undefined, Number.NaN)).toBeUndefined();
  });

  it('reads a past date as 0', () => {
    expect(parseRetryAfter('Sat, 21 Nov 2026 11:59:59 GMT', undefined, WALL_MS)).toBe(0);
  });

  it('takes a leap day and a leap second', () => {
    expect(parseRetryAfter('Tue, 29 Feb 2028 00:00:00 GMT', 'Mon, 28 Feb 2028 23:59:60 GMT', 0)).toBe(0);
    expect(parseRetryAfter('Tue, 29 Feb 2028 00:00:01 GMT', 'Mon, 28 Feb 2028 23:59:59 GMT', 0)).toBe(2000);
    expect(parseRetryAfter('Mon, 29 Feb 2027 00:00:01 GMT', undefined, WALL_MS)).toBeUndefined();
  });

  it('gives a whole, finite, non-negative number or nothing for any text', () => {
    const part = fc.constantFrom('Sat,', ' ', '21', 'Nov', '2026', '12:00:10', 'GMT', '-', '.', '9'.repeat(20));
    const text = fc.oneof(
      fc.string(),
      fc.array(part).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(text, fc.option(text, { nil: undefined }), fc.double(), (value, date, wallMs) => {
        const ms = parseRetryAfter(value, date, wallMs);
        expect(ms === undefined || (Number.isSafeInteger(ms) && ms >= 0)).toBe(true);
      }),
    );
  });
});

describe('delays', () => {
  it.each([
    [0, 0],
    [-1, 0],
    [Number.NaN, 0],
    [3000, 3000],
    [300_000, 300_000],
    [300_001, 300_000],
    [Number.MAX_SAFE_INTEGER, 300_000],
    [Number.POSITIVE_INFINITY, 300_000],
  ])('caps %d ms to %d', (ms, expectedMs) => {
    expect(capRetryAfterMs(ms)).toBe(expectedMs);
  });

  it.each([
    [undefined, 2000],
    [0, 0],
    [3000, 3000],
    [1e12, 300_000],
  ])('polls after %s with %d ms', (retryAfterMs, expectedMs) => {
    expect(pollDelayMs(retryAfterMs)).toBe(expectedMs);
  });

  it.each([
    [1, 2000],
    [2, 4000],
    [3, 8000],
    [5, 32_000],
    [6, 60_000],
    [7, 60_000],
    [5000, 60_000],
  ])('backs off between the floor and a ceiling: attempt %d, %d ms', (attempt, ceilingMs) => {
    expect(backoffMs(attempt, 0)).toBe(1000);
    expect(backoffMs(attempt, 0.5)).toBe((1000 + ceilingMs) / 2);
    expect(backoffMs(attempt, ALMOST_ONE)).toBe(ceilingMs - 1);
  });

  it('without Retry-After, throttling is a back-off', () => {
    expect(throttleDelayMs(undefined, 3, 0.5)).toBe(backoffMs(3, 0.5));
  });

  it.each([
    [3000, 1, 0, 3000],
    [3000, 1, 0.5, 4000],
    [3000, 3, 0.5, 7000],
    [0, 1, 0, 1000],
    [0, 3, 0.5, 4000],
    [1e12, 1, 0, 300_000],
    [1e12, 9, 0.5, 330_000],
  ])('Retry-After %d ms, attempt %d, draw %d: %d ms', (retryAfterMs, attempt, random, expectedMs) => {
    expect(throttleDelayMs(retryAfterMs, attempt, random)).toBe(expectedMs);
  });

  it('never undercut the service or the floor, and stay bounded', () => {
    const draw = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(
        fc.option(fc.nat({ max: 1_000_000 }), { nil: undefined }),
        fc.integer({ min: 1, max: 10_000 }),
        draw,
        (askedMs, attempt, random) => {
          const delayMs = throttleDelayMs(askedMs, attempt, random);
          expect(Number.isSafeInteger(delayMs)).toBe(true);
          expect(delayMs).toBeGreaterThanOrEqual(Math.max(BACKOFF_FLOOR_MS, capRetryAfterMs(askedMs ?? 0)));
          expect(delayMs).toBeLessThanOrEqual(MAX_RETRY_AFTER_MS + BACKOFF_CAP_MS);
        },
      ),
    );
  });

  it('has the numbers that are documented', () => {
    expect({ MAX_RETRY_AFTER_MS, DEFAULT_POLL_DELAY_MS, BACKOFF_FLOOR_MS, BACKOFF_CAP_MS }).toEqual({
      MAX_RETRY_AFTER_MS: 300_000,
      DEFAULT_POLL_DELAY_MS: 2000,
      BACKOFF_FLOOR_MS: 1000,
      BACKOFF_CAP_MS: 60_000,
    });
    expect({ REQUEST_BURST, REQUEST_REFILL_MS }).toEqual({ REQUEST_BURST: 2, REQUEST_REFILL_MS: 1000 });
  });
});

/** When requests go out if they are wanted at these moments, each waiting as long as it is told. */
function grantedAtMs(startMs: number, pausesMs: readonly number[]): number[] {
  let budget = newRequestBudget(startMs);
  let nowMs = startMs;
  return pausesMs.map((pauseMs) => {
    nowMs += pauseMs;
    let grant = takeRequest(budget, nowMs);
    if (grant.waitMs > 0) {
      nowMs += grant.waitMs;
      grant = takeRequest(grant.budget, nowMs);
    }
    expect(grant.waitMs).toBe(0);
    budget = grant.budget;
    return nowMs;
  });
}

describe('request budget', () => {
  it('lets two out at once, then one a second', () => {
    expect(grantedAtMs(5000, [0, 0, 0, 0, 0])).toEqual([5000, 5000, 6000, 7000, 8000]);
  });

  it('lets at most 10 out in 8 s, however fast the answers come', () => {
    const sent = grantedAtMs(0, new Array<number>(50).fill(0));
    expect(sent.filter((atMs) => atMs <= 8000)).toHaveLength(10);
  });

  it('saves up two, not more', () => {
    expect(grantedAtMs(0, [3_600_000, 0, 0])).toEqual([3_600_000, 3_600_000, 3_601_000]);
  });

  it('takes nothing while it makes wait', () => {
    const empty = { tokens: 0, atMs: 1000 };
    const grant = takeRequest(empty, 1250);
    expect(grant.waitMs).toBe(750);
    expect(takeRequest(grant.budget, 1999).waitMs).toBe(1);
    expect(takeRequest(grant.budget, 2000).waitMs).toBe(0);
  });

  it('is never written to', () => {
    const budget = Object.freeze(newRequestBudget(0));
    takeRequest(budget, 10);
    expect(budget).toEqual({ tokens: 2, atMs: 0 });
  });

  it('neither fills up nor locks up when the clock jumps back', () => {
    const empty = { tokens: 0, atMs: 1_000_000 };
    const grant = takeRequest(empty, 10);
    expect(grant.waitMs).toBe(1000);
    expect(takeRequest(grant.budget, 1010).waitMs).toBe(0);
  });

  it('recovers from a clock that was no number', () => {
    const grant = takeRequest({ tokens: 0, atMs: 0 }, Number.NaN);
    expect(grant.waitMs).toBe(1000);
    expect(takeRequest(takeRequest(grant.budget, 5).budget, 1005).waitMs).toBe(0);
  });

  it.each([
    ['whole milliseconds', fc.nat({ max: 3000 })],
    ['fractions', fc.double({ min: 0, max: 3000, noNaN: true })],
  ])('never lets more than 2 + T out in T seconds (%s)', (_name, pause) => {
    fc.assert(
      fc.property(
        fc.nat({ max: 1e9 }),
        fc.array(fc.oneof(fc.constant(0), pause), { maxLength: 60 }),
        (start, pauses) => {
          const sent = grantedAtMs(start, pauses);
          for (const [first, firstMs] of sent.entries()) {
            for (let last = first; last < sent.length; last += 1) {
              const seconds = ((sent[last] ?? 0) - firstMs) / 1000;
              // A thousandth of a millisecond for the sums of fractions.
              expect(last - first + 1).toBeLessThanOrEqual(2 + seconds + 1e-6);
            }
          }
        },
      ),
    );
  });
});
