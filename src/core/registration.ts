import {
  CancelledError,
  ClockError,
  ConfigurationError,
  DeadlineError,
  type DpsError,
  ProtocolError,
  type ServiceError,
  TransportError,
} from '../errors.js';
import type { AttestationKind } from './attestation.js';
import { isPlausibleWallMs, type Now } from './clock.js';
import { excerptOf } from './json-body.js';
import { encodeRegisterBody, interpretReply, interpretStatusLookup, type RegistrationResult } from './messages.js';
import type { ProgressEvent } from './progress.js';
import { backoffMs, newRequestBudget, pollDelayMs, type RequestBudget, takeRequest, throttleDelayMs } from './retry.js';
import { dpsResource } from './sas.js';
import type { DpsChallenge, DpsReply, DpsRequest } from './transport.js';
import type { JsonValue } from './twin.js';

/*
 * One DPS registration as a step machine: state x input -> state + effects. Nothing here waits, sends or reads a clock.
 *
 *                 Started
 *   Idle ───────────────────► AwaitingCredential ◄─────────────── token outlived / next slot / challenge activated
 *                                    │ CredentialReady                              ▲
 *                                    ▼                                              │
 *            ┌──────────────► AwaitingConnection                             AwaitingActivation
 *            │                       │ ConnectionOpened                             ▲
 *            │                       ▼                                              │ ChallengeReceived
 *            │    no operation id ──┬── operation id known                          │
 *            │   (AwaitingLookupReply before it, where wanted)                              │
 *            │   AwaitingRegisterReply ─────────────────────────────────────────────┘
 *            │            │ assigning            AwaitingStatusReply
 *            │            ▼                         │        ▲
 *            │    AwaitingPollTime ◄────────────────┘        │
 *            │            └──────────────── Woke ────────────┘
 *            │
 *            └── AwaitingRetryTime ◄── 409, 429, 5xx, lost or refused connection, no answer in time, request budget spent
 *
 *   Every reply that ends the matter, CancelRequested in any state and the deadline lead to Done.
 */

export interface RegistrationConfig {
  readonly idScope: string;
  readonly registrationId: string;
  readonly attestation: AttestationKind;
  /** Credentials to try in turn, see `Hsm.slots`. */
  readonly slots: number;
  /** Custom data for the allocation webhook. */
  readonly payload?: JsonValue;
  /** Marshalled public keys that a TPM sends with its request. */
  readonly tpm?: { readonly endorsementKey: Uint8Array; readonly storageRootKey: Uint8Array };
  /** For progress and messages only. */
  readonly transport: string;
  readonly endpoint: string;
  /** Bound on everything, from `Started` on, or from `deadlineFromMs`. */
  readonly deadlineMs: number;
  /** The monotonic time at which the deadline began to run, if that was before `Started`. */
  readonly deadlineFromMs?: number;
  /** Asks first what the service knows of the device, and registers only if that is no assignment. HTTPS only. */
  readonly lookUpFirst?: boolean;
  /** Bound on one connection attempt, including the broker's consent. */
  readonly connectTimeoutMs: number;
  /** Bound on one request. */
  readonly requestTimeoutMs: number;
  readonly tokenLifeSeconds: number;
}

/** What happened. `ticket` names the order that it answers; answers to abandoned orders are ignored. */
export type RegistrationInput =
  | { readonly type: 'Started' }
  | { readonly type: 'CredentialReady'; readonly ticket: number }
  | { readonly type: 'ConnectionOpened'; readonly ticket: number }
  | { readonly type: 'ReplyReceived'; readonly ticket: number; readonly reply: DpsReply | DpsChallenge }
  | { readonly type: 'ChallengeActivated'; readonly ticket: number }
  | { readonly type: 'OperationFailed'; readonly ticket: number; readonly error: DpsError }
  | { readonly type: 'Woke' }
  | { readonly type: 'CancelRequested'; readonly reason?: unknown };

/**
 * What to do. At most one ticketed order is under way: a new one, `CloseConnection` and `Finish` abandon the one before.
 * `PrepareCredential` without `token` means the TLS certificate, or a TPM's opening move.
 */
export type RegistrationEffect =
  | { readonly type: 'PrepareCredential'; readonly ticket: number; readonly slot: number; readonly token?: TokenOrder }
  | { readonly type: 'OpenConnection'; readonly ticket: number }
  | { readonly type: 'SendRequest'; readonly ticket: number; readonly request: DpsRequest }
  | { readonly type: 'ActivateChallenge'; readonly ticket: number; readonly authenticationKey: Uint8Array }
  | { readonly type: 'CloseConnection' }
  | { readonly type: 'ReportProgress'; readonly event: ProgressEvent }
  | { readonly type: 'Finish'; readonly outcome: RegistrationOutcome };

export interface TokenOrder {
  /** Percent-encoded, as it goes into `sr` and the signed text. */
  readonly resource: string;
  readonly expirySeconds: number;
}

export type RegistrationOutcome =
  | { readonly kind: 'assigned'; readonly result: RegistrationResult; readonly slot: number }
  | { readonly kind: 'failed'; readonly error: DpsError };

export type RegistrationState =
  | { readonly name: 'Idle' }
  | { readonly name: 'AwaitingCredential' }
  | { readonly name: 'AwaitingConnection'; readonly timeoutAtMs: number }
  | { readonly name: 'AwaitingLookupReply'; readonly timeoutAtMs: number }
  | { readonly name: 'AwaitingRegisterReply'; readonly timeoutAtMs: number }
  | { readonly name: 'AwaitingActivation' }
  | { readonly name: 'AwaitingPollTime'; readonly atMs: number }
  | { readonly name: 'AwaitingStatusReply'; readonly timeoutAtMs: number }
  | { readonly name: 'AwaitingRetryTime'; readonly atMs: number }
  | { readonly name: 'Done'; readonly outcome: RegistrationOutcome };

/** The machine between two steps: plain data, never changed in place. */
export interface Registration {
  readonly config: RegistrationConfig;
  readonly state: RegistrationState;
  readonly memory: RegistrationMemory;
}

/** What outlives a state. */
export interface RegistrationMemory {
  readonly deadlineAtMs: number;
  /** Number of the last ticketed order. */
  readonly ticket: number;
  readonly slot: number;
  readonly connected: boolean;
  /** Survives lost connections: polling goes on where it was. */
  readonly operationId: string | undefined;
  /** The lookup has been answered, or none is wanted. */
  readonly lookedUp: boolean;
  /** Monotonic time after which the credential in the host's hands must be made anew; undefined: none made yet. */
  readonly credentialUntilMs: number | undefined;
  /** The TPM holds the nonce key of this registration. */
  readonly activated: boolean;
  /** A connection was lost since, and over AMQP what its token answered: another challenge is due. */
  readonly challengeLost: boolean;
  readonly budget: RequestBudget;
  readonly connects: number;
  readonly registers: number;
  readonly polls: number;
  /** Failures in a row, for backoff. */
  readonly failures: number;
  /** CONNACK 3 in a row: the service's answer to a wrong ID scope looks like a passing outage. */
  readonly unavailables: number;
  /** How often the service had forgotten our operation. */
  readonly restarts: number;
  readonly lastError: DpsError | undefined;
}

export interface RegistrationStep {
  readonly registration: Registration;
  readonly effects: readonly RegistrationEffect[];
}

/** A token is made anew when less than this is left of it: a request must not arrive with a dead one. */
export const TOKEN_MARGIN_MS = 60_000;
/** CONNACK 3 this often in a row ends the registration: it is what a wrong ID scope looks like. */
export const MAX_UNAVAILABLE_CONNACKS = 3;
/** An operation forgotten this often by the service is not ours to save. */
export const MAX_RESTARTS = 3;

/** What a registration takes over from what its host did before: numbers of orders, and the requests it spent. */
export type RegistrationLegacy = Partial<Pick<RegistrationMemory, 'ticket' | 'budget'>>;

/** A registration that has not started yet. */
export function newRegistration(config: RegistrationConfig, legacy: RegistrationLegacy = {}): Registration {
  return {
    config,
    state: { name: 'Idle' },
    memory: {
      deadlineAtMs: Number.POSITIVE_INFINITY,
      ticket: legacy.ticket ?? 0,
      slot: 0,
      connected: false,
      operationId: undefined,
      lookedUp: config.lookUpFirst !== true,
      credentialUntilMs: undefined,
      activated: false,
      challengeLost: false,
      budget: legacy.budget ?? newRequestBudget(Number.NEGATIVE_INFINITY),
      connects: 0,
      registers: 0,
      polls: 0,
      failures: 0,
      unavailables: 0,
      restarts: 0,
      lastError: undefined,
    },
  };
}

/** The monotonic time at which the machine wants to be woken; undefined when it waits for nothing. Too early does no harm. */
export function registrationWakeAtMs({ state, memory }: Registration): number | undefined {
  switch (state.name) {
    case 'Idle':
    case 'Done':
      return undefined;
    case 'AwaitingCredential':
    case 'AwaitingActivation':
      return memory.deadlineAtMs;
    case 'AwaitingConnection':
    case 'AwaitingLookupReply':
    case 'AwaitingRegisterReply':
    case 'AwaitingStatusReply':
      return Math.min(state.timeoutAtMs, memory.deadlineAtMs);
    case 'AwaitingPollTime':
    case 'AwaitingRetryTime':
      return Math.min(state.atMs, memory.deadlineAtMs);
    default:
      return unreachable(state);
  }
}

/** Takes one input and says what comes next. Inputs that do not fit the state are ignored. */
export function stepRegistration(registration: Registration, input: RegistrationInput, now: Now): RegistrationStep {
  if (registration.state.name === 'Done') return { registration, effects: [] };
  switch (input.type) {
    case 'Started':
      return registration.state.name === 'Idle' ? start(registration, now) : stay(registration);
    case 'CancelRequested':
      return finish(registration, {
        kind: 'failed',
        error: new CancelledError({ state: registration.state.name, cause: input.reason }),
      });
    case 'Woke':
      return wake(registration, now);
    case 'CredentialReady':
      return awaits(registration, input.ticket, 'AwaitingCredential')
        ? openConnection(registration, now)
        : stay(registration);
    case 'ConnectionOpened':
      return awaits(registration, input.ticket, 'AwaitingConnection')
        ? connected(registration, now)
        : stay(registration);
    case 'ReplyReceived':
      return awaits(registration, input.ticket, 'AwaitingLookupReply', 'AwaitingRegisterReply', 'AwaitingStatusReply')
        ? answered(registration, input.reply, now)
        : stay(registration);
    case 'ChallengeActivated':
      return awaits(registration, input.ticket, 'AwaitingActivation')
        ? // The connection is not closed: where the challenge is bound to it, the token goes there.
          prepareCredential(remember(registration, { activated: true, challengeLost: false, connected: false }), now)
        : stay(registration);
    case 'OperationFailed':
      return awaitsAnOperation(registration, input.ticket)
        ? failed(registration, input.error, now)
        : stay(registration);
    default:
      return unreachable(input);
  }
}

// ── the way in ──────────────────────────────────────────────────────────────────────────────────────────────────────

function start(registration: Registration, now: Now): RegistrationStep {
  const { config } = registration;
  const begun = remember(registration, {
    deadlineAtMs: (config.deadlineFromMs ?? now.monotonicMs) + config.deadlineMs,
  });
  const event: ProgressEvent = {
    type: 'started',
    idScope: config.idScope,
    registrationId: config.registrationId,
    attestation: config.attestation,
    transport: config.transport,
  };
  return withEffects([report(event)], prepareCredential(begun, now));
}

function prepareCredential(registration: Registration, now: Now): RegistrationStep {
  const { config, memory } = registration;
  const needsToken = config.attestation === 'symmetricKey' || memory.activated;
  if (needsToken && !isPlausibleWallMs(now.wallMs)) return fail(registration, implausibleClock(now.wallMs));

  const ticket = memory.ticket + 1;
  const next = remember(registration, {
    ticket,
    connected: false,
    credentialUntilMs: needsToken
      ? now.monotonicMs + config.tokenLifeSeconds * 1000 - Math.min(TOKEN_MARGIN_MS, config.tokenLifeSeconds * 500)
      : Number.POSITIVE_INFINITY,
  });
  const token: TokenOrder = {
    resource: dpsResource(config.idScope, config.registrationId),
    expirySeconds: Math.floor(now.wallMs / 1000) + config.tokenLifeSeconds,
  };
  return {
    registration: { ...next, state: { name: 'AwaitingCredential' } },
    effects: [
      ...closeIfConnected(registration),
      { type: 'PrepareCredential', ticket, slot: memory.slot, ...(needsToken ? { token } : {}) },
    ],
  };
}

function openConnection(registration: Registration, now: Now): RegistrationStep {
  const { config, memory } = registration;
  const ticket = memory.ticket + 1;
  const connects = memory.connects + 1;
  return {
    registration: {
      ...remember(registration, { ticket, connects }),
      state: { name: 'AwaitingConnection', timeoutAtMs: now.monotonicMs + config.connectTimeoutMs },
    },
    effects: [
      report({ type: 'connecting', to: 'dps', peer: config.endpoint, attempt: connects }),
      { type: 'OpenConnection', ticket },
    ],
  };
}

function connected(registration: Registration, now: Now): RegistrationStep {
  const next = remember(registration, { connected: true, unavailables: 0 });
  return withEffects(
    [report({ type: 'connected', to: 'dps', peer: registration.config.endpoint })],
    proceed(next, now),
  );
}

/** Does the next thing that is due: a credential, a connection, or the request that is open. */
function proceed(registration: Registration, now: Now): RegistrationStep {
  const { memory } = registration;
  const credentialIsGood = memory.credentialUntilMs !== undefined && now.monotonicMs < memory.credentialUntilMs;
  if (!credentialIsGood) return prepareCredential(registration, now);
  if (!memory.connected) return openConnection(registration, now);

  const grant = takeRequest(memory.budget, now.monotonicMs);
  const paid = remember(registration, { budget: grant.budget });
  if (grant.waitMs > 0) {
    return withEffects([report({ type: 'waiting', forMs: grant.waitMs, reason: 'budget' })], {
      registration: { ...paid, state: { name: 'AwaitingRetryTime', atMs: now.monotonicMs + grant.waitMs } },
      effects: [],
    });
  }
  if (memory.operationId !== undefined) return sendStatus(paid, memory.operationId, now);
  return memory.lookedUp ? sendRegister(paid, now) : sendLookup(paid, now);
}

function sendLookup(registration: Registration, now: Now): RegistrationStep {
  const { config, memory } = registration;
  const ticket = memory.ticket + 1;
  const body = encodeRegisterBody({ registrationId: config.registrationId });
  return {
    registration: {
      ...remember(registration, { ticket }),
      state: { name: 'AwaitingLookupReply', timeoutAtMs: now.monotonicMs + config.requestTimeoutMs },
    },
    effects: [report({ type: 'looking-up' }), { type: 'SendRequest', ticket, request: { kind: 'statusLookup', body } }],
  };
}

function sendRegister(registration: Registration, now: Now): RegistrationStep {
  const { config, memory } = registration;
  const ticket = memory.ticket + 1;
  const registers = memory.registers + 1;
  const body = encodeRegisterBody({
    registrationId: config.registrationId,
    ...(config.payload === undefined ? {} : { payload: config.payload }),
    ...(config.tpm === undefined ? {} : { tpm: config.tpm }),
  });
  return {
    registration: {
      ...remember(registration, { ticket, registers }),
      state: { name: 'AwaitingRegisterReply', timeoutAtMs: now.monotonicMs + config.requestTimeoutMs },
    },
    effects: [
      report({ type: 'registering', attempt: registers }),
      { type: 'SendRequest', ticket, request: { kind: 'register', body } },
    ],
  };
}

function sendStatus(registration: Registration, operationId: string, now: Now): RegistrationStep {
  const { config, memory } = registration;
  const ticket = memory.ticket + 1;
  const polls = memory.polls + 1;
  return {
    registration: {
      ...remember(registration, { ticket, polls }),
      state: { name: 'AwaitingStatusReply', timeoutAtMs: now.monotonicMs + config.requestTimeoutMs },
    },
    effects: [
      report({ type: 'polling', operationId, attempt: polls }),
      { type: 'SendRequest', ticket, request: { kind: 'operationStatus', operationId } },
    ],
  };
}

// ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function answered(registration: Registration, reply: DpsReply | DpsChallenge, now: Now): RegistrationStep {
  if (reply.kind === 'challenge') return challenged(registration, reply);
  if (registration.state.name === 'AwaitingLookupReply') return lookedUp(registration, reply, now);
  const request = registration.state.name === 'AwaitingRegisterReply' ? 'register' : 'operationStatus';
  const meaning = interpretReply(reply, request, now.wallMs);
  switch (meaning.kind) {
    case 'assigning':
      return awaitPollTime(registration, meaning.operationId, pollDelayMs(meaning.retryAfterMs), now);
    case 'assigned':
      return assigned(registration, meaning.result);
    case 'rejected':
    case 'unexpected':
      return fail(registration, meaning.error);
    case 'serviceError':
      return refused(registration, meaning.error, request, now);
    default:
      return unreachable(meaning);
  }
}

/** Whatever the lookup does not find, registering finds out. */
function lookedUp(registration: Registration, reply: DpsReply, now: Now): RegistrationStep {
  const meaning = interpretStatusLookup(reply, now.wallMs);
  if (meaning.kind === 'found') return assigned(registration, meaning.result);
  const next = remember(registration, { lookedUp: true });
  if (meaning.kind !== 'serviceError') return proceed(next, now);
  const { error } = meaning;
  const isAboutMore = error.retryable || error.status === 401 || error.status === 403;
  return isAboutMore ? refused(next, error, 'lookup', now) : proceed(next, now);
}

function challenged(registration: Registration, challenge: DpsChallenge): RegistrationStep {
  const { config, memory, state } = registration;
  const isFirst = !memory.activated && state.name === 'AwaitingRegisterReply';
  const isAnother = memory.activated && memory.challengeLost && state.name !== 'AwaitingLookupReply';
  if (config.attestation !== 'tpm' || !(isFirst || isAnother)) {
    return fail(
      registration,
      new ProtocolError({
        code: 'ERR_DPS_PROTOCOL_STATUS',
        message:
          'The service sent a TPM challenge where none was due. Check that the enrollment and the device use the same attestation.',
        expected: 'a reply to the request',
        got: 'a TPM challenge',
      }),
    );
  }
  const ticket = memory.ticket + 1;
  return {
    registration: { ...remember(registration, { ticket }), state: { name: 'AwaitingActivation' } },
    effects: [
      report({ type: 'challenged' }),
      { type: 'ActivateChallenge', ticket, authenticationKey: challenge.authenticationKey },
    ],
  };
}

function awaitPollTime(
  registration: Registration,
  operationId: string | undefined,
  delayMs: number,
  now: Now,
): RegistrationStep {
  const known = operationId ?? registration.memory.operationId;
  const next = remember(registration, { operationId: known, failures: 0, lastError: undefined });
  const atMs = now.monotonicMs + delayMs;
  // Idling up to a deadline that the service has already declared out of reach helps nobody.
  if (atMs >= next.memory.deadlineAtMs) return overDeadline(next, delayMs);
  return {
    registration: { ...next, state: { name: 'AwaitingPollTime', atMs } },
    effects: [
      ...(known === undefined ? [] : [report({ type: 'assigning', operationId: known })]),
      report({ type: 'waiting', forMs: delayMs, reason: 'poll' }),
    ],
  };
}

function assigned(registration: Registration, result: RegistrationResult): RegistrationStep {
  const profile = result.connectionProfile;
  if (profile !== undefined && profile !== 'classic') {
    return fail(
      registration,
      new ConfigurationError({
        code: 'ERR_DPS_CONFIG_UNSUPPORTED',
        message: `The assigned hub asks for connection profile "${excerptOf(profile, 40)}"; this version speaks to classic hubs (MQTT 3.1.1) only. Update the package, or allocate the device to a classic hub.`,
        option: 'connectionProfile',
      }),
    );
  }
  const { assignedHub, deviceId, substatus } = result;
  return withEffects(
    [report({ type: 'assigned', assignedHub, deviceId, ...(substatus === undefined ? {} : { substatus }) })],
    finish(registration, { kind: 'assigned', result, slot: registration.memory.slot }),
  );
}

/** The service answered with an error status. */
function refused(
  registration: Registration,
  error: ServiceError,
  request: 'lookup' | 'register' | 'operationStatus',
  now: Now,
): RegistrationStep {
  if (error.status === 401 || error.status === 403) return credentialRefused(registration, error, now);
  if (error.status === 404 && request === 'operationStatus') return operationForgotten(registration, error, now);
  if (!error.retryable) return fail(registration, error);
  const failures = registration.memory.failures + 1;
  const delayMs = throttleDelayMs(error.retryAfterMs, failures, now.random);
  const reason = error.status === 429 ? 'throttled' : 'unavailable';
  return retryAfter(remember(registration, { failures }), error, delayMs, reason, now);
}

function credentialRefused(registration: Registration, error: DpsError, now: Now): RegistrationStep {
  const { config, memory } = registration;
  if (memory.slot + 1 >= config.slots) return fail(registration, error);
  const slot = memory.slot + 1;
  const next = remember(registration, { slot, operationId: undefined, credentialUntilMs: undefined, lastError: error });
  return withEffects([report({ type: 'next-credential', slot })], prepareCredential(next, now));
}

function operationForgotten(registration: Registration, error: DpsError, now: Now): RegistrationStep {
  const restarts = registration.memory.restarts + 1;
  if (restarts >= MAX_RESTARTS) return fail(registration, error);
  const failures = registration.memory.failures + 1;
  const next = remember(registration, { restarts, failures, operationId: undefined });
  return retryAfter(next, error, backoffMs(failures, now.random), 'refused', now);
}

// ── failures ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** An order could not be carried out. */
function failed(registration: Registration, error: DpsError, now: Now): RegistrationStep {
  if (error.code === 'ERR_DPS_CONNACK_UNAUTHORIZED') return credentialRefused(registration, error, now);
  if (!error.retryable || error.code === 'ERR_DPS_CLOCK_IMPLAUSIBLE') return fail(registration, error);

  const unavailables = registration.memory.unavailables + (error.code === 'ERR_DPS_CONNACK_UNAVAILABLE' ? 1 : 0);
  if (unavailables >= MAX_UNAVAILABLE_CONNACKS) return fail(registration, error);
  const failures = registration.memory.failures + 1;
  const next = remember(registration, {
    failures,
    unavailables,
    // The host has none: the next attempt begins with making it.
    ...(registration.state.name === 'AwaitingCredential' ? { credentialUntilMs: undefined } : {}),
  });
  return retryAfter(dropConnection(next), error, backoffMs(failures, now.random), 'network', now);
}

/** Waits, then goes on; or ends with `error` itself when the wait would outlive the deadline. */
function retryAfter(
  registration: Registration,
  error: DpsError,
  delayMs: number,
  reason: 'throttled' | 'unavailable' | 'network' | 'refused',
  now: Now,
): RegistrationStep {
  const atMs = now.monotonicMs + delayMs;
  if (atMs >= registration.memory.deadlineAtMs) return fail(registration, error);
  const dropped = !registration.memory.connected;
  return {
    registration: {
      ...remember(registration, { lastError: error }),
      state: { name: 'AwaitingRetryTime', atMs },
    },
    effects: [
      ...(dropped ? [{ type: 'CloseConnection' } as const] : []),
      report({ type: 'waiting', forMs: delayMs, reason, detail: error.code }),
    ],
  };
}

function wake(registration: Registration, now: Now): RegistrationStep {
  const { state, memory, config } = registration;
  if (state.name !== 'Idle' && now.monotonicMs >= memory.deadlineAtMs) return overDeadline(registration);
  switch (state.name) {
    case 'AwaitingPollTime':
    case 'AwaitingRetryTime':
      return now.monotonicMs >= state.atMs ? proceed(registration, now) : stay(registration);
    case 'AwaitingConnection':
      return now.monotonicMs >= state.timeoutAtMs
        ? failed(registration, silence(config.endpoint, 'connect', config.connectTimeoutMs), now)
        : stay(registration);
    case 'AwaitingLookupReply':
    case 'AwaitingRegisterReply':
    case 'AwaitingStatusReply':
      return now.monotonicMs >= state.timeoutAtMs
        ? failed(registration, silence(config.endpoint, 'request', config.requestTimeoutMs), now)
        : stay(registration);
    case 'Idle':
    case 'AwaitingCredential':
    case 'AwaitingActivation':
    case 'Done':
      return stay(registration);
    default:
      return unreachable(state);
  }
}

function overDeadline(registration: Registration, askedWaitMs?: number): RegistrationStep {
  const { config, memory, state } = registration;
  return fail(
    registration,
    new DeadlineError({
      state: state.name,
      deadlineMs: config.deadlineMs,
      cause: memory.lastError,
      ...(askedWaitMs === undefined ? {} : { askedWaitMs }),
    }),
  );
}

function silence(peer: string, phase: 'connect' | 'request', afterMs: number): TransportError {
  return new TransportError({
    code: phase === 'connect' ? 'ERR_DPS_CONNECT_TIMEOUT' : 'ERR_DPS_REQUEST_TIMEOUT',
    message: `${peer} did not answer the ${phase === 'connect' ? 'connection attempt' : 'request'} within ${afterMs} ms. Check the network path, a firewall or proxy that swallows traffic, and the service's health.`,
    phase,
    peer,
    retryable: true,
  });
}

function implausibleClock(wallMs: number): ClockError {
  return new ClockError({
    code: 'ERR_DPS_CLOCK_IMPLAUSIBLE',
    message: `The device's clock says ${formatWallMs(wallMs)}, which cannot be right; a token dated by it would be refused. Set the clock (NTP, RTC) before provisioning.`,
  });
}

function formatWallMs(wallMs: number): string {
  return Math.abs(wallMs) <= 8.64e15 ? new Date(wallMs).toISOString() : String(wallMs);
}

// ── small steps that the others share ───────────────────────────────────────────────────────────────────────────────

function stay(registration: Registration): RegistrationStep {
  return { registration, effects: [] };
}

function fail(registration: Registration, error: DpsError): RegistrationStep {
  return finish(registration, { kind: 'failed', error });
}

function finish(registration: Registration, outcome: RegistrationOutcome): RegistrationStep {
  return {
    registration: { ...remember(registration, { connected: false }), state: { name: 'Done', outcome } },
    // Also without a connection: whatever is under way must be abandoned.
    effects: [{ type: 'CloseConnection' }, { type: 'Finish', outcome }],
  };
}

function remember(registration: Registration, change: Partial<RegistrationMemory>): Registration {
  return { ...registration, memory: { ...registration.memory, ...change } };
}

function dropConnection(registration: Registration): Registration {
  return remember(registration, { connected: false, challengeLost: true });
}

function closeIfConnected(registration: Registration): readonly RegistrationEffect[] {
  return registration.memory.connected ? [{ type: 'CloseConnection' }] : [];
}

function awaits(registration: Registration, ticket: number, ...names: readonly RegistrationState['name'][]): boolean {
  return ticket === registration.memory.ticket && names.includes(registration.state.name);
}

function awaitsAnOperation(registration: Registration, ticket: number): boolean {
  return awaits(
    registration,
    ticket,
    'AwaitingCredential',
    'AwaitingConnection',
    'AwaitingLookupReply',
    'AwaitingRegisterReply',
    'AwaitingActivation',
    'AwaitingStatusReply',
  );
}

function withEffects(first: readonly RegistrationEffect[], step: RegistrationStep): RegistrationStep {
  return { registration: step.registration, effects: [...first, ...step.effects] };
}

function report(event: ProgressEvent): RegistrationEffect {
  return { type: 'ReportProgress', event };
}

function unreachable(value: never): never {
  throw new TypeError(`Unreachable: ${JSON.stringify(value)}`);
}
