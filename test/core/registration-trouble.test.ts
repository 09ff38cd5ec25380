import { describe, expect, it } from 'vitest';
import { MAX_RESTARTS, MAX_UNAVAILABLE_CONNACKS, registrationWakeAtMs } from '../../src/core/registration.js';
import { ProtocolError, type RegistrationRejectedError, type ServiceError, TransportError } from '../../src/errors.js';
import { ASSIGNED, ASSIGNING, Driver, lost, ROADS } from './registration-driver.js';

const connackUnavailable = (): TransportError =>
  new TransportError({
    code: 'ERR_DPS_CONNACK_UNAVAILABLE',
    message: '3',
    phase: 'mqtt-connect',
    peer: 'x:1',
    retryable: true,
  });

describe('a service that says no', () => {
  it.each([
    [
      200,
      {
        operationId: 'o',
        status: 'failed',
        registrationState: {
          registrationId: 'dev-1',
          status: 'failed',
          errorCode: 400207,
          errorMessage: 'Custom allocation failed with status code: 400',
        },
      },
      'ERR_DPS_REGISTRATION_FAILED',
    ],
    [
      200,
      { operationId: 'o', status: 'disabled', registrationState: { registrationId: 'dev-1', status: 'disabled' } },
      'ERR_DPS_REGISTRATION_DISABLED',
    ],
    [400, { errorCode: 400004, message: 'Invalid RegistrationId' }, 'ERR_DPS_SERVICE_BAD_REQUEST'],
    [401, { errorCode: 401002, message: 'Unauthorized', trackingId: 't' }, 'ERR_DPS_SERVICE_UNAUTHORIZED'],
    [403, { errorCode: 403000, message: 'no' }, 'ERR_DPS_SERVICE_UNAUTHORIZED'],
    [404, { errorCode: 404201, message: 'no' }, 'ERR_DPS_SERVICE_NOT_FOUND'],
    [415, { errorCode: 415000, message: 'no' }, 'ERR_DPS_SERVICE_REFUSED'],
    [200, '<html>login</html>', 'ERR_DPS_PROTOCOL_BODY'],
    [200, { operationId: 'o', status: 'pondering' }, 'ERR_DPS_PROTOCOL_STATUS'],
    [302, '', undefined],
  ])('status %i ends it at once', (status, body, code) => {
    const driver = new Driver().start().connect().reply(status, body);
    expect(driver.sent()).toEqual(['register']);
    if (code === undefined) expect(driver.error).toBeInstanceOf(ProtocolError);
    else expect(driver.error.code).toBe(code);
  });

  it('hands the rejection over with the service’s own words', () => {
    const state = { registrationId: 'dev-1', status: 'failed', errorCode: 400207, errorMessage: 'webhook says 400' };
    const driver = new Driver()
      .start()
      .connect()
      .reply(200, { operationId: 'o', status: 'failed', registrationState: state });
    const error = driver.error as RegistrationRejectedError;
    expect(error).toMatchObject({ status: 'failed', errorCode: 400207, errorMessage: 'webhook says 400' });
  });

  it('tries the next credential when one is refused, and only then gives up', () => {
    const driver = new Driver({ slots: 2 })
      .start()
      .connect()
      .reply(401, { errorCode: 401002, message: 'Unauthorized' });
    expect(driver.effects.at(-1)).toMatchObject({ type: 'PrepareCredential', slot: 1 });
    driver.connect().reply(401, { errorCode: 401002, message: 'Unauthorized' });
    expect(driver.error.code).toBe('ERR_DPS_SERVICE_UNAUTHORIZED');
    expect(driver.sent()).toEqual(['register', 'register']);
  });

  it('remembers which credential was taken', () => {
    const driver = new Driver({ slots: 2 })
      .start()
      .connect()
      .reply(401, { errorCode: 401002 })
      .connect()
      .reply(200, ASSIGNED);
    expect(driver.registration.state).toMatchObject({ outcome: { kind: 'assigned', slot: 1 } });
  });

  it('registers anew, a few times, when the service forgot the operation', () => {
    const driver = new Driver().start().connect();
    for (let restart = 1; restart < MAX_RESTARTS; restart++) {
      driver.reply(202, ASSIGNING).wakeUntilBusy().reply(404, { errorCode: 404201 }).wakeUntilBusy();
      expect(driver.state).toBe('AwaitingRegisterReply');
    }
    driver.reply(202, ASSIGNING).wakeUntilBusy().reply(404, { errorCode: 404201 });
    expect(driver.error.code).toBe('ERR_DPS_SERVICE_NOT_FOUND');
  });
});

describe('a service that says later', () => {
  it.each([
    [429, 'throttled'],
    [500, 'unavailable'],
    [503, 'unavailable'],
    [409, 'unavailable'],
  ])('status %i on register is asked again on the same connection, not before its time', (status, reason) => {
    const driver = new Driver()
      .start()
      .connect()
      .reply(status, { errorCode: status * 1000 }, { retryAfter: '5' });
    expect(driver.state).toBe('AwaitingRetryTime');
    expect(registrationWakeAtMs(driver.registration)).toBeGreaterThanOrEqual(driver.nowMs + 5_000);
    expect(driver.effects.at(-1)).toMatchObject({ type: 'ReportProgress', event: { type: 'waiting', reason } });
    driver.wakeUntilBusy();
    expect(driver.sent()).toEqual(['register', 'register']);
    expect(driver.count('OpenConnection')).toBe(1);
  });

  it('asks for the same operation again after a throttled poll', () => {
    const driver = ROADS.AwaitingStatusReply().reply(429, { errorCode: 429001 }, { retryAfter: '1' }).wakeUntilBusy();
    expect(driver.sent()).toEqual(['register', 'operationStatus', 'operationStatus']);
    expect(driver.effects.at(-1)).toMatchObject({
      request: { kind: 'operationStatus', operationId: ASSIGNING.operationId },
    });
  });

  it('ends with the refusal itself when the next try would come after the deadline', () => {
    const driver = new Driver({ deadlineMs: 10_000 })
      .start()
      .connect()
      .reply(429, { errorCode: 429001 }, { retryAfter: '60' });
    expect(driver.error).toMatchObject({ code: 'ERR_DPS_SERVICE_THROTTLED', status: 429, retryable: true });
    expect((driver.error as ServiceError).retryAfterMs).toBe(60_000);
  });

  it('does not idle up to a deadline that the next poll cannot meet', () => {
    const driver = new Driver({ deadlineMs: 10_000 }).start().connect().reply(202, ASSIGNING, { retryAfter: '60' });
    expect(driver.error).toMatchObject({ code: 'ERR_DPS_DEADLINE', message: expect.stringContaining('60000 ms') });
  });

  it.each([
    ['429 with Retry-After 0', 429, '0'],
    ['429 with a negative Retry-After', 429, '-5'],
    ['429 with a date long past', 429, 'Wed, 21 Oct 2015 07:28:00 GMT'],
    ['202 with Retry-After 0', 202, '0'],
    ['503 without Retry-After', 503, undefined],
  ])('endless %s: at most 10 requests in any 8 s', (_, status, retryAfter) => {
    const driver = new Driver({ deadlineMs: 200_000 }).start().connect();
    driver.random = 0;
    const sentAtMs: number[] = [];
    let seen = 0;
    while (driver.state !== 'Done') {
      const sent = driver.sent().length;
      if (sent > seen) sentAtMs.push(driver.nowMs);
      seen = sent;
      if (driver.state === 'AwaitingRegisterReply' || driver.state === 'AwaitingStatusReply') {
        driver.reply(status, status === 202 ? ASSIGNING : {}, retryAfter === undefined ? {} : { retryAfter });
      } else driver.wake();
    }
    expect(sentAtMs.length).toBeGreaterThan(5);
    for (const from of sentAtMs) {
      expect(sentAtMs.filter((at) => at >= from && at <= from + 8_000).length).toBeLessThanOrEqual(10);
    }
  });
});

describe('a network that fails', () => {
  it('reconnects and goes on polling the same operation', () => {
    const driver = ROADS.AwaitingStatusReply().fails(lost());
    expect(driver.effects.map((effect) => effect.type)).toContain('CloseConnection');
    driver.wakeUntilBusy();
    expect(driver.state).toBe('AwaitingConnection');
    driver.opened();
    expect(driver.effects.at(-1)).toMatchObject({
      request: { kind: 'operationStatus', operationId: ASSIGNING.operationId },
    });
    // The credential still lives: none was made for the second connection.
    expect(driver.count('PrepareCredential')).toBe(1);
  });

  it('makes a new token when polling has outlived the old one', () => {
    const driver = new Driver({ tokenLifeSeconds: 120 }).start().connect().reply(202, ASSIGNING, { retryAfter: '100' });
    driver.wakeUntilBusy();
    expect(driver.state).toBe('AwaitingCredential');
    expect(driver.effects.slice(-2).map((effect) => effect.type)).toEqual(['CloseConnection', 'PrepareCredential']);
    driver.connect();
    expect(driver.effects.at(-1)).toMatchObject({
      request: { kind: 'operationStatus', operationId: ASSIGNING.operationId },
    });
  });

  it.each(['AwaitingConnection', 'AwaitingRegisterReply', 'AwaitingStatusReply'] as const)(
    'gives a silent peer up in %s, and tries again',
    (state) => {
      const driver = ROADS[state]().wake();
      expect(driver.state).toBe('AwaitingRetryTime');
      expect(driver.registration.memory.lastError?.code).toMatch(/TIMEOUT/);
      expect(driver.wakeUntilBusy().state).toBe('AwaitingConnection');
    },
  );

  it('takes CONNACK 3 for a wrong ID scope after a few tries', () => {
    const driver = new Driver().start().credential();
    for (let refusal = 1; refusal < MAX_UNAVAILABLE_CONNACKS; refusal++)
      driver.fails(connackUnavailable()).wakeUntilBusy();
    expect(driver.state).toBe('AwaitingConnection');
    expect(driver.fails(connackUnavailable()).error.code).toBe('ERR_DPS_CONNACK_UNAVAILABLE');
  });

  it('backs off with growing delays and jitter', () => {
    const driver = new Driver({ deadlineMs: 3_600_000 }).start().credential();
    driver.random = 0.999;
    const delays: number[] = [];
    for (let attempt = 0; attempt < 8; attempt++) {
      driver.fails(lost());
      delays.push((registrationWakeAtMs(driver.registration) ?? 0) - driver.nowMs);
      driver.wakeUntilBusy();
    }
    expect(delays.every((delay) => delay >= 500 && delay <= 60_000)).toBe(true);
    expect(delays.at(-1)).toBeGreaterThan(30_000);
    expect(delays[0]).toBeLessThan(3_000);
  });

  it('ends at once on what trying again cannot mend', () => {
    const untrusted = new TransportError({
      code: 'ERR_DPS_TLS_UNTRUSTED',
      message: 'ca',
      phase: 'tls',
      peer: 'x:1',
      retryable: false,
    });
    expect(new Driver().start().credential().fails(untrusted).error).toBe(untrusted);
  });

  it('names an implausible clock instead of making a token that would be refused', () => {
    const driver = new Driver();
    driver.wallMs = Date.UTC(1970, 0, 1);
    driver.start();
    expect(driver.error).toMatchObject({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE', retryable: true });
    expect(driver.error.message).toContain('1970-01-01');
  });
});
