import type { DpsError } from '../errors.js';
import type { AttestationKind } from './attestation.js';
import type { RegistrationResult } from './messages.js';
import type { ProgressEvent } from './progress.js';
import { newRequestBudget, type RequestBudget } from './retry.js';
import type { DpsChallenge, DpsReply, DpsRequest } from './transport.js';
import type { JsonValue } from './twin.js';
import { unreachable } from './unreachable.js';

/**
 * The registration machine's words: what it is told, what it orders, where it can be. `registration.ts` says what follows
 * from what.
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
