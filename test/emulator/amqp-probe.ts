/** A raw AMQP 1.0 client over TLS that does exactly what a test tells it, and nothing by itself. */
import { once } from 'node:events';
import { connect as connectTls } from 'node:tls';
import { expect, onTestFinished } from 'vitest';
import type { Emulator } from '../../src/emulator/index.js';
import * as amqp from '../fakes/amqp-bytes.js';

/** The client's end of a connection, byte by byte. */
export class AmqpProbe implements amqp.ByteWire {
  readonly closed: Promise<unknown>;
  readonly #socket: ReturnType<typeof connectTls>;
  #received: Buffer = Buffer.alloc(0);
  #isClosed = false;
  #wake: () => void = () => {};

  private constructor(socket: ReturnType<typeof connectTls>) {
    this.#socket = socket;
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    this.closed = new Promise<void>((resolve) => {
      socket.once('close', () => {
        this.#isClosed = true;
        this.#wake();
        resolve();
      });
    });
  }

  static async connect(emulator: Emulator, address = emulator.endpoints.dps.amqp): Promise<AmqpProbe> {
    const [host, port] = address.split(':');
    const socket = connectTls({ host, port: Number(port), servername: 'localhost', ca: emulator.caPem });
    await once(socket, 'secureConnect');
    onTestFinished(() => void socket.destroy());
    return new AmqpProbe(socket);
  }

  async readBytes(count: number): Promise<Buffer> {
    while (this.#received.length < count) {
      if (this.#isClosed) throw new Error('closed');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const bytes = this.#received.subarray(0, count);
    this.#received = this.#received.subarray(count);
    return bytes;
  }

  async write(data: Uint8Array): Promise<void> {
    this.#socket.write(data);
  }

  /** The next frame with this performative. */
  async next(code: number): Promise<amqp.Frame> {
    for (;;) {
      const frame = await amqp.readFrame(this);
      if (frame.code === code) return frame;
    }
  }

  async sasl(mechanism: string, initialResponse: Uint8Array): Promise<readonly amqp.AmqpValue[]> {
    await this.write(amqp.SASL_HEADER);
    expect(await this.readBytes(8)).toEqual(amqp.SASL_HEADER);
    await this.skipMechanisms();
    await this.write(
      amqp.saslFrame(0x41, [amqp.symbol(mechanism), amqp.binary(initialResponse), amqp.text('localhost')]),
    );
    return (await amqp.readFrame(this)).fields;
  }

  /** `00 53 40`, one list with an array of symbols. */
  async skipMechanisms(): Promise<string> {
    const size = (await this.readBytes(4)).readUInt32BE();
    return (await this.readBytes(size - 4)).toString('latin1');
  }

  /** Header, OPEN, BEGIN, receiver and sender, as Microsoft's clients do; the receiver may take ten messages. */
  async attach(address: string): Promise<void> {
    await this.open();
    await this.link(address, 0, amqp.TRUE);
    await this.link(address, 1, amqp.FALSE);
    await this.grant(0);
  }

  /** Header, OPEN and BEGIN. */
  async open(): Promise<void> {
    const properties = amqp.amqpFrame(0x11, [amqp.NULL, amqp.uint(0), amqp.uint(100), amqp.uint(100)]);
    const open = amqp.amqpFrame(0x10, [amqp.text('probe'), amqp.text('localhost')]);
    await this.write(Buffer.concat([amqp.AMQP_HEADER, open, properties]));
    expect(await this.readBytes(8)).toEqual(amqp.AMQP_HEADER);
  }

  /** ATTACH; the role is true for a receiver. */
  async link(address: string, handle: number, role: Uint8Array): Promise<void> {
    const properties = amqp.map(amqp.symbol('com.microsoft:api-version'), amqp.text('2019-03-31'));
    const count = role === amqp.TRUE ? amqp.NULL : amqp.uint(0);
    const link = { name: `link-${handle}`, handle, role, address };
    await this.write(amqp.attachFrame(link, count, amqp.NULL, amqp.NULL, amqp.NULL, properties));
  }

  /** FLOW: ten messages more on this receiver. */
  async grant(handle: number): Promise<void> {
    await this.write(amqp.creditFrame(handle, 10));
  }

  /** TRANSFER of one message on this sender. */
  async send(handle: number, deliveryId: number, ...sections: readonly Uint8Array[]): Promise<void> {
    await this.write(amqp.transferFrame(handle, deliveryId, ...sections));
  }

  /** DISPOSITION of a message that came. */
  async settle(deliveryId: number, outcome: number): Promise<void> {
    await this.write(amqp.dispositionFrame(deliveryId, amqp.described(outcome, amqp.list())));
  }

  async request(id: number, correlationId: Uint8Array, ...properties: readonly Uint8Array[]): Promise<void> {
    await this.send(
      1,
      id,
      amqp.described(0x73, amqp.list(amqp.NULL, amqp.NULL, amqp.NULL, amqp.NULL, amqp.NULL, correlationId)),
      amqp.described(0x74, amqp.map(...properties)),
      amqp.described(0x75, amqp.binary(Buffer.from('{"registrationId":"dev-1"}'))),
    );
  }
}
