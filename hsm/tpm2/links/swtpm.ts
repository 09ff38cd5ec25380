import { concatBytes } from '../../../src/core/bytes.js';
import type { Clock } from '../../../src/core/clock.js';
import type { HsmError } from '../../../src/errors.js';
import type { TpmLink } from './link.js';
import { garbage, linkClosed, responseSize, systemCode, timedOut } from './link-error.js';
import { SocketStream, type SocketTarget, targetName } from './socket-stream.js';

const HEAD_BYTES = 10;
const QUEUE_PAUSE_MS = 5;

/**
 * The data channel of swtpm: raw commands, raw responses. A connection for every command, because swtpm serves one at a
 * time and keeps its state apart from them: so several programs can use it, as tpm2-tss does.
 */
export class SwtpmLink implements TpmLink {
  readonly place: string;
  readonly #target: SocketTarget;
  readonly #clock: Clock;
  #stream: SocketStream | undefined;
  #failure: HsmError | undefined;
  #wake: () => void = () => undefined;

  constructor(target: SocketTarget, clock: Clock) {
    this.#target = target;
    this.#clock = clock;
    this.place = `swtpm at ${targetName(target)}`;
  }

  async transceive(command: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    this.#failure = undefined;
    const stopTimer = this.#clock.after(timeoutMs, () => this.#fail(timedOut(this.place, timeoutMs)));
    try {
      const stream = await this.#connect();
      stream.write(command);
      const head = await stream.read(HEAD_BYTES);
      const response = concatBytes(head, await stream.read(responseSize(head, this.place) - HEAD_BYTES));
      if (stream.surplus > 0) throw garbage(this.place, `${stream.surplus} bytes follow the response`);
      return response;
    } finally {
      stopTimer();
      this.#stream?.end();
      this.#stream = undefined;
    }
  }

  rest(): void {}

  async close(): Promise<void> {
    this.#fail(linkClosed(this.place));
  }

  /** A Unix socket whose queue is full refuses instead of letting wait: others are being served. */
  async #connect(): Promise<SocketStream> {
    for (;;) {
      const stream = new SocketStream(this.#target, this.place);
      this.#stream = stream;
      try {
        await stream.connected();
        return stream;
      } catch (error) {
        if (systemCode((error as HsmError).cause) !== 'EAGAIN') throw error;
      }
      await this.#pause();
      if (this.#failure !== undefined) throw this.#failure;
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const stopTimer = this.#clock.after(QUEUE_PAUSE_MS, resolve);
      this.#wake = () => {
        stopTimer();
        resolve();
      };
    });
  }

  #fail(error: HsmError): void {
    this.#failure = error;
    this.#stream?.fail(error);
    this.#wake();
  }
}
