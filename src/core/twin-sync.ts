import { type DesiredChange, type DesiredPush, diffPatch, type JsonObject, mergePatch, type Twin } from './twin.js';

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
    }
  | { readonly name: 'Following'; readonly twin: Twin; readonly ticket: number };

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
  /** GET the twin: at once, or after the backoff for the `putOffs`th time in a row when that is not 0. */
  | { readonly type: 'ReadTwin'; readonly ticket: number; readonly putOffs: number }
  | { readonly type: 'DeliverChange'; readonly change: DesiredChange }
  /** This connection will not bring the twin: reconnect, or report what the last read failed with. */
  | { readonly type: 'GiveUp' };

export interface TwinSyncStep {
  readonly sync: TwinSync;
  readonly effects: readonly TwinSyncEffect[];
}

/** A read without an answer is repeated once on the same connection. */
const READS_BEFORE_GIVING_UP = 2;

/** Knows nothing and waits for `Connected`. */
export function newTwinSync(): TwinSync {
  return { name: 'AwaitingTwin', known: undefined, ticket: 0, pushes: [], silences: 0, refusals: 0 };
}

/** What the application knows of the twin; undefined before the first answer. */
export function knownTwin(sync: TwinSync): Twin | undefined {
  return sync.name === 'Following' ? sync.twin : sync.known;
}

/** The next state, and what to do. Pure. */
export function stepTwinSync(sync: TwinSync, input: TwinSyncInput): TwinSyncStep {
  switch (input.type) {
    case 'Connected':
      return readAgain(sync, knownTwin(sync));
    case 'TwinAnswered':
      return isAwaited(sync, input.ticket) ? answered(sync, input.twin) : stay(sync);
    case 'ReadFailed':
      return isAwaited(sync, input.ticket) ? readFailed(sync, input.reason) : stay(sync);
    case 'PushReceived':
      return sync.name === 'Following' ? followPush(sync, input.push) : buffer(sync, input.push);
    case 'PushUnreadable':
      return sync.name === 'Following' ? readAgain(sync, sync.twin) : buffer(sync, 'unreadable');
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

/** Starts afresh: the answer will cover every push that came before this moment, so none of them is kept. */
function readAgain({ ticket: last }: TwinSync, known: Twin | undefined): TwinSyncStep {
  const ticket = last + 1;
  return {
    sync: { name: 'AwaitingTwin', known, ticket, pushes: [], silences: 0, refusals: 0 },
    effects: [{ type: 'ReadTwin', ticket, putOffs: 0 }],
  };
}

function buffer(sync: AwaitingTwin, push: DesiredPush | 'unreadable'): TwinSyncStep {
  return stay({ ...sync, pushes: [...sync.pushes, push] });
}

/**
 * A lower version than the known one is an identity that was deleted and made anew: the answer is the truth. So it is
 * with the same version and other content: the new identity has caught up with the old one's number meanwhile.
 */
function answered({ known, ticket, pushes }: AwaitingTwin, twin: Twin): TwinSyncStep {
  const effects: TwinSyncEffect[] = [];
  const patch = known === undefined ? {} : diffPatch(known.desired.properties, twin.desired.properties);
  const hasChanged = known?.desired.version !== twin.desired.version || Object.keys(patch).length > 0;
  if (known !== undefined && hasChanged) {
    effects.push({
      type: 'DeliverChange',
      change: { version: twin.desired.version, patch, desired: twin.desired },
    });
  }
  return replay({ name: 'Following', twin, ticket }, effects, pushes);
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
    const next = push === 'unreadable' ? readAgain(step.sync, step.sync.twin) : followPush(step.sync, push);
    step = { sync: next.sync, effects: [...step.effects, ...next.effects] };
  }
  return step;
}

function followPush(sync: Following, { version, patch }: DesiredPush): TwinSyncStep {
  const { desired } = sync.twin;
  if (version <= desired.version) return stay(sync);
  if (version > desired.version + 1) return readAgain(sync, sync.twin);
  const changed = { version, properties: mergePatch(desired.properties, patch) };
  return {
    sync: { ...sync, twin: { ...sync.twin, desired: changed } },
    effects: [{ type: 'DeliverChange', change: { version, patch, desired: changed } }],
  };
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

function unreachable(input: never): never {
  throw new TypeError(`Unreachable: ${JSON.stringify(input)}`);
}
