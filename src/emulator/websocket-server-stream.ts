/** A WebSocket (RFC 6455) on the server's side, after the handshake, as a stream of bytes. */
import { createHash } from 'node:crypto';
import { Duplex } from 'node:stream';

type Done = (error?: Error | null) => void;

const OPCODES = { continuation: 0x0, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa } as const;
const FINAL = 0x80;
const MASKED = 0x80;

/** A frame carries any number of packets of the protocol above; the largest of those has 256 KB. */
const MAX_FRAME_BYTES = 2 * 1024 * 1024;

interface Frame {
  readonly opcode: number;
  readonly payload: Buffer;
}

/** The answer to a client's handshake (section 4.2.2); `undefined` when it has no key. */
export function switchingProtocols(key: string | undefined, subprotocol: string): string | undefined {
  if (key === undefined) return undefined;
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  return [
    'HTTP/1.1 101 Switching Protocols',
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Accept: ${accept}`,
    `Sec-WebSocket-Protocol: ${subprotocol}`,
    '',
    '',
  ].join('\r\n');
}

/** What the client sends in binary messages can be read; what is written in one go becomes one such message. */
export class WebSocketServerStream extends Duplex {
  readonly #socket: Duplex;
  #unread: Buffer;

  constructor(socket: Duplex, head: Buffer) {
    super();
    this.#socket = socket;
    this.#unread = head;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('end', () => this.push(null));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
  }

  override _read(): void {
    if (this.#unread.length > 0) this.#receive(Buffer.alloc(0));
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#socket.write(frameOf(OPCODES.binary, chunk), done);
  }

  override _final(done: Done): void {
    this.#socket.end(frameOf(OPCODES.close, Buffer.alloc(0)), () => done());
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#socket.destroy();
    done(error);
  }

  #receive(chunk: Buffer): void {
    this.#unread = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
    try {
      for (let frame = this.#next(); frame !== undefined; frame = this.#next()) this.#take(frame);
    } catch (error) {
      this.destroy(error as Error);
    }
  }

  #take({ opcode, payload }: Frame): void {
    switch (opcode) {
      // Messages are no more than pieces of one stream: their ends mean nothing.
      case OPCODES.binary:
      case OPCODES.continuation:
        if (!this.push(payload)) this.#socket.pause();
        break;
      case OPCODES.ping:
        this.#socket.write(frameOf(OPCODES.pong, payload));
        break;
      case OPCODES.pong:
        break;
      case OPCODES.close:
        this.push(null);
        break;
      default:
        throw new Error(`a WebSocket frame with opcode ${opcode}`);
    }
  }

  /** The next whole frame (section 5.2). */
  #next(): Frame | undefined {
    const bytes = this.#unread;
    if (bytes.length < 2) return undefined;
    const [first = 0, second = 0] = bytes;
    const short = second & 0x7f;
    const sizeBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
    const start = 2 + sizeBytes + 4;
    if ((second & MASKED) === 0) throw new Error('a WebSocket frame that is not masked');
    if (bytes.length < start) return undefined;
    const length = readLength(bytes, short);
    if (length > MAX_FRAME_BYTES) throw new Error(`a WebSocket frame of ${length} bytes`);
    if (bytes.length < start + length) return undefined;
    const mask = bytes.subarray(start - 4, start);
    const payload = Buffer.from(bytes.subarray(start, start + length));
    for (let index = 0; index < length; index += 1) payload[index] = (payload[index] ?? 0) ^ (mask[index % 4] ?? 0);
    this.#unread = bytes.subarray(start + length);
    return { opcode: first & 0x0f, payload };
  }
}

function readLength(bytes: Buffer, short: number): number {
  if (short === 126) return bytes.readUInt16BE(2);
  return short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
}

function frameOf(opcode: number, payload: Buffer): Buffer {
  const { length } = payload;
  if (length < 126) return Buffer.concat([Buffer.of(FINAL | opcode, length), payload]);
  const header = Buffer.alloc(length < 0x1_0000 ? 4 : 10);
  header[0] = FINAL | opcode;
  header[1] = length < 0x1_0000 ? 126 : 127;
  if (length < 0x1_0000) header.writeUInt16BE(length, 2);
  else header.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([header, payload]);
}
