import { connect, type Socket } from 'node:net';
import { concatBytes } from '../../../src/core/bytes.js';
import type { HsmError } from '../../../src/errors.js';
import { linkError, systemCode, truncated } from './link-error.js';

export type SocketTarget = { readonly host: string; readonly port: number } | { readonly path: string };

/** `127.0.0.1:2321`, `[::1]:2321`, `/run/tpm.sock` */
export function targetName(target: SocketTarget): string {
  if ('path' in target) return target.path;
  return target.host.includes(':') ? `[${target.host}]:${target.port}` : `${target.host}:${target.port}`;
}

interface Waiting {
  readonly length: number;
  readonly resolve: (bytes: Uint8Array) => void;
  readonly reject: (error: Error) => void;
}

/** A connection that is read by lengths. Fails once and for all; whatever waits then fails with it. */
export class SocketStream {
  readonly #socket: Socket;
  readonly #place: string;
  #received: Uint8Array = new Uint8Array();
  #isConnected = false;
  #failure: HsmError | undefined;
  #waiting: Waiting | undefined;

  constructor(target: SocketTarget, place: string) {
    this.#place = place;
    this.#socket = connect(target);
    this.#socket.setNoDelay(true);
    this.#socket.on('connect', () => {
      this.#isConnected = true;
      this.#serve();
    });
    this.#socket.on('data', (chunk: Uint8Array) => {
      this.#received = concatBytes(this.#received, chunk);
      this.#serve();
    });
    this.#socket.on('error', (error) => this.fail(this.#explain(error)));
    this.#socket.on('close', () => this.fail(this.#lost()));
  }

  /** Bytes that have come and that nobody has asked for. */
  get surplus(): number {
    return this.#received.length;
  }

  /** Settles when the connection stands. */
  async connected(): Promise<void> {
    await this.read(0);
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** Exactly `length` bytes, as soon as they are there. One call at a time. */
  read(length: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.#waiting = { length, resolve, reject };
      this.#serve();
    });
  }

  fail(error: HsmError): void {
    this.#failure ??= error;
    this.#socket.destroy();
    this.#serve();
  }

  /** With last words, if there are any. */
  end(lastWords?: Uint8Array): void {
    this.#failure ??= this.#lost();
    if (lastWords === undefined || !this.#isConnected) {
      this.#socket.destroy();
      return;
    }
    this.#socket.write(lastWords);
    this.#socket.destroySoon();
  }

  #serve(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    if (this.#isConnected && this.#received.length >= waiting.length) {
      this.#waiting = undefined;
      const bytes = this.#received.slice(0, waiting.length);
      this.#received = this.#received.subarray(waiting.length);
      waiting.resolve(bytes);
    } else if (this.#failure !== undefined) {
      this.#waiting = undefined;
      waiting.reject(this.#failure);
    }
  }

  #lost(): HsmError {
    const missing = this.#waiting?.length ?? 0;
    if (this.#received.length > 0 && missing > 0) return truncated(this.#place, this.#received.length, missing);
    return linkError(
      'ERR_DPS_HSM_TPM_CONNECTION_LOST',
      `${this.#place} closed the connection before it answered. Check that it still runs, and that it is a server of this kind.`,
      { retryable: true },
    );
  }

  #explain(error: Error): HsmError {
    const code = systemCode(error);
    if (this.#isConnected) {
      const message = `The connection to ${this.#place} broke before it answered (${code}). Check that it still runs.`;
      return linkError('ERR_DPS_HSM_TPM_CONNECTION_LOST', message, { retryable: true, cause: error });
    }
    if (code === 'EACCES' || code === 'EPERM') {
      const message = `This process may not connect to ${this.#place} (${code}). Give its user access to the socket.`;
      return linkError('ERR_DPS_HSM_TPM_PERMISSION', message, { cause: error });
    }
    const message = `There is no answer at ${this.#place} (${code}). Start the TPM simulator there, or correct option hsm.link.`;
    return linkError('ERR_DPS_HSM_TPM_UNREACHABLE', message, { retryable: true, cause: error });
  }
}
