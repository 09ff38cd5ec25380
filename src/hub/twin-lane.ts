import type { Clock } from '../core/clock.js';
import { twinGetTopic, twinReportedTopic } from '../core/wire/hub-mqtt.js';
import type { MqttPublish } from '../net/mqtt-engine.js';
import { requestTimedOut } from './hub-errors.js';

/** The hub's answer to a twin request; the status has not been judged. */
export interface TwinAnswer {
  readonly status: number;
  readonly version: number | undefined;
  readonly body: Uint8Array;
}

export interface TwinLaneOptions {
  readonly clock: Clock;
  /** How long a request may be first in line, waiting for a connection included, until it is answered. */
  readonly timeoutMs: number;
  readonly newRequestId: () => string;
  /** `host:port`, for errors. */
  readonly peer: string;
}

/** A report on its way. */
export interface QueuedReport {
  readonly answer: Promise<TwinAnswer>;
  /** Takes the report back if it has not been sent. One that was sent keeps its place until it is answered. */
  withdraw(): void;
}

interface TwinRequest {
  readonly kind: 'read' | 'report';
  readonly payload: Uint8Array;
  readonly resolve: (answer: TwinAnswer) => void;
  readonly reject: (error: Error) => void;
  stopTimer: (() => void) | undefined;
  /** Set when it was sent. */
  requestId: string | undefined;
}

/**
 * One twin request at a time: the hub may apply patches that are sent together in any order (hub-protocol, section
 * 2.3), and a read that overlaps a report would tell half of the truth. Reads go first.
 */
export class TwinLane {
  readonly #options: TwinLaneOptions;
  #queue: TwinRequest[] = [];
  #active: TwinRequest | undefined;
  #send: ((message: MqttPublish) => Promise<void>) | undefined;
  #isHeld = false;
  #end: Error | undefined;
  #onIdle: (() => void)[] = [];

  constructor(options: TwinLaneOptions) {
    this.#options = options;
  }

  /** Asks for the twin, before anything that waits. */
  read(): Promise<TwinAnswer> {
    return new Promise((resolve, reject) => {
      this.#enqueue('front', newRequest('read', new Uint8Array(0), resolve, reject));
    });
  }

  /** Changes reported properties, after everything that waits. */
  report(payload: Uint8Array): QueuedReport {
    let request: TwinRequest | undefined;
    const answer = new Promise<TwinAnswer>((resolve, reject) => {
      request = newRequest('report', payload, resolve, reject);
      this.#enqueue('back', request);
    });
    return { answer, withdraw: () => this.#withdraw(request) };
  }

  /** Uses this connection from the next request on: a read, which the caller orders right away. */
  attach(send: (message: MqttPublish) => Promise<void>): void {
    this.#send = send;
    this.#isHeld = false;
  }

  /** Starts nothing new until the next `attach`. */
  hold(): void {
    this.#isHeld = true;
  }

  /** Settles when no request is under way. Never fails. */
  idle(): Promise<void> {
    if (this.#active === undefined) return Promise.resolve();
    return new Promise((resolve) => this.#onIdle.push(resolve));
  }

  /** The connection is given up: what was sent, and every read, fails with `error`; reports wait for the next one. */
  detach(error: Error): void {
    this.#send = undefined;
    this.#isHeld = true;
    const lost = this.#queue.filter(({ kind }) => kind === 'read');
    if (this.#active !== undefined) lost.push(this.#active);
    for (const request of lost) this.#settle(request, ({ reject }) => reject(error));
  }

  /** Takes the hub's answer; one that nobody waits for any more is ignored. */
  receive(requestId: string, answer: TwinAnswer): void {
    if (this.#active?.requestId === requestId) this.#settle(this.#active, (request) => request.resolve(answer));
  }

  /** Fails what was sent and is not answered; false when there is nothing. */
  fail(error: Error): boolean {
    const active = this.#active;
    if (active === undefined) return false;
    this.#settle(active, ({ reject }) => reject(error));
    return true;
  }

  /** For good. */
  end(error: Error): void {
    this.#end = error;
    const all = this.#active === undefined ? this.#queue : [this.#active, ...this.#queue];
    this.#queue = [];
    for (const request of all) this.#settle(request, ({ reject }) => reject(error));
  }

  #enqueue(place: 'front' | 'back', request: TwinRequest): void {
    if (this.#end !== undefined) {
      request.reject(this.#end);
      return;
    }
    if (place === 'front') this.#queue.unshift(request);
    else this.#queue.push(request);
    this.#advance();
  }

  #withdraw(request: TwinRequest | undefined): void {
    if (request === undefined || !this.#queue.includes(request)) return;
    this.#settle(request, () => {});
  }

  #advance(): void {
    const [next] = this.#queue;
    if (this.#active !== undefined || next === undefined) return;
    next.stopTimer ??= this.#options.clock.after(this.#options.timeoutMs, () => {
      this.#settle(next, ({ reject }) => reject(this.#silence(next)));
    });
    if (this.#isHeld || this.#send === undefined) return;
    this.#queue.shift();
    this.#active = next;
    this.#transmit(next, this.#send);
  }

  #transmit(request: TwinRequest, send: (message: MqttPublish) => Promise<void>): void {
    const requestId = this.#options.newRequestId();
    request.requestId = requestId;
    const topic = request.kind === 'read' ? twinGetTopic(requestId) : twinReportedTopic(requestId);
    send({ topic, payload: request.payload, qos: 0 }).catch((error: Error) => {
      if (request.requestId === requestId) this.#settle(request, ({ reject }) => reject(error));
    });
  }

  #settle(request: TwinRequest, conclude: (request: TwinRequest) => void): void {
    request.stopTimer?.();
    this.#queue = this.#queue.filter((other) => other !== request);
    if (this.#active === request) {
      this.#active = undefined;
      for (const resolve of this.#onIdle.splice(0)) resolve();
    }
    conclude(request);
    this.#advance();
  }

  #silence({ kind }: TwinRequest): Error {
    const what = kind === 'read' ? 'the request for the device twin' : 'the reported properties';
    return requestTimedOut(this.#options.peer, what, this.#options.timeoutMs, HINT);
  }
}

const HINT = 'Check the network; a hub of the Basic tier has no twins.';

function newRequest(
  kind: TwinRequest['kind'],
  payload: Uint8Array,
  resolve: (answer: TwinAnswer) => void,
  reject: (error: Error) => void,
): TwinRequest {
  return { kind, payload, resolve, reject, stopTimer: undefined, requestId: undefined };
}
