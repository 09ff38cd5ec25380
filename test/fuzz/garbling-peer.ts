import { once } from 'node:events';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { Wire } from '../fakes/wire-peer.js';
import type { FuzzRandom } from './fuzz-random.js';

/** What the server side of one case does with what came, all of it so far; it gets what is left the next time. */
export type Play = (socket: Socket, received: Buffer) => Buffer;

/** A server that does what the case at hand wants. */
export class GarblingPeer {
  readonly #server: Server;
  readonly #sockets: Set<Socket> = new Set();
  readonly ca: string;
  serve: (socket: Socket) => void = () => {};
  #onGone: () => void = () => {};

  private constructor(server: Server, event: string, ca: string) {
    this.#server = server;
    this.ca = ca;
    server.on(event, (socket: Socket) => this.#take(socket));
    server.on('tlsClientError', () => {});
  }

  /** Over TLS, or without it, as proxies are. */
  static async start(kind: 'tls' | 'tcp' = 'tls'): Promise<GarblingPeer> {
    const { authority, server: identity } = await benchCertificates();
    const peer =
      kind === 'tls'
        ? new GarblingPeer(createTlsServer(identity), 'secureConnection', authority.certificatePem)
        : new GarblingPeer(createTcpServer(), 'connection', authority.certificatePem);
    peer.#server.listen(0, '127.0.0.1');
    await once(peer.#server, 'listening');
    return peer;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get endpoint(): string {
    return `localhost:${this.port}`;
  }

  /** Settles when the client has let go of every connection. */
  async abandoned(): Promise<void> {
    while (this.#sockets.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onGone = resolve;
      });
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #take(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      this.#onGone();
    });
    this.serve(socket);
  }
}

/** For a server that is written as a function of what has come. */
export function playing(play: Play): GarblingPeer['serve'] {
  return (socket) => {
    let received: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      received = play(socket, Buffer.concat([received, chunk]));
    });
  };
}

/** For a server that is written as a script, which ends where its client has gone. */
export function scripted(
  random: FuzzRandom,
  garble: Garble,
  script: (wire: Wire) => Promise<void>,
): GarblingPeer['serve'] {
  return (socket) => {
    script(new GarblingWire(random, socket, garble)).catch((error: Error) => {
      if (error.message !== GONE) socket.destroy(error);
    });
  };
}

/** What goes out in the place of what should, and whether that is the end. */
export type Garble = (message: Uint8Array) => Uint8Array;

const GONE = 'the client has gone';
/** No conversation here has more messages of the server. */
const MAX_MESSAGES = 9;

/** Says one of its messages wrong, and hangs up. */
class GarblingWire extends Wire {
  readonly #random: FuzzRandom;
  readonly #socket: Socket;
  readonly #garble: Garble;
  readonly #garbledIndex: number;
  #index = 0;

  constructor(random: FuzzRandom, socket: Socket, garble: Garble) {
    super(socket);
    this.#random = random;
    this.#socket = socket;
    this.#garble = garble;
    this.#garbledIndex = random.note('garbled', random.below(MAX_MESSAGES));
  }

  override async write(data: Uint8Array | string): Promise<void> {
    const message = typeof data === 'string' ? Buffer.from(data) : data;
    this.#index += 1;
    if (this.#index <= this.#garbledIndex) return super.write(message);
    await super.write(this.#random.note('said', this.#garble(message)));
    // Whatever the client makes of it, it is not kept waiting.
    hangUp(this.#random, this.#socket);
    throw new Error(GONE);
  }
}

/** With a word (close_notify, FIN), without one, or in the middle of what was just said. */
export function hangUp(random: FuzzRandom, socket: Socket): void {
  if (random.chance(0.8)) socket.end();
  else socket.end(() => socket.destroy());
}
