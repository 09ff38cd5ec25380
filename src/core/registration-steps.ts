import { DeadlineError, type DpsError } from '../errors.js';
import type { Now } from './clock.js';
import type { ProgressEvent } from './progress.js';
import type {
  Registration,
  RegistrationEffect,
  RegistrationMemory,
  RegistrationOutcome,
  RegistrationStep,
} from './registration-state.js';
import { toldState } from './state-words.js';

/** Small steps of the registration machine that the others share, its waits, and its ends. */

export function stay(registration: Registration): RegistrationStep {
  return { registration, effects: [] };
}

export function fail(registration: Registration, error: DpsError): RegistrationStep {
  return finish(registration, { kind: 'failed', error });
}

export function finish(registration: Registration, outcome: RegistrationOutcome): RegistrationStep {
  return {
    registration: { ...remember(registration, { connected: false }), state: { name: 'Done', outcome } },
    // Also without a connection: whatever is under way must be abandoned.
    effects: [{ type: 'CloseConnection' }, { type: 'Finish', outcome }],
  };
}

export function remember(registration: Registration, change: Partial<RegistrationMemory>): Registration {
  return { ...registration, memory: { ...registration.memory, ...change } };
}

export function withEffects(first: readonly RegistrationEffect[], step: RegistrationStep): RegistrationStep {
  return { registration: step.registration, effects: [...first, ...step.effects] };
}

export function report(event: ProgressEvent): RegistrationEffect {
  return { type: 'ReportProgress', event };
}

/** Waits, then goes on; or ends with `error` itself when the wait would outlive the deadline. */
export function retryAfter(
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
      report({ type: 'waiting', forMs: delayMs, reason, detail: error.code, message: error.message }),
    ],
  };
}

export function overDeadline(registration: Registration, askedWaitMs?: number): RegistrationStep {
  const { config, memory, state } = registration;
  return fail(
    registration,
    new DeadlineError({
      ...toldState(state),
      deadlineMs: config.deadlineMs,
      cause: memory.lastError,
      ...(askedWaitMs === undefined ? {} : { askedWaitMs }),
    }),
  );
}
