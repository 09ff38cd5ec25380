import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock, Random } from '../core/clock.js';
import type { Unsubscribe } from '../core/hub.js';
import { backoffMs } from '../core/retry.js';
import { asError } from '../core/thrown-words.js';
import { type DesiredChange, type JsonObject, parseDesiredPatch, parseTwin, type Twin } from '../core/twin.js';
import {
  knownTwin,
  newTwinSync,
  stepTwinSync,
  type TwinSync,
  type TwinSyncEffect,
  type TwinSyncInput,
} from '../core/twin-sync.js';
import { hubErrorFrom } from '../core/wire/hub-error.js';
import { DpsError, ProtocolError, ServiceError } from '../errors.js';
import type { MqttPublish } from '../net/mqtt-engine.js';
import { waitWithin } from './bounded-wait.js';
import { reportText } from './outgoing-bodies.js';
import { guard, type StrayErrorSink } from './stray-error.js';
import { type TwinAnswer, TwinLane, type TwinLaneOptions } from './twin-lane.js';

/** A throttled hub wants to be left alone for at least this long (hub-protocol, section 6.2). */
export const PUT_OFF_FLOOR_MS = 10_000;

export interface TwinClientOptions extends TwinLaneOptions {
  readonly random: Random;
  readonly onStrayError: StrayErrorSink;
  /** This connection will not bring the twin. */
  readonly onGiveUp: (error: Error) => void;
}

/** Does what the order rule in `core/twin-sync.ts` orders, and reports on behalf of the application. */
export class TwinClient {
  /** Settles at the first twin; stays pending when there never is one. */
  readonly ready: Promise<void>;
  readonly #options: TwinClientOptions;
  readonly #clock: Clock;
  readonly #lane: TwinLane;
  readonly #listeners: Set<(change: DesiredChange) => void> = new Set();
  #resolveReady: () => void = () => {};
  #sync: TwinSync = newTwinSync();
  #lastReadError: Error | undefined;
  #stopTimer: (() => void) | undefined;
  /** Counts connections: what a read failed with on an earlier one does not matter any more. */
  #connection = 0;
  #isOver = false;

  constructor(options: TwinClientOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#lane = new TwinLane(options);
    this.ready = new Promise((resolve) => {
      this.#resolveReady = resolve;
    });
  }

  get twin(): Twin | undefined {
    return knownTwin(this.#sync);
  }

  /** A connection on which the twin filters are being subscribed: reads the twin right behind that. */
  connected(send: (message: MqttPublish) => Promise<void>): void {
    this.#lane.attach(send);
    this.#feed({ type: 'Connected' });
  }

  /** Before a planned reconnect: starts nothing new, and settles when the request under way is answered. */
  hold(): Promise<void> {
    this.#lane.hold();
    return this.#lane.idle();
  }

  disconnected(error: Error): void {
    this.#connection += 1;
    this.#stopTimer?.();
    this.#lane.detach(error);
  }

  end(error: Error): void {
    this.#isOver = true;
    this.disconnected(error);
    this.#listeners.clear();
    this.#lane.end(error);
  }

  receiveAnswer(requestId: string, answer: TwinAnswer): void {
    this.#lane.receive(requestId, answer);
  }

  /** It may have been the awaited one: better to fail than to wait for one that has been and gone. */
  receiveUnreadableAnswer(error: Error): void {
    if (!this.#lane.fail(error)) this.#options.onStrayError(error, 'delivery');
  }

  receivePush(version: number | undefined, body: Uint8Array): void {
    try {
      this.#feed({ type: 'PushReceived', push: parseDesiredPatch(body, version) });
    } catch (error) {
      this.receiveUnreadablePush(error);
    }
  }

  /** Something changed, nobody knows what: as good as lost. */
  receiveUnreadablePush(error: unknown): void {
    this.#options.onStrayError(error, 'delivery');
    this.#feed({ type: 'PushUnreadable' });
  }

  onChange(listener: (change: DesiredChange) => void): Unsubscribe {
    // A wrapper of its own: the same function may be given twice.
    const own = (change: DesiredChange): void => listener(change);
    this.#listeners.add(own);
    return () => {
      this.#listeners.delete(own);
    };
  }

  /** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for a patch that the hub would refuse; nothing was sent. */
  async report(patch: JsonObject, signal: CancelSignal | undefined): Promise<number> {
    const text = reportText(patch);
    return waitWithin({ doing: 'reporting properties', signal }, async (within) => {
      const queued = this.#lane.report(new TextEncoder().encode(text));
      within.addEventListener('abort', () => queued.withdraw(), { once: true });
      return this.#accepted(await queued.answer, JSON.parse(text));
    });
  }

  /** The caller may be gone by now; that the hub took the patch is true all the same. */
  #accepted({ status, version, body }: TwinAnswer, patch: JsonObject): number {
    requireSuccess('the reported properties', status, body);
    if (version === undefined) {
      throw new ProtocolError({
        code: 'ERR_DPS_PROTOCOL_TOPIC',
        message: 'The hub accepted the reported properties without saying their new $version.',
        expected: '$version in the topic of the answer',
        got: 'none',
        status,
      });
    }
    this.#feed({ type: 'ReportAccepted', version, patch });
    return version;
  }

  #feed(input: TwinSyncInput): void {
    const { sync, effects } = stepTwinSync(this.#sync, input);
    this.#sync = sync;
    if (knownTwin(sync) !== undefined) this.#resolveReady();
    for (const effect of effects) this.#perform(effect);
  }

  #perform(effect: TwinSyncEffect): void {
    // A listener may have closed the session in the midst of it.
    if (this.#isOver) return;
    switch (effect.type) {
      case 'ReadTwin':
        if (effect.putOffs === 0) void this.#read(effect.ticket);
        else this.#readLater(effect.ticket, effect.putOffs);
        return;
      case 'DeliverChange':
        for (const listener of [...this.#listeners]) {
          guard(() => listener(effect.change), this.#options.onStrayError, 'desired listener');
        }
        return;
      case 'GiveUp':
        this.#options.onGiveUp(this.#lastReadError ?? new TypeError('GiveUp without a failed read'));
        return;
      default:
        throw new TypeError(`Unreachable: ${JSON.stringify(effect satisfies never)}`);
    }
  }

  #readLater(ticket: number, putOffs: number): void {
    const delayMs = PUT_OFF_FLOOR_MS + backoffMs(putOffs, this.#options.random());
    this.#stopTimer?.();
    this.#stopTimer = this.#clock.after(delayMs, () => void this.#read(ticket));
  }

  async #read(ticket: number): Promise<void> {
    const connection = this.#connection;
    try {
      const { status, body } = await this.#lane.read();
      requireSuccess('the request for the device twin', status, body);
      this.#feed({ type: 'TwinAnswered', ticket, twin: parseTwin(body) });
    } catch (error) {
      if (connection !== this.#connection) return;
      this.#lastReadError = asError(error);
      this.#feed({ type: 'ReadFailed', ticket, reason: reasonOf(error) });
    }
  }
}

function requireSuccess(doing: string, status: number, body: Uint8Array): void {
  if (status >= 300) throw hubErrorFrom(doing, status, body);
  if (status >= 200) return;
  throw new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_STATUS',
    message: `The hub answered ${doing} with status ${status}, which is none.`,
    expected: 'status 200 or more',
    got: String(status),
    status,
  });
}

function reasonOf(error: unknown): 'silence' | 'putOff' | 'refused' {
  if (error instanceof ServiceError) return error.retryable ? 'putOff' : 'refused';
  return error instanceof DpsError && error.code === 'ERR_DPS_REQUEST_TIMEOUT' ? 'silence' : 'refused';
}
