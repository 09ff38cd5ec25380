import type { Duplex } from 'node:stream';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import { abortable } from './abortable.js';
import { connectionLost, type FailurePoint, sessionClosed, transportErrorFrom } from './connection-errors.js';

export interface ConnectionEndOptions {
  readonly socket: Duplex;
  /** `host:port` of the peer, for errors. */
  readonly peer: string;
  readonly clock: Clock;
  /** How far the connection has come, for errors. */
  readonly here: () => FailurePoint;
  /** Called once, before anybody else hears that it is over; stops what the engine keeps going. */
  readonly onEnd: (reason: Error) => void;
}

/** How long `close()` waits for the last words to leave before it cuts the connection. */
const CLOSE_GRACE_MS = 1000;

/**
 * How an engine's connection ends: once, for the first reason there is, which everything under way is rejected with.
 * With it goes the socket, whose own end is a reason, too.
 */
export class ConnectionEnd {
  /** Settles once when the socket is gone: `undefined` after `close()`, else the error the connection ended with. */
  readonly closed: Promise<Error | undefined>;
  readonly #options: ConnectionEndOptions;
  readonly #pending: Set<(reason: unknown) => void> = new Set();
  /** Set once, by whatever ended the connection first; `error` is undefined after `close()`. */
  #ending: { readonly error: Error | undefined } | undefined;

  /** Of a socket that is gone already, the connection is over at once. */
  constructor(options: ConnectionEndOptions) {
    this.#options = options;
    const { socket, here } = options;
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.end(() => connectionLost(here()));
        resolve(this.#ending?.error);
      });
    });
    if (socket.destroyed) {
      this.end(() => transportErrorFrom(socket.errored ?? undefined, here()));
      return;
    }
    socket.on('error', (error) => this.end(() => transportErrorFrom(error, here())));
    socket.once('end', () => this.endSoon(() => connectionLost(here())));
  }

  get isOver(): boolean {
    return this.#ending !== undefined;
  }

  /** The first reason wins. */
  end(reason: () => Error): void {
    if (this.isOver) return;
    this.#conclude(reason());
    this.#options.socket.destroy();
  }

  /** One chunk may hold answers and the reason to end: engines tell of what they read a tick later, let them finish. */
  endSoon(reason: () => Error): void {
    setImmediate(() => this.end(reason));
  }

  /** Sends `lastWords`, then ends without an error. Never fails; safe to call twice. */
  async close(lastWords: Uint8Array): Promise<void> {
    if (!this.isOver) {
      const { socket, clock } = this.#options;
      this.#conclude(undefined);
      const stopTimer = clock.after(CLOSE_GRACE_MS, () => socket.destroy());
      socket.end(lastWords, () => socket.destroy());
      await this.closed;
      stopTimer();
    }
    await this.closed;
  }

  /** Work on the connection, as `abortable` has it, that is also rejected when the connection ends. */
  unlessOver<T>(signal: CancelSignal, start: Parameters<typeof abortable<T>>[1]): Promise<T> {
    return abortable<T>(signal, (resolve, reject) => {
      if (this.isOver) {
        reject(this.#reason());
        return () => {};
      }
      this.#pending.add(reject);
      let release = (): void => {};
      try {
        release = start(resolve, reject);
      } catch (error) {
        reject(error);
      }
      return () => {
        this.#pending.delete(reject);
        release();
      };
    });
  }

  #conclude(error: Error | undefined): void {
    this.#ending = { error };
    const reason = this.#reason();
    this.#options.onEnd(reason);
    for (const reject of this.#pending) reject(reason);
  }

  #reason(): Error {
    return this.#ending?.error ?? sessionClosed(this.#options.peer);
  }
}
