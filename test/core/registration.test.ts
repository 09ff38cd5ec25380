import { describe, expect, it } from 'vitest';
import { encodeUtf8 } from '../../src/core/bytes.js';
import type { Now } from '../../src/core/clock.js';
import {
  MAX_RESTARTS,
  MAX_UNAVAILABLE_CONNACKS,
  newRegistration,
  type Registration,
  type RegistrationConfig,
  type RegistrationEffect,
  type RegistrationInput,
  type RegistrationState,
  registrationWakeAtMs,
  stepRegistration,
} from '../../src/core/registration.js';
import type { DpsReply } from '../../src/core/transport.js';
import {
  type DpsError,
  ProtocolError,
  type RegistrationRejectedError,
  type ServiceError,
  TransportError,
} from '../../src/errors.js';

const WALL_MS = Date.UTC(2026, 10, 21);

const CONFIG: RegistrationConfig = {
  idScope: '0ne00111111',
  registrationId: 'dev-1',
  attestation: 'symmetricKey',
  slots: 1,
  transport: 'mqtt',
  endpoint: 'dps.example',
  deadlineMs: 300_000,
  connectTimeoutMs: 60_000,
  requestTimeoutMs: 30_000,
  tokenLifeSeconds: 3_600,
};

/** Drives one machine as a host would, with hands on the clock. */
class Driver {
  registration: Registration;
  nowMs = 1_000;
  wallMs = WALL_MS;
  random = 0.5;
  readonly effects: RegistrationEffect[] = [];

  constructor(config: Partial<RegistrationConfig> = {}) {
    this.registration = newRegistration({ ...CONFIG, ...config });
  }

  get state(): RegistrationState['name'] {
    return this.registration.state.name;
  }

  get ticket(): number {
    return this.registration.memory.ticket;
  }

  get now(): Now {
    return { monotonicMs: this.nowMs, wallMs: this.wallMs, random: this.random };
  }

  feed(input: RegistrationInput): this {
    const step = stepRegistration(this.registration, input, this.now);
    this.registration = step.registration;
    this.effects.push(...step.effects);
    return this;
  }

  start = (): this => this.feed({ type: 'Started' });
  credential = (): this => this.feed({ type: 'CredentialReady', ticket: this.ticket });
  opened = (): this => this.feed({ type: 'ConnectionOpened', ticket: this.ticket });
  connect = (): this => this.credential().opened();
  fails = (error: DpsError): this => this.feed({ type: 'OperationFailed', ticket: this.ticket, error });
  challenge = (): this =>
    this.feed({
      type: 'ReplyReceived',
      ticket: this.ticket,
      reply: { kind: 'challenge', authenticationKey: new Uint8Array([1, 2]) },
    });

  reply(status: number, body: unknown, extra: Partial<DpsReply> = {}): this {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return this.feed({
      type: 'ReplyReceived',
      ticket: this.ticket,
      reply: { kind: 'reply', status, body: encodeUtf8(text), ...extra },
    });
  }

  /** Lets time pass to the moment the machine asked for. */
  wake(): this {
    const at = registrationWakeAtMs(this.registration);
    if (at === undefined || at === Number.POSITIVE_INFINITY) throw new Error(`${this.state} waits for nothing`);
    this.nowMs = Math.max(this.nowMs, at);
    return this.feed({ type: 'Woke' });
  }

  /** Wakes until a request or a connection is ordered, or the machine is done. */
  wakeUntilBusy(): this {
    while (this.state === 'AwaitingRetryTime' || this.state === 'AwaitingPollTime') this.wake();
    return this;
  }

  sent(): string[] {
    return this.effects.flatMap((effect) => (effect.type === 'SendRequest' ? [effect.request.kind] : []));
  }

  count(type: RegistrationEffect['type']): number {
    return this.effects.filter((effect) => effect.type === type).length;
  }

  get error(): DpsError {
    const { state } = this.registration;
    if (state.name !== 'Done' || state.outcome.kind !== 'failed') throw new Error(`not failed but ${state.name}`);
    return state.outcome.error;
  }
}

const ASSIGNING = { operationId: '5.71cf7e385566aa10.4469ed4c', status: 'assigning' };
const ASSIGNED = {
  operationId: '5.71cf7e385566aa10.4469ed4c',
  status: 'assigned',
  registrationState: {
    registrationId: 'dev-1',
    assignedHub: 'hub.azure-devices.net',
    deviceId: 'dev-1',
    status: 'assigned',
    substatus: 'initialAssignment',
  },
};
const lost = (): TransportError =>
  new TransportError({
    code: 'ERR_DPS_CONNECTION_LOST',
    message: 'gone',
    phase: 'request',
    peer: 'x:1',
    retryable: true,
  });
const connackUnavailable = (): TransportError =>
  new TransportError({
    code: 'ERR_DPS_CONNACK_UNAVAILABLE',
    message: '3',
    phase: 'mqtt-connect',
    peer: 'x:1',
    retryable: true,
  });

/** How to get into each state that is not the end. */
const ROADS: Record<Exclude<RegistrationState['name'], 'Done'>, () => Driver> = {
  Idle: () => new Driver(),
  AwaitingCredential: () => new Driver().start(),
  AwaitingConnection: () => new Driver().start().credential(),
  AwaitingLookupReply: () => new Driver({ lookUpFirst: true }).start().connect(),
  AwaitingRegisterReply: () => new Driver().start().connect(),
  AwaitingActivation: () => new Driver({ attestation: 'tpm' }).start().connect().challenge(),
  AwaitingPollTime: () => new Driver().start().connect().reply(202, ASSIGNING, { retryAfter: '3' }),
  AwaitingStatusReply: () => new Driver().start().connect().reply(202, ASSIGNING, { retryAfter: '3' }).wake(),
  AwaitingRetryTime: () => new Driver().start().connect().fails(lost()),
};

describe('every state', () => {
  for (const [name, road] of Object.entries(ROADS)) {
    it(`${name} is reached and can be cancelled`, () => {
      const driver = road();
      expect(driver.state).toBe(name);
      driver.feed({ type: 'CancelRequested', reason: 'because' });
      expect(driver.state).toBe('Done');
      expect(driver.error).toMatchObject({ code: 'ERR_DPS_CANCELLED', state: name, cause: 'because' });
      expect(driver.effects.slice(-2).map((effect) => effect.type)).toEqual(['CloseConnection', 'Finish']);
      expect(registrationWakeAtMs(driver.registration)).toBeUndefined();
    });

    it(`${name} ignores answers to orders it has abandoned`, () => {
      const driver = road();
      const before = driver.registration;
      for (const ticket of [driver.ticket - 1, driver.ticket + 1]) {
        driver.feed({ type: 'CredentialReady', ticket });
        driver.feed({ type: 'ConnectionOpened', ticket });
        driver.feed({ type: 'ChallengeActivated', ticket });
        driver.feed({ type: 'OperationFailed', ticket, error: lost() });
        driver.feed({
          type: 'ReplyReceived',
          ticket,
          reply: { kind: 'reply', status: 200, body: encodeUtf8(JSON.stringify(ASSIGNED)) },
        });
      }
      expect(driver.registration).toBe(before);
    });

    it(`${name} takes an early wake-up as no wake-up`, () => {
      const driver = road();
      const before = driver.registration;
      driver.feed({ type: 'Woke' });
      expect(driver.registration).toBe(before);
    });

    if (name !== 'Idle') {
      it(`${name} ends at the deadline at the latest`, () => {
        const driver = road();
        driver.nowMs += CONFIG.deadlineMs;
        driver.feed({ type: 'Woke' });
        expect(driver.error).toMatchObject({ code: 'ERR_DPS_DEADLINE', state: name, retryable: true });
      });
    }
  }

  it('Done stays as it is, whatever comes', () => {
    const driver = ROADS.AwaitingRegisterReply().reply(200, ASSIGNED);
    const before = driver.registration;
    const effects = driver.effects.length;
    driver.feed({ type: 'CancelRequested' }).feed({ type: 'Started' }).feed({ type: 'Woke' }).fails(lost());
    expect(driver.registration).toBe(before);
    expect(driver.effects).toHaveLength(effects);
  });
});

describe('the way to an assignment', () => {
  it('registers, polls when asked to, and reports the result', () => {
    const driver = new Driver().start().connect().reply(202, ASSIGNING, { retryAfter: '3' });
    const before = driver.nowMs;
    driver.wake();
    expect(driver.nowMs - before).toBe(3_000);
    driver.reply(202, ASSIGNING, { retryAfter: '1' }).wake().reply(200, ASSIGNED);
    expect(driver.sent()).toEqual(['register', 'operationStatus', 'operationStatus']);
    expect(driver.registration.state).toMatchObject({
      name: 'Done',
      outcome: { kind: 'assigned', slot: 0, result: { assignedHub: 'hub.azure-devices.net', deviceId: 'dev-1' } },
    });
    expect(driver.effects.at(-1)).toMatchObject({ type: 'Finish', outcome: { kind: 'assigned' } });
  });

  it('takes `assigned` in the register reply as it is', () => {
    const driver = new Driver().start().connect().reply(200, ASSIGNED);
    expect(driver.sent()).toEqual(['register']);
    expect(driver.registration.state).toMatchObject({ outcome: { kind: 'assigned' } });
  });

  it('orders a token for the registration resource, dated by the wall clock', () => {
    const driver = new Driver().start();
    expect(driver.effects).toContainEqual({
      type: 'PrepareCredential',
      ticket: 1,
      slot: 0,
      token: { resource: '0ne00111111%2Fregistrations%2Fdev-1', expirySeconds: WALL_MS / 1000 + 3_600 },
    });
  });

  it('orders no token for a certificate, whatever the clock says', () => {
    const driver = new Driver({ attestation: 'x509' });
    driver.wallMs = 0;
    driver.start();
    expect(driver.effects).toContainEqual({ type: 'PrepareCredential', ticket: 1, slot: 0 });
    expect(driver.state).toBe('AwaitingCredential');
  });

  it('waits 2 s where the service names no time', () => {
    const driver = new Driver().start().connect().reply(202, ASSIGNING);
    expect(registrationWakeAtMs(driver.registration)).toBe(driver.nowMs + 2_000);
  });

  it('takes a TPM through its challenge: no token, activation, token, registration', () => {
    const driver = new Driver({ attestation: 'tpm' }).start();
    expect(driver.effects.at(-1)).toEqual({ type: 'PrepareCredential', ticket: 1, slot: 0 });
    driver.connect().challenge();
    expect(driver.effects.at(-1)).toMatchObject({
      type: 'ActivateChallenge',
      authenticationKey: new Uint8Array([1, 2]),
    });
    driver.feed({ type: 'ChallengeActivated', ticket: driver.ticket });
    expect(driver.effects.slice(-2)).toMatchObject([
      // The challenged connection stays: over AMQP the token goes there.
      { type: 'ActivateChallenge' },
      { type: 'PrepareCredential', token: { resource: '0ne00111111%2Fregistrations%2Fdev-1' } },
    ]);
    driver.connect().reply(202, ASSIGNING).wake().reply(200, ASSIGNED);
    expect(driver.registration.state).toMatchObject({ outcome: { kind: 'assigned' } });
  });

  it('refuses a challenge that nobody asked for', () => {
    const second = new Driver({ attestation: 'tpm' }).start().connect().challenge();
    second.feed({ type: 'ChallengeActivated', ticket: second.ticket }).connect().challenge();
    for (const driver of [new Driver().start().connect().challenge(), second]) {
      expect(driver.error).toBeInstanceOf(ProtocolError);
    }
  });

  it('refuses a hub that is not a classic one', () => {
    const state = { ...ASSIGNED.registrationState, connectionProfile: 'mqttV5' };
    const driver = new Driver()
      .start()
      .connect()
      .reply(200, { ...ASSIGNED, registrationState: state });
    expect(driver.error).toMatchObject({ code: 'ERR_DPS_CONFIG_UNSUPPORTED' });
  });
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

describe('a status lookup first', () => {
  const looking = (config: Partial<RegistrationConfig> = {}): Driver =>
    new Driver({ ...config, lookUpFirst: true }).start().connect();

  it('asks with the registration id alone', () => {
    const { effects } = looking({ payload: { modelId: 'x' } });
    const request = effects.flatMap((effect) => (effect.type === 'SendRequest' ? [effect.request] : []))[0];
    expect(request).toEqual({ kind: 'statusLookup', body: encodeUtf8('{"registrationId":"dev-1"}') });
  });

  it('ends the registration when DPS knows the device', () => {
    const driver = looking().reply(200, ASSIGNED.registrationState);
    expect(driver.registration.state).toMatchObject({
      outcome: { kind: 'assigned', result: { assignedHub: 'hub.azure-devices.net' }, slot: 0 },
    });
    expect(driver.sent()).toEqual(['statusLookup']);
  });

  it.each<[string, number, unknown]>([
    ['nothing', 404, { errorCode: 404201 }],
    ['a registration under way', 200, { registrationId: 'dev-1', status: 'assigning' }],
    ['one that failed', 200, { registrationId: 'dev-1', status: 'failed', errorCode: 400207 }],
    ['one that was disabled', 200, { registrationId: 'dev-1', status: 'disabled' }],
    ['what no lookup finds', 200, 'OK'],
  ])('registers at once, on the same connection, after %s', (_what, status, body) => {
    const driver = looking().reply(status, body);
    expect(driver.sent()).toEqual(['statusLookup', 'register']);
    expect(driver.count('OpenConnection')).toBe(1);
    expect(driver.reply(200, ASSIGNED).state).toBe('Done');
  });

  it.each([429, 500])('waits after %i as DPS asks, and then registers', (status) => {
    const driver = looking().reply(status, {}, { retryAfter: '20' });
    expect(registrationWakeAtMs(driver.registration)).toBeGreaterThanOrEqual(driver.nowMs + 20_000);
    driver.wake();
    expect(driver.sent()).toEqual(['statusLookup', 'register']);
  });

  it('registers with the next credential when the first is refused', () => {
    const driver = looking({ slots: 2 }).reply(401, { errorCode: 401002 }).connect();
    expect(driver.sent()).toEqual(['statusLookup', 'register']);
    expect(looking().reply(401, { errorCode: 401002 }).error.code).toBe('ERR_DPS_SERVICE_UNAUTHORIZED');
  });

  it.each<[string, (driver: Driver) => Driver]>([
    ['was lost', (driver) => driver.fails(lost())],
    ['never comes', (driver) => driver.wake()],
  ])('asks again when the answer %s', (_how, go) => {
    const driver = go(looking()).wake().opened();
    expect(driver.sent()).toEqual(['statusLookup', 'statusLookup']);
  });

  it('is paid for like every request', () => {
    const driver = looking().reply(404, {}).reply(503, {}, { retryAfter: '0' });
    expect(driver.sent()).toHaveLength(2);
    expect(registrationWakeAtMs(driver.registration)).toBeGreaterThanOrEqual(driver.nowMs + 1_000);
  });
});

describe('what was before', () => {
  it('counts: the numbers of orders, and the requests', () => {
    const budget = { tokens: 0, atMs: 1_000 };
    let registration = newRegistration(CONFIG, { ticket: 41, budget });
    const feed = (input: RegistrationInput): RegistrationEffect[] => {
      const step = stepRegistration(registration, input, { monotonicMs: 1_000, wallMs: WALL_MS, random: 0 });
      registration = step.registration;
      return [...step.effects];
    };
    expect(feed({ type: 'Started' })).toContainEqual(
      expect.objectContaining({ type: 'PrepareCredential', ticket: 42 }),
    );
    feed({ type: 'CredentialReady', ticket: 42 });
    feed({ type: 'ConnectionOpened', ticket: 43 });
    expect(registration.state).toEqual({ name: 'AwaitingRetryTime', atMs: 2_000 });
  });

  it('ran out before it began: the deadline does not begin anew', () => {
    const driver = new Driver({ deadlineFromMs: 1_000 - CONFIG.deadlineMs }).start();
    expect(driver.feed({ type: 'Woke' }).error.code).toBe('ERR_DPS_DEADLINE');
  });
});
