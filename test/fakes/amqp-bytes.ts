/** AMQP 1.0 in bytes, written and read by hand (part 1: types; part 2: frames). */

export const AMQP_HEADER: Buffer = Buffer.from('414d515000010000', 'hex');
export const SASL_HEADER: Buffer = Buffer.from('414d515003010000', 'hex');

/** What one connection is read by. */
export interface ByteWire {
  readBytes(count: number): Promise<Buffer>;
  write(data: Uint8Array): Promise<void>;
}

/** A value as it was encoded: maps as lists of their keys and values in turn. */
export type AmqpValue = null | boolean | number | string | Buffer | readonly AmqpValue[] | Described;

export interface Described {
  readonly code: number;
  readonly value: AmqpValue;
}

/** One performative with its fields, and what follows it in the frame. */
export interface Frame {
  readonly code: number;
  readonly fields: readonly AmqpValue[];
  readonly payload: Buffer;
}

/** The next frame that has a body. */
export async function readFrame(wire: ByteWire): Promise<Frame> {
  for (;;) {
    const size = (await wire.readBytes(4)).readUInt32BE();
    const rest = await wire.readBytes(size - 4);
    const body = rest.subarray((rest[0] ?? 2) * 4 - 4);
    if (body.length === 0) continue;
    const reader = new Reader(body);
    const { code, value } = reader.read() as Described;
    return { code, fields: value as readonly AmqpValue[], payload: body.subarray(reader.position) };
  }
}

/** All values of a payload: the sections of a message. */
export function readSections(payload: Buffer): readonly Described[] {
  const reader = new Reader(payload);
  const sections: Described[] = [];
  while (reader.position < payload.length) sections.push(reader.read() as Described);
  return sections;
}

/** The section with this code, if it is there. */
export function sectionOf(payload: Buffer, code: number): AmqpValue | undefined {
  return readSections(payload).find((section) => section.code === code)?.value;
}

class Reader {
  position = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  read(): AmqpValue {
    const type = this.#uint(1);
    if (type !== 0x00) return this.#readAs(type);
    const code = this.read() as number;
    return { code, value: this.read() };
  }

  #readAs(type: number): AmqpValue {
    switch (type) {
      case 0x40:
        return null;
      case 0x41:
        return true;
      case 0x42:
        return false;
      case 0x56:
        return this.#uint(1) === 1;
      case 0x43:
      case 0x44:
        return 0;
      case 0x45:
        return [];
      case 0x50:
      case 0x52:
      case 0x53:
      case 0x54:
        return this.#uint(1);
      case 0x60:
        return this.#uint(2);
      case 0x70:
      case 0x71:
        return this.#uint(4);
      case 0x80:
        return this.#uint(4) * 2 ** 32 + this.#uint(4);
      case 0xa0:
      case 0xb0:
        return this.#take(this.#uint(type === 0xa0 ? 1 : 4));
      case 0xa1:
      case 0xa3:
      case 0xb1:
      case 0xb3:
        return this.#take(this.#uint(type < 0xb0 ? 1 : 4)).toString('utf8');
      case 0xc0:
      case 0xc1:
      case 0xd0:
      case 0xd1:
        return this.#list(type < 0xd0 ? 1 : 4);
      default:
        throw new Error(`type ${type.toString(16)} is not read here`);
    }
  }

  #list(width: 1 | 4): AmqpValue {
    this.#uint(width);
    const count = this.#uint(width);
    return Array.from({ length: count }, () => this.read());
  }

  #uint(width: 1 | 2 | 4): number {
    return this.#take(width).readUIntBE(0, width);
  }

  #take(length: number): Buffer {
    const taken = this.#bytes.subarray(this.position, this.position + length);
    if (taken.length < length) throw new Error('cut short');
    this.position += length;
    return taken;
  }
}

export const NULL: Buffer = Buffer.of(0x40);
export const TRUE: Buffer = Buffer.of(0x41);
export const FALSE: Buffer = Buffer.of(0x42);

export function uint(value: number): Buffer {
  const bytes = Buffer.of(0x70, 0, 0, 0, 0);
  bytes.writeUInt32BE(value, 1);
  return bytes;
}

export function ubyte(value: number): Buffer {
  return Buffer.of(0x50, value);
}

export function int(value: number): Buffer {
  const bytes = Buffer.of(0x71, 0, 0, 0, 0);
  bytes.writeInt32BE(value, 1);
  return bytes;
}

export function text(value: string): Buffer {
  return sized(0xb1, Buffer.from(value));
}

export function symbol(value: string): Buffer {
  return sized(0xb3, Buffer.from(value));
}

export function binary(value: Uint8Array): Buffer {
  return sized(0xb0, value);
}

export function list(...items: readonly Uint8Array[]): Buffer {
  return compound(0xd0, items);
}

export function map(...items: readonly Uint8Array[]): Buffer {
  return compound(0xd1, items);
}

/** A described value: `00 53 {code}`. */
export function described(code: number, value: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(0x00, 0x53, code), value]);
}

/** A frame of AMQP on channel 0. */
export function amqpFrame(code: number, fields: readonly Uint8Array[], payload: Uint8Array = Buffer.of()): Buffer {
  return frameOf(0, Buffer.concat([described(code, list(...fields)), payload]));
}

export function saslFrame(code: number, fields: readonly Uint8Array[]): Buffer {
  return frameOf(1, described(code, list(...fields)));
}

function frameOf(type: number, body: Uint8Array): Buffer {
  const header = Buffer.of(0, 0, 0, 0, 2, type, 0, 0);
  header.writeUInt32BE(body.length + 8);
  return Buffer.concat([header, body]);
}

function compound(type: number, items: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(items);
  const header = Buffer.alloc(9);
  header[0] = type;
  header.writeUInt32BE(body.length + 4, 1);
  header.writeUInt32BE(items.length, 5);
  return Buffer.concat([header, body]);
}

function sized(type: number, value: Uint8Array): Buffer {
  const header = Buffer.alloc(5);
  header[0] = type;
  header.writeUInt32BE(value.length, 1);
  return Buffer.concat([header, value]);
}

/** ATTACH of one end of a link, both termini at the same address; `more` are a sender's first delivery and what follows. */
export function attachFrame(
  link: { readonly name: string; readonly handle: number; readonly role: Uint8Array; readonly address: string },
  ...more: readonly Uint8Array[]
): Buffer {
  const terminus = (code: number): Buffer => described(code, list(text(link.address)));
  const fields = [text(link.name), uint(link.handle), link.role, NULL, NULL, terminus(0x28), terminus(0x29)];
  return amqpFrame(0x12, [...fields, NULL, NULL, ...more]);
}

/** FLOW of a session that has just begun: so many messages may come on this link. */
export function creditFrame(handle: number, credit: number): Buffer {
  return amqpFrame(0x13, [uint(0), uint(100), uint(0), uint(100), uint(handle), uint(0), uint(credit)]);
}

/** TRANSFER of one whole message. */
export function transferFrame(handle: number, deliveryId: number, ...sections: readonly Uint8Array[]): Buffer {
  const fields = [uint(handle), uint(deliveryId), binary(Buffer.of(deliveryId)), uint(0), FALSE];
  return amqpFrame(0x14, fields, Buffer.concat(sections));
}

/** DISPOSITION of a message that came: settled, with this outcome. */
export function dispositionFrame(deliveryId: number, outcome: Uint8Array): Buffer {
  return amqpFrame(0x15, [TRUE, uint(deliveryId), uint(deliveryId), TRUE, outcome]);
}
