import type { JourneyEffect, JourneyInput, JourneyState } from '../../src/core/journey.js';
import type { ProgressEvent } from '../../src/core/progress.js';
import { ServiceError } from '../../src/errors.js';
import { ensure } from '../fuzz/properties.js';
import type { Heard, HubFailure, HubTrouble } from './hub-trouble.js';

type Waiting = Extract<ProgressEvent, { readonly type: 'waiting' }>;
type Bounds = readonly [leastMs: number, mostMs: number];

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
/** What docs/life.md says, once more: a wrong constant of the client must not agree with itself. */
const BACKOFF_MS: Bounds = [SECOND_MS, MINUTE_MS];
const ONCE_MORE_MS: Bounds = [5 * SECOND_MS, 30 * SECOND_MS];
const THROTTLED_MS: Bounds = [10 * SECOND_MS, MINUTE_MS];
const SLOW_MS: Bounds = [MINUTE_MS, 5 * MINUTE_MS];
const REFUSED_MS: Bounds = [30 * MINUTE_MS, 60 * MINUTE_MS];
const LONGEST_ASKED_MS = 5 * MINUTE_MS;

/** Each single wait: not shorter than what a service has asked for, or courtesy does; not longer than documented. */
export class WaitRules {
  readonly #trouble: HubTrouble;
  #waitsUntilMs: number | undefined;

  constructor(trouble: HubTrouble) {
    this.#trouble = trouble;
  }

  begin(): void {
    this.#waitsUntilMs = undefined;
  }

  /** After each step; `hasPlace`: a hub is known, `spreadMs`: that of the start. */
  stepped(
    heard: Heard,
    hubFailure: HubFailure | undefined,
    around: { readonly effects: readonly JourneyEffect[]; readonly hasPlace: boolean; readonly spreadMs: number },
  ): void {
    const { input, before, state, monotonicMs } = heard;
    const untilMs = waitUntilMs(state);
    const isNew = untilMs !== undefined && untilMs !== this.#waitsUntilMs;
    this.#waitsUntilMs = untilMs;
    if (before === 'Registering' && isSetBack(input)) {
      ensure(
        untilMs !== undefined || isOver(state),
        `DPS has failed, and is asked again at once, in ${placeOf(state)}`,
      );
    }
    if (hubFailure !== undefined) ensure(state.name !== 'AwaitingHub', `a hub has failed, and is asked again at once`);
    if (!isNew) return;
    const event = around.effects.flatMap((effect) => waitingIn(effect)).at(-1);
    ensure(event !== undefined, `in ${placeOf(state)} it waits, and does not say so`);
    const forMs = untilMs - monotonicMs;
    ensure(Math.abs(forMs - event.forMs) < 1, `it waits for ${forMs} ms, and says ${event.forMs} ms`);
    const [leastMs, mostMs] = this.#boundsOf(heard, event, around);
    ensure(
      forMs >= leastMs - 1 && forMs <= mostMs + 1,
      `in ${placeOf(state)} (${event.reason}, ${event.detail}) it waits for ${forMs} ms, not for ${leastMs} to ${mostMs} ms`,
    );
  }

  #boundsOf(
    { input, state }: Heard,
    { reason }: Waiting,
    { hasPlace, spreadMs }: { readonly hasPlace: boolean; readonly spreadMs: number },
  ): Bounds {
    const askedMs = askedIn(input);
    if (state.name === 'AwaitingStart') return [0, spreadMs];
    if (state.name === 'AwaitingHubRetry') return this.#hubBounds(askedMs);
    if (state.name === 'AwaitingReturn') {
      // When to look at an operation again is no word about the next registration.
      const isPoll = input.type === 'ReplyReceived' && input.reply.kind === 'reply' && input.reply.status === 202;
      if (isPoll) return BACKOFF_MS;
      return reason === 'refused' && !hasPlace ? REFUSED_MS : atLeast(BACKOFF_MS, reason === 'refused' ? 0 : askedMs);
    }
    if (reason === 'poll') return [askedMs, askedMs];
    if (reason === 'budget') return [0, SECOND_MS];
    // Jitter comes on top of what a service asks of all its devices.
    return [Math.max(SECOND_MS, askedMs), askedMs + MINUTE_MS];
  }

  #hubBounds(askedMs: number): Bounds {
    const { last, refusals, failures } = this.#trouble;
    switch (last) {
      case 'unreachable':
        return [SECOND_MS, Math.min(MINUTE_MS, SECOND_MS * 2 ** failures)];
      case 'refused':
        return refusals === 1 ? ONCE_MORE_MS : SLOW_MS;
      case 'refusedForGood':
      case 'untrusted':
        return SLOW_MS;
      default:
        return atLeast(THROTTLED_MS, askedMs);
    }
  }
}

function atLeast([leastMs, mostMs]: Bounds, askedMs: number): Bounds {
  return [Math.max(leastMs, askedMs), Math.max(mostMs, askedMs)];
}

function waitUntilMs(state: JourneyState): number | undefined {
  switch (state.name) {
    case 'AwaitingStart':
    case 'AwaitingHubRetry':
    case 'AwaitingReturn':
      return state.atMs;
    case 'Registering': {
      const inner = state.registration.state;
      return inner.name === 'AwaitingPollTime' || inner.name === 'AwaitingRetryTime' ? inner.atMs : undefined;
    }
    default:
      return undefined;
  }
}

function placeOf(state: JourneyState): string {
  return state.name === 'Registering' ? state.registration.state.name : state.name;
}

function isOver({ name }: JourneyState): boolean {
  return name === 'Done' || name === 'AwaitingLastSave';
}

/** DPS is busy or out of reach: nothing that is better a moment later. */
function isSetBack(input: JourneyInput): boolean {
  if (input.type === 'OperationFailed') return input.error.retryable;
  if (input.type !== 'ReplyReceived' || input.reply.kind !== 'reply') return false;
  return input.reply.status === 429 || input.reply.status >= 500;
}

/** What a service has asked for, in this input. */
function askedIn(input: JourneyInput): number {
  if (input.type === 'ReplyReceived' && input.reply.kind === 'reply')
    return capped(Number(input.reply.retryAfter ?? 0));
  const isFailure = input.type === 'OperationFailed' || input.type === 'HubLost';
  return isFailure && input.error instanceof ServiceError ? capped((input.error.retryAfterMs ?? 0) / 1_000) : 0;
}

function capped(seconds: number): number {
  return Math.min(seconds * 1_000, LONGEST_ASKED_MS);
}

function waitingIn(effect: JourneyEffect): readonly Waiting[] {
  return effect.type === 'ReportProgress' && effect.event.type === 'waiting' ? [effect.event] : [];
}
