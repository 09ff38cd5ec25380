import { describe, expect, it } from 'vitest';
import { encodeUtf8 } from '../../src/core/bytes.js';
import {
  newRegistration,
  type RegistrationConfig,
  type RegistrationEffect,
  type RegistrationInput,
  registrationWakeAtMs,
  stepRegistration,
} from '../../src/core/registration.js';
import { ProtocolError } from '../../src/errors.js';
import { ASSIGNED, ASSIGNING, CONFIG, Driver, lost, ROADS, WALL_MS } from './registration-driver.js';

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
