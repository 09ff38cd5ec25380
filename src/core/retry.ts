import { isPlausibleWallMs } from './clock.js';

/**
 * How long to wait, and how often to ask: the whole retry policy, in milliseconds, as pure functions. Attempts count
 * from 1; `random` is a draw from [0, 1).
 */

/** Whatever a service asks for, a device looks again after five minutes. */
export const MAX_RETRY_AFTER_MS: number = 300_000;
/** Poll delay when the service names none; also the least that its guidance names. It usually asks for 3 s. */
export const DEFAULT_POLL_DELAY_MS: number = 2_000;
/** No retry after a failure comes sooner. */
export const BACKOFF_FLOOR_MS: number = 1_000;
/** Doubled once per attempt: the first retry falls within twice this. */
export const BACKOFF_BASE_MS: number = 1_000;
export const BACKOFF_CAP_MS: number = 60_000;
/** Requests that may go out at once after a pause. */
export const REQUEST_BURST: number = 2;
/** Afterwards one request each so often. */
export const REQUEST_REFILL_MS: number = 1_000;

/**
 * Reads a Retry-After text: seconds (`3`, `1.5`; negative counts as 0) or one of the three HTTP dates (a past one is 0).
 * A date is read against the reply's own `Date`; without that against the device's clock, if the clock can be right.
 * `undefined` when there is nothing to go by. The result is finite but not capped.
 *
 * @see RFC 9110 sections 5.6.7 and 10.2.3
 */
export function parseRetryAfter(
  value: string | undefined,
  replyDate: string | undefined,
  wallMs: number,
): number | undefined {
  const text = value?.trim() ?? '';
  if (/^-?\d+(\.\d+)?$/.test(text)) return finiteDelayMs(Number(text) * 1000);
  const untilMs = parseHttpDate(text);
  const nowMs = parseHttpDate(replyDate?.trim() ?? '') ?? (isPlausibleWallMs(wallMs) ? wallMs : undefined);
  return untilMs === undefined || nowMs === undefined ? undefined : finiteDelayMs(untilMs - nowMs);
}

/** `ms` within 0 and `MAX_RETRY_AFTER_MS`; what is not a number counts as 0. */
export function capRetryAfterMs(ms: number): number {
  return ms > 0 ? Math.min(ms, MAX_RETRY_AFTER_MS) : 0;
}

/** Exponential back-off with full jitter: evenly between the floor and a ceiling that doubles up to the cap. */
export function backoffMs(attempt: number, random: number): number {
  return BACKOFF_FLOOR_MS + Math.floor(random * (backoffCeilingMs(attempt) - BACKOFF_FLOOR_MS));
}

/** Wait before the next status poll. What the service asks for is kept to, 0 included; the request budget keeps the pace. */
export function pollDelayMs(retryAfterMs: number | undefined): number {
  return retryAfterMs === undefined ? DEFAULT_POLL_DELAY_MS : capRetryAfterMs(retryAfterMs);
}

/**
 * Wait after 429 or 5xx. What the service asks for (up to the cap) is the least; jitter comes on top of it, because a
 * whole fleet was told the same number. Never under `BACKOFF_FLOOR_MS`.
 */
export function throttleDelayMs(retryAfterMs: number | undefined, attempt: number, random: number): number {
  if (retryAfterMs === undefined) return backoffMs(attempt, random);
  const jitterMs = Math.floor(random * backoffCeilingMs(attempt));
  return Math.max(BACKOFF_FLOOR_MS, capRetryAfterMs(retryAfterMs) + jitterMs);
}

/**
 * A token bucket that every request goes through, so that no answer whatsoever (Retry-After: 0, instant errors) makes a
 * device ask more than `REQUEST_BURST` + T times in any T seconds.
 */
export interface RequestBudget {
  /** Requests that could go out at `atMs`, fractions included. */
  readonly tokens: number;
  /** Monotonic. */
  readonly atMs: number;
}

export interface RequestGrant {
  readonly budget: RequestBudget;
  /** 0: the request may go out now, and is paid for. Else nothing was taken; ask again after so long. */
  readonly waitMs: number;
}

/** A full budget. */
export function newRequestBudget(nowMs: number): RequestBudget {
  return { tokens: REQUEST_BURST, atMs: nowMs };
}

/** Sums of fractions miss a whole by a hair. Far less than a token, far more than any rounding. */
const ROUNDING = 1e-6;

/** Takes one request out of the budget, if there is one. A clock that jumps back neither fills nor blocks it. */
export function takeRequest(budget: RequestBudget, nowMs: number): RequestGrant {
  const elapsedMs = nowMs - budget.atMs;
  const refill = elapsedMs > 0 ? elapsedMs / REQUEST_REFILL_MS : 0;
  const tokens = Math.min(REQUEST_BURST, budget.tokens + refill);
  if (tokens >= 1 - ROUNDING) return { budget: { tokens: Math.max(0, tokens - 1), atMs: nowMs }, waitMs: 0 };
  return { budget: { tokens, atMs: nowMs }, waitMs: Math.ceil((1 - tokens) * REQUEST_REFILL_MS - ROUNDING) };
}

function backoffCeilingMs(attempt: number): number {
  return Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.max(1, attempt));
}

function finiteDelayMs(ms: number): number {
  return ms > 0 ? Math.min(Math.round(ms), Number.MAX_SAFE_INTEGER) : 0;
}

const MONTHS = 'jan feb mar apr may jun jul aug sep oct nov dec'.split(' ');

/** `Date.parse` takes far more than HTTP does, and each engine something else; so the three shapes are spelled out. */
const HTTP_DATES: readonly RegExp[] = [
  // Sun, 06 Nov 1994 08:49:37 GMT
  /^[a-z]{3}, (?<day>\d{2}) (?<month>[a-z]{3}) (?<year>\d{4}) (?<time>\d{2}:\d{2}:\d{2}) gmt$/i,
  // Sunday, 06-Nov-94 08:49:37 GMT
  /^[a-z]{6,9}, (?<day>\d{2})-(?<month>[a-z]{3})-(?<year>\d{2}) (?<time>\d{2}:\d{2}:\d{2}) gmt$/i,
  // Sun Nov  6 08:49:37 1994
  /^[a-z]{3} (?<month>[a-z]{3}) (?<day>[ \d]\d) (?<time>\d{2}:\d{2}:\d{2}) (?<year>\d{4})$/i,
];

function parseHttpDate(text: string): number | undefined {
  for (const shape of HTTP_DATES) {
    const groups = shape.exec(text)?.groups;
    if (groups !== undefined) return dateMs(groups);
  }
  return undefined;
}

function dateMs(groups: Readonly<Record<string, string>>): number | undefined {
  const { day = '', month = '', year = '', time = '' } = groups;
  const [hours = 0, minutes = 0, seconds = 0] = time.split(':').map(Number);
  // Second 60 is a leap second.
  if (hours > 23 || minutes > 59 || seconds > 60) return undefined;
  const monthIndex = MONTHS.indexOf(month.toLowerCase());
  const midnightMs = Date.UTC(fullYear(year), monthIndex, Number(day));
  const midnight = new Date(midnightMs);
  // A day that the month lacks has rolled over into another month, and so has month -1.
  if (midnight.getUTCMonth() !== monthIndex || midnight.getUTCDate() !== Number(day)) return undefined;
  return midnightMs + ((hours * 60 + minutes) * 60 + seconds) * 1000;
}

/** RFC 850 years have two digits; 70 to 99 are past. */
function fullYear(text: string): number {
  const year = Number(text);
  if (text.length > 2) return year;
  return year < 70 ? 2000 + year : 1900 + year;
}
