import { DeadlineError, type DpsError, ServiceError } from '../errors.js';
import type { Now } from './clock.js';
import { judgeHubFailure } from './hub-verdict.js';
import { goToDps, mayAskDps, NO_HUB_TROUBLE, orderHub } from './journey-dps.js';
import {
  type Arrival,
  type Assignment,
  HUB_FAILURES_BEFORE_DPS,
  HUB_PATIENCE_MS,
  HUB_REFUSAL_DELAY_MS,
  HUB_REFUSAL_RETRIES,
  HUB_SLOW_DELAY_MS,
  HUB_STEADY_MS,
  HUB_THROTTLE_DELAY_MS,
  type Journey,
  type JourneyInput,
  type JourneyOutcome,
  type JourneyState,
  type JourneyStep,
  LOCAL_PATIENCE_MS,
  SAVE_INTERVAL_MS,
} from './journey-state.js';
import {
  after,
  between,
  fail,
  keeps,
  newTicket,
  patienceUntilMs,
  recordEvent,
  remember,
  report,
  stay,
  unsaved,
  unsavedRecord,
  withRecord,
} from './journey-steps.js';
import { chosen, confirmedHub, nextTransport } from './journey-transports.js';
import type { DeviceRecord } from './record.js';
import { backoffMs, capRetryAfterMs } from './retry.js';
import { afterOpenFailure, currentTransport } from './transport-order.js';
import type { Twin } from './twin.js';
import { unreachable } from './unreachable.js';

/** The journey machine at its hub: being accepted, staying, and what each failure there means. */

export function hubOpened(journey: Journey, assignment: Assignment, twin: Twin, now: Now): JourneyStep {
  const { dpsReachedBy, dpsOrder, hubOrder } = journey.memory;
  const transport = { dps: dpsReachedBy ?? currentTransport(dpsOrder), hub: currentTransport(hubOrder) };
  return hubReached(remember(journey, { hubOrder: confirmedHub(journey) }), { ...assignment, twin, transport }, now);
}

function hubReached(journey: Journey, arrival: Arrival, now: Now): JourneyStep {
  const { result, twin } = arrival;
  const by = chosen(journey.memory.hubOrder);
  const effects = [
    report({ type: 'connected', to: 'hub', peer: result.assignedHub, ...by }),
    report({ type: 'twin', desiredVersion: twin.desired.version, reportedVersion: twin.reported.version }),
  ];
  if (!journey.memory.staged && journey.config.tellsAcceptance !== true)
    return after(effects, accepted(journey, arrival, now));
  const next = newTicket(journey);
  return {
    journey: { ...next, state: { name: 'AwaitingCommit', arrival, untilMs: patienceUntilMs(now) } },
    effects: [...effects, { type: 'CommitIdentity', ticket: next.memory.ticket, slot: arrival.slot }],
  };
}

/** The hub has taken the device: from here on the record may say so. */
export function accepted(journey: Journey, arrival: Arrival, now: Now): JourneyStep {
  const known = withRecord(remember(journey, { assignment: undefined }), arrival, now);
  if (keeps(known)) return online(known, arrival, journey.memory.record?.twin, now);
  const record = unsavedRecord(known);
  if (record === undefined) return provisioned(known, arrival);
  const next = newTicket(known);
  return {
    journey: { ...next, state: { name: 'AwaitingSave', arrival } },
    effects: [{ type: 'SaveRecord', ticket: next.memory.ticket, record }],
  };
}

export function provisioned(journey: Journey, arrival: Arrival): JourneyStep {
  const { assignedHub, deviceId } = arrival.result;
  const outcome: JourneyOutcome = { kind: 'provisioned', ...arrival };
  return {
    journey: { ...journey, state: { name: 'Done', outcome } },
    effects: [
      report({ type: 'provisioned', assignedHub, deviceId, source: arrival.source }),
      { type: 'CloseHub' },
      { type: 'FinishJourney', outcome },
    ],
  };
}

/** It counts as a failure at the hub when no transport is left to try. */
export function hubOpenFailed(journey: Journey, assignment: Assignment, error: DpsError, now: Now): JourneyStep {
  const { hubOrder } = journey.memory;
  const outcome = afterOpenFailure(hubOrder, error);
  const next = remember(journey, { hubOrder: outcome.order, lastError: error });
  if (outcome.kind === 'over') return hubFailed(next, assignment, outcome.error, now);
  return after([nextTransport('hub', hubOrder, outcome)], orderHub(next, assignment, now));
}

/** What a failure at the hub means: hub-protocol, section 6.2. */
export function hubFailed(journey: Journey, assignment: Assignment, error: DpsError, now: Now): JourneyStep {
  const verdict = judgeHubFailure(error);
  switch (verdict) {
    case 'refused':
      return hubRefused(journey, assignment, error, now);
    case 'throttled':
      return hubThrottled(journey, assignment, error, now);
    case 'unreachable':
      return hubUnreachable(journey, assignment, error, now);
    case 'clock':
    case 'untrusted':
      return keeps(journey)
        ? retryHub(journey, assignment, error, between(HUB_SLOW_DELAY_MS, now.random), 'refused', now)
        : fail(journey, error);
    case 'local':
      return fail(journey, error);
    default:
      return unreachable(verdict);
  }
}

function hubRefused(journey: Journey, assignment: Assignment, error: DpsError, now: Now): JourneyStep {
  const hubRefusals = journey.memory.hubRefusals + 1;
  const next = remember(journey, { hubRefusals });
  const delayMs = between(HUB_REFUSAL_DELAY_MS, now.random);
  const isDpsNext = mayAskDps(next, now) && isHalfOver(next, now.monotonicMs + delayMs);
  if (hubRefusals <= HUB_REFUSAL_RETRIES && !isLastWord(error) && !isDpsNext) {
    return retryHub(next, assignment, error, delayMs, 'refused', now);
  }
  if (mayAskDps(next, now)) return goToDps(next, 'refused', error.code, now);
  if (!keeps(next)) return fail(next, error);
  return retryHub(next, assignment, error, between(HUB_SLOW_DELAY_MS, now.random), 'refused', now);
}

/** A certificate that the hub refused in the handshake, and a TPM without a key, will not be others in half a minute. */
function isLastWord(error: DpsError): boolean {
  return error.code === 'ERR_DPS_TLS_CLIENT_REFUSED' || error.code === 'ERR_DPS_HSM_TPM_NO_IDENTITY';
}

function hubUnreachable(journey: Journey, assignment: Assignment, error: DpsError, now: Now): JourneyStep {
  if (!error.retryable && !keeps(journey)) return fail(journey, error);
  const hubFailures = journey.memory.hubFailures + 1;
  const untilMs = journey.memory.hubPatienceUntilMs ?? now.monotonicMs + between(HUB_PATIENCE_MS, now.random);
  const next = remember(journey, { hubFailures, hubPatienceUntilMs: untilMs });
  const delayMs = backoffMs(hubFailures, now.random);
  const isGivenUp =
    hubFailures >= HUB_FAILURES_BEFORE_DPS || now.monotonicMs >= untilMs || isHalfOver(next, now.monotonicMs + delayMs);
  if (isGivenUp && mayAskDps(next, now)) return goToDps(next, 'unreachable', error.code, now);
  return retryHub(next, assignment, error, delayMs, 'network', now);
}

/**
 * A journey that has a deadline keeps half of its time for DPS: else it would end, and begin with this hub again, for ever.
 * A wait that ends in that half would only take from it.
 */
function isHalfOver({ memory }: Journey, atMs: number): boolean {
  return atMs >= (memory.deadlineFromMs + memory.deadlineAtMs) / 2;
}

/** A hub that is busy has let the device in: nothing that DPS could better, however long it lasts. */
function hubThrottled(journey: Journey, assignment: Assignment, error: DpsError, now: Now): JourneyStep {
  const askedMs = error instanceof ServiceError ? capRetryAfterMs(error.retryAfterMs ?? 0) : 0;
  const delayMs = Math.max(askedMs, between(HUB_THROTTLE_DELAY_MS, now.random));
  return retryHub(remember(journey, NO_HUB_TROUBLE), assignment, error, delayMs, 'throttled', now);
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
    effects: [
      { type: 'CloseHub' },
      report({ type: 'waiting', forMs: delayMs, reason, detail: error.code, message: error.message }),
    ],
  };
}

// ── online ──────────────────────────────────────────────────────────────────────────────────────────────────────────

type Online = Extract<JourneyState, { readonly name: 'Online' }>;

function online(journey: Journey, arrival: Arrival, before: Twin | undefined, now: Now): JourneyStep {
  const { assignedHub, deviceId } = arrival.result;
  const settled = remember(journey, { hubRefusals: 0, dpsFailures: 0, dpsNotBeforeMs: undefined });
  const state: Online = {
    name: 'Online',
    arrival,
    sinceMs: now.monotonicMs,
    saveAtMs: undefined,
    saving: undefined,
  };
  const arrived: Journey = { ...settled, state };
  const { reprovisionBy } = arrived.memory;
  return after(
    [
      report({ type: 'provisioned', assignedHub, deviceId, source: arrival.source }),
      { type: 'HandOutSession', arrival, before },
    ],
    reprovisionBy === undefined ? saveIfDue(arrived, state, now) : goToDps(arrived, 'asked', reprovisionBy, now),
  );
}

export function stepOnline(journey: Journey, state: Online, input: JourneyInput, now: Now): JourneyStep {
  switch (input.type) {
    case 'HubLost':
      return hubLost(journey, state, input.error, now);
    case 'TwinChanged':
      return twinChanged(journey, state, input.twin, now);
    case 'RecordSaved':
    case 'OperationFailed':
      return input.ticket === journey.memory.ticket && state.saving !== undefined
        ? saveEnded(journey, state, input.type === 'RecordSaved' ? state.saving.record : input.error, now)
        : stay(journey);
    default:
      return stay(journey);
  }
}

function hubLost(journey: Journey, { arrival, sinceMs }: Online, error: DpsError, now: Now): JourneyStep {
  const wasSteady = now.monotonicMs - sinceMs >= HUB_STEADY_MS;
  const next = wasSteady ? remember(journey, NO_HUB_TROUBLE) : journey;
  const { twin: _, ...assignment } = arrival;
  return after(
    [report({ type: 'offline', code: error.code, message: error.message })],
    hubFailed(next, assignment, error, now),
  );
}

function twinChanged(journey: Journey, state: Online, twin: Twin, now: Now): JourneyStep {
  const arrival: Arrival = { ...state.arrival, twin };
  const known = withRecord(journey, arrival, now);
  const isDue = state.saveAtMs === undefined && state.saving === undefined && unsavedRecord(known) !== undefined;
  const saveAtMs = isDue ? now.monotonicMs + SAVE_INTERVAL_MS : state.saveAtMs;
  return stay({ ...known, state: { ...state, arrival, saveAtMs } });
}

/** Woken while online: a save is due, or has not ended and never will. */
export function wakeOnline(journey: Journey, state: Online, now: Now): JourneyStep {
  const { saving, saveAtMs = Number.POSITIVE_INFINITY } = state;
  if (saving === undefined) return now.monotonicMs >= saveAtMs ? saveIfDue(journey, state, now) : stay(journey);
  if (now.monotonicMs < saving.untilMs) return stay(journey);
  const error = new DeadlineError({ state: state.name, doing: 'storing the record', deadlineMs: LOCAL_PATIENCE_MS });
  return saveEnded(journey, state, error, now);
}

function saveIfDue(journey: Journey, state: Online, now: Now): JourneyStep {
  const record = unsavedRecord(journey);
  if (record === undefined) return stay({ ...journey, state: { ...state, saveAtMs: undefined } });
  const next = newTicket(journey);
  return {
    journey: { ...next, state: { ...state, saveAtMs: undefined, saving: { record, untilMs: patienceUntilMs(now) } } },
    effects: [{ type: 'SaveRecord', ticket: next.memory.ticket, record }],
  };
}

function saveEnded(journey: Journey, state: Online, ending: DeviceRecord | DpsError, now: Now): JourneyStep {
  const isFailure = ending instanceof Error;
  const known = isFailure ? journey : remember(journey, { saved: ending });
  const saveAtMs = unsavedRecord(known) === undefined ? undefined : now.monotonicMs + SAVE_INTERVAL_MS;
  const step = stay({ ...known, state: { ...state, saving: undefined, saveAtMs } });
  return isFailure ? unsaved(step, ending) : after([recordEvent('saved')], step);
}
