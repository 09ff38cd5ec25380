/** A raw AMQP 1.0 client over TLS that does exactly what a test tells it, and nothing by itself. */
import { once } from 'node:events';
import { connect as connectTls } from 'node:tls';
import { expect, onTestFinished } from 'vitest';
import type { Emulator } from '../../src/emulator/index.js';
import {
  AMQP_HEADER,
  type AmqpValue,
  amqpFrame,
  type ByteWire,
  binary,
  described,
  FALSE,
  type Frame,
  list,
  map,
  NULL,
  readFrame,
  SASL_HEADER,
  saslFrame,
  symbol,
  TRUE,
  text,
  uint,
} from '../fakes/amqp-bytes.js';

/** The client's end of a connection, byte by byte. */
export class AmqpProbe implements ByteWire {
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
  async next(code: number): Promise<Frame> {
    for (;;) {
      const frame = await readFrame(this);
      if (frame.code === code) return frame;
    }
  }

  async sasl(mechanism: string, initialResponse: Uint8Array): Promise<readonly AmqpValue[]> {
    await this.write(SASL_HEADER);
    expect(await this.readBytes(8)).toEqual(SASL_HEADER);
    await this.skipMechanisms();
    await this.write(saslFrame(0x41, [symbol(mechanism), binary(initialResponse), text('localhost')]));
    return (await readFrame(this)).fields;
  }

  /** `00 53 40`, one list with an array of symbols. */
  async skipMechanisms(): Promise<string> {
    const size = (await this.readBytes(4)).readUInt32BE();
    return (await this.readBytes(size - 4)).toString('latin1');
  }

  /** Header, OPEN, BEGIN, receiver and sender, as Microsoft's clients do; the receiver may take ten messages. */
  async attach(address: string): Promise<void> {
    await this.open();
    await this.link(address, 0, TRUE);
    await this.link(address, 1, FALSE);
    await this.grant(0);
  }

  /** Header, OPEN and BEGIN. */
  async open(): Promise<void> {
    const properties = amqpFrame(0x11, [NULL, uint(0), uint(100), uint(100)]);
    const open = amqpFrame(0x10, [text('probe'), text('localhost')]);
    await this.write(Buffer.concat([AMQP_HEADER, open, properties]));
    expect(await this.readBytes(8)).toEqual(AMQP_HEADER);
  }

  /** ATTACH; the role is true for a receiver. */
  async link(address: string, handle: number, role: Uint8Array): Promise<void> {
    const properties = map(symbol('com.microsoft:api-version'), text('2019-03-31'));
    const terminus = (code: number): Buffer => described(code, list(text(address)));
    const fields = [text(`link-${handle}`), uint(handle), role, NULL, NULL, terminus(0x28), terminus(0x29), NULL, NULL];
    const count = role === TRUE ? NULL : uint(0);
    await this.write(amqpFrame(0x12, [...fields, count, NULL, NULL, NULL, properties]));
  }

  /** FLOW: ten messages more on this receiver. */
  async grant(handle: number): Promise<void> {
    await this.write(amqpFrame(0x13, [uint(0), uint(100), uint(0), uint(100), uint(handle), uint(0), uint(10)]));
  }

  /** TRANSFER of one message on this sender. */
  async send(handle: number, deliveryId: number, ...sections: readonly Uint8Array[]): Promise<void> {
    const fields = [uint(handle), uint(deliveryId), binary(Buffer.of(deliveryId)), uint(0), FALSE];
    await this.write(amqpFrame(0x14, fields, Buffer.concat(sections)));
  }

  /** DISPOSITION of a message that came. */
  async settle(deliveryId: number, outcome: number): Promise<void> {
    const fields = [TRUE, uint(deliveryId), uint(deliveryId), TRUE, described(outcome, list())];
    await this.write(amqpFrame(0x15, fields));
  }

  async request(id: number, correlationId: Uint8Array, ...properties: readonly Uint8Array[]): Promise<void> {
    await this.send(
      1,
      id,
      described(0x73, list(NULL, NULL, NULL, NULL, NULL, correlationId)),
      described(0x74, map(...properties)),
      described(0x75, binary(Buffer.from('{"registrationId":"dev-1"}'))),
    );
  }
}
