import { type DesiredChange, type DesiredPush, diffPatch, type JsonObject, mergePatch, type Twin } from './twin.js';
import { unreachable } from './unreachable.js';

/**
 * Keeps a twin in step with the hub, whatever is lost or comes out of order (hub-protocol, section 2.6).
 *
 *   newTwinSync ─ Connected ─► AwaitingTwin ─ TwinAnswered ─► Following ─┐ PushReceived, next version: deliver
 *                              │  ▲      ▲                     │     ▲   │ PushReceived, known version: drop
 *              pushes buffered ┘  │      └── gap, unreadable ──┘     └───┘
 *                                 └── Connected (after a reconnect)
 *
 * One twin request at a time is the caller's duty: then an answer is the truth about every push that came before its
 * request, and about every report.
 */
export type TwinSync =
  | {
      readonly name: 'AwaitingTwin';
      /** What the application knows; undefined before the first answer. */
      readonly known: Twin | undefined;
      /** Names the read whose answer counts; answers to earlier ones are ignored. */
      readonly ticket: number;
      /** What came since the read was ordered; a push that could not be read is as good as lost. */
      readonly pushes: readonly (DesiredPush | 'unreadable')[];
      /** Reads in a row that got no answer. */
      readonly silences: number;
      /** Reads in a row that the hub put off. */
      readonly refusals: number;
      /** The least version that the answer should bring, by the push that ordered the read. */
      readonly soughtVersion: number;
      /** Reads in a row that did not bring what the push that ordered them told of. */
      readonly vainReads: number;
    }
  | { readonly name: 'Following'; readonly twin: Twin; readonly ticket: number; readonly vainReads: number };

export type TwinSyncInput =
  /** The subscription is on its way: first connect, or a reconnect. */
  | { readonly type: 'Connected' }
  | { readonly type: 'TwinAnswered'; readonly ticket: number; readonly twin: Twin }
  /** `silence`: no answer in time; `putOff`: throttled or unavailable; `refused`: anything that will not pass by itself. */
  | { readonly type: 'ReadFailed'; readonly ticket: number; readonly reason: 'silence' | 'putOff' | 'refused' }
  | { readonly type: 'PushReceived'; readonly push: DesiredPush }
  | { readonly type: 'PushUnreadable' }
  | { readonly type: 'ReportAccepted'; readonly version: number; readonly patch: JsonObject };

export type TwinSyncEffect =
  /**
   * GET the twin: at once, or after the backoff for the `putOffs`th time in a row when that is not 0: the hub puts the
   * reads off, or its answers lag behind its pushes.
   */
  | { readonly type: 'ReadTwin'; readonly ticket: number; readonly putOffs: number }
  | { readonly type: 'DeliverChange'; readonly change: DesiredChange }
  /** This connection will not bring the twin: reconnect, or report what the last read failed with. */
  | { readonly type: 'GiveUp' };

export interface TwinSyncStep {
  readonly sync: TwinSync;
  readonly effects: readonly TwinSyncEffect[];
}

/** Pushes kept until the answer comes; more than that, and the twin is read once more after it. */
export const MAX_BUFFERED_PUSHES: number = 256;

/** A read without an answer is repeated once on the same connection. */
const READS_BEFORE_GIVING_UP = 2;

/** So many reads in a row may be in vain before the next has to wait: a hub may answer from a copy that lags behind. */
const VAIN_READS_AT_ONCE = 2;

/** Knows nothing and waits for `Connected`. */
export function newTwinSync(): TwinSync {
  return awaitingTwin(undefined, 0, 0, 0);
}

/** What the application knows of the twin; undefined before the first answer. */
export function knownTwin(sync: TwinSync): Twin | undefined {
  return sync.name === 'Following' ? sync.twin : sync.known;
}

/** The next state, and what to do. Pure. */
export function stepTwinSync(sync: TwinSync, input: TwinSyncInput): TwinSyncStep {
  switch (input.type) {
    case 'Connected':
      return read(knownTwin(sync), sync.ticket + 1, 0, 0);
    case 'TwinAnswered':
      return isAwaited(sync, input.ticket) ? answered(sync, input.twin) : stay(sync);
    case 'ReadFailed':
      return isAwaited(sync, input.ticket) ? readFailed(sync, input.reason) : stay(sync);
    case 'PushReceived':
      return sync.name === 'Following' ? followPush(sync, input.push) : buffer(sync, input.push);
    case 'PushUnreadable':
      return sync.name === 'Following' ? followUnreadable(sync) : buffer(sync, 'unreadable');
    case 'ReportAccepted':
      return reportAccepted(sync, input.version, input.patch);
    default:
      return unreachable(input);
  }
}

type AwaitingTwin = Extract<TwinSync, { name: 'AwaitingTwin' }>;
type Following = Extract<TwinSync, { name: 'Following' }>;

function isAwaited(sync: TwinSync, ticket: number): sync is AwaitingTwin {
  return sync.name === 'AwaitingTwin' && sync.ticket === ticket;
}

function stay(sync: TwinSync): TwinSyncStep {
  return { sync, effects: [] };
}

function awaitingTwin(known: Twin | undefined, ticket: number, soughtVersion: number, vainReads: number): AwaitingTwin {
  return {
    name: 'AwaitingTwin',
    known,
    ticket,
    pushes: [],
    silences: 0,
    refusals: 0,
    soughtVersion,
    vainReads,
  };
}

/** Starts afresh: the answer will cover every push that came before this moment, so none of them is kept. */
function read(known: Twin | undefined, ticket: number, soughtVersion: number, vainReads: number): TwinSyncStep {
  const putOffs = Math.max(0, vainReads - VAIN_READS_AT_ONCE + 1);
  return {
    sync: awaitingTwin(known, ticket, soughtVersion, vainReads),
    effects: [{ type: 'ReadTwin', ticket, putOffs }],
  };
}

function buffer(sync: AwaitingTwin, push: DesiredPush | 'unreadable'): TwinSyncStep {
  // It orders a new read, whose answer covers whatever comes after it.
  if (sync.pushes.at(-1) === 'unreadable') return stay(sync);
  return stay({ ...sync, pushes: sync.pushes.length < MAX_BUFFERED_PUSHES ? [...sync.pushes, push] : ['unreadable'] });
}

/**
 * A lower version than the known one is an identity that was deleted and made anew: the answer is the truth. So it is
 * with the same version and other content: the new identity has caught up with the old one's number meanwhile.
 */
function answered(sync: AwaitingTwin, twin: Twin): TwinSyncStep {
  const { known, ticket, pushes, soughtVersion } = sync;
  const patch = known === undefined ? {} : diffPatch(known.desired.properties, twin.desired.properties);
  const effects = deliver({ version: twin.desired.version, patch, desired: twin.desired });
  const vainReads = twin.desired.version < soughtVersion ? sync.vainReads + 1 : 0;
  return replay({ name: 'Following', twin, ticket, vainReads }, effects, pushes);
}

function replay(
  start: Following,
  effects: readonly TwinSyncEffect[],
  pushes: readonly (DesiredPush | 'unreadable')[],
): TwinSyncStep {
  let step: TwinSyncStep = { sync: start, effects };
  for (const push of pushes) {
    // A gap ordered a new read, whose answer covers the pushes that are left.
    if (step.sync.name !== 'Following') break;
    const next = push === 'unreadable' ? followUnreadable(step.sync) : followPush(step.sync, push);
    step = { sync: next.sync, effects: [...step.effects, ...next.effects] };
  }
  return step;
}

function followPush(sync: Following, { version, patch }: DesiredPush): TwinSyncStep {
  const { desired } = sync.twin;
  if (version <= desired.version) return stay(sync);
  if (version > desired.version + 1) return read(sync.twin, sync.ticket + 1, version, sync.vainReads);
  const changed = { version, properties: mergePatch(desired.properties, patch) };
  return {
    sync: { ...sync, twin: { ...sync.twin, desired: changed } },
    effects: deliver({ version, patch, desired: changed }),
  };
}

/** A version that changes nothing is known from then on, and nothing to act upon. */
function deliver(change: DesiredChange): TwinSyncEffect[] {
  return Object.keys(change.patch).length === 0 ? [] : [{ type: 'DeliverChange', change }];
}

/** It told of a change at least. */
function followUnreadable({ twin, ticket, vainReads }: Following): TwinSyncStep {
  return read(twin, ticket + 1, twin.desired.version + 1, vainReads);
}

function readFailed(sync: AwaitingTwin, reason: 'silence' | 'putOff' | 'refused'): TwinSyncStep {
  const ticket = sync.ticket + 1;
  if (reason === 'silence' && sync.silences + 1 < READS_BEFORE_GIVING_UP) {
    const silences = sync.silences + 1;
    return { sync: { ...sync, ticket, silences }, effects: [{ type: 'ReadTwin', ticket, putOffs: 0 }] };
  }
  // Before the first answer the caller's own retry decides; afterwards the connection is worth keeping.
  if (reason === 'putOff' && sync.known !== undefined) {
    const refusals = sync.refusals + 1;
    return { sync: { ...sync, ticket, refusals }, effects: [{ type: 'ReadTwin', ticket, putOffs: refusals }] };
  }
  return { sync, effects: [{ type: 'GiveUp' }] };
}

function reportAccepted(sync: TwinSync, version: number, patch: JsonObject): TwinSyncStep {
  const twin = knownTwin(sync);
  if (twin === undefined) return stay(sync);
  const reported = { version, properties: mergePatch(twin.reported.properties, patch) };
  const updated = { ...twin, reported };
  return stay(sync.name === 'Following' ? { ...sync, twin: updated } : { ...sync, known: updated });
}
