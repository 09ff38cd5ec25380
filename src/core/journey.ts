import { CancelledError, DeadlineError, type DpsError, ServiceError, TransportError } from '../errors.js';
import type { Now } from './clock.js';
import type { RegistrationResult } from './messages.js';
import type { ProgressEvent } from './progress.js';
import {
  newRegistration,
  type Registration,
  type RegistrationConfig,
  type RegistrationEffect,
  type RegistrationInput,
  registrationWakeAtMs,
  stepRegistration,
} from './registration.js';
import { backoffMs, capRetryAfterMs } from './retry.js';
import type { Twin } from './twin.js';

/*
 * The way from nothing to the initial twin, around one registration, in the same vocabulary: its effects are performed
 * by the same loop, its inputs are those of the registration plus what happens at the hub.
 *
 *   Registering ── assigned ──► AwaitingHub ── HubReached ──► Done
 *        │                        │     ▲
 *        │  (TPM: AwaitingStaging │     │ Woke
 *        │   before, Awaiting-    ▼     │
 *        │   Commit after)   AwaitingHubRetry        refused once, lost, unavailable, throttled
 *        ▼
 *       Done
 */

export interface JourneyConfig extends RegistrationConfig {
  /** Bound on one attempt to reach the hub and read the twin. */
  readonly hubTimeoutMs: number;
}

export type JourneyInput =
  | RegistrationInput
  | { readonly type: 'IdentityStaged'; readonly ticket: number }
  | { readonly type: 'HubReached'; readonly ticket: number; readonly twin: Twin }
  | { readonly type: 'IdentityCommitted'; readonly ticket: number };

export type JourneyEffect =
  | Exclude<RegistrationEffect, { readonly type: 'Finish' }>
  /** TPM: takes the hub key in beside the identity in use. */
  | { readonly type: 'StageIdentity'; readonly ticket: number; readonly authenticationKey: string }
  /** Connects with a fresh credential, subscribes, reads the twin; the answer is `HubReached`. */
  | {
      readonly type: 'OpenHub';
      readonly ticket: number;
      readonly assignedHub: string;
      readonly deviceId: string;
      readonly slot: number;
    }
  | { readonly type: 'CommitIdentity'; readonly ticket: number }
  /** Takes a staged identity back; nothing waits for it. */
  | { readonly type: 'DiscardIdentity' }
  | { readonly type: 'CloseHub' }
  | { readonly type: 'FinishJourney'; readonly outcome: JourneyOutcome };

export type JourneyOutcome =
  | { readonly kind: 'provisioned'; readonly result: RegistrationResult; readonly slot: number; readonly twin: Twin }
  | { readonly kind: 'failed'; readonly error: DpsError };

interface Assignment {
  readonly result: RegistrationResult;
  readonly slot: number;
}

export type JourneyState =
  | { readonly name: 'Registering'; readonly registration: Registration }
  | { readonly name: 'AwaitingStaging'; readonly assignment: Assignment }
  | { readonly name: 'AwaitingHub'; readonly assignment: Assignment; readonly timeoutAtMs: number }
  | { readonly name: 'AwaitingHubRetry'; readonly assignment: Assignment; readonly atMs: number }
  | { readonly name: 'AwaitingCommit'; readonly assignment: Assignment; readonly twin: Twin }
  | { readonly name: 'Done'; readonly outcome: JourneyOutcome };

export interface Journey {
  readonly config: JourneyConfig;
  readonly state: JourneyState;
  readonly memory: JourneyMemory;
}

interface JourneyMemory {
  readonly deadlineAtMs: number;
  readonly ticket: number;
  /** Staging was ordered and not committed yet: also one that failed or was cut short may have left something behind. */
  readonly staged: boolean;
  readonly hubAttempts: number;
  readonly hubRefusals: number;
  readonly lastError: DpsError | undefined;
}

export interface JourneyStep {
  readonly journey: Journey;
  readonly effects: readonly JourneyEffect[];
}

/** A refused credential is tried once more after 5 to 30 s: a busy hub, or one that has not heard of the device yet, refuses too. */
export const HUB_REFUSAL_RETRIES = 1;
export const HUB_REFUSAL_DELAY_MS: readonly [number, number] = [5_000, 30_000];
/** A throttled twin read waits 10 to 60 s. */
export const HUB_THROTTLE_DELAY_MS: readonly [number, number] = [10_000, 60_000];

/** A journey that has not started yet. */
export function newJourney(config: JourneyConfig): Journey {
  return {
    config,
    state: { name: 'Registering', registration: newRegistration(config) },
    memory: {
      deadlineAtMs: Number.POSITIVE_INFINITY,
      ticket: 0,
      staged: false,
      hubAttempts: 0,
      hubRefusals: 0,
      lastError: undefined,
    },
  };
}

/** The monotonic time at which the machine wants to be woken; undefined when it waits for nothing. */
export function journeyWakeAtMs({ state, memory }: Journey): number | undefined {
  switch (state.name) {
    case 'Registering':
      return registrationWakeAtMs(state.registration);
    case 'AwaitingStaging':
    case 'AwaitingCommit':
      return memory.deadlineAtMs;
    case 'AwaitingHub':
      return Math.min(state.timeoutAtMs, memory.deadlineAtMs);
    case 'AwaitingHubRetry':
      return Math.min(state.atMs, memory.deadlineAtMs);
    case 'Done':
      return undefined;
    default:
      return unreachable(state);
  }
}

/** Takes one input and says what comes next. Inputs that do not fit the state are ignored. */
export function stepJourney(journey: Journey, input: JourneyInput, now: Now): JourneyStep {
  const { state } = journey;
  if (state.name === 'Done') return stay(journey);
  if (state.name === 'Registering') return register(journey, state.registration, input, now);
  if (input.type === 'CancelRequested')
    return fail(journey, new CancelledError({ state: state.name, cause: input.reason }));
  if (input.type === 'Woke') return wake(journey, now);
  if (!('ticket' in input) || input.ticket !== journey.memory.ticket) return stay(journey);

  switch (state.name) {
    case 'AwaitingStaging':
      if (input.type === 'IdentityStaged') return openHub(journey, state.assignment, now);
      return input.type === 'OperationFailed' ? fail(journey, input.error) : stay(journey);
    case 'AwaitingHub':
      if (input.type === 'HubReached') return hubReached(journey, state.assignment, input.twin);
      return input.type === 'OperationFailed' ? hubFailed(journey, state.assignment, input.error, now) : stay(journey);
    case 'AwaitingCommit':
      if (input.type === 'IdentityCommitted')
        return provisioned(remember(journey, { staged: false }), state.assignment, state.twin);
      return input.type === 'OperationFailed' ? fail(journey, input.error) : stay(journey);
    case 'AwaitingHubRetry':
      return stay(journey);
    default:
      return unreachable(state);
  }
}

function register(journey: Journey, registration: Registration, input: JourneyInput, now: Now): JourneyStep {
  if (input.type === 'IdentityStaged' || input.type === 'HubReached' || input.type === 'IdentityCommitted')
    return stay(journey);
  const step = stepRegistration(registration, input, now);
  const { memory } = step.registration;
  const next: Journey = {
    ...remember(journey, { deadlineAtMs: memory.deadlineAtMs, ticket: memory.ticket }),
    state: { name: 'Registering', registration: step.registration },
  };
  const effects: JourneyEffect[] = [];
  for (const effect of step.effects) {
    if (effect.type !== 'Finish') {
      effects.push(effect);
      continue;
    }
    const { outcome } = effect;
    const onward = outcome.kind === 'assigned' ? arrive(next, outcome, now) : fail(next, outcome.error);
    return { journey: onward.journey, effects: [...effects, ...onward.effects] };
  }
  return { journey: next, effects };
}

function arrive(journey: Journey, assignment: Assignment, now: Now): JourneyStep {
  const key = assignment.result.tpm?.authenticationKey;
  if (journey.config.attestation !== 'tpm' || key === undefined) return openHub(journey, assignment, now);
  const ticket = journey.memory.ticket + 1;
  return {
    journey: { ...remember(journey, { ticket, staged: true }), state: { name: 'AwaitingStaging', assignment } },
    effects: [{ type: 'StageIdentity', ticket, authenticationKey: key }],
  };
}

function openHub(journey: Journey, assignment: Assignment, now: Now): JourneyStep {
  const { assignedHub, deviceId } = assignment.result;
  const ticket = journey.memory.ticket + 1;
  const hubAttempts = journey.memory.hubAttempts + 1;
  return {
    journey: {
      ...remember(journey, { ticket, hubAttempts }),
      state: { name: 'AwaitingHub', assignment, timeoutAtMs: now.monotonicMs + journey.config.hubTimeoutMs },
    },
    effects: [
      report({ type: 'connecting', to: 'hub', peer: assignedHub, attempt: hubAttempts }),
      { type: 'OpenHub', ticket, assignedHub, deviceId, slot: assignment.slot },
    ],
  };
}

function hubReached(journey: Journey, assignment: Assignment, twin: Twin): JourneyStep {
  const arrived = [
    report({ type: 'connected', to: 'hub', peer: assignment.result.assignedHub }),
    report({ type: 'twin', desiredVersion: twin.desired.version, reportedVersion: twin.reported.version }),
  ];
  if (!journey.memory.staged) {
    const step = provisioned(journey, assignment, twin);
    return { journey: step.journey, effects: [...arrived, ...step.effects] };
  }
  const ticket = journey.memory.ticket + 1;
  return {
    journey: { ...remember(journey, { ticket }), state: { name: 'AwaitingCommit', assignment, twin } },
    effects: [...arrived, { type: 'CommitIdentity', ticket }],
  };
}

function provisioned(journey: Journey, assignment: Assignment, twin: Twin): JourneyStep {
  const { assignedHub, deviceId } = assignment.result;
  const outcome: JourneyOutcome = { kind: 'provisioned', result: assignment.result, slot: assignment.slot, twin };
  return {
    journey: { ...journey, state: { name: 'Done', outcome } },
    effects: [
      report({ type: 'provisioned', assignedHub, deviceId }),
      { type: 'CloseHub' },
      { type: 'FinishJourney', outcome },
    ],
  };
}

/** What a failure at the hub means: hub-protocol, section 6.2. */
function hubFailed(journey: Journey, assignment: Assignment, error: DpsError, now: Now): JourneyStep {
  if (error.code === 'ERR_DPS_CONNACK_UNAUTHORIZED') {
    const hubRefusals = journey.memory.hubRefusals + 1;
    if (hubRefusals > HUB_REFUSAL_RETRIES) return fail(journey, error);
    return retryHub(
      remember(journey, { hubRefusals }),
      assignment,
      error,
      between(HUB_REFUSAL_DELAY_MS, now.random),
      'refused',
      now,
    );
  }
  if (!error.retryable || error.code === 'ERR_DPS_CLOCK_IMPLAUSIBLE') return fail(journey, error);
  if (error instanceof ServiceError && error.status === 429) {
    const askedMs = error.retryAfterMs === undefined ? 0 : capRetryAfterMs(error.retryAfterMs);
    return retryHub(
      journey,
      assignment,
      error,
      Math.max(askedMs, between(HUB_THROTTLE_DELAY_MS, now.random)),
      'throttled',
      now,
    );
  }
  return retryHub(journey, assignment, error, backoffMs(journey.memory.hubAttempts, now.random), 'network', now);
}

function retryHub(
  journey: Journey,
  assignment: Assignment,
  error: DpsError,
  delayMs: number,
  reason: 'refused' | 'throttled' | 'network',
  now: Now,
): JourneyStep {
  const atMs = now.monotonicMs + delayMs;
  if (atMs >= journey.memory.deadlineAtMs) return fail(journey, error);
  return {
    journey: { ...remember(journey, { lastError: error }), state: { name: 'AwaitingHubRetry', assignment, atMs } },
    effects: [{ type: 'CloseHub' }, report({ type: 'waiting', forMs: delayMs, reason, detail: error.code })],
  };
}

function wake(journey: Journey, now: Now): JourneyStep {
  const { state, memory, config } = journey;
  if (now.monotonicMs >= memory.deadlineAtMs) {
    return fail(
      journey,
      new DeadlineError({ state: state.name, deadlineMs: config.deadlineMs, cause: memory.lastError }),
    );
  }
  if (state.name === 'AwaitingHubRetry' && now.monotonicMs >= state.atMs)
    return openHub(journey, state.assignment, now);
  if (state.name === 'AwaitingHub' && now.monotonicMs >= state.timeoutAtMs) {
    return hubFailed(
      journey,
      state.assignment,
      hubSilence(state.assignment.result.assignedHub, config.hubTimeoutMs),
      now,
    );
  }
  return stay(journey);
}

function hubSilence(peer: string, afterMs: number): TransportError {
  return new TransportError({
    code: 'ERR_DPS_CONNECT_TIMEOUT',
    message: `The assigned hub ${peer} did not hand out the twin within ${afterMs} ms. Check the network path, a firewall that swallows traffic, and the hub's health.`,
    phase: 'connect',
    peer,
    retryable: true,
  });
}

function fail(journey: Journey, error: DpsError): JourneyStep {
  const outcome: JourneyOutcome = { kind: 'failed', error };
  const wasAtHub = journey.state.name !== 'Registering';
  return {
    journey: { ...journey, state: { name: 'Done', outcome } },
    effects: [
      ...(journey.memory.staged ? [{ type: 'DiscardIdentity' } as const] : []),
      ...(wasAtHub ? [{ type: 'CloseHub' } as const] : []),
      report({ type: 'ended', code: error.code, message: error.message }),
      { type: 'FinishJourney', outcome },
    ],
  };
}

function stay(journey: Journey): JourneyStep {
  return { journey, effects: [] };
}

function remember(journey: Journey, change: Partial<JourneyMemory>): Journey {
  return { ...journey, memory: { ...journey.memory, ...change } };
}

function between([low, high]: readonly [number, number], random: number): number {
  return low + (high - low) * random;
}

function report(event: ProgressEvent): JourneyEffect {
  return { type: 'ReportProgress', event };
}

function unreachable(value: never): never {
  throw new TypeError(`Unreachable: ${JSON.stringify(value)}`);
}
