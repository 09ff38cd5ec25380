import { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { WebSocket } from 'ws';
import { ProtocolError } from '../errors.js';

interface WrittenChunk {
  readonly chunk: Buffer;
}

type Done = (error?: Error | null) => void;

/**
 * An open WebSocket as a stream of bytes: what is written in one go becomes one binary message. Ends with a
 * ProtocolError, `ERR_DPS_PROTOCOL_BODY`, when the peer breaks the rules of RFC 6455 or sends text.
 *
 * The library's own such stream makes a message of each field of an MQTT packet, and waits with its end for the peer's.
 */
export class WebSocketStream extends Duplex {
  readonly #webSocket: WebSocket;
  readonly #socket: TLSSocket;
  readonly #peer: string;

  constructor(webSocket: WebSocket, socket: TLSSocket, peer: string) {
    super();
    this.#webSocket = webSocket;
    this.#socket = socket;
    this.#peer = peer;
    // As with a TLS socket: an error before its first use cannot end the process.
    this.on('error', () => {});
    webSocket.on('message', (data: Buffer, isBinary) => this.#receive(data, isBinary));
    webSocket.on('error', (error) => this.destroy(this.#breach(error.message)));
    webSocket.once('close', () => this.push(null));
  }

  override _read(): void {
    this.#webSocket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#webSocket.send(chunk, done);
  }

  override _writev(chunks: readonly WrittenChunk[], done: Done): void {
    this.#webSocket.send(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  /** Done when our Close has left: the peer may never send its own. */
  override _final(done: Done): void {
    this.#webSocket.close();
    this.#socket.write('', () => done());
  }

  override _destroy(error: Error | null, done: Done): void {
    const { readyState, CLOSED } = this.#webSocket;
    if (readyState === CLOSED) {
      done(error);
      return;
    }
    this.#webSocket.once('close', () => done(error));
    this.#webSocket.terminate();
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (!isBinary) this.destroy(this.#breach('a text message'));
    else if (!this.push(data)) this.#webSocket.pause();
  }

  #breach(got: string): ProtocolError {
    return new ProtocolError({
      code: 'ERR_DPS_PROTOCOL_BODY',
      message: `${this.#peer} sent what WebSocket does not allow (${got}). Check for a proxy in between.`,
      expected: 'binary messages of RFC 6455',
      got,
    });
  }
}
