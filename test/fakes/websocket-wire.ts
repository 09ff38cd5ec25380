import { createHash } from 'node:crypto';
import type { Wire } from './wire-peer.js';

/**
 * The server's end of a WebSocket, in the bytes of RFC 6455: what the client sends must be masked, and is handed out
 * as one stream; what is written goes as one binary message.
 */
export class WebSocketWire {
  readonly #wire: Wire;
  /** How many bytes each message of the client had. */
  readonly messageSizes: number[] = [];
  #received: Buffer = Buffer.alloc(0);

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  /** Takes the request and switches protocols, after `reach`. Returns the request's head. */
  async accept(subprotocol = 'mqtt', reach: () => Promise<void> = async () => {}): Promise<string> {
    const head = await this.#wire.readHttpRequest();
    await reach();
    await this.#wire.write(switchingProtocols(head, subprotocol));
    return head;
  }

  async readBytes(count: number): Promise<Buffer> {
    while (this.#received.length < count) this.#received = Buffer.concat([this.#received, await this.#readMessage()]);
    const bytes = this.#received.subarray(0, count);
    this.#received = this.#received.subarray(count);
    return bytes;
  }

  /** One whole MQTT packet (MQTT 3.1.1, section 2.2), as it came. */
  async readMqttPacket(): Promise<Buffer> {
    const header = [...(await this.readBytes(2))];
    while ((header.at(-1) ?? 0) >= 0x80) header.push(...(await this.readBytes(1)));
    const length = header.slice(1).reduce((sum, digit, index) => sum + (digit & 0x7f) * 128 ** index, 0);
    return Buffer.concat([Buffer.from(header), await this.readBytes(length)]);
  }

  write(data: Uint8Array): Promise<void> {
    return this.#wire.write(Buffer.concat([frameHeader(data.length), data]));
  }

  /** Section 5.2: FIN and opcode, mask bit and length, mask, payload. */
  async #readMessage(): Promise<Buffer> {
    const [first = 0, second = 0] = await this.#wire.readBytes(2);
    // Close: the answer to it ends the conversation.
    if (first === 0x88) await this.#wire.write(Uint8Array.of(0x88, 0x00));
    else if (first !== 0x82) throw new Error(`frame ${first.toString(16)} is not a whole binary message`);
    if (second < 0x80) throw new Error('the client does not mask');
    const length = await this.#readLength(second & 0x7f);
    const mask = await this.#wire.readBytes(4);
    const payload = await this.#wire.readBytes(length);
    if (first === 0x82) this.messageSizes.push(length);
    return first === 0x82 ? Buffer.from(payload.map((byte, index) => byte ^ (mask[index % 4] ?? 0))) : Buffer.alloc(0);
  }

  async #readLength(short: number): Promise<number> {
    if (short < 126) return short;
    if (short === 126) return (await this.#wire.readBytes(2)).readUInt16BE();
    return Number((await this.#wire.readBytes(8)).readBigUInt64BE());
  }
}

/** Section 4.2.2; the number is the one of section 1.3. */
export function switchingProtocols(requestHead: string, subprotocol: string | undefined): string {
  const [, key = ''] = /^sec-websocket-key: *(\S+)/im.exec(requestHead) ?? [];
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  return [
    'HTTP/1.1 101 Switching Protocols',
    'Upgrade: websocket',
    'Connection: Upgrade',
    `Sec-WebSocket-Accept: ${accept}`,
    ...(subprotocol === undefined ? [] : [`Sec-WebSocket-Protocol: ${subprotocol}`]),
    '',
    '',
  ].join('\r\n');
}

function frameHeader(length: number): Buffer {
  if (length < 126) return Buffer.from([0x82, length]);
  if (length < 0x1_0000) return Buffer.from([0x82, 126, length >> 8, length & 0xff]);
  const header = Buffer.from([0x82, 127, 0, 0, 0, 0, 0, 0, 0, 0]);
  header.writeBigUInt64BE(BigInt(length), 2);
  return header;
}
