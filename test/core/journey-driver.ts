import { encodeUtf8 } from '../../src/core/bytes.js';
import type { Now } from '../../src/core/clock.js';
import {
  type Journey,
  type JourneyConfig,
  type JourneyEffect,
  type JourneyInput,
  type JourneyOutcome,
  type JourneyState,
  journeyWakeAtMs,
  newJourney,
  stepJourney,
} from '../../src/core/journey.js';
import type { ProgressEvent } from '../../src/core/progress.js';
import type { DeviceRecord } from '../../src/core/record.js';
import type { LoadedRecord } from '../../src/core/store.js';
import type { DpsRequest } from '../../src/core/transport.js';
import type { Twin } from '../../src/core/twin.js';
import { type DpsError, type DpsErrorCode, ServiceError, StoreError, TransportError } from '../../src/errors.js';
import { CONFIG as REGISTRATION_CONFIG, WALL_MS } from './registration-driver.js';

export const CONFIG: JourneyConfig = { ...REGISTRATION_CONFIG, hubTimeoutMs: 120_000 };
export const TWIN: Twin = {
  desired: { version: 4, properties: { led: true } },
  reported: { version: 9, properties: {} },
};

export const assignedTo = (assignedHub: string, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  operationId: 'o',
  status: 'assigned',
  registrationState: { registrationId: 'dev-1', assignedHub, deviceId: 'dev-1', status: 'assigned', ...more },
});
export const ASSIGNED: Record<string, unknown> = assignedTo('hub.example');
export const TPM_ASSIGNED: Record<string, unknown> = assignedTo('hub.example', { tpm: { authenticationKey: 'AAEC' } });

/** What a device has stored that was at `hub.example`. */
export const RECORD: DeviceRecord = {
  binding: { endpoint: 'dps.example', idScope: '0ne00111111', registrationId: 'dev-1', attestation: 'symmetricKey' },
  assignment: { registrationId: 'dev-1', assignedHub: 'hub.example', deviceId: 'dev-1', status: 'assigned', raw: {} },
  slot: 0,
  dpsTransport: 'mqtt',
  hubTransport: 'mqtt',
  twin: TWIN,
  acceptedAtWallMs: WALL_MS,
};
export const found = (record: DeviceRecord = RECORD): LoadedRecord => ({ kind: 'record', record });

/** Drives one machine as a host would, with hands on the clock. */
export class JourneyDriver {
  journey: Journey;
  nowMs = 0;
  wallMs: number = WALL_MS;
  random = 0;
  readonly effects: JourneyEffect[] = [];

  constructor(config: Partial<JourneyConfig> = {}) {
    this.journey = newJourney({ ...CONFIG, ...config });
  }

  feed(input: JourneyInput): this {
    const now: Now = { monotonicMs: this.nowMs, wallMs: this.wallMs, random: this.random };
    const step = stepJourney(this.journey, input, now);
    this.journey = step.journey;
    this.effects.push(...step.effects);
    return this;
  }

  get ticket(): number {
    return this.journey.memory.ticket;
  }

  get state(): JourneyState['name'] {
    return this.journey.state.name;
  }

  start = (): this => this.feed({ type: 'Started' });
  load = (loaded: LoadedRecord): this => this.start().feed({ type: 'RecordLoaded', ticket: this.ticket, loaded });
  fails = (error: DpsError): this => this.feed({ type: 'OperationFailed', ticket: this.ticket, error });
  hubReached = (twin: Twin = TWIN): this => this.feed({ type: 'HubReached', ticket: this.ticket, twin });
  staged = (): this => this.feed({ type: 'IdentityStaged', ticket: this.ticket });
  committed = (): this => this.feed({ type: 'IdentityCommitted', ticket: this.ticket });
  saved = (): this => this.feed({ type: 'RecordSaved', ticket: this.ticket });
  lost = (error: DpsError = lost()): this => this.feed({ type: 'HubLost', error });
  reprovision = (): this => this.feed({ type: 'ReprovisionRequested', by: 'operator' });
  cancel = (): this => this.feed({ type: 'CancelRequested', reason: 'because' });

  /** Answers what DPS was asked last, from the credential on if need be. */
  answer(body: unknown = ASSIGNED, status = 200): this {
    this.feed({ type: 'CredentialReady', ticket: this.ticket });
    this.feed({ type: 'ConnectionOpened', ticket: this.ticket });
    const reply = { kind: 'reply', status, body: encodeUtf8(JSON.stringify(body)) } as const;
    return this.feed({ type: 'ReplyReceived', ticket: this.ticket, reply });
  }

  register = (body: unknown = ASSIGNED): this => this.start().answer(body);

  /** Lets so much time pass. */
  pass(ms: number): this {
    this.nowMs += ms;
    return this;
  }

  /** Lets time pass to the moment that the machine asked for. */
  wake(): this {
    const atMs = journeyWakeAtMs(this.journey);
    if (atMs === undefined || atMs === Number.POSITIVE_INFINITY) throw new Error(`${this.state} waits for nothing`);
    this.nowMs = Math.max(this.nowMs, atMs);
    return this.feed({ type: 'Woke' });
  }

  /** Does something again and again until the machine is there; one that never gets there fails the test. */
  until(state: JourneyState['name'], act: () => unknown): this {
    for (let count = 0; this.state !== state; count += 1) {
      if (count >= 1_000) throw new Error(`1,000 steps do not lead to ${state}, but to ${this.state}`);
      act();
    }
    return this;
  }

  /** Fails at the hub again and again until something else than the hub is tried; says how often. */
  failUntilElsewhere(error: DpsError): number {
    let count = 0;
    for (let steps = 0; count <= 1_000 && steps < 3_000; steps += 1) {
      if (this.state === 'AwaitingHubRetry') this.wake();
      else if (this.state === 'AwaitingHub') {
        this.fails(error);
        count += 1;
      } else break;
    }
    return count;
  }

  names = (): string[] => this.effects.map((effect) => effect.type).filter((type) => type !== 'ReportProgress');
  count = (type: JourneyEffect['type']): number => this.effects.filter((effect) => effect.type === type).length;
  hubs = (): string[] => this.effects.flatMap((effect) => (effect.type === 'OpenHub' ? [effect.assignedHub] : []));
  saves = (): DeviceRecord[] => this.effects.flatMap((effect) => (effect.type === 'SaveRecord' ? [effect.record] : []));
  requests = (): DpsRequest['kind'][] =>
    this.effects.flatMap((effect) => (effect.type === 'SendRequest' ? [effect.request.kind] : []));
  events = (): ProgressEvent[] =>
    this.effects.flatMap((effect) => (effect.type === 'ReportProgress' ? [effect.event] : []));
  records = (): string[] => this.events().flatMap((event) => (event.type === 'record' ? [event.outcome] : []));

  get outcome(): JourneyOutcome | undefined {
    return this.journey.state.name === 'Done' ? this.journey.state.outcome : undefined;
  }

  get error(): DpsError {
    const { outcome } = this;
    if (outcome?.kind !== 'failed') throw new Error(`not failed but ${this.state}`);
    return outcome.error;
  }
}

export function transportError(code: DpsErrorCode, retryable: boolean): TransportError {
  return new TransportError({ code, message: code, phase: 'connect', peer: 'hub', retryable });
}

export const refused = (): TransportError => transportError('ERR_DPS_CONNACK_UNAUTHORIZED', false);
export const lost = (): TransportError => transportError('ERR_DPS_CONNECTION_LOST', true);
export const untrusted = (): TransportError => transportError('ERR_DPS_TLS_UNTRUSTED', false);

export function hubStatus(status: number, more: { errorCode?: number; retryAfterMs?: number } = {}): ServiceError {
  return new ServiceError({ code: 'ERR_DPS_SERVICE_REFUSED', message: 'no', service: 'hub', status, ...more });
}

export const diskFull = (): StoreError =>
  new StoreError({ code: 'ERR_DPS_STORE_FULL', message: 'no room', operation: 'write', path: 'disk' });
