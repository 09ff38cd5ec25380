import type { Duplex } from 'node:stream';
import type { Delivery, EventContext, Receiver, Sender } from 'rhea';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import { excerptOf } from '../core/json-body.js';
import { asError } from '../core/thrown-words.js';
import type { AmqpPropertyList, AmqpRefusal } from '../core/wire/dps-amqp.js';
import { isDpsError, ProtocolError } from '../errors.js';
import { abortable } from './abortable.js';
import { AmqpFrameCutter } from './amqp-frames.js';
import { ConnectionEnd } from './connection-end.js';
import { connectionLost, connectTimedOut, type FailurePoint, sessionClosed } from './connection-errors.js';
import { bodyBytesOf, createRheaClient, dataMessage, type RheaClient } from './rhea-client.js';

/** An AMQP 1.0 connection that is open on both sides. Never reconnects, never retries. */
export interface AmqpConnection {
  /** `host:port` of the peer, for errors. */
  readonly peer: string;
  /** Settles once when the connection is gone: `undefined` after `close()`, else the error it ended with. */
  readonly closed: Promise<Error | undefined>;
  /** Attaches a receiver from and a sender to `address`, once; settles when a request can be sent, or with the peer's no. */
  attach(links: AmqpLinks, signal: CancelSignal): Promise<AmqpRefusal | undefined>;
  /** Sends a message; settles with the reply that bears its correlation id, or with the peer's no. */
  request(message: AmqpRequest, signal: CancelSignal): Promise<AmqpMessage | AmqpRefusal>;
  /** CLOSE, then closes. Never fails; safe to call twice. */
  close(): Promise<void>;
}

export interface AmqpLinks {
  readonly address: string;
  readonly properties: Readonly<Record<string, string>>;
}

export interface AmqpRequest {
  readonly correlationId: string;
  readonly applicationProperties: Readonly<Record<string, string | boolean>>;
  readonly body: Uint8Array;
}

export interface AmqpMessage {
  readonly applicationProperties: AmqpPropertyList;
  readonly body: Uint8Array;
}

/** The one mechanism that the client knows. */
export interface AmqpSasl {
  readonly mechanism: string;
  readonly hostName: string;
  readonly initialResponse: Uint8Array;
  /** The answer to a challenge, as late as it may come. A rejection ends the connection with its reason. */
  respond(challenge: Uint8Array): Promise<Uint8Array>;
}

export interface AmqpOpenOptions {
  /** Connected to the peer; from now on it belongs to the AMQP connection, also when `openAmqp` fails. */
  readonly socket: Duplex;
  /** `host:port` of the peer, for errors. */
  readonly peer: string;
  /** The host that is meant, in OPEN. */
  readonly hostName: string;
  readonly containerId: string;
  /** Default: no SASL layer. */
  readonly sasl?: AmqpSasl | undefined;
  /** Bounds the peer's silence up to its OPEN. Default 30,000. */
  readonly openTimeoutMs?: number | undefined;
  readonly clock: Clock;
}

export const DEFAULT_AMQP_OPEN_TIMEOUT_MS = 30_000;

/** What is announced in OPEN as the largest frame. */
export const MAX_AMQP_FRAME_BYTES: number = 64 * 1024;

/** DPS and hubs send 256 KB at most. */
export const MAX_AMQP_MESSAGE_BYTES: number = 1024 * 1024;

/**
 * Opens AMQP 1.0 over `socket`: the SASL layer if there is one, then OPEN.
 *
 * @returns the connection, or the outcome with which the peer refused in the SASL layer: `sasl:auth`, `sasl:sys`,
 *   `sasl:sys-perm`, `sasl:sys-temp`.
 * @throws {TransportError} `ERR_DPS_CONNECT_TIMEOUT`, `ERR_DPS_CONNECTION_LOST`, `ERR_DPS_TLS_CLIENT_REFUSED`.
 * @throws {ProtocolError} `ERR_DPS_PROTOCOL_AMQP` when the peer does not speak AMQP 1.0, or not this mechanism.
 * @see AMQP 1.0, part 2, section 2.4, and part 5, section 5.3
 */
export function openAmqp(options: AmqpOpenOptions, signal: CancelSignal): Promise<AmqpConnection | AmqpRefusal> {
  const { socket } = options;
  if (signal.aborted) socket.destroy();
  return abortable<AmqpConnection | AmqpRefusal>(signal, (resolve, reject) => {
    let isHandedOver = false;
    const accept = (): void => {
      isHandedOver = true;
      resolve(connection);
    };
    const connection = new RheaConnection(options, { accept, refuse: resolve, reject });
    return () => {
      connection.stopOpenTimer();
      if (!isHandedOver) socket.destroy();
    };
  });
}

/** AMQP 1.0, part 2, section 2.7.9: CLOSE without an error, on channel 0. */
const CLOSE: Uint8Array = Uint8Array.of(0, 0, 0, 12, 2, 0, 0, 0, 0, 0x53, 0x18, 0x45);
/** Section 2.4.5: a frame without a body says that its sender is alive. */
const EMPTY_FRAME: Uint8Array = Uint8Array.of(0, 0, 0, 8, 2, 0, 0, 0);
/** A peer that wants to hear something more often than this is not obliged. */
const SHORTEST_HEARTBEAT_MS = 1000;

/** Replies that the peer may have under way. */
const REPLY_CREDIT = 16;

/** Part 5, section 5.3.3.6. */
const SASL_OUTCOMES: Readonly<Record<string, string>> = { 1: 'auth', 2: 'sys', 3: 'sys-perm', 4: 'sys-temp' };

interface Opening {
  readonly accept: () => void;
  readonly refuse: Refuse;
  readonly reject: (reason: unknown) => void;
}

type Refuse = (refusal: AmqpRefusal) => void;

/** rhea for encoding, sessions, links and credit. When the connection ends, and with what error, is decided here. */
class RheaConnection implements AmqpConnection {
  readonly peer: string;
  readonly closed: Promise<Error | undefined>;
  readonly #options: AmqpOpenOptions;
  readonly #rhea: RheaClient;
  readonly #cutter = new AmqpFrameCutter(MAX_AMQP_FRAME_BYTES);
  readonly #ending: ConnectionEnd;
  /** What the peer's no answers, as long as it is under way. */
  readonly #refusable: Set<Refuse> = new Set();
  readonly #replies: Map<string, (message: AmqpMessage) => void> = new Map();
  readonly #deliveries: Map<unknown, Refuse> = new Map();
  #opening: Opening | undefined;
  #links: { readonly sender: Sender; readonly receiver: Receiver } | undefined;
  #onLinkEvent: () => void = () => {};
  #stopOpenTimer: () => void = () => {};
  #stopHeartbeat: () => void = () => {};
  #unfinishedBytes = 0;

  constructor(options: AmqpOpenOptions, opening: Opening) {
    const { socket, peer, hostName, containerId, sasl, clock } = options;
    this.#options = options;
    this.#opening = opening;
    this.peer = peer;
    this.#rhea = createRheaClient({
      socket,
      hostName,
      containerId,
      maxFrameBytes: MAX_AMQP_FRAME_BYTES,
      sasl: sasl === undefined ? undefined : { ...sasl, respond: (challenge) => this.#respond(sasl, challenge) },
      onRespond: (isPending) => (isPending ? this.stopOpenTimer() : this.#startOpenTimer()),
      onEnd: () => this.#ending.endSoon(() => connectionLost(this.#here())),
    });
    const onEnd = (reason: Error): void => this.#release(reason);
    this.#ending = new ConnectionEnd({ socket, peer, clock, here: () => this.#here(), onEnd });
    this.closed = this.#ending.closed;
    if (this.#ending.isOver) return;
    socket.on('data', (chunk: Uint8Array) => this.#receive(chunk));
    this.#watchRhea();
    this.#startOpenTimer();
  }

  attach(links: AmqpLinks, signal: CancelSignal): Promise<AmqpRefusal | undefined> {
    return this.#operation<undefined>(signal, (resolve) => {
      this.#links ??= this.#attachLinks(links);
      const { sender, receiver } = this.#links;
      this.#onLinkEvent = () => {
        if (sender.is_open() && receiver.is_open() && sender.sendable()) resolve(undefined);
      };
      this.#onLinkEvent();
      return () => {
        this.#onLinkEvent = () => {};
      };
    });
  }

  request(message: AmqpRequest, signal: CancelSignal): Promise<AmqpMessage | AmqpRefusal> {
    const { correlationId, applicationProperties, body } = message;
    return this.#operation<AmqpMessage>(signal, (resolve, refuse) => {
      const properties = { correlation_id: correlationId, application_properties: { ...applicationProperties } };
      const delivery = this.#links?.sender.send(dataMessage(body, properties));
      this.#replies.set(correlationId, resolve);
      this.#deliveries.set(delivery, refuse);
      return () => {
        this.#replies.delete(correlationId);
        this.#deliveries.delete(delivery);
      };
    });
  }

  close(): Promise<void> {
    return this.#ending.close(CLOSE);
  }

  stopOpenTimer(): void {
    this.#stopOpenTimer();
  }

  #startOpenTimer(): void {
    if (this.#opening === undefined || this.#ending.isOver) return;
    const { clock, openTimeoutMs = DEFAULT_AMQP_OPEN_TIMEOUT_MS } = this.#options;
    this.#stopOpenTimer = clock.after(openTimeoutMs, () =>
      this.#ending.end(() => connectTimedOut(this.#here(), openTimeoutMs)),
    );
  }

  async #respond(sasl: AmqpSasl, challenge: Uint8Array): Promise<Uint8Array> {
    try {
      return await sasl.respond(challenge);
    } catch (error) {
      this.#ending.end(() => asError(error));
      throw error;
    }
  }

  #attachLinks({ address, properties }: AmqpLinks): { sender: Sender; receiver: Receiver } {
    const { connection } = this.#rhea;
    const common = { properties: { ...properties } };
    // The receiver first, as the service's own clients do.
    const receiver = connection.open_receiver({
      ...common,
      source: { address },
      credit_window: REPLY_CREDIT,
      max_message_size: MAX_AMQP_MESSAGE_BYTES,
    });
    return { receiver, sender: connection.open_sender({ ...common, target: { address } }) };
  }

  #watchRhea(): void {
    const { connection } = this.#rhea;
    const on = (names: readonly string[], listener: (context: EventContext) => void): void => {
      for (const name of names) connection.on(name, listener);
    };
    on(['connection_open'], () => this.#onOpen());
    on(['receiver_open', 'sender_open', 'sendable'], () => this.#onLinkEvent());
    on(['message'], (context) => this.#onMessage(context));
    on(['rejected', 'released', 'modified'], ({ delivery }) => this.#onRejected(delivery));
    on(['receiver_error', 'sender_error'], ({ receiver, sender }) => this.#onRefused((receiver ?? sender)?.error));
    on(['session_error'], ({ session }) => this.#onRefused(session?.error));
    on(['receiver_close', 'sender_close', 'session_close'], () =>
      this.#ending.endSoon(() => connectionLost(this.#here())),
    );
    on(['connection_error'], (context) => this.#onConnectionError(context));
    on(['connection_close'], () => this.#ending.endSoon(() => connectionLost(this.#here())));
    on(['protocol_error', 'error'], (error) => this.#ending.end(() => this.#breach(wordsOf(error))));
  }

  #receive(chunk: Uint8Array): void {
    const { units, problem } = this.#cutter.cut(chunk);
    for (const unit of units) {
      if (this.#ending.isOver) return;
      this.#rhea.push(unit);
      this.#measure(unit);
    }
    if (problem !== undefined) this.#ending.endSoon(() => this.#breach(problem));
  }

  /** rhea keeps what it has of a message until it has all of it. */
  #measure(unit: Uint8Array): void {
    const { receiver } = this.#links ?? {};
    const isUnfinished = (receiver as { readonly _incomplete?: unknown } | undefined)?._incomplete !== undefined;
    this.#unfinishedBytes = isUnfinished ? this.#unfinishedBytes + unit.length : 0;
    if (this.#unfinishedBytes > MAX_AMQP_MESSAGE_BYTES) {
      this.#ending.end(() => this.#breach(`a message of more than ${MAX_AMQP_MESSAGE_BYTES} bytes`));
    }
  }

  #onOpen(): void {
    const opening = this.#opening;
    if (opening === undefined || this.#ending.isOver) return;
    // It reads what the peer's OPEN says, and may fail at it: until then there is somebody to hear of that.
    this.#beatFor(this.#rhea.connection);
    this.#opening = undefined;
    this.stopOpenTimer();
    opening.accept();
  }

  /** By our clock, not by the timers that rhea would set. */
  #beatFor(connection: { readonly idle_time_out?: number | undefined }): void {
    const idleMs = connection.idle_time_out;
    const { open } = (connection as { readonly remote?: { readonly open?: { idle_time_out?: unknown } } }).remote ?? {};
    if (open !== undefined) open.idle_time_out = undefined;
    if (typeof idleMs !== 'number' || idleMs <= 0) return;
    const everyMs = Math.max(idleMs / 2, SHORTEST_HEARTBEAT_MS);
    const beat = (): void => {
      this.#stopHeartbeat = this.#options.clock.after(everyMs, () => {
        this.#options.socket.write(EMPTY_FRAME);
        beat();
      });
    };
    beat();
  }

  #onMessage(context: EventContext): void {
    const { correlation_id: correlationId, application_properties: properties } = context.message ?? {};
    const onReply = typeof correlationId === 'string' ? this.#replies.get(correlationId) : undefined;
    // A property list is what rhea makes of a map; anything else has no properties.
    onReply?.({ applicationProperties: Object(properties) as AmqpPropertyList, body: bodyBytesOf(context) });
  }

  #onRejected(delivery: Delivery | undefined): void {
    const { error } = Object(delivery?.remote_state) as { readonly error?: unknown };
    this.#deliveries.get(delivery)?.(refusalOf(error));
  }

  /** The service ended a link or a session, and said why: that answers whatever waits. */
  #onRefused(error: unknown): void {
    const refusal = refusalOf(error);
    for (const refuse of this.#refusable) refuse(refusal);
    this.#ending.endSoon(() => connectionLost(this.#here(), new Error(excerptOf(refusal.condition))));
  }

  #onConnectionError({ error }: EventContext): void {
    const opening = this.#opening;
    const text = String(Object(error).message ?? '');
    const [, code = ''] = /^Failed to authenticate: (\d+)$/.exec(text) ?? [];
    if (opening === undefined) {
      this.#onRefused(error);
    } else if (code !== '') {
      const condition = `sasl:${SASL_OUTCOMES[code] ?? 'auth'}`;
      opening.refuse({ condition, description: '', info: {} });
      this.#ending.end(() => sessionClosed(this.peer));
    } else if (/^(No suitable mechanism|SASL)/.test(text)) {
      this.#ending.end(() => this.#breach(`no SASL mechanism ${this.#options.sasl?.mechanism ?? ''}`));
    } else {
      const { condition } = refusalOf(error);
      this.#ending.endSoon(() => connectionLost(this.#here(), new Error(excerptOf(condition))));
    }
  }

  #operation<T>(
    signal: CancelSignal,
    start: (resolve: (value: T) => void, refuse: Refuse) => () => void,
  ): Promise<T | AmqpRefusal> {
    return this.#ending.unlessOver<T | AmqpRefusal>(signal, (settle) => {
      const refuse: Refuse = (refusal) => settle(refusal);
      this.#refusable.add(refuse);
      const release = start(settle, refuse);
      return () => {
        this.#refusable.delete(refuse);
        release();
      };
    });
  }

  #release(reason: Error): void {
    this.stopOpenTimer();
    this.#stopHeartbeat();
    this.#rhea.stop();
    this.#opening?.reject(reason);
  }

  #breach(got: string): ProtocolError {
    return new ProtocolError({
      code: 'ERR_DPS_PROTOCOL_AMQP',
      message: `${this.peer} sent what AMQP 1.0 does not allow here (${got}). Check for a proxy in between, and that the port is that of AMQP.`,
      expected: 'AMQP 1.0 frames of a server',
      got,
    });
  }

  #here(): FailurePoint {
    return {
      phase: this.#opening === undefined ? 'established' : 'amqp-open',
      peer: this.peer,
      clock: this.#options.clock,
    };
  }
}

/** The error of a frame, as far as it is one. */
function refusalOf(error: unknown): AmqpRefusal {
  const { condition, description, info } = Object(error) as Readonly<Record<string, unknown>>;
  return {
    condition: typeof condition === 'string' ? condition : 'no condition given',
    description: typeof description === 'string' ? description : '',
    info: Object(info) as AmqpPropertyList,
  };
}

/** rhea's own words: types, lengths and names, and what a peer wrote where a number should be. */
function wordsOf(error: unknown): string {
  if (isDpsError(error)) return error.message;
  if (error instanceof Error) return excerptOf(error.message);
  return 'something that cannot be read';
}
