import { CancelledError, type DpsError } from '../errors.js';
import type { Now } from './clock.js';
import { recordOf, sameRecord } from './journey-record.js';
import {
  type Arrival,
  type Journey,
  type JourneyEffect,
  type JourneyMemory,
  type JourneyOutcome,
  type JourneyStep,
  LAST_SAVE_MS,
  LOCAL_PATIENCE_MS,
} from './journey-state.js';
import type { ProgressEvent } from './progress.js';
import type { DeviceRecord } from './record.js';
import { toldState } from './state-words.js';

/** Small steps of the journey machine that the others share, and its ends. */

export function keeps({ config }: Journey): boolean {
  return config.purpose === 'keep';
}

export function stay(journey: Journey): JourneyStep {
  return { journey, effects: [] };
}

export function remember(journey: Journey, change: Partial<JourneyMemory>): Journey {
  return { ...journey, memory: { ...journey.memory, ...change } };
}

export function newTicket(journey: Journey): Journey {
  return remember(journey, { ticket: journey.memory.ticket + 1 });
}

/** When an order to the device's own parts has taken too long. */
export function patienceUntilMs(now: Now): number {
  return now.monotonicMs + LOCAL_PATIENCE_MS;
}

export function withRecord(journey: Journey, arrival: Arrival, now: Now): Journey {
  const record = recordOf(journey.config, arrival, now.wallMs);
  const { record: known } = journey.memory;
  return known !== undefined && sameRecord(known, record) ? journey : remember(journey, { record });
}

/** The record, if there is a store that does not hold it yet. */
export function unsavedRecord({ config, memory }: Journey): DeviceRecord | undefined {
  return config.hasStore === true && memory.record !== memory.saved ? memory.record : undefined;
}

export function discardStaged(journey: Journey): JourneyStep {
  if (!journey.memory.staged) return stay(journey);
  return { journey: remember(journey, { staged: false }), effects: [{ type: 'DiscardIdentity' }] };
}

/** A device that works is worth more than its record: the failure is told, and the journey goes on. */
export function unsaved(step: JourneyStep, error: DpsError): JourneyStep {
  return after([recordEvent('unsaved', error.message)], step);
}

export function recordEvent(
  outcome: Extract<ProgressEvent, { readonly type: 'record' }>['outcome'],
  detail?: string,
): JourneyEffect {
  return report({ type: 'record', outcome, ...(detail === undefined ? {} : { detail }) });
}

export function after(first: readonly JourneyEffect[], step: JourneyStep): JourneyStep {
  return { journey: step.journey, effects: [...first, ...step.effects] };
}

export function between([low, high]: readonly [number, number], random: number): number {
  return low + (high - low) * random;
}

export function report(event: ProgressEvent): JourneyEffect {
  return { type: 'ReportProgress', event };
}

export function cancelled({ state, memory }: Journey, reason: unknown): CancelledError {
  const isAfterFailure = state.name === 'AwaitingHubRetry' || state.name === 'AwaitingReturn';
  return new CancelledError({
    ...toldState(state),
    after: isAfterFailure ? memory.lastError : undefined,
    cause: reason,
  });
}

/** A life that is told to end saves first what it knows. */
export function stop(journey: Journey, error: CancelledError, now: Now): JourneyStep {
  const record = keeps(journey) ? unsavedRecord(journey) : undefined;
  if (record === undefined) return fail(journey, error);
  const discarded = discardStaged(journey);
  const next = newTicket(discarded.journey);
  const outcome: JourneyOutcome = { kind: 'failed', error };
  return {
    journey: { ...next, state: { name: 'AwaitingLastSave', untilMs: now.monotonicMs + LAST_SAVE_MS, outcome } },
    effects: [...discarded.effects, { type: 'CloseHub' }, { type: 'SaveRecord', ticket: next.memory.ticket, record }],
  };
}

export function fail(journey: Journey, error: DpsError): JourneyStep {
  const discarded = discardStaged(journey);
  return after(discarded.effects, end(discarded.journey, { kind: 'failed', error }));
}

export function end(journey: Journey, outcome: JourneyOutcome): JourneyStep {
  const mayHaveHub = journey.state.name !== 'Registering' && journey.state.name !== 'Idle';
  return {
    journey: { ...journey, state: { name: 'Done', outcome } },
    effects: [
      ...(mayHaveHub ? [{ type: 'CloseHub' } as const] : []),
      ...(outcome.kind === 'failed'
        ? [report({ type: 'ended', code: outcome.error.code, message: outcome.error.message })]
        : []),
      { type: 'FinishJourney', outcome },
    ],
  };
}
