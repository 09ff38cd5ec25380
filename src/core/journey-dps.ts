import { CancelledError, ConfigurationError, type DpsError, HsmError, ServiceError } from '../errors.js';
import type { Now } from './clock.js';
import { acceptedSlot } from './journey-record.js';
import {
  type Assignment,
  DPS_INTERVAL_MS,
  DPS_REFUSAL_DELAY_MS,
  HSM_FAILURES_BEFORE_PAUSE,
  type Journey,
  type JourneyEffect,
  type JourneyInput,
  type JourneyStep,
} from './journey-state.js';
import {
  after,
  between,
  discardStaged,
  fail,
  keeps,
  newTicket,
  patienceUntilMs,
  remember,
  report,
  stay,
  stop,
} from './journey-steps.js';
import { byTransport, chosen, confirmedDps, nextTransport } from './journey-transports.js';
import type { DeviceRecord } from './record.js';
import { newRegistration, type Registration, type RegistrationInput, stepRegistration } from './registration.js';
import { remember as rememberRegistration } from './registration-steps.js';
import { backoffMs, capRetryAfterMs } from './retry.js';
import { afterOpenFailure, currentTransport, fromTheFirst, worthAnotherTry } from './transport-order.js';

/** The journey machine's dealings with DPS: asking it, going where it says, and what follows when it cannot help. */

/** No trouble with this hub, or none yet. */
export const NO_HUB_TROUBLE: {
  readonly hubFailures: 0;
  readonly hubRefusals: 0;
  readonly hubPatienceUntilMs: undefined;
} = { hubFailures: 0, hubRefusals: 0, hubPatienceUntilMs: undefined };

export function startRegistration(journey: Journey, now: Now): JourneyStep {
  const begun = remember(journey, { dpsOrder: fromTheFirst(journey.memory.dpsOrder), reprovisionBy: undefined });
  const { config, memory } = begun;
  const { deadlineFromMs: _, ...rest } = config;
  const registration = newRegistration(
    {
      ...rest,
      transport: currentTransport(memory.dpsOrder),
      // A life has no deadline, but each of its registrations.
      ...(keeps(begun) ? {} : { deadlineFromMs: memory.deadlineFromMs }),
      lookUpFirst: memory.lookUpFirst,
    },
    { ticket: memory.ticket, ...(memory.budget === undefined ? {} : { budget: memory.budget }) },
  );
  return register(begun, registration, { type: 'Started' }, now);
}

export function register(journey: Journey, registration: Registration, input: JourneyInput, now: Now): JourneyStep {
  if (!isRegistrationInput(input)) return stay(journey);
  if (awaitsConnection(registration, input)) {
    if (input.type === 'OperationFailed') return dpsOpenFailed(journey, registration, input, now);
    const dpsReachedBy = currentTransport(journey.memory.dpsOrder);
    return stepOn(remember(journey, { dpsReachedBy, dpsOrder: confirmedDps(journey) }), registration, input, now);
  }
  return stepOn(journey, registration, input, now);
}

/** An answer to the order to open a connection. */
function awaitsConnection(
  { state, memory }: Registration,
  input: RegistrationInput,
): input is Extract<RegistrationInput, { readonly type: 'ConnectionOpened' | 'OperationFailed' }> {
  const isAnswer = input.type === 'ConnectionOpened' || input.type === 'OperationFailed';
  return isAnswer && state.name === 'AwaitingConnection' && input.ticket === memory.ticket;
}

/** While there is another transport to try, the registration goes on waiting for its connection. */
function dpsOpenFailed(
  journey: Journey,
  registration: Registration,
  input: Extract<RegistrationInput, { readonly type: 'OperationFailed' }>,
  now: Now,
): JourneyStep {
  const { dpsOrder } = journey.memory;
  const outcome = afterOpenFailure(dpsOrder, input.error);
  const next = remember(journey, { dpsOrder: outcome.order });
  if (outcome.kind === 'over') return stepOn(next, registration, { ...input, error: outcome.error }, now);
  const told = nextTransport('dps', dpsOrder, outcome);
  const { activated, credentialUntilMs = Number.POSITIVE_INFINITY } = registration.memory;
  // A token that has run out, or has answered a challenge that may be gone with its connection, is none to try again: the
  // registration must hear of it, and begins anew.
  if (activated || now.monotonicMs >= credentialUntilMs) {
    const error = worthAnotherTry(outcome.error);
    return after([told], stepOn(next, registration, { ...input, error }, now));
  }
  const waiting = rememberRegistration(registration, { lastError: outcome.error });
  const open = byTransport({ type: 'OpenConnection', ticket: input.ticket }, outcome.order);
  return { journey: { ...next, state: { name: 'Registering', registration: waiting } }, effects: [told, open] };
}

function stepOn(journey: Journey, registration: Registration, input: RegistrationInput, now: Now): JourneyStep {
  const step = stepRegistration(registration, input, now);
  const { ticket, budget, activated } = step.registration.memory;
  const isNonceTaken = activated || step.registration.state.name === 'AwaitingActivation';
  const next: Journey = {
    ...remember(journey, { ticket, budget, staged: journey.memory.staged || isNonceTaken }),
    state: { name: 'Registering', registration: step.registration },
  };
  const effects: JourneyEffect[] = [];
  for (const effect of step.effects) {
    if (effect.type !== 'Finish') {
      effects.push(byTransport(effect, next.memory.dpsOrder));
      continue;
    }
    const { outcome } = effect;
    if (outcome.kind === 'failed') return after(effects, lifeFailed(next, outcome.error, now));
    const { result, slot } = outcome;
    // What a lookup has found may be long out of date: should that hub refuse, DPS is still to be asked.
    const known = step.registration.memory.registers === 0 ? next : remember(next, { registeredAtMs: now.monotonicMs });
    return after(effects, assigned(known, { result, slot, source: 'registered' }, now));
  }
  return { journey: next, effects };
}

function isRegistrationInput(input: JourneyInput): input is RegistrationInput {
  switch (input.type) {
    case 'RecordLoaded':
    case 'RecordSaved':
    case 'IdentityStaged':
    case 'HubReached':
    case 'IdentityCommitted':
    case 'HubLost':
    case 'TwinChanged':
    case 'ReprovisionRequested':
      return false;
    default:
      return true;
  }
}

function assigned(journey: Journey, assignment: Assignment, now: Now): JourneyStep {
  const { result } = assignment;
  const next = remember(journey, { assignment, dpsNotBeforeMs: undefined, lookUpFirst: false, ...NO_HUB_TROUBLE });
  const { record } = next.memory;
  const isElsewhere =
    record !== undefined &&
    (record.assignment.assignedHub !== result.assignedHub || record.assignment.deviceId !== result.deviceId);
  if (!isElsewhere || record.movedTo === result.assignedHub) return approach(next, assignment, now);
  // Should the power fail before the new hub has accepted the device, the old one is not asked again.
  const noted: DeviceRecord = { ...record, movedTo: result.assignedHub };
  const known = newTicket(remember(next, { record: noted }));
  if (known.config.hasStore !== true) return approach(known, assignment, now);
  return {
    journey: { ...known, state: { name: 'AwaitingNote', assignment, noted, untilMs: patienceUntilMs(now) } },
    effects: [{ type: 'SaveRecord', ticket: known.memory.ticket, record: noted }],
  };
}

/** To the hub that DPS has named, a TPM with the key that came along. */
export function approach(journey: Journey, assignment: Assignment, now: Now): JourneyStep {
  const authenticationKey = assignment.result.tpm?.authenticationKey;
  if (journey.config.attestation !== 'tpm' || authenticationKey === undefined) {
    const discarded = discardStaged(journey);
    return after(discarded.effects, openHub(discarded.journey, assignment, now));
  }
  const next = newTicket(remember(journey, { staged: true }));
  return {
    journey: { ...next, state: { name: 'AwaitingStaging', assignment, untilMs: patienceUntilMs(now) } },
    effects: [{ type: 'StageIdentity', ticket: next.memory.ticket, authenticationKey }],
  };
}

export function openHub(journey: Journey, assignment: Assignment, now: Now): JourneyStep {
  const { assignedHub } = assignment.result;
  const hubAttempts = journey.memory.hubAttempts + 1;
  const hubOrder = fromTheFirst(journey.memory.hubOrder);
  return after(
    [report({ type: 'connecting', to: 'hub', peer: assignedHub, attempt: hubAttempts, ...chosen(hubOrder) })],
    orderHub(remember(journey, { hubAttempts, hubOrder }), assignment, now),
  );
}

/** By the transport whose turn it is, which has the whole time for it. */
export function orderHub(journey: Journey, assignment: Assignment, now: Now): JourneyStep {
  const { assignedHub, deviceId } = assignment.result;
  const next = newTicket(journey);
  const { ticket, hubOrder } = next.memory;
  const timeoutAtMs = now.monotonicMs + journey.config.hubTimeoutMs;
  return {
    journey: { ...next, state: { name: 'AwaitingHub', assignment, timeoutAtMs } },
    effects: [{ type: 'OpenHub', ticket, assignedHub, deviceId, slot: assignment.slot, ...chosen(hubOrder) }],
  };
}

/** What ends a journey is only a set-back for a life, unless nothing but a person can mend it. */
export function lifeFailed(journey: Journey, error: DpsError, now: Now): JourneyStep {
  if (error instanceof CancelledError) return stop(journey, error, now);
  const needsPerson = error instanceof ConfigurationError || (error instanceof HsmError && !error.retryable);
  if (!keeps(journey) || needsPerson) return fail(journey, error);
  const dpsFailures = journey.memory.dpsFailures + 1;
  const isPassing = error.retryable && !(error instanceof HsmError && dpsFailures > HSM_FAILURES_BEFORE_PAUSE);
  const askedMs = error instanceof ServiceError ? capRetryAfterMs(error.retryAfterMs ?? 0) : 0;
  const soonMs = Math.max(askedMs, backoffMs(dpsFailures, now.random));
  const pauseMs = isPassing ? 0 : between(DPS_REFUSAL_DELAY_MS, now.random);
  const forMs = isPassing || knownPlace(journey) !== undefined ? soonMs : pauseMs;
  const discarded = discardStaged(journey);
  const next = remember(discarded.journey, {
    dpsFailures,
    dpsNotBeforeMs: isPassing ? journey.memory.dpsNotBeforeMs : now.monotonicMs + pauseMs,
    // The hub gets its full share of tries again; one that refused is asked once, then DPS.
    hubFailures: 0,
    hubPatienceUntilMs: undefined,
    lastError: error,
  });
  return after(discarded.effects, {
    journey: { ...next, state: { name: 'AwaitingReturn', atMs: now.monotonicMs + forMs } },
    effects: [
      { type: 'CloseHub' },
      report({
        type: 'waiting',
        forMs,
        reason: isPassing ? 'unavailable' : 'refused',
        detail: error.code,
        message: error.message,
      }),
    ],
  });
}

/**
 * Where to go without asking DPS: where it sent the device last, now or by the record. A TPM that left an assignment for DPS
 * has given up the hub key that came with it.
 */
export function knownPlace({ config, memory }: Journey): Assignment | undefined {
  const { record, assignment } = memory;
  if (assignment !== undefined && config.attestation !== 'tpm') return assignment;
  if (record === undefined || record.movedTo !== undefined) return undefined;
  return { result: record.assignment, slot: acceptedSlot(config, record), source: 'stored' };
}

/** Leaves the hub, or the way to it, for DPS. */
export function goToDps(
  journey: Journey,
  reason: 'refused' | 'unreachable' | 'asked',
  detail: string,
  now: Now,
): JourneyStep {
  const discarded = discardStaged(journey);
  return after(
    [...discarded.effects, { type: 'CloseHub' }, report({ type: 'reprovisioning', reason, detail })],
    startRegistration(discarded.journey, now),
  );
}

/** Not soon after DPS has named the hub that fails, or has said no. */
export function mayAskDps({ memory }: Journey, now: Now): boolean {
  const { registeredAtMs = Number.NEGATIVE_INFINITY, dpsNotBeforeMs = Number.NEGATIVE_INFINITY } = memory;
  return now.monotonicMs >= Math.max(registeredAtMs + DPS_INTERVAL_MS, dpsNotBeforeMs);
}
