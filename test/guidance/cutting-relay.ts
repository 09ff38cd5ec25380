import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** A TCP relay between a device and a service, whose cable can be pulled. */
export class CuttingRelay {
  /** Connections that were accepted. */
  accepted = 0;
  /** The next connections are cut as soon as they are there. */
  cutsNext = 0;
  /** The length of the cable: each direction takes so long. */
  oneWayMs = 0;
  #server: Server = this.#newServer();
  readonly #sockets: Set<Socket> = new Set();
  #port = 0;
  #targetPort = 0;

  /** `host:port`; stays the same while the relay is up or down. */
  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** Where it leads. */
  get target(): string {
    return `127.0.0.1:${this.#targetPort}`;
  }

  set target(address: string) {
    this.#targetPort = Number(address.slice(address.lastIndexOf(':') + 1));
  }

  /** Listens, again on the same port. */
  async up(): Promise<void> {
    if (this.#server.listening) return;
    this.#server = this.#newServer();
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Nobody listens any more: connections are refused. */
  async down(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cut();
    await closed;
  }

  /** Every connection ends without a word. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  #newServer(): Server {
    return createServer({ noDelay: true }, (near) => {
      this.accepted += 1;
      this.#keep(near);
      if (this.cutsNext > 0) {
        this.cutsNext -= 1;
        near.resetAndDestroy();
        return;
      }
      const far = connect({ port: this.#targetPort, host: '127.0.0.1', noDelay: true });
      this.#keep(far);
      this.#pass(near, far);
      this.#pass(far, near);
      near.once('close', () => far.destroy());
      far.once('close', () => near.destroy());
    });
  }

  #pass(from: Socket, to: Socket): void {
    if (this.oneWayMs === 0) from.pipe(to);
    else from.on('data', (chunk) => setTimeout(() => to.write(chunk), this.oneWayMs));
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
