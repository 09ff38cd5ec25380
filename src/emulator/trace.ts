/**
 * What happened, for tests and logs: who connected, what was asked and answered. Never a password, token, key or body.
 */

export type TraceEvent =
  | 'connect'
  | 'connack'
  | 'subscribe'
  | 'unsubscribe'
  /** A TPM was handed a key to prove itself with. */
  | 'challenge'
  | 'register'
  | 'status'
  | 'lookup'
  | 'reply'
  | 'twinGet'
  | 'twinPatch'
  | 'twinAnswer'
  | 'desiredPush'
  | 'telemetry'
  | 'cloudToDevice'
  | 'cloudToDeviceDone'
  | 'method'
  | 'methodAnswer'
  | 'ping'
  | 'disconnect'
  | 'close'
  /** A fault switch was applied. */
  | 'fault'
  /** Something was turned down; `detail` has the real cause, which the device is not told. */
  | 'refused'
  /** A protocol violation or a handshake that failed. */
  | 'violation';

export interface TraceEntry {
  /** Counts up from 1. */
  readonly sequence: number;
  readonly wallMs: number;
  /** Which service was spoken to; `none` before that is known. */
  readonly service: 'dps' | 'hub' | 'none';
  readonly protocol: 'mqtt' | 'amqp' | 'https';
  readonly event: TraceEvent;
  /** Number of the connection, counting up from 1. */
  readonly connection: number;
  readonly idScope?: string;
  readonly hub?: string;
  /** Registration id or device id. */
  readonly device?: string;
  /** HTTP-like status, CONNACK code, or method status. */
  readonly status?: number;
  readonly topic?: string;
  readonly detail?: string;
}

/** An entry before it is numbered and dated. */
export type TraceNote = Omit<TraceEntry, 'sequence' | 'wallMs'>;

/** Members that an entry must have, all of them. */
export type TraceMatch = Partial<
  Pick<TraceEntry, 'service' | 'protocol' | 'event' | 'connection' | 'idScope' | 'hub' | 'device' | 'status'>
>;

export interface TraceControls {
  /** The latest entries, oldest first; a bounded number of them. */
  entries(match?: TraceMatch): readonly TraceEntry[];
  /**
   * How many entries matched since the start, or since `clear()`; also those that are no longer kept, unless a
   * connection is asked for. Of entries that are no longer kept, thousands of devices are counted apart; those of further
   * ones count where neither a device, hub, ID scope nor a status is asked for.
   */
  count(match?: TraceMatch): number;
  /**
   * The first matching entry after `afterSequence` (default 0: what happened already counts), now or later.
   * Rejects when the emulator closes first.
   */
  waitFor(match: TraceMatch, afterSequence?: number): Promise<TraceEntry>;
  clear(): void;
}

const KEPT_ENTRIES = 5000;

/** Different kinds of forgotten entries that are counted apart, by device and all; names come from clients. */
const KEPT_COUNTS = 5000;

/** Names and topics come from clients, and may be as long as MQTT allows. */
const KEPT_CHARACTERS = 500;

interface Waiter {
  readonly match: TraceMatch;
  readonly resolve: (entry: TraceEntry) => void;
  readonly reject: (error: Error) => void;
}

export class Trace implements TraceControls {
  readonly #wallMs: () => number;
  readonly #listener: (entry: TraceEntry) => void;
  #entries: TraceEntry[] = [];
  #sequence = 0;
  #dropped = new Map<string, { readonly entry: TraceMatch; count: number }>();
  #waiters: Waiter[] = [];
  #isClosed = false;

  constructor(wallMs: () => number, listener: (entry: TraceEntry) => void) {
    this.#wallMs = wallMs;
    this.#listener = listener;
  }

  add(note: TraceNote): void {
    this.#sequence += 1;
    const entry: TraceEntry = { sequence: this.#sequence, wallMs: this.#wallMs(), ...shorten(note) };
    this.#entries.push(entry);
    if (this.#entries.length > KEPT_ENTRIES * 2) this.#forgetOldest();
    this.#listener(entry);
    const served = this.#waiters.filter((waiter) => matches(entry, waiter.match));
    this.#waiters = this.#waiters.filter((waiter) => !served.includes(waiter));
    for (const waiter of served) waiter.resolve(entry);
  }

  entries(match: TraceMatch = {}): readonly TraceEntry[] {
    return this.#entries.filter((entry) => matches(entry, match));
  }

  count(match: TraceMatch = {}): number {
    const dropped = [...this.#dropped.values()].filter((group) => matches(group.entry, match));
    return this.entries(match).length + dropped.reduce((sum, group) => sum + group.count, 0);
  }

  waitFor(match: TraceMatch, afterSequence = 0): Promise<TraceEntry> {
    const found = this.#entries.find((entry) => entry.sequence > afterSequence && matches(entry, match));
    if (found !== undefined) return Promise.resolve(found);
    if (this.#isClosed) return Promise.reject(closedError(match));
    const promise = new Promise<TraceEntry>((resolve, reject) => {
      this.#waiters.push({ match, resolve, reject });
    });
    // Somebody who stopped waiting must not be killed by the close.
    promise.catch(() => {});
    return promise;
  }

  clear(): void {
    this.#entries = [];
    this.#dropped.clear();
  }

  close(): void {
    this.#isClosed = true;
    for (const waiter of this.#waiters) waiter.reject(closedError(waiter.match));
    this.#waiters = [];
  }

  /** Keeps only the count of the oldest entries, by what can be asked for. */
  #forgetOldest(): void {
    const forgotten = this.#entries.splice(0, KEPT_ENTRIES);
    for (const { service, protocol, event, ...subject } of forgotten) {
      const kind = { service, protocol, event };
      const { idScope, hub, device, status } = subject;
      const full = JSON.parse(JSON.stringify({ ...kind, idScope, hub, device, status })) as TraceMatch;
      this.#countForgotten(this.#dropped.size < KEPT_COUNTS || this.#dropped.has(JSON.stringify(full)) ? full : kind);
    }
  }

  #countForgotten(entry: TraceMatch): void {
    const key = JSON.stringify(entry);
    const group = this.#dropped.get(key) ?? { entry, count: 0 };
    group.count += 1;
    this.#dropped.set(key, group);
  }
}

function shorten(note: TraceNote): TraceNote {
  const { idScope, hub, device, topic, detail } = note;
  const texts = Object.entries({ idScope, hub, device, topic, detail });
  if (texts.every(([, text]) => text === undefined || text === trim(text))) return note;
  return { ...note, ...Object.fromEntries(texts.map(([key, text]) => [key, text && trim(text)])) };
}

/** Clients say their secrets where they do not belong: a token in a topic, a connection string as user name. */
function trim(text: string): string {
  if (/SharedAccess/i.test(text)) return '[left out: it may hold a secret]';
  // Every run is matched, also one that stays: a pattern that fails on it would try again from its every character.
  const withoutKeys = text.replace(/[A-Za-z0-9+/]{40,}(={0,2})(?![A-Za-z0-9])/g, (run, padding) =>
    padding === '' ? run : '[…]',
  );
  return withoutKeys.slice(0, KEPT_CHARACTERS);
}

function matches(entry: TraceMatch, match: TraceMatch): boolean {
  return (Object.keys(match) as (keyof TraceMatch)[]).every(
    (key) => match[key] === undefined || entry[key] === match[key],
  );
}

function closedError(match: TraceMatch): Error {
  return new Error(`The emulator closed before this happened: ${JSON.stringify(match)}`);
}
