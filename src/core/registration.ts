import { CancelledError, TransportError } from '../errors.js';
import type { Now } from './clock.js';
import type { ProgressEvent } from './progress.js';
import { answered, failed } from './registration-answers.js';
import { connected, openConnection, prepareCredential, proceed } from './registration-orders.js';
import type { Registration, RegistrationInput, RegistrationState, RegistrationStep } from './registration-state.js';
import { finish, overDeadline, remember, report, stay, withEffects } from './registration-steps.js';
import { toldState } from './state-words.js';
import { unreachable } from './unreachable.js';

export * from './registration-state.js';

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
 *            │   (AwaitingLookupReply before it, where wanted)                      │
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

/** Takes one input and says what comes next. Inputs that do not fit the state are ignored. */
export function stepRegistration(registration: Registration, input: RegistrationInput, now: Now): RegistrationStep {
  if (registration.state.name === 'Done') return { registration, effects: [] };
  switch (input.type) {
    case 'Started':
      return registration.state.name === 'Idle' ? start(registration, now) : stay(registration);
    case 'CancelRequested':
      return finish(registration, {
        kind: 'failed',
        error: new CancelledError({
          ...toldState(registration.state),
          after: registration.memory.lastError,
          cause: input.reason,
        }),
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

function silence(peer: string, phase: 'connect' | 'request', afterMs: number): TransportError {
  return new TransportError({
    code: phase === 'connect' ? 'ERR_DPS_CONNECT_TIMEOUT' : 'ERR_DPS_REQUEST_TIMEOUT',
    message: `${peer} did not answer the ${phase === 'connect' ? 'connection attempt' : 'request'} within ${afterMs} ms. Check the network path, a firewall or proxy that swallows traffic, and the service's health.`,
    phase,
    peer,
    retryable: true,
  });
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
