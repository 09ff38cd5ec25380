/**
 * One MQTT 3.1.1 connection on the server's side: bytes to packets, the CONNECT deadline, keep-alive, and the places
 * where fault switches reach in. What packets mean is the session's business.
 */
import type { Duplex } from 'node:stream';
import {
  generate,
  type IConnectPacket,
  type IPublishPacket,
  parser as makeParser,
  type Packet,
  type Parser,
  writeToStream,
} from 'mqtt-packet';
import { decodeBase64 } from '../core/bytes.js';
import type { Carrier } from './carrier.js';
import type { EmulatorContext } from './context.js';
import type { FaultPoint, FaultSubject } from './fault.js';
import type { TakenFault } from './faults.js';
import type { TraceNote } from './trace.js';

// The codec's cache of all two-byte numbers costs 18 MB and 30 ms at first use.
writeToStream.cacheNumbers = false;

/** The largest message of either service, and room for the topic around it. */
const MAX_PACKET_BYTES = (256 + 66) * 1024;

/** What may wait in memory for a client that does not read. */
const MAX_UNSENT_BYTES = 8 * 1024 * 1024;

const CONNECT_DEADLINE_MS = 30_000;

/** How long a refused client may take to close after its CONNACK. */
const LINGER_MS = 5_000;

/** Whom the connection turned out to be. */
export interface MqttSubject {
  readonly service: 'dps' | 'hub';
  readonly idScope?: string;
  readonly hub?: string;
  readonly device: string;
}

/** What packets mean after the CONNECT. */
export interface MqttSession {
  /** SUBSCRIBE, UNSUBSCRIBE, PUBLISH, PUBACK. */
  receive(packet: Packet): void;
  /** The socket is gone. `isGraceful`: a DISCONNECT came first. */
  closed(isGraceful: boolean): void;
}

/** Who goes on with a connection that begins with these bytes; `undefined` for MQTT. */
export type TakeOver = (first: Uint8Array) => ((carrier: Carrier) => void) | undefined;

export class MqttConnection {
  readonly number: number;
  readonly certificateChain: Carrier['certificateChain'];
  readonly #context: EmulatorContext;
  readonly #socket: Duplex;
  /** Takes over what does not begin as MQTT. */
  readonly #takeOver: TakeOver;
  #hasRead = false;
  readonly #parser: Parser = makeParser();
  readonly #packets: Packet[] = [];
  readonly #tasks: (() => void)[] = [];
  readonly #cancelers = new Set<() => void>();
  readonly #onConnect: (connection: MqttConnection, packet: IConnectPacket) => void;
  readonly #listeners = [
    ['data', (chunk: Buffer) => this.#read(chunk)],
    ['error', (error: Error) => this.drop(error.message)],
    ['close', () => this.#closed()],
  ] as const;
  #subject: MqttSubject | undefined;
  #session: MqttSession | undefined;
  #hasConnected = false;
  #isHeld = false;
  #isOver = false;
  #isGraceful = false;
  #closeReason: string | undefined;
  #lastPacketMs: number;
  #lastPacketId = 0;

  constructor(
    context: EmulatorContext,
    carrier: Carrier,
    onConnect: (connection: MqttConnection, packet: IConnectPacket) => void,
    takeOver: TakeOver = () => undefined,
  ) {
    const { stream: socket } = carrier;
    this.number = carrier.number ?? context.nextConnection();
    this.certificateChain = carrier.certificateChain;
    this.#context = context;
    this.#socket = socket;
    this.#takeOver = takeOver;
    this.#onConnect = onConnect;
    this.#lastPacketMs = context.clock.monotonicMs();
    this.#parser.on('packet', (packet) => this.#packets.push(packet));
    this.#parser.on('error', (error: unknown) => this.violate(error instanceof Error ? error.message : 'not MQTT'));
    for (const [event, listener] of this.#listeners) socket.on(event, listener);
    this.after(CONNECT_DEADLINE_MS, () => {
      if (!this.#hasConnected) this.violate('no CONNECT within 30 s');
    });
  }

  /** From here on the connection belongs to somebody. */
  identify(subject: MqttSubject): void {
    this.#subject = subject;
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
    this.#end(reason);
  }

  send(packet: Packet): void {
    this.#write(generate(packet));
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

  /** Does one step of the conversation in its turn, or what a fault switch makes of it. */
  step(name: StepName, perform: (fault: TakenFault | undefined) => void): void {
    this.#schedule(() => {
      const subject = this.#subject;
      if (subject === undefined) return;
      const point = `${subject.service}.${name}` as FaultPoint;
      const fault = this.#context.faults.take(point, { protocol: 'mqtt', ...faultSubjectOf(subject) });
      if (fault === undefined) {
        perform(undefined);
      } else {
        this.note({ event: 'fault', detail: `${point}: ${fault.kinds}` });
        this.#stepWithFault(fault, perform);
      }
    });
  }

  /** Ends the connection without a packet. */
  drop(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#closeReason = reason;
    this.#socket.destroy();
  }

  /** Ends the connection because of what the client did. */
  violate(reason: string): void {
    if (this.#isOver) return;
    this.note({ event: 'violation', detail: reason });
    this.drop(reason);
  }

  /** Calls `fn` after a time, unless the connection is gone by then. */
  after(delayMs: number, fn: () => void): void {
    const cancel = this.#context.clock.after(delayMs, () => {
      this.#cancelers.delete(cancel);
      if (!this.#isOver) this.#guard(fn);
    });
    this.#cancelers.add(cancel);
  }

  note(note: Omit<TraceNote, 'service' | 'protocol' | 'connection'>): void {
    const subject = this.#subject ?? { service: 'none' as const };
    this.#context.note({ ...subject, protocol: 'mqtt', connection: this.number, ...note });
  }

  #stepWithFault(fault: TakenFault, perform: (fault: TakenFault) => void): void {
    const cut = fault.find('cut');
    const wait = fault.find('wait');
    const proceed = (): void => {
      const raw = fault.find('raw');
      if (cut !== undefined && cut.when !== 'after') this.drop('fault: cut');
      else if (raw !== undefined) this.#write(decodeBase64(raw.base64) ?? new Uint8Array());
      else if (fault.find('silent') === undefined) perform(fault);
      if (cut !== undefined) this.#finish('fault: cut');
    };
    if (wait === undefined) proceed();
    else this.#hold(wait.ms, proceed);
  }

  /** Nothing else happens on this connection until `fn` has run; what comes meanwhile waits in order. */
  #hold(delayMs: number, fn: () => void): void {
    this.#isHeld = true;
    this.#socket.pause();
    this.after(delayMs, () => {
      this.#isHeld = false;
      fn();
      this.#work();
      if (!this.#isHeld && !this.#isOver) this.#socket.resume();
    });
  }

  #schedule(task: () => void): void {
    if (this.#isHeld) this.#tasks.push(task);
    else if (!this.#isOver) this.#guard(task);
  }

  #read(chunk: Buffer): void {
    if (this.#isOver) return;
    const next = this.#hasRead ? undefined : this.#takeOver(chunk);
    this.#hasRead = true;
    if (next !== undefined) {
      this.#handOver(chunk, next);
      return;
    }
    this.#guard(() => {
      const unread = this.#parser.parse(chunk);
      if (unread > MAX_PACKET_BYTES) this.violate('the packet is too large');
    });
    this.#work();
  }

  #handOver(chunk: Buffer, next: (carrier: Carrier) => void): void {
    const stream = this.#socket;
    this.#isOver = true;
    for (const cancel of this.#cancelers) cancel();
    for (const [event, listener] of this.#listeners) stream.off(event, listener);
    stream.pause();
    stream.unshift(chunk);
    next({ stream, certificateChain: this.certificateChain, number: this.number });
    stream.resume();
  }

  #work(): void {
    while (!this.#isHeld && !this.#isOver) {
      const task = this.#tasks.shift();
      const packet = task === undefined ? this.#packets.shift() : undefined;
      if (task !== undefined) this.#guard(task);
      else if (packet !== undefined) this.#guard(() => this.#receive(packet));
      else return;
    }
  }

  #receive(packet: Packet): void {
    this.#lastPacketMs = this.#context.clock.monotonicMs();
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
        this.#end('the client disconnected');
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
    const idleMs = this.#context.clock.monotonicMs() - this.#lastPacketMs;
    if (idleMs >= limitMs) this.drop('the keep-alive time ran out (404104)');
    else this.after(limitMs - idleMs, () => this.#watchIdleness(limitMs));
  }

  #write(bytes: Uint8Array): void {
    if (this.#isOver || this.#socket.destroyed) return;
    this.#socket.write(bytes);
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) this.violate('the client does not read');
  }

  /** Sends what is on its way and closes; the client may close first, so that nothing it still sends resets the line. */
  #end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#closeReason = reason;
    this.#socket.end();
    this.#socket.resume();
    this.#cancelers.add(this.#context.clock.after(LINGER_MS, () => this.#socket.destroy()));
  }

  /** Sends what is on its way and closes at once. */
  #finish(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#closeReason = reason;
    this.#socket.end(() => this.#socket.destroy());
  }

  #closed(): void {
    this.#isOver = true;
    for (const cancel of this.#cancelers) cancel();
    this.#cancelers.clear();
    this.#guard(() => this.#session?.closed(this.#isGraceful));
    this.note({ event: 'close', detail: this.#closeReason ?? 'the client closed' });
  }

  /** No packet may take the process down, whatever is in it. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.violate(`cannot be handled: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

/** The part of a fault point after the service. */
export type StepName = FaultPoint extends `${'dps' | 'hub'}.${infer Name}` ? Name : never;

function faultSubjectOf(subject: MqttSubject): FaultSubject {
  const { service: _, ...rest } = subject;
  return rest;
}
