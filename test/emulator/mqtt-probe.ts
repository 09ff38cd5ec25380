/** A raw MQTT client over TLS that does exactly what a test tells it, and nothing by itself. */
import { once } from 'node:events';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { generate, type IConnackPacket, type IPublishPacket, parser as makeParser, type Packet } from 'mqtt-packet';

export interface ProbeOptions {
  /** `host:port` */
  readonly address: string;
  readonly caPem: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface ConnectFields {
  readonly clientId: string;
  readonly username: string;
  readonly password?: string;
  readonly clean?: boolean;
  readonly keepalive?: number;
  readonly will?: { readonly topic: string; readonly payload: string };
}

type Waiter = { readonly resolve: (packet: Packet) => void; readonly reject: (error: Error) => void };

export class MqttProbe {
  readonly socket: TLSSocket;
  /** Every byte that came in, in order. */
  readonly received: Buffer[] = [];
  /** Settles when the connection is over, however it ended. */
  readonly closed: Promise<void>;
  readonly #packets: Packet[] = [];
  readonly #waiters: Waiter[] = [];
  #isClosed = false;

  constructor(socket: TLSSocket) {
    this.socket = socket;
    const parser = makeParser();
    parser.on('packet', (packet) => {
      const waiter = this.#waiters.shift();
      if (waiter === undefined) this.#packets.push(packet);
      else waiter.resolve(packet);
    });
    socket.on('data', (chunk) => {
      this.received.push(chunk);
      parser.parse(chunk);
    });
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#isClosed = true;
        for (const waiter of this.#waiters) waiter.reject(new Error('The connection closed before a packet came.'));
        resolve();
      });
    });
  }

  static async open({ address, caPem, cert, key }: ProbeOptions): Promise<MqttProbe> {
    const url = new URL(`tls://${address}`);
    const host = url.hostname.replace(/[[\]]/g, '');
    const socket = connectTls({
      host,
      port: Number(url.port),
      ca: caPem,
      ...(cert && { cert }),
      ...(key && { key }),
      ...(/^[a-z]/.test(host) && { servername: host }),
    });
    const probe = new MqttProbe(socket);
    await once(socket, 'secureConnect');
    return probe;
  }

  send(packet: Packet | Buffer): void {
    this.socket.write(Buffer.isBuffer(packet) ? packet : generate(packet));
  }

  /** The next packet that was not asked for yet. */
  next(): Promise<Packet> {
    const packet = this.#packets.shift();
    if (packet !== undefined) return Promise.resolve(packet);
    if (this.#isClosed) return Promise.reject(new Error('The connection is closed.'));
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  /** The next packet, which must be a PUBLISH. */
  async nextPublish(): Promise<{ topic: string; text: string; packet: IPublishPacket }> {
    const packet = await this.next();
    if (packet.cmd !== 'publish') throw new Error(`A ${packet.cmd} came instead of a PUBLISH.`);
    return { topic: packet.topic, text: packet.payload.toString(), packet };
  }

  async connect(fields: ConnectFields): Promise<IConnackPacket> {
    const { will, ...rest } = fields;
    this.send({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: true,
      keepalive: 0,
      ...rest,
      ...(fields.password !== undefined && { password: Buffer.from(fields.password) }),
      ...(will && { will: { ...will, qos: 0, retain: false } }),
    } as Packet);
    const packet = await this.next();
    if (packet.cmd !== 'connack') throw new Error(`A ${packet.cmd} came instead of a CONNACK.`);
    return packet;
  }

  /** @returns the granted codes. */
  async subscribe(filters: Readonly<Record<string, 0 | 1 | 2>>): Promise<readonly number[]> {
    const subscriptions = Object.entries(filters).map(([topic, qos]) => ({ topic, qos }));
    this.send({ cmd: 'subscribe', messageId: 77, subscriptions });
    const packet = await this.next();
    if (packet.cmd !== 'suback') throw new Error(`A ${packet.cmd} came instead of a SUBACK.`);
    return packet.granted as number[];
  }

  publish(topic: string, payload: string | Buffer, qos: 0 | 1 | 2 = 0, messageId = 5): void {
    this.send({ cmd: 'publish', topic, payload, qos, dup: false, retain: false, ...(qos > 0 && { messageId }) });
  }

  /** A round trip: whatever was sent before has been handled. */
  async settle(): Promise<void> {
    this.send({ cmd: 'pingreq' });
    const packet = await this.next();
    if (packet.cmd !== 'pingresp') throw new Error(`A ${packet.cmd} came instead of a PINGRESP.`);
  }

  async close(): Promise<void> {
    this.socket.destroy();
    await this.closed;
  }
}
