import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

/** A proxy on 127.0.0.1 that leads wherever it is asked to; stops by itself when the test is over. */
export interface ProxyPeer {
  readonly port: number;
  /** What it was asked, in its own bytes as text: heads of CONNECT, or `host:port` and user for SOCKS. */
  readonly asked: string[];
}

/** Reads exactly so many bytes, or up to and with a mark. */
class Reader {
  readonly #socket: Socket;
  #bytes: Buffer = Buffer.alloc(0);
  #wake: () => void = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('readable', () => {
      for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) {
        this.#bytes = Buffer.concat([this.#bytes, chunk]);
      }
      this.#wake();
    });
  }

  async take(count: number): Promise<Buffer> {
    while (this.#bytes.length < count) await this.#more();
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  async takeUntil(mark: string): Promise<Buffer> {
    while (!this.#bytes.includes(mark)) await this.#more();
    return this.take(this.#bytes.indexOf(mark) + mark.length);
  }

  /** Joins the two ends for good. */
  relayTo(port: number): void {
    this.#socket.removeAllListeners('readable');
    const onward = connect({ port, host: '127.0.0.1' });
    onward.on('error', () => this.#socket.destroy());
    this.#socket.on('close', () => onward.destroy());
    onward.write(this.#bytes);
    this.#socket.pipe(onward);
    onward.pipe(this.#socket);
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** HTTP CONNECT. `answer` is written byte by byte; anything but a 200 ends the conversation there. */
export function startHttpProxy(answer = 'HTTP/1.1 200 Connection established\r\n\r\n'): Promise<ProxyPeer> {
  return listen(async (socket, asked) => {
    const reader = new Reader(socket);
    const head = (await reader.takeUntil('\r\n\r\n')).toString('latin1');
    asked.push(head);
    for (const byte of Buffer.from(answer, 'latin1')) socket.write(Uint8Array.of(byte));
    if (answer.includes(' 200 ')) reader.relayTo(Number(/^CONNECT \S*:(\d+) /.exec(head)?.[1]));
  });
}

/** SOCKS5 (RFC 1928). With `password`, user `u` and that one are demanded (RFC 1929). */
export function startSocksProxy({ password, reply = 0 }: { readonly password?: string; readonly reply?: number } = {}) {
  return listen(async (socket, asked) => {
    const reader = new Reader(socket);
    const [, count = 0] = await reader.take(2);
    const methods = await reader.take(count);
    const method = password === undefined ? 0 : methods.includes(2) ? 2 : 0xff;
    socket.write(Uint8Array.of(5));
    socket.write(Uint8Array.of(method));
    if (method === 0xff) return;
    if (method === 2) {
      const user = await reader.take((await reader.take(2))[1] ?? 0);
      const secret = await reader.take((await reader.take(1))[0] ?? 0);
      asked.push(String(user));
      const isRight = String(user) === 'u' && String(secret) === password;
      socket.write(Uint8Array.of(1, isRight ? 0 : 1));
      if (!isRight) return;
    }
    const [, , , type = 0] = await reader.take(4);
    const host =
      type === 3 ? await reader.take((await reader.take(1))[0] ?? 0) : await reader.take(type === 1 ? 4 : 16);
    const port = (await reader.take(2)).readUInt16BE();
    asked.push(`${type === 3 ? String(host) : host.toString('hex')}:${port}`);
    // The address it goes out from, as a name, for its length is in itself.
    for (const byte of [5, reply, 0, 3, 2, 0x61, 0x62, 0, 80]) socket.write(Uint8Array.of(byte));
    if (reply === 0) reader.relayTo(port);
  });
}

async function listen(serve: (socket: Socket, asked: string[]) => Promise<void>): Promise<ProxyPeer> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    void serve(socket, asked);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, asked };
}
