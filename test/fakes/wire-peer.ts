import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, TLSSocket, type TlsOptions } from 'node:tls';
import { onTestFinished } from 'vitest';

/** The server's end of one connection, read and written byte by byte. */
export class Wire {
  /** Settles when the connection is gone, whichever side ended it. */
  readonly closed: Promise<void>;
  /** Send one byte at a time, each in a segment of its own. */
  isBytewise = false;
  /** How much has been sent. */
  sentBytes = 0;
  /** Where the conversation ends: the byte after so many is never sent, and who waits for that is told. */
  limit: { readonly bytes: number; readonly onReached: () => void } | undefined;
  readonly #socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #isEnded = false;
  #wake: () => void = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#isEnded = true;
        this.#wake();
        resolve();
      });
    });
  }

  /** What came and has not been read. */
  get unread(): Buffer {
    return this.#received;
  }

  async readBytes(count: number): Promise<Buffer> {
    await this.#until(() => this.#received.length >= count);
    const bytes = this.#received.subarray(0, count);
    this.#received = this.#received.subarray(count);
    return bytes;
  }

  /** Head and body of an HTTP request; the body by its Content-Length. */
  async readHttpRequest(): Promise<string> {
    await this.#until(() => this.#received.includes('\r\n\r\n'));
    const head = await this.readBytes(this.#received.indexOf('\r\n\r\n') + 4);
    const [, length = '0'] = /^content-length: *(\d+)/im.exec(head.toString('latin1')) ?? [];
    const body = await this.readBytes(Number(length));
    return head.toString('latin1') + body.toString('utf8');
  }

  /** One whole MQTT packet (MQTT 3.1.1, section 2.2), as it came. */
  async readMqttPacket(): Promise<Buffer> {
    const header = [...(await this.readBytes(2))];
    while ((header.at(-1) ?? 0) >= 0x80) header.push(...(await this.readBytes(1)));
    const length = header.slice(1).reduce((sum, digit, index) => sum + (digit & 0x7f) * 128 ** index, 0);
    return Buffer.concat([Buffer.from(header), await this.readBytes(length)]);
  }

  /** Bytes, or text as UTF-8. Never settles when they do not all fit under the limit. */
  async write(data: Uint8Array | string): Promise<void> {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    const room = (this.limit?.bytes ?? Number.POSITIVE_INFINITY) - this.sentBytes;
    const sent = bytes.subarray(0, Math.max(0, room));
    this.sentBytes += sent.length;
    const chunks = this.isBytewise ? Array.from(sent, (byte) => Uint8Array.of(byte)) : [sent];
    for (const chunk of chunks) {
      await new Promise<void>((resolve) => {
        this.#socket.write(chunk, () => resolve());
      });
    }
    if (sent.length === bytes.length) return;
    this.limit?.onReached();
    await new Promise(() => {});
  }

  /** Says the last word (FIN) and keeps reading. */
  end(data: Uint8Array | string = ''): void {
    this.#socket.end(typeof data === 'string' ? Buffer.from(data) : data);
  }

  /** Breaks the connection off without a word: RST over plain TCP, no close_notify over TLS. */
  cut(): void {
    if (this.#socket instanceof TLSSocket) this.#socket.destroy();
    else this.#socket.resetAndDestroy();
  }

  async #until(isMet: () => boolean): Promise<void> {
    while (!isMet()) {
      if (this.#isEnded) throw new Error('the client has gone');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** Stops by itself when the test is over. */
export interface WirePeer {
  readonly port: number;
  /** `localhost:port`. */
  readonly endpoint: string;
  /** Every connection so far; over TLS those that passed the handshake. */
  readonly wires: readonly Wire[];
  /** The n-th connection, as soon as there is one. */
  wire(index: number): Promise<Wire>;
}

/** A TLS server that plays `script` on each connection. A script that loses its client is over without a complaint. */
export function startTlsPeer(options: TlsOptions, script: (wire: Wire) => Promise<void>): Promise<WirePeer> {
  const server = createTlsServer(options);
  server.on('tlsClientError', () => {});
  return listen(server, 'secureConnection', script);
}

/** The same over plain TCP: for what lies under TLS, or takes its place. */
export function startTcpPeer(script: (wire: Wire) => Promise<void>): Promise<WirePeer> {
  return listen(createTcpServer(), 'connection', script);
}

/** A port of 127.0.0.1 that nobody listens on (any more). */
export async function unusedPort(): Promise<number> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function listen(server: Server, event: string, script: (wire: Wire) => Promise<void>): Promise<WirePeer> {
  const wires: Wire[] = [];
  const sockets: Socket[] = [];
  let announce: () => void = () => {};
  server.on('connection', (socket) => sockets.push(socket));
  server.on(event, (socket: Socket) => {
    const wire = new Wire(socket);
    wires.push(wire);
    announce();
    script(wire).catch((error: Error) => {
      if (error.message !== 'the client has gone') socket.destroy(error);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    endpoint: `localhost:${port}`,
    wires,
    wire: async (index) => {
      for (;;) {
        const wire = wires[index];
        if (wire !== undefined) return wire;
        await new Promise<void>((resolve) => {
          announce = resolve;
        });
      }
    },
  };
}
