/** AMQP 1.0 below the level of performatives: protocol headers, whole frames, and the frames of the SASL layer. */
import { concatBytes, decodeUtf8, encodeUtf8 } from '../core/bytes.js';

/** AMQP 1.0, part 2, section 2.2: `AMQP`, protocol id, version 1.0.0. */
export const AMQP_HEADER: Uint8Array = Uint8Array.of(0x41, 0x4d, 0x51, 0x50, 0x00, 0x01, 0x00, 0x00);
/** Part 5, section 5.3.1: the same with protocol id 3. */
export const SASL_HEADER: Uint8Array = Uint8Array.of(0x41, 0x4d, 0x51, 0x50, 0x03, 0x01, 0x00, 0x00);

/** What the emulator announces with its OPEN, and the most it takes of anything. */
export const MAX_FRAME_BYTES: number = 64 * 1024;

/** As a size of a frame, the letters `AMQP` would be more than a gigabyte. */
const HEADER_START = 0x414d5150;
const HEADER_BYTES = 8;

/** Cuts a stream into protocol headers and whole frames. */
export class AmqpFrameReader {
  #unread: Uint8Array = new Uint8Array();

  /** @throws {Error} when a frame is larger than 64 KB, or smaller than its own header. */
  push(chunk: Uint8Array): readonly Uint8Array[] {
    this.#unread = this.#unread.length === 0 ? chunk : concatBytes(this.#unread, chunk);
    const units: Uint8Array[] = [];
    for (let size = this.#sizeOfNext(); size !== undefined && size <= this.#unread.length; size = this.#sizeOfNext()) {
      units.push(this.#unread.subarray(0, size));
      this.#unread = this.#unread.subarray(size);
    }
    return units;
  }

  #sizeOfNext(): number | undefined {
    if (this.#unread.length < 4) return undefined;
    const size = readUint32(this.#unread, 0);
    if (size === HEADER_START) return HEADER_BYTES;
    if (size < HEADER_BYTES || size > MAX_FRAME_BYTES) throw new Error(`a frame cannot have ${size} bytes here`);
    return size;
  }
}

/** Whether a unit is a protocol header, and which. */
export function protocolOf(unit: Uint8Array): 'amqp' | 'sasl' | 'unknown' | undefined {
  if (readUint32(unit, 0) !== HEADER_START) return undefined;
  const [, , , , protocolId, ...version] = unit;
  if (version.join('.') !== '1.0.0') return 'unknown';
  if (protocolId === 0) return 'amqp';
  return protocolId === 3 ? 'sasl' : 'unknown';
}

/** What a client says in the SASL layer. */
export type SaslFrame =
  | { readonly kind: 'init'; readonly mechanism: string; readonly response: Uint8Array; readonly hostName: string }
  | { readonly kind: 'response'; readonly response: Uint8Array };

const SASL_INIT = 0x41;
const SASL_RESPONSE = 0x43;

/** `undefined` for anything else. @throws {RangeError} when the frame is cut short. */
export function readSaslFrame(frame: Uint8Array): SaslFrame | undefined {
  const [, , , , dataOffset = 0, type] = frame;
  if (type !== 1) return undefined;
  const reader = new ValueReader(frame.subarray(dataOffset * 4));
  if (reader.byte() !== 0x00) return undefined;
  const descriptor = reader.value();
  const fields = reader.list();
  const [first, second, third] = fields;
  if (descriptor === SASL_RESPONSE && first instanceof Uint8Array) return { kind: 'response', response: first };
  if (descriptor !== SASL_INIT || typeof first !== 'string') return undefined;
  return {
    kind: 'init',
    mechanism: first,
    response: second instanceof Uint8Array ? second : new Uint8Array(),
    hostName: typeof third === 'string' ? third : '',
  };
}

/** The mechanisms that the server offers. */
export function saslMechanisms(names: readonly string[]): Uint8Array {
  const symbols = names.map((name) => concatBytes(Uint8Array.of(name.length), encodeUtf8(name)));
  const items = concatBytes(Uint8Array.of(names.length, 0xa3), ...symbols);
  return saslFrame(0x40, concatBytes(Uint8Array.of(0xe0, items.length), items));
}

export function saslChallenge(challenge: Uint8Array): Uint8Array {
  const { length } = challenge;
  const isShort = length < 0x100;
  const head = isShort ? Uint8Array.of(0xa0, length) : Uint8Array.of(0xb0, 0, 0, length >> 8, length & 0xff);
  return saslFrame(0x42, concatBytes(head, challenge));
}

/** Part 5, section 5.3.3.6: 0 ok, 1 auth, 2 sys, 3 sys-perm, 4 sys-temp. */
export function saslOutcome(code: number): Uint8Array {
  return saslFrame(0x44, Uint8Array.of(0x50, code));
}

/** One frame with one field. */
function saslFrame(performative: number, field: Uint8Array): Uint8Array {
  const size = field.length + 4;
  const body = concatBytes(
    Uint8Array.of(0x00, 0x53, performative, 0xd0, 0, 0, size >> 8, size & 0xff, 0, 0, 0, 1),
    field,
  );
  const total = body.length + HEADER_BYTES;
  return concatBytes(Uint8Array.of(0, 0, total >> 8, total & 0xff, 2, 1, 0, 0), body);
}

type Value = string | number | Uint8Array | undefined;

/** Reads the few types that SASL frames are made of (part 1, section 1.6). */
class ValueReader {
  readonly #bytes: Uint8Array;
  #position = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  byte(): number {
    return this.#take(1)[0] ?? 0;
  }

  list(): readonly Value[] {
    const code = this.byte();
    if (code === 0x45) return [];
    const isShort = code === 0xc0;
    if (!isShort && code !== 0xd0) throw new RangeError('a SASL frame holds no list');
    this.#number(isShort ? 1 : 4);
    const count = this.#number(isShort ? 1 : 4);
    const values: Value[] = [];
    while (values.length < count) values.push(this.value());
    return values;
  }

  value(): Value {
    const code = this.byte();
    switch (code) {
      case 0x40:
        return undefined;
      case 0x44:
        return 0;
      case 0x53:
        return this.byte();
      case 0x80:
        return this.#number(4) * 2 ** 32 + this.#number(4);
      case 0xa0:
      case 0xb0:
        return this.#sized(code === 0xa0 ? 1 : 4);
      case 0xa1:
      case 0xa3:
      case 0xb1:
      case 0xb3:
        return decodeUtf8(this.#sized(code < 0xb0 ? 1 : 4)) ?? '';
      default:
        throw new RangeError(`a SASL frame holds a value of type ${code}`);
    }
  }

  #sized(width: 1 | 4): Uint8Array {
    return this.#take(this.#number(width));
  }

  #number(width: 1 | 4): number {
    const bytes = this.#take(width);
    return width === 1 ? (bytes[0] ?? 0) : readUint32(bytes, 0);
  }

  #take(length: number): Uint8Array {
    const end = this.#position + length;
    if (end > this.#bytes.length) throw new RangeError('a SASL frame is cut short');
    const taken = this.#bytes.subarray(this.#position, end);
    this.#position = end;
    return taken;
  }
}

function readUint32(bytes: Uint8Array, offset: number): number {
  const [a = 0, b = 0, c = 0, d = 0] = bytes.subarray(offset, offset + 4);
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}
