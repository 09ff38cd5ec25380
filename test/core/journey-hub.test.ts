import { describe, expect, it } from 'vitest';
import { journeyWakeAtMs } from '../../src/core/journey.js';
import { ClockError, type DpsError } from '../../src/errors.js';
import {
  ASSIGNED,
  assignedTo,
  CONFIG,
  found,
  hubStatus,
  JourneyDriver,
  lost,
  refused,
  transportError,
  untrusted,
} from './journey-driver.js';

/* The table of the hub protocol's reference, section 6.2, row by row. */

const MINUTE_MS = 60_000;
const once = (): JourneyDriver => new JourneyDriver().register();
/** A life that knows its hub, and has not asked DPS since it began. */
const life = (): JourneyDriver => new JourneyDriver({ purpose: 'keep', hasStore: true }).load(found());
const clock = (): ClockError => new ClockError({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE', message: '1970' });

function waitMs(driver: JourneyDriver): number {
  return (journeyWakeAtMs(driver.journey) ?? Number.NaN) - driver.nowMs;
}

/** The shortest and the longest wait after `error`. */
function waitsMs(make: () => JourneyDriver, error: DpsError): [number, number] {
  const [low, high] = [0, 1 - 2 ** -53].map((random) => {
    const driver = make();
    driver.random = random;
    return waitMs(driver.fails(error));
  });
  return [low ?? Number.NaN, Math.round(high ?? Number.NaN)];
}

describe('CONNACK 5, 2 or 4: the credential is refused', () => {
  it('once more after 5 to 30 s, with a fresh order', () => {
    expect(waitsMs(life, refused())).toEqual([5_000, 30_000]);
    const driver = life().fails(refused());
    expect(driver.names().at(-1)).toBe('CloseHub');
    expect(driver.wake().hubs()).toHaveLength(2);
  });

  it('then DPS', () => {
    const driver = life().fails(refused()).wake().fails(refused());
    expect(driver.state).toBe('Registering');
    expect(driver.events()).toContainEqual({
      type: 'reprovisioning',
      reason: 'refused',
      detail: 'ERR_DPS_CONNACK_UNAUTHORIZED',
    });
    expect(driver.answer(assignedTo('other.example')).saved().hubs().at(-1)).toBe('other.example');
  });

  it.each([
    ['a certificate in the handshake', transportError('ERR_DPS_TLS_CLIENT_REFUSED', false)],
    ['401', hubStatus(401)],
    ['403', hubStatus(403, { errorCode: 403012 })],
    ['404', hubStatus(404)],
  ])('so is %s', (_what, error) => {
    const driver = life().fails(error);
    if (driver.state === 'AwaitingHubRetry') driver.wake().fails(error);
    expect(driver.state).toBe('Registering');
  });

  it('a certificate refused in the handshake is not tried twice', () => {
    expect(life().fails(transportError('ERR_DPS_TLS_CLIENT_REFUSED', false)).state).toBe('Registering');
  });

  it('by a hub that DPS has just named: a journey ends, a life asks that hub slowly, and DPS after half an hour', () => {
    expect(once().fails(refused()).wake().fails(refused()).error.code).toBe('ERR_DPS_CONNACK_UNAUTHORIZED');
    const driver = new JourneyDriver({ purpose: 'keep' }).register();
    driver.fails(refused()).wake().fails(refused());
    expect(waitMs(driver)).toBe(MINUTE_MS);
    driver.failUntilElsewhere(refused());
    expect(driver.state).toBe('Registering');
    expect(driver.nowMs).toBeGreaterThanOrEqual(30 * MINUTE_MS);
    expect(driver.nowMs).toBeLessThanOrEqual(36 * MINUTE_MS);
  });

  it('a stored hub that refuses a journey: DPS, once', () => {
    const driver = new JourneyDriver({ hasStore: true }).load(found()).fails(refused()).wake().fails(refused());
    driver.answer(ASSIGNED).fails(refused()).wake().fails(refused());
    expect(driver.requests()).toEqual(['register']);
    expect(driver.error.code).toBe('ERR_DPS_CONNACK_UNAUTHORIZED');
  });
});

describe.each([
  ['CONNACK 3', transportError('ERR_DPS_CONNACK_UNAVAILABLE', true)],
  ['closed before CONNACK', lost()],
  ['no CONNACK', transportError('ERR_DPS_CONNECT_TIMEOUT', true)],
  ['name not found: the hub deleted, or the resolver down', transportError('ERR_DPS_DNS', true)],
  ['connection refused', transportError('ERR_DPS_CONNECT', true)],
  ['twin 5xx', hubStatus(503)],
  ['the daily quota, 403002', hubStatus(403, { errorCode: 403002 })],
])('%s', (_what, error) => {
  it('the same hub with backoff', () => {
    expect(waitsMs(life, error)).toEqual([1_000, 1_999]);
  });

  it('in a life DPS after ten in a row', () => {
    const driver = life();
    driver.random = 0.5;
    expect(driver.failUntilElsewhere(error)).toBe(10);
    expect(driver.state).toBe('Registering');
    expect(driver.nowMs).toBeLessThan(15 * MINUTE_MS);
    expect(driver.events()).toContainEqual({ type: 'reprovisioning', reason: 'unreachable', detail: error.code });
  });
});

describe('a hub that falls silent', () => {
  it('is given up after the time for one attempt, and tried again', () => {
    const driver = life().wake();
    expect(driver.nowMs).toBe(CONFIG.hubTimeoutMs);
    expect(driver.state).toBe('AwaitingHubRetry');
    expect(driver.wake().state).toBe('AwaitingHub');
  });

  it.each([
    [0, 15],
    [0.999, 30],
  ])('for 15 to 30 minutes leads to DPS before ten attempts are over (%d)', (random, minutes) => {
    const driver = new JourneyDriver({ purpose: 'keep', hasStore: true, hubTimeoutMs: 5 * MINUTE_MS }).load(found());
    driver.random = random;
    driver.until('Registering', () => driver.wake());
    expect(driver.hubs().length).toBeLessThan(10);
    // Failures count from the first on, and they are noticed when an attempt ends.
    expect(driver.nowMs).toBeGreaterThanOrEqual((minutes + 5) * MINUTE_MS - 2_000);
    expect(driver.nowMs).toBeLessThanOrEqual((minutes + 11) * MINUTE_MS);
  });
});

describe('DPS', () => {
  it('that names the same hub again is not asked for half an hour, however often that fails', () => {
    const driver = life();
    driver.random = 0.5;
    driver.failUntilElsewhere(lost());
    const askedAtMs = driver.answer(ASSIGNED).nowMs;
    expect(driver.state).toBe('AwaitingHub');
    expect(driver.failUntilElsewhere(lost())).toBeGreaterThan(10);
    expect(driver.state).toBe('Registering');
    expect(driver.nowMs - askedAtMs).toBeGreaterThanOrEqual(30 * MINUTE_MS);
  });

  it.each(['disabled', 'failed'])('that says %s is asked again after 30 to 60 minutes', (status) => {
    for (const [random, minutes] of [
      [0, 30],
      [0.9999, 60],
    ] as const) {
      const driver = new JourneyDriver({ purpose: 'keep' }).start();
      driver.random = random;
      driver.answer({ operationId: 'o', status });
      expect(waitMs(driver) / MINUTE_MS).toBeCloseTo(minutes, 1);
      expect(driver.wake().state).toBe('Registering');
    }
  });

  it('that throttles for longer than a registration may take is waited for as it asks, up to five minutes', () => {
    const driver = new JourneyDriver({ purpose: 'keep' }).start();
    driver.feed({ type: 'CredentialReady', ticket: driver.ticket });
    driver.feed({ type: 'ConnectionOpened', ticket: driver.ticket });
    const reply = { kind: 'reply', status: 429, body: new Uint8Array(), retryAfter: '400' } as const;
    driver.feed({ type: 'ReplyReceived', ticket: driver.ticket, reply });
    expect(driver.state).toBe('AwaitingReturn');
    expect(waitMs(driver)).toBe(300_000);
  });
});

describe('a certificate that is not trusted', () => {
  it('ends a journey at once', () => {
    const error = untrusted();
    expect(once().fails(error).error).toBe(error);
  });

  it('never leads to DPS: a life asks again after 1 to 5 minutes, for ever', () => {
    expect(waitsMs(life, untrusted())).toEqual([MINUTE_MS, 5 * MINUTE_MS]);
    const driver = life();
    expect(driver.failUntilElsewhere(untrusted())).toBeGreaterThan(1_000);
    expect(driver.requests()).toEqual([]);
  });
});

describe('a clock that cannot be right', () => {
  it('ends a journey, and is looked at again in a life', () => {
    const error = clock();
    expect(once().fails(error).error).toBe(error);
    expect(waitsMs(life, error)).toEqual([MINUTE_MS, 5 * MINUTE_MS]);
    const driver = life();
    expect(driver.failUntilElsewhere(error)).toBeGreaterThan(1_000);
  });
});

describe('twin 429', () => {
  const throttled = (retryAfterMs?: number): DpsError =>
    hubStatus(429, retryAfterMs === undefined ? {} : { retryAfterMs });

  it('the same hub after 10 to 60 s, or what it asks, up to five minutes', () => {
    expect(waitsMs(life, throttled())).toEqual([10_000, 60_000]);
    expect(waitsMs(life, throttled(20_000))).toEqual([20_000, 60_000]);
    expect(waitsMs(life, throttled(3_600_000))).toEqual([300_000, 300_000]);
    expect(waitMs(once().fails(throttled(20_000)))).toBe(20_000);
  });

  it('ends the count of failures, and the patience with them: a hub that answers works', () => {
    const driver = life();
    for (let count = 1; count < 10; count += 1) driver.fails(lost()).wake();
    driver
      .fails(throttled())
      .pass(31 * MINUTE_MS)
      .wake();
    driver.random = 0.5;
    expect([driver.failUntilElsewhere(lost()), driver.state]).toEqual([10, 'Registering']);
  });

  it('never leads to DPS: the hub has let the device in', () => {
    const driver = life();
    expect(driver.failUntilElsewhere(throttled())).toBeGreaterThan(1_000);
    expect(driver.requests()).toEqual([]);
  });
});

describe('what trying again cannot mend', () => {
  it.each([
    ['CONNACK 1', transportError('ERR_DPS_CONNACK_PROTOCOL', false)],
    ['twin 400', hubStatus(400)],
  ])('%s ends a journey; a life tries as with a hub out of reach', (_what, error) => {
    expect(once().fails(error).error).toBe(error);
    expect(waitsMs(life, error)).toEqual([1_000, 1_999]);
  });
});

describe('a journey that ends in time', () => {
  it.each([
    ['cannot be reached', false],
    ['is silent', true],
  ])('keeps half of its time for DPS when the hub it knows %s', (_how, isSilent) => {
    const driver = new JourneyDriver({ hasStore: true, deadlineMs: 100_000, hubTimeoutMs: 20_000 }).load(found());
    driver.until('Registering', () =>
      driver.state === 'AwaitingHub' && !isSilent ? driver.fails(lost()) : driver.wake(),
    );
    expect(driver.nowMs).toBeLessThan(100_000);
    expect(driver.answer(assignedTo('other.example')).saved().hubReached().saved().outcome?.kind).toBe('provisioned');
  });

  it.each([
    ['network', lost(), 1],
    ['refused', refused(), 0.5],
  ])('goes to DPS instead of a wait that ends in that half: %s', (_reason, error, random) => {
    const driver = new JourneyDriver({ hasStore: true, deadlineMs: 20_000 }).load(found());
    driver.random = random;
    driver.failUntilElsewhere(error);
    expect(driver.state).toBe('Registering');
    expect(driver.nowMs).toBeLessThan(10_000);
    expect(driver.answer(ASSIGNED).hubReached().outcome?.kind).toBe('provisioned');
  });

  it('waits into that half for a hub that DPS has just named', () => {
    const driver = new JourneyDriver({ deadlineMs: 20_000 }).register();
    driver.random = 0.5;
    driver.fails(refused());
    expect([driver.state, driver.wake().state]).toEqual(['AwaitingHubRetry', 'AwaitingHub']);
    expect(driver.nowMs).toBeGreaterThan(10_000);
  });

  it('tries its hub as often as the deadline allows', () => {
    const driver = once();
    driver.failUntilElsewhere(lost());
    expect(driver.error.code).toBe('ERR_DPS_CONNECTION_LOST');
    expect(driver.nowMs).toBeLessThanOrEqual(CONFIG.deadlineMs);
    expect(driver.hubs().length).toBeGreaterThan(5);
  });
});
