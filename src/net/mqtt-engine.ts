import type { Duplex } from 'node:stream';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import { asError } from '../core/thrown-words.js';
import { ConfigurationError, ProtocolError, TransportError } from '../errors.js';
import { abortable } from './abortable.js';
import { ConnectionEnd } from './connection-end.js';
import { connectionLost, connectTimedOut, type FailurePoint } from './connection-errors.js';
import { createMqttJsClient, type MqttJsClient } from './mqtt-js.js';
import { MqttPacketMeter } from './mqtt-packet-meter.js';

/** An MQTT 3.1.1 connection that has been accepted (CONNACK 0). Never reconnects, never retries. */
export interface MqttConnection {
  readonly sessionPresent: boolean;
  /** `host:port` of the broker, for errors. */
  readonly peer: string;
  /** Settles once when the connection is gone: `undefined` after `close()`, else a TransportError. */
  readonly closed: Promise<Error | undefined>;
  /**
   * Sends ONE SUBSCRIBE with all filters; settles at SUBACK; a refused filter (0x80) is a ProtocolError. Here and in
   * `publish`, a wildcard where none may be is a ConfigurationError, and nothing is sent.
   */
  subscribe(filters: readonly MqttSubscription[], signal: CancelSignal): Promise<void>;
  /** Hands the packet to the socket at once; settles at PUBACK for QoS 1, when written for QoS 0. */
  publish(message: MqttPublish, signal: CancelSignal): Promise<void>;
  /** DISCONNECT, then closes. Never fails; safe to call twice. */
  close(): Promise<void>;
}

export interface MqttSubscription {
  readonly topicFilter: string;
  readonly qos: 0 | 1;
}

export interface MqttPublish {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1;
}

/** A message as it arrived. `acknowledge` is absent for QoS 0; PUBACK is sent only when it is called. */
export interface MqttDelivery {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly acknowledge?: () => void;
}

export interface MqttOpenOptions {
  /** Connected to the broker; from now on it belongs to the MQTT connection, also when `openMqtt` fails. */
  readonly socket: Duplex;
  /** `host:port` of the broker, for errors. */
  readonly peer: string;
  readonly clientId: string;
  readonly username: string;
  readonly password?: string | undefined;
  /** Clean session. With `false`, messages of the old session may arrive before `openMqtt` settles. */
  readonly clean: boolean;
  /** 0 turns pings off. A silent broker is given up after one and a half times this. */
  readonly keepaliveSeconds: number;
  /** Default 30,000. */
  readonly connackTimeoutMs?: number | undefined;
  readonly clock: Clock;
  /** Called for each PUBLISH in order of arrival. If it throws, the connection ends with what it threw. */
  readonly onMessage: (delivery: MqttDelivery) => void;
  /** What a refusing CONNACK may mean with this service, and what to do: whole sentences for the error's message. */
  readonly describeRefusal?: ((returnCode: number) => string | undefined) | undefined;
}

export const DEFAULT_CONNACK_TIMEOUT_MS = 30_000;

/**
 * Sends CONNECT over `socket` and waits to be accepted.
 *
 * @throws {TransportError} `ERR_DPS_CONNACK_UNAVAILABLE` (code 3), `ERR_DPS_CONNACK_UNAUTHORIZED` (2, 4, 5),
 *   `ERR_DPS_CONNACK_PROTOCOL` (any other), `ERR_DPS_CONNECT_TIMEOUT`, `ERR_DPS_CONNECTION_LOST`,
 *   `ERR_DPS_TLS_CLIENT_REFUSED`.
 * @throws {ProtocolError} `ERR_DPS_PROTOCOL_MQTT` when the peer does not speak MQTT.
 * @see MQTT 3.1.1, sections 3.1 and 3.2
 */
export function openMqtt(options: MqttOpenOptions, signal: CancelSignal): Promise<MqttConnection> {
  const { socket } = options;
  if (signal.aborted) socket.destroy();
  return abortable<MqttConnection>(signal, (resolve, reject) => {
    let isHandedOver = false;
    const accept = (): void => {
      isHandedOver = true;
      resolve(connection);
    };
    const connection = new MqttJsConnection(options, accept, reject);
    const timeoutMs = options.connackTimeoutMs ?? DEFAULT_CONNACK_TIMEOUT_MS;
    const stopTimer = options.clock.after(timeoutMs, () => connection.giveUp(timeoutMs));
    return () => {
      stopTimer();
      if (!isHandedOver) socket.destroy();
    };
  });
}

interface MqttJsPacket {
  readonly cmd?: string;
  readonly messageId?: number | undefined;
  readonly qos?: number;
  readonly returnCode?: number;
  readonly granted?: unknown;
}

/** DPS and hubs send 256 KB at most; MQTT would let a peer fill 256 MB of memory with one packet. */
export const MAX_PACKET_BYTES: number = 1024 * 1024;

/** So many may wait for a peer that sends and does not read: far more than a hub or DPS has on its way at a time. */
export const MAX_UNSENT_ACKNOWLEDGEMENTS: number = 4096;

/** MQTT 3.1.1, section 3.14: DISCONNECT. */
const DISCONNECT: Uint8Array = Uint8Array.of(0xe0, 0x00);

/** What a 3.1.1 server may send to a client that asks for QoS 1 at most. */
const SERVER_PACKETS: ReadonlySet<string> = new Set(['connack', 'publish', 'puback', 'suback', 'unsuback', 'pingresp']);

/** MQTT 3.1.1, section 4.7.1: `#` stands alone on the last level, `+` alone on its level. */
const MISPLACED_WILDCARD = /#.|[^/]#|[^/]\+|\+[^/]/s;

/** See `#deliver`. */
const PUBACK_IS_OURS: Error = new Error('The PUBACK is sent when the message is acknowledged.');

/**
 * MQTT.js for framing, packet identifiers and pings. Everything else is decided here: when the connection ends, with
 * what error, and when a message is acknowledged.
 */
class MqttJsConnection implements MqttConnection {
  readonly peer: string;
  readonly closed: Promise<Error | undefined>;
  sessionPresent = false;
  readonly #options: MqttOpenOptions;
  readonly #client: MqttJsClient;
  readonly #ending: ConnectionEnd;
  /** How many results the SUBACK of a SUBSCRIBE must have, by packet identifier. */
  readonly #awaitedGrants: Map<number, number> = new Map();
  readonly #meter: MqttPacketMeter = new MqttPacketMeter(MAX_PACKET_BYTES);
  #unsentAcknowledgements = 0;
  #isAccepted = false;

  constructor(options: MqttOpenOptions, accept: () => void, refuse: (reason: unknown) => void) {
    const { socket, peer, clock } = options;
    this.#options = options;
    this.peer = peer;
    this.#client = createMqttJsClient(options);
    // Before MQTT.js's own listeners: the cause of an end must be known before its consequences.
    this.#ending = new ConnectionEnd({ socket, peer, clock, here: () => this.#here(), onEnd: refuse });
    this.closed = this.#ending.closed;
    if (this.#ending.isOver) return;
    socket.on('data', (chunk: Uint8Array) => this.#measure(chunk));
    this.#watchClient(() => {
      this.#isAccepted = true;
      accept();
    });
    this.#client.connect();
  }

  subscribe(filters: readonly MqttSubscription[], signal: CancelSignal): Promise<void> {
    const wanted = Object.fromEntries(filters.map(({ topicFilter, qos }) => [topicFilter, { qos }]));
    const names = Object.keys(wanted);
    return this.#ending.unlessOver<void>(signal, (resolve, reject) => {
      for (const name of names) if (MISPLACED_WILDCARD.test(name)) throw wildcardError(name);
      this.#client.subscribe(wanted, (error) => {
        if (error === null) resolve();
        else this.#onSubscribeError(error, names, reject);
      });
      this.#awaitedGrants.set(this.#client.getLastMessageId(), names.length);
      return () => {};
    });
  }

  publish(message: MqttPublish, signal: CancelSignal): Promise<void> {
    const { topic, qos, payload } = message;
    const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
    return this.#ending.unlessOver<void>(signal, (resolve) => {
      if (/[#+]/.test(topic)) throw wildcardError(topic);
      this.#client.publish(topic, bytes, { qos }, (error) => {
        if (error === null || error === undefined) resolve();
        else this.#onOperationCut(error);
      });
      return () => {};
    });
  }

  /** MQTT.js's own `end` waits for every outstanding acknowledgement first: for ever, with a broker gone silent. */
  close(): Promise<void> {
    return this.#ending.close(DISCONNECT);
  }

  /** The broker did not answer CONNECT in time. */
  giveUp(timeoutMs: number): void {
    this.#ending.end(() => connectTimedOut(this.#here(), timeoutMs));
  }

  #watchClient(accept: () => void): void {
    const client = this.#client;
    client.on('packetreceive', (packet) => this.#inspect(packet));
    client.once('connect', (connack) => {
      this.sessionPresent = connack.sessionPresent;
      if (!this.#ending.isOver) accept();
    });
    // Refusals, pings and the socket are dealt with elsewhere: what is left is MQTT that the parser or the client could not take.
    client.on('error', (error) => this.#ending.end(() => this.#breach(error.message)));
    client.onKeepaliveTimeout = () =>
      this.#ending.end(() => connectionLost(this.#here(), new Error('no answer to a keep-alive ping')));
    client.handleMessage = (packet, callback) => this.#deliver(packet, callback);
  }

  /** MQTT.js keeps what it has of a packet until it has all of it. */
  #measure(chunk: Uint8Array): void {
    if (this.#meter.exceeds(chunk))
      this.#ending.endSoon(() => this.#breach(`a packet of more than ${MAX_PACKET_BYTES} bytes`));
  }

  /** Sees every packet before MQTT.js acts on it. */
  #inspect(packet: MqttJsPacket): void {
    const { cmd = 'unknown', returnCode } = packet;
    const isRefusal = cmd === 'connack' && returnCode !== undefined && returnCode !== 0;
    if (isRefusal) this.#ending.end(() => connackRefusal(returnCode, this.#options));
    const problem = this.#problemWith(cmd, packet);
    if (problem !== undefined) this.#ending.end(() => this.#breach(problem));
  }

  #problemWith(cmd: string, packet: MqttJsPacket): string | undefined {
    if (!SERVER_PACKETS.has(cmd)) return `a packet of type ${cmd}`;
    if (cmd === 'connack') return packet.returnCode === undefined ? 'a CONNACK cut short' : undefined;
    if (!this.#client.connected) return `a packet of type ${cmd} before CONNACK`;
    if (cmd === 'publish' && packet.qos === 2) return 'a message at QoS 2';
    return cmd === 'suback' ? this.#problemWithSuback(packet) : undefined;
  }

  /** MQTT.js would drop the connection as if the broker had. */
  #problemWithSuback({ messageId, granted }: MqttJsPacket): string | undefined {
    const awaited = messageId === undefined ? undefined : this.#awaitedGrants.get(messageId);
    if (awaited === undefined || messageId === undefined) return undefined;
    this.#awaitedGrants.delete(messageId);
    const isComplete = Array.isArray(granted) && granted.length === awaited;
    return isComplete ? undefined : `a SUBACK without the ${awaited} results asked for`;
  }

  /**
   * MQTT.js sends PUBACK when the callback is called, and takes no further packet until it is. Called with an error it
   * goes on and leaves the PUBACK out, which is what we want: the acknowledgement is then written straight to the socket,
   * whenever it is due.
   */
  #deliver(packet: Parameters<MqttJsClient['handleMessage']>[0], callback: (error?: Error) => void): void {
    const { topic, payload, qos, messageId } = packet;
    const isAcknowledged = qos === 1 && messageId !== undefined;
    try {
      if (!this.#ending.isOver) {
        this.#options.onMessage({
          topic,
          payload: bytesOf(payload),
          ...(isAcknowledged ? { acknowledge: this.#acknowledgerOf(messageId) } : {}),
        });
      }
    } catch (error) {
      this.#ending.end(() => asError(error));
    }
    if (isAcknowledged) callback(PUBACK_IS_OURS);
    else callback();
  }

  #acknowledgerOf(messageId: number): () => void {
    let isSent = false;
    return () => {
      if (isSent || this.#ending.isOver) return;
      isSent = true;
      this.#unsentAcknowledgements += 1;
      // MQTT 3.1.1, section 3.4: PUBACK.
      this.#options.socket.write(Uint8Array.of(0x40, 0x02, messageId >> 8, messageId & 0xff), () => {
        this.#unsentAcknowledgements -= 1;
      });
      if (this.#unsentAcknowledgements > MAX_UNSENT_ACKNOWLEDGEMENTS) {
        this.#ending.end(() =>
          connectionLost(this.#here(), new Error('it sends messages and reads no acknowledgements')),
        );
      }
    };
  }

  #onSubscribeError(error: Error, filters: readonly string[], reject: (reason: unknown) => void): void {
    const { packet } = error as { packet?: { granted?: readonly number[] } };
    const refused = filters.filter((_filter, index) => packet?.granted?.[index] === 0x80);
    if (refused.length === 0) {
      this.#onOperationCut(error);
      return;
    }
    reject(
      new ProtocolError({
        code: 'ERR_DPS_PROTOCOL_MQTT',
        message: `${this.peer} refused the subscription to ${refused.join(', ')}. Check that the endpoint is the service it should be.`,
        expected: 'SUBACK that grants every filter',
        got: 'SUBACK 0x80',
      }),
    );
  }

  /**
   * MQTT.js fails its operations just before it says what is wrong with the connection; that reason, or the socket's,
   * then rejects ours. Ending the connection here, later, is for the case that neither comes.
   */
  #onOperationCut(error: Error): void {
    queueMicrotask(() => this.#ending.end(() => connectionLost(this.#here(), error)));
  }

  #breach(got: string): ProtocolError {
    return new ProtocolError({
      code: 'ERR_DPS_PROTOCOL_MQTT',
      message: `${this.peer} sent what MQTT 3.1.1 does not allow (${got}). Check for a proxy in between, and that the port is the broker's.`,
      expected: 'MQTT 3.1.1 packets of a server',
      got,
    });
  }

  #here(): FailurePoint {
    return { phase: this.#isAccepted ? 'established' : 'mqtt-connect', peer: this.peer, clock: this.#options.clock };
  }
}

function connackRefusal(returnCode: number, options: MqttOpenOptions): TransportError {
  const { code, meaning } = CONNACK_MEANINGS[returnCode] ?? UNKNOWN_CONNACK;
  const advice = options.describeRefusal?.(returnCode);
  return new TransportError({
    code,
    message: `${options.peer} refused the connection with MQTT return code ${returnCode} (${meaning}).${advice === undefined ? '' : ` ${advice}`}`,
    phase: 'mqtt-connect',
    peer: options.peer,
    retryable: code === 'ERR_DPS_CONNACK_UNAVAILABLE',
  });
}

type ConnackMeaning = {
  readonly code: 'ERR_DPS_CONNACK_UNAVAILABLE' | 'ERR_DPS_CONNACK_UNAUTHORIZED' | 'ERR_DPS_CONNACK_PROTOCOL';
  readonly meaning: string;
};

/** MQTT 3.1.1, section 3.2.2.3. */
const CONNACK_MEANINGS: Readonly<Record<number, ConnackMeaning>> = {
  1: { code: 'ERR_DPS_CONNACK_PROTOCOL', meaning: 'protocol version not accepted' },
  2: { code: 'ERR_DPS_CONNACK_UNAUTHORIZED', meaning: 'client identifier rejected' },
  3: { code: 'ERR_DPS_CONNACK_UNAVAILABLE', meaning: 'server unavailable' },
  4: { code: 'ERR_DPS_CONNACK_UNAUTHORIZED', meaning: 'bad user name or password' },
  5: { code: 'ERR_DPS_CONNACK_UNAUTHORIZED', meaning: 'not authorized' },
};

const UNKNOWN_CONNACK: ConnackMeaning = { code: 'ERR_DPS_CONNACK_PROTOCOL', meaning: 'not a code of MQTT 3.1.1' };

/** A broker answers a wildcard out of place by closing the connection, and would again after each reconnect. */
function wildcardError(topic: string): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_UNSUPPORTED',
    message: `MQTT cannot carry "${topic}": # and + are wildcards there. A device whose id contains them cannot use MQTT; give it another id.`,
  });
}

function bytesOf(payload: string | Buffer): Uint8Array {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
