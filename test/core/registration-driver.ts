import { encodeUtf8 } from '../../src/core/bytes.js';
import type { Now } from '../../src/core/clock.js';
import {
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
import { type DpsError, TransportError } from '../../src/errors.js';

export const WALL_MS: number = Date.UTC(2026, 10, 21);

export const CONFIG: RegistrationConfig = {
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
export class Driver {
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

export const ASSIGNING = { operationId: '5.71cf7e385566aa10.4469ed4c', status: 'assigning' };
export const ASSIGNED = {
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
export const lost = (): TransportError =>
  new TransportError({
    code: 'ERR_DPS_CONNECTION_LOST',
    message: 'gone',
    phase: 'request',
    peer: 'x:1',
    retryable: true,
  });

/** How to get into each state that is not the end. */
export const ROADS: Record<Exclude<RegistrationState['name'], 'Done'>, () => Driver> = {
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
