import { DeadlineError, type DpsError, HsmError, TransportError } from '../errors.js';
import type { Now } from './clock.js';
import { approach, goToDps, knownPlace, lifeFailed, openHub, register, startRegistration } from './journey-dps.js';
import { accepted, hubFailed, hubOpened, hubOpenFailed, provisioned, stepOnline, wakeOnline } from './journey-hub.js';
import { hasNewStagedKey } from './journey-record.js';
import {
  type Arrival,
  type Journey,
  type JourneyInput,
  type JourneyState,
  type JourneyStep,
  LOCAL_PATIENCE_MS,
  transportsOf,
} from './journey-state.js';
import {
  after,
  cancelled,
  end,
  fail,
  keeps,
  newTicket,
  patienceUntilMs,
  recordEvent,
  remember,
  report,
  stay,
  stop,
  unsaved,
} from './journey-steps.js';
import { bindingDifference } from './record.js';
import { toldState } from './state-words.js';
import type { LoadedRecord } from './store.js';
import { orderTransports } from './transport-order.js';
import { unreachable } from './unreachable.js';

export * from './journey-state.js';

/*
 * A device's life around its registrations, in the same vocabulary: its effects are performed by the same loop, its
 * inputs are those of the registration plus what happens to the record and at the hub.
 *
 *   Idle ─ Started ─► AwaitingRecord ─► AwaitingStart
 *                                          │ a record for this configuration: the hub first
 *                     ┌────────────────────┴──────────────► AwaitingHub ◄─── Woke ─── AwaitingHubRetry
 *                     ▼ none                                  │    ▲  └─ lost, silent, throttled, refused once ─►┘
 *                Registering ── assigned ─► (AwaitingNote) ───┼────┘
 *                  ▲  │         (AwaitingStaging)             │ refused twice; or 10 failures, or 15 to 30 minutes of
 *                  │  │                                       │ them, and DPS was not asked within 30 minutes
 *                  │  └─ failed (keep) ─► AwaitingReturn      ▼
 *                  └──────────────────────────────────── (DiscardIdentity)
 *
 *   AwaitingHub ── HubReached ─► (AwaitingCommit) ─► once: AwaitingSave ─► Done
 *                                                    keep: Online ── HubLost ─► AwaitingHubRetry
 *                                                            └────── ReprovisionRequested ─► Registering
 */

/** Takes one input and says what comes next. Inputs that do not fit the state are ignored. */
export function stepJourney(journey: Journey, input: JourneyInput, now: Now): JourneyStep {
  const { state } = journey;
  if (state.name === 'Done') return stay(journey);
  if (state.name === 'Idle') return input.type === 'Started' ? start(journey, now) : idle(journey, input);
  if (input.type === 'CancelRequested') return cancel(journey, input.reason, now);
  if (state.name === 'Registering') return register(journey, state.registration, input, now);
  if (input.type === 'ReprovisionRequested') return reprovision(journey, input.by, now);
  if (input.type === 'Woke') return wake(journey, now);
  if (state.name === 'Online') return stepOnline(journey, state, input, now);
  if (!('ticket' in input) || input.ticket !== journey.memory.ticket) return stay(journey);

  const failure = input.type === 'OperationFailed' ? input.error : undefined;
  switch (state.name) {
    case 'AwaitingRecord':
      if (input.type === 'RecordLoaded') return recordLoaded(journey, input.loaded, now);
      return failure === undefined ? stay(journey) : fail(journey, failure);
    case 'AwaitingNote':
      if (input.type === 'RecordSaved')
        return approach(remember(journey, { saved: state.noted }), state.assignment, now);
      return failure === undefined ? stay(journey) : unsaved(approach(journey, state.assignment, now), failure);
    case 'AwaitingStaging':
      if (input.type === 'IdentityStaged') return openHub(journey, state.assignment, now);
      return failure === undefined ? stay(journey) : lifeFailed(journey, failure, now);
    case 'AwaitingHub':
      if (input.type === 'HubReached') return hubOpened(journey, state.assignment, input.twin, now);
      return failure === undefined ? stay(journey) : hubOpenFailed(journey, state.assignment, failure, now);
    case 'AwaitingCommit':
      if (input.type === 'IdentityCommitted') return committed(journey, state.arrival, now);
      return failure === undefined ? stay(journey) : notCommitted(journey, state.arrival, failure, now);
    case 'AwaitingSave':
      if (input.type === 'RecordSaved') return after([recordEvent('saved')], provisioned(journey, state.arrival));
      return failure === undefined ? stay(journey) : unsaved(provisioned(journey, state.arrival), failure);
    case 'AwaitingLastSave':
      if (input.type === 'RecordSaved') return end(journey, state.outcome);
      return failure === undefined ? stay(journey) : unsaved(end(journey, state.outcome), failure);
    case 'AwaitingStart':
    case 'AwaitingHubRetry':
    case 'AwaitingReturn':
      return stay(journey);
    default:
      return unreachable(state);
  }
}

// ── the way in ──────────────────────────────────────────────────────────────────────────────────────────────────────

function idle(journey: Journey, input: JourneyInput): JourneyStep {
  return input.type === 'CancelRequested' ? fail(journey, cancelled(journey, input.reason)) : stay(journey);
}

function start(journey: Journey, now: Now): JourneyStep {
  const { config } = journey;
  const deadlineFromMs = config.deadlineFromMs ?? now.monotonicMs;
  const begun = remember(journey, {
    deadlineFromMs,
    deadlineAtMs: keeps(journey) ? Number.POSITIVE_INFINITY : deadlineFromMs + config.deadlineMs,
  });
  if (config.hasStore !== true) return spread(begun, now);
  const next = newTicket(begun);
  return {
    journey: { ...next, state: { name: 'AwaitingRecord', untilMs: patienceUntilMs(now) } },
    effects: [{ type: 'LoadRecord', ticket: next.memory.ticket }],
  };
}

function recordLoaded(journey: Journey, loaded: LoadedRecord, now: Now): JourneyStep {
  const { config } = journey;
  if (loaded.kind === 'none') return after([recordEvent('none')], spread(journey, now));
  if (loaded.kind === 'damaged') {
    const isHttps = transportsOf(config).transports.every((name) => name === 'https');
    const lookUpFirst = isHttps && config.attestation !== 'tpm';
    return after([recordEvent('damaged', loaded.what)], spread(remember(journey, { lookUpFirst }), now));
  }
  const { record, damaged } = loaded;
  const told = damaged === undefined ? [] : [recordEvent('damaged', damaged)];
  const difference = bindingDifference(record, config);
  if (difference !== undefined) return after([...told, recordEvent('foreign', difference)], spread(journey, now));
  const { transports, hubTransports } = transportsOf(config);
  const known = remember(journey, {
    record,
    saved: record,
    dpsReachedBy: record.dpsTransport,
    dpsOrder: orderTransports(transports, record.dpsTransport),
    hubOrder: orderTransports(hubTransports, record.hubTransport),
  });
  return after([...told, recordEvent('found')], spread(known, now));
}

/** The wait is wanted, and on top of the time that the journey has. */
function spread(journey: Journey, now: Now): JourneyStep {
  const { config, memory } = journey;
  const forMs = Math.floor((config.startSpreadMs ?? 0) * now.random);
  if (forMs <= 0) return setOut(journey, now);
  const waiting = remember(journey, {
    deadlineFromMs: memory.deadlineFromMs + forMs,
    deadlineAtMs: memory.deadlineAtMs + forMs,
  });
  return {
    journey: { ...waiting, state: { name: 'AwaitingStart', atMs: now.monotonicMs + forMs } },
    effects: [report({ type: 'waiting', forMs, reason: 'spread' })],
  };
}

/** The first way of a life: to DPS where somebody wants it, or where a key was staged that no hub knows yet. */
function setOut(journey: Journey, now: Now): JourneyStep {
  const { config, memory } = journey;
  if (config.reprovision === true) return depart(journey, true, now);
  const { record } = memory;
  const isNewKey = record !== undefined && record.movedTo === undefined && hasNewStagedKey(config, record);
  const told = isNewKey ? [report({ type: 'reprovisioning', reason: 'new-key', detail: '' })] : [];
  return after(told, depart(journey, isNewKey, now));
}

/** To the hub that is known, if one is and DPS has not named another since; else to DPS. */
function depart(journey: Journey, mustAskDps: boolean, now: Now): JourneyStep {
  const place = mustAskDps ? undefined : knownPlace(journey);
  return place === undefined ? startRegistration(journey, now) : openHub(journey, place, now);
}

/** The operator's word, or the application's: DPS decides anew. What was known stays known until it has. */
function reprovision(journey: Journey, by: string, now: Now): JourneyStep {
  switch (journey.state.name) {
    case 'AwaitingRecord':
      return stay({ ...journey, config: { ...journey.config, reprovision: true } });
    case 'AwaitingCommit':
      // What the hub has accepted is committed first. A hub that DPS has just named is not asked about again.
      return journey.state.arrival.source === 'stored' ? stay(remember(journey, { reprovisionBy: by })) : stay(journey);
    case 'Online':
    case 'AwaitingHub':
    case 'AwaitingHubRetry':
    case 'AwaitingReturn':
    case 'AwaitingStart':
      return goToDps(journey, 'asked', by, now);
    default:
      return stay(journey);
  }
}

// ── time and the end ────────────────────────────────────────────────────────────────────────────────────────────────

function wake(journey: Journey, now: Now): JourneyStep {
  const { state, memory, config } = journey;
  if (state.name === 'AwaitingLastSave') {
    return now.monotonicMs >= state.untilMs ? end(journey, state.outcome) : stay(journey);
  }
  if (now.monotonicMs >= memory.deadlineAtMs) {
    const { deadlineMs } = config;
    const error = new DeadlineError({ ...toldState(state), deadlineMs, cause: memory.lastError });
    // The hub has accepted the device: what is late now is of no use to it.
    if (state.name === 'AwaitingSave') return unsaved(provisioned(journey, state.arrival), error);
    if (state.name === 'AwaitingCommit' && !memory.staged) return notCommitted(journey, state.arrival, error, now);
    return fail(journey, error);
  }
  switch (state.name) {
    case 'AwaitingStart':
      return now.monotonicMs >= state.atMs ? setOut(journey, now) : stay(journey);
    case 'AwaitingReturn':
      return now.monotonicMs >= state.atMs ? depart(journey, false, now) : stay(journey);
    case 'AwaitingHubRetry':
      return now.monotonicMs >= state.atMs ? openHub(journey, state.assignment, now) : stay(journey);
    case 'AwaitingHub':
      return now.monotonicMs >= state.timeoutAtMs
        ? hubFailed(
            journey,
            state.assignment,
            hubSilence(state.assignment.result.assignedHub, config.hubTimeoutMs),
            now,
          )
        : stay(journey);
    case 'Online':
      return wakeOnline(journey, state, now);
    case 'AwaitingRecord':
    case 'AwaitingNote':
    case 'AwaitingStaging':
    case 'AwaitingCommit':
      return now.monotonicMs >= state.untilMs ? partSilent(journey, state, now) : stay(journey);
    default:
      return stay(journey);
  }
}

function committed(journey: Journey, arrival: Arrival, now: Now): JourneyStep {
  const { config, memory } = journey;
  const isRolled = arrival.slot === config.stagedSlot;
  const next = accepted(
    remember(journey, { staged: false, isKeyRolled: memory.isKeyRolled || isRolled }),
    arrival,
    now,
  );
  // A life commits again each time that it comes back.
  return isRolled && !memory.isKeyRolled ? after([report({ type: 'key-rolled', slot: arrival.slot })], next) : next;
}

/** A TPM that does not commit has no hub key at the next start; a key store still has both keys, and tries them then. */
function notCommitted(journey: Journey, arrival: Arrival, error: DpsError, now: Now): JourneyStep {
  if (journey.memory.staged) return lifeFailed(journey, error, now);
  const { slot } = arrival;
  const what =
    slot === journey.config.stagedSlot
      ? 'The hub accepted the staged key, but the HSM could not commit it. Both keys are kept'
      : `The hub accepted the credential in slot ${slot}, but the HSM could not take that in. Its keys stay as they are`;
  const message = `${what}, and the next connection to the hub tries it again. The reason: ${error.message}`;
  return after([report({ type: 'commit-failed', slot, code: error.code, message })], accepted(journey, arrival, now));
}

/** A part of the device has not answered, and a life has no deadline to end the wait. */
function partSilent(
  journey: Journey,
  state: Extract<
    JourneyState,
    { readonly untilMs: number; readonly name: Exclude<JourneyState['name'], 'AwaitingLastSave'> }
  >,
  now: Now,
): JourneyStep {
  const error = new DeadlineError({ ...toldState(state), deadlineMs: LOCAL_PATIENCE_MS });
  if (state.name === 'AwaitingRecord') return fail(journey, error);
  if (state.name === 'AwaitingNote') return unsaved(approach(journey, state.assignment, now), error);
  if (state.name === 'AwaitingCommit') return notCommitted(journey, state.arrival, hsmSilence(error), now);
  return lifeFailed(journey, hsmSilence(error), now);
}

function hsmSilence(cause: DeadlineError): HsmError {
  return new HsmError({
    code: 'ERR_DPS_HSM_OPERATION',
    message: `The HSM has not answered within ${LOCAL_PATIENCE_MS} ms. Check whether another program holds it, and the driver of a TPM.`,
    operation: 'take in the hub identity',
    retryable: true,
    cause,
  });
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

function cancel(journey: Journey, reason: unknown, now: Now): JourneyStep {
  const { state } = journey;
  if (state.name === 'AwaitingLastSave') return stay(journey);
  if (state.name !== 'Registering') return stop(journey, cancelled(journey, reason), now);
  return register(journey, state.registration, { type: 'CancelRequested', reason }, now);
}
