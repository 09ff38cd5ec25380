/**
 * One MQTT 3.1.1 connection on the server's side: bytes to packets, the CONNECT deadline, keep-alive. What packets mean
 * is the session's business.
 */
import {
  generate,
  type IConnectPacket,
  type IPublishPacket,
  parser as makeParser,
  type Packet,
  type Parser,
  writeToStream,
} from 'mqtt-packet';
import type { Carrier } from './carrier.js';
import { ClientConnection } from './client-connection.js';
import type { EmulatorContext } from './context.js';

// The codec's cache of all two-byte numbers costs 18 MB and 30 ms at first use.
writeToStream.cacheNumbers = false;

/** The largest message of either service, and room for the topic around it. */
const MAX_PACKET_BYTES = (256 + 66) * 1024;

const CONNECT_DEADLINE_MS = 30_000;

/** What packets mean after the CONNECT. */
export interface MqttSession {
  /** SUBSCRIBE, UNSUBSCRIBE, PUBLISH, PUBACK. */
  receive(packet: Packet): void;
  /** The socket is gone. `isGraceful`: a DISCONNECT came first. */
  closed(isGraceful: boolean): void;
}

/** Who goes on with a connection that begins with these bytes; `undefined` for MQTT. */
export type TakeOver = (first: Uint8Array) => ((carrier: Carrier) => void) | undefined;

export class MqttConnection extends ClientConnection<Packet> {
  /** Takes over what does not begin as MQTT. */
  readonly #takeOver: TakeOver;
  #hasRead = false;
  readonly #parser: Parser = makeParser();
  readonly #onConnect: (connection: MqttConnection, packet: IConnectPacket) => void;
  #session: MqttSession | undefined;
  #hasConnected = false;
  #isGraceful = false;
  #lastPacketMs: number;
  #lastPacketId = 0;

  constructor(
    context: EmulatorContext,
    carrier: Carrier,
    onConnect: (connection: MqttConnection, packet: IConnectPacket) => void,
    takeOver: TakeOver = () => undefined,
  ) {
    super(context, carrier, 'mqtt');
    this.#takeOver = takeOver;
    this.#onConnect = onConnect;
    this.#lastPacketMs = context.clock.monotonicMs();
    this.#parser.on('packet', (packet) => this.units.push(packet));
    this.#parser.on('error', (error: unknown) => this.violate(error instanceof Error ? error.message : 'not MQTT'));
    this.after(CONNECT_DEADLINE_MS, () => {
      if (!this.#hasConnected) this.violate('no CONNECT within 30 s');
    });
  }

  /** Accepts the CONNECT. `idleLimitMs` is `undefined` for no limit. */
  accept(
    session: MqttSession,
    options: { readonly isSessionPresent: boolean; readonly idleLimitMs: number | undefined },
  ): void {
    this.#session = session;
    this.send({ cmd: 'connack', returnCode: 0, sessionPresent: options.isSessionPresent });
    this.note({ event: 'connack', status: 0 });
    if (options.idleLimitMs !== undefined) this.#watchIdleness(options.idleLimitMs);
  }

  /** Refuses the CONNECT; the reason is for the log. */
  refuse(returnCode: number, reason: string): void {
    this.note({ event: 'refused', status: returnCode, detail: reason });
    this.send({ cmd: 'connack', returnCode, sessionPresent: false });
    this.note({ event: 'connack', status: returnCode });
    this.end(reason);
  }

  send(packet: Packet): void {
    this.write(generate(packet));
  }

  /** PUBACK where one is due. */
  acknowledge(packet: IPublishPacket): void {
    const { messageId } = packet;
    if (packet.qos !== 1 || messageId === undefined) return;
    this.step('puback', () => this.send({ cmd: 'puback', messageId }));
  }

  /** @param packetId for QoS 1; default: the next one. */
  publish(
    topic: string,
    payload: Uint8Array | string,
    options: { readonly qos: 0 | 1; readonly packetId?: number; readonly isDuplicate?: boolean },
  ): void {
    this.send({
      cmd: 'publish',
      topic,
      payload: Buffer.from(payload as Uint8Array),
      qos: options.qos,
      dup: options.isDuplicate ?? false,
      retain: false,
      ...(options.qos === 1 && { messageId: options.packetId ?? this.nextPacketId(() => false) }),
    });
  }

  nextPacketId(isTaken: (packetId: number) => boolean): number {
    do {
      this.#lastPacketId = (this.#lastPacketId % 0xffff) + 1;
    } while (isTaken(this.#lastPacketId));
    return this.#lastPacketId;
  }

  protected override whenWritten(fn: () => void): void {
    fn();
  }

  protected override closed(): void {
    this.#session?.closed(this.#isGraceful);
  }

  protected override read(chunk: Buffer): void {
    const next = this.#hasRead ? undefined : this.#takeOver(chunk);
    this.#hasRead = true;
    if (next !== undefined) {
      this.#handOver(chunk, next);
      return;
    }
    this.guard(() => {
      const unread = this.#parser.parse(chunk);
      if (unread > MAX_PACKET_BYTES) this.violate('the packet is too large');
    });
  }

  #handOver(chunk: Buffer, next: (carrier: Carrier) => void): void {
    const stream = this.leave();
    stream.pause();
    stream.unshift(chunk);
    next({ stream, certificateChain: this.certificateChain, number: this.number });
    stream.resume();
  }

  protected override receive(packet: Packet): void {
    this.#lastPacketMs = this.context.clock.monotonicMs();
    if (!this.#hasConnected) {
      this.#receiveFirst(packet);
      return;
    }
    switch (packet.cmd) {
      case 'pingreq':
        this.note({ event: 'ping' });
        this.step('ping', () => this.send({ cmd: 'pingresp' }));
        break;
      case 'disconnect':
        this.#isGraceful = true;
        this.note({ event: 'disconnect' });
        this.end('the client disconnected');
        break;
      case 'subscribe':
      case 'unsubscribe':
      case 'publish':
      case 'puback':
        this.#session?.receive(packet);
        break;
      default:
        // [MQTT-3.1.0-2] a second CONNECT, and whatever only a server may send.
        this.violate(`a ${packet.cmd} packet is out of place`);
    }
  }

  #receiveFirst(packet: Packet): void {
    if (packet.cmd !== 'connect') {
      this.violate(`the first packet is a ${packet.cmd}, not a CONNECT`);
      return;
    }
    this.#hasConnected = true;
    const isSpoken = packet.protocolId === 'MQTT' && packet.protocolVersion === 4 && !('bridgeMode' in packet);
    if (isSpoken) this.#onConnect(this, packet);
    else this.refuse(1, 'only MQTT 3.1.1 is spoken here');
  }

  #watchIdleness(limitMs: number): void {
    const idleMs = this.context.clock.monotonicMs() - this.#lastPacketMs;
    if (idleMs >= limitMs) this.drop('the keep-alive time ran out (404104)');
    else this.after(limitMs - idleMs, () => this.#watchIdleness(limitMs));
  }
}
