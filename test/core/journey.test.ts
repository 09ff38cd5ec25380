import { describe, expect, it } from 'vitest';
import { encodeUtf8 } from '../../src/core/bytes.js';
import {
  type Journey,
  type JourneyConfig,
  type JourneyEffect,
  type JourneyInput,
  type JourneyState,
  journeyWakeAtMs,
  newJourney,
  stepJourney,
} from '../../src/core/journey.js';
import type { Twin } from '../../src/core/twin.js';
import { type DpsError, HsmError, ServiceError, TransportError } from '../../src/errors.js';

const CONFIG: JourneyConfig = {
  idScope: '0ne00111111',
  registrationId: 'dev-1',
  attestation: 'symmetricKey',
  slots: 1,
  transport: 'mqtt',
  endpoint: 'dps.example',
  deadlineMs: 300_000,
  connectTimeoutMs: 60_000,
  requestTimeoutMs: 30_000,
  hubTimeoutMs: 120_000,
  tokenLifeSeconds: 3_600,
};
const TWIN: Twin = { desired: { version: 4, properties: { led: true } }, reported: { version: 9, properties: {} } };
const ASSIGNED = {
  operationId: 'o',
  status: 'assigned',
  registrationState: { registrationId: 'dev-1', assignedHub: 'hub.example', deviceId: 'dev-1', status: 'assigned' },
};
const TPM_ASSIGNED = {
  ...ASSIGNED,
  registrationState: { ...ASSIGNED.registrationState, tpm: { authenticationKey: 'AAEC' } },
};

class Driver {
  journey: Journey;
  nowMs = 0;
  random = 0;
  readonly effects: JourneyEffect[] = [];

  constructor(config: Partial<JourneyConfig> = {}) {
    this.journey = newJourney({ ...CONFIG, ...config });
  }

  feed(input: JourneyInput): this {
    const now = { monotonicMs: this.nowMs, wallMs: Date.UTC(2026, 10, 21), random: this.random };
    const step = stepJourney(this.journey, input, now);
    this.journey = step.journey;
    this.effects.push(...step.effects);
    return this;
  }

  get ticket(): number {
    const { state, memory } = this.journey;
    return state.name === 'Registering' ? state.registration.memory.ticket : memory.ticket;
  }

  get state(): JourneyState['name'] {
    return this.journey.state.name;
  }

  register(body: unknown = ASSIGNED): this {
    this.feed({ type: 'Started' });
    this.feed({ type: 'CredentialReady', ticket: this.ticket });
    this.feed({ type: 'ConnectionOpened', ticket: this.ticket });
    const reply = { kind: 'reply', status: 200, body: encodeUtf8(JSON.stringify(body)) } as const;
    return this.feed({ type: 'ReplyReceived', ticket: this.ticket, reply });
  }

  fails = (error: DpsError): this => this.feed({ type: 'OperationFailed', ticket: this.ticket, error });
  hubReached = (): this => this.feed({ type: 'HubReached', ticket: this.ticket, twin: TWIN });
  staged = (): this => this.feed({ type: 'IdentityStaged', ticket: this.ticket });
  committed = (): this => this.feed({ type: 'IdentityCommitted', ticket: this.ticket });

  wake(): this {
    this.nowMs = Math.max(this.nowMs, journeyWakeAtMs(this.journey) ?? Number.NaN);
    return this.feed({ type: 'Woke' });
  }

  names = (): string[] => this.effects.map((effect) => effect.type).filter((type) => type !== 'ReportProgress');

  get outcome(): unknown {
    return this.journey.state.name === 'Done' ? this.journey.state.outcome : undefined;
  }

  get error(): DpsError {
    const { state } = this.journey;
    if (state.name !== 'Done' || state.outcome.kind !== 'failed') throw new Error(`not failed but ${state.name}`);
    return state.outcome.error;
  }
}

const refused = (): TransportError =>
  new TransportError({
    code: 'ERR_DPS_CONNACK_UNAUTHORIZED',
    message: '5',
    phase: 'mqtt-connect',
    peer: 'hub',
    retryable: false,
  });
const lost = (): TransportError =>
  new TransportError({
    code: 'ERR_DPS_CONNECTION_LOST',
    message: 'gone',
    phase: 'request',
    peer: 'hub',
    retryable: true,
  });

const ROADS: Record<Exclude<JourneyState['name'], 'Done'>, () => Driver> = {
  Registering: () => new Driver().feed({ type: 'Started' }),
  AwaitingStaging: () => new Driver({ attestation: 'tpm' }).register(TPM_ASSIGNED),
  AwaitingHub: () => new Driver().register(),
  AwaitingHubRetry: () => new Driver().register().fails(lost()),
  AwaitingCommit: () => new Driver({ attestation: 'tpm' }).register(TPM_ASSIGNED).staged().hubReached(),
};

describe('every state', () => {
  for (const [name, road] of Object.entries(ROADS)) {
    it(`${name} is reached, cancelled, and ends at the deadline`, () => {
      const driver = road();
      expect(driver.state).toBe(name);
      driver.feed({ type: 'CancelRequested', reason: 'because' });
      expect(driver.error).toMatchObject({ code: 'ERR_DPS_CANCELLED', cause: 'because' });
      expect(driver.names().at(-1)).toBe('FinishJourney');
      expect(journeyWakeAtMs(driver.journey)).toBeUndefined();

      const late = road();
      late.nowMs = CONFIG.deadlineMs;
      expect(late.feed({ type: 'Woke' }).error.code).toBe('ERR_DPS_DEADLINE');
    });

    it(`${name} ignores what belongs to another order`, () => {
      const driver = road();
      const before = driver.journey.state;
      const ticket = driver.ticket + 7;
      driver.feed({ type: 'HubReached', ticket, twin: TWIN });
      driver.feed({ type: 'IdentityStaged', ticket });
      driver.feed({ type: 'IdentityCommitted', ticket });
      driver.feed({ type: 'OperationFailed', ticket, error: lost() });
      driver.feed({ type: 'Woke' });
      expect(driver.journey.state).toEqual(before);
    });
  }
});

describe('the way to the twin', () => {
  it('closes DPS, opens the hub, reads the twin, closes the hub', () => {
    const driver = new Driver().register().hubReached();
    expect(driver.names()).toEqual([
      'PrepareCredential',
      'OpenConnection',
      'SendRequest',
      'CloseConnection',
      'OpenHub',
      'CloseHub',
      'FinishJourney',
    ]);
    expect(driver.outcome).toMatchObject({
      kind: 'provisioned',
      twin: TWIN,
      slot: 0,
      result: { assignedHub: 'hub.example' },
    });
  });

  it('reports a failed registration as it is, without touching the hub', () => {
    const driver = new Driver().register({ operationId: 'o', status: 'disabled' });
    expect(driver.error.code).toBe('ERR_DPS_REGISTRATION_DISABLED');
    expect(driver.names()).not.toContain('OpenHub');
    expect(driver.effects).toContainEqual(
      expect.objectContaining({ event: expect.objectContaining({ type: 'ended' }) }),
    );
  });

  it('stages a TPM identity before the hub and commits it after the hub took it', () => {
    const driver = ROADS.AwaitingCommit().committed();
    expect(driver.names().slice(3)).toEqual([
      'CloseConnection',
      'StageIdentity',
      'OpenHub',
      'CommitIdentity',
      'CloseHub',
      'FinishJourney',
    ]);
    expect(driver.names()).not.toContain('DiscardIdentity');
  });

  it('discards a staged identity when the hub does not take it', () => {
    const driver = new Driver({ attestation: 'tpm' })
      .register(TPM_ASSIGNED)
      .staged()
      .fails(refused())
      .wake()
      .fails(refused());
    expect(driver.error.code).toBe('ERR_DPS_CONNACK_UNAUTHORIZED');
    expect(driver.names()).toContain('DiscardIdentity');
    expect(driver.names()).not.toContain('CommitIdentity');
  });

  it('fails when the TPM does not take the identity', () => {
    const error = new HsmError({ code: 'ERR_DPS_HSM_OPERATION', message: 'no', operation: 'stage hub identity' });
    expect(ROADS.AwaitingStaging().fails(error).error).toBe(error);
    expect(ROADS.AwaitingCommit().fails(error).error).toBe(error);
  });
});

describe('a hub that refuses or fails', () => {
  it('tries a refused credential once more after 5 to 30 s, with a fresh order', () => {
    for (const [random, waitMs] of [
      [0, 5_000],
      [0.9999, 30_000],
    ] as const) {
      const driver = new Driver().register();
      driver.random = random;
      const before = driver.nowMs;
      driver.fails(refused()).wake();
      expect(driver.nowMs - before).toBeCloseTo(waitMs, -2);
      expect(driver.names().filter((name) => name === 'OpenHub')).toHaveLength(2);
      expect(driver.fails(refused()).error.code).toBe('ERR_DPS_CONNACK_UNAUTHORIZED');
    }
  });

  it('comes back to the same hub after a lost connection, as often as the deadline allows', () => {
    const driver = new Driver().register();
    while (driver.state !== 'Done') {
      if (driver.state === 'AwaitingHub') driver.fails(lost());
      else driver.wake();
    }
    expect(driver.error.code).toBe('ERR_DPS_CONNECTION_LOST');
    expect(driver.nowMs).toBeLessThanOrEqual(CONFIG.deadlineMs);
    expect(driver.names().filter((name) => name === 'OpenHub').length).toBeGreaterThan(5);
  });

  it('gives a silent hub up and tries again', () => {
    const driver = new Driver().register().wake();
    expect(driver.state).toBe('AwaitingHubRetry');
    expect(driver.wake().state).toBe('AwaitingHub');
  });

  it('waits 10 to 60 s, or what the hub asks, when the twin read is throttled', () => {
    const driver = new Driver().register();
    driver.fails(
      new ServiceError({
        code: 'ERR_DPS_SERVICE_THROTTLED',
        message: 'slow',
        service: 'hub',
        status: 429,
        retryAfterMs: 20_000,
      }),
    );
    expect(journeyWakeAtMs(driver.journey)).toBe(20_000);
  });

  it('reports at once what trying again cannot mend', () => {
    const untrusted = new TransportError({
      code: 'ERR_DPS_TLS_UNTRUSTED',
      message: 'ca',
      phase: 'tls',
      peer: 'hub',
      retryable: false,
    });
    expect(new Driver().register().fails(untrusted).error).toBe(untrusted);
  });
});
