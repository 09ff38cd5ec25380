import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { throwIfCancelled } from '../../src/core/cancellation.js';
import type { Clock } from '../../src/core/clock.js';
import { onCancel } from '../../src/core/on-cancel.js';
import { CancelledError, isDpsError } from '../../src/errors.js';
import { flushContext, startup, type TpmCommand } from './commands.js';
import type { TpmLink } from './links/link.js';
import { encodeCommand, type ResponseHead, readResponse, readResponseHead } from './messages.js';
import { baseCode, TPM_RC } from './response-codes.js';
import type { CommandSession } from './sessions.js';
import { isRefusal, TpmCommandError } from './tpm-error.js';

export interface TpmSettings {
  readonly link: TpmLink;
  readonly clock: Clock;
  /** Bound on one command. */
  readonly commandTimeoutMs: number;
  /** Bound on one that makes a key: a discrete chip may look for primes for minutes. */
  readonly creationTimeoutMs: number;
}

/** Repeated with the same bytes after 20, 40, 80 … ms, for about 5 s in all; tpm2-tss and the kernel do alike. */
const FIRST_PAUSE_MS = 20;
const PAUSES_TOTAL_MS = 5_100;
const BUSY_CODES: readonly number[] = [TPM_RC.RETRY, TPM_RC.YIELDED, TPM_RC.TESTING];

/**
 * How long `close` lets work end that was already under way, flushing what it holds; less what the command under way has
 * had of it, for a TPM that has said nothing for so long has nothing to say.
 */
const CLOSE_GRACE_MS = 3_000;

/**
 * One TPM, used by one piece of work at a time. Whatever a piece of work makes the TPM hold is flushed when it is over,
 * however it ends.
 */
export class Tpm {
  readonly place: string;
  readonly #settings: TpmSettings;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;
  #turn: TpmTurn | undefined;
  #isClosed = false;

  constructor(settings: TpmSettings) {
    this.#settings = settings;
    this.place = settings.link.place;
  }

  /**
   * Does `work` when all before it is done. When `signal` aborts, the caller gets its `CancelledError` at once; the
   * command under way cannot be called back, so the work ends behind it, before the next begins.
   */
  async run<T>(signal: CancelSignal | undefined, state: string, work: (turn: TpmTurn) => Promise<T>): Promise<T> {
    throwIfCancelled(signal, state);
    const done = this.#enqueue(() => this.#takeTurn(signal, state, work));
    if (signal === undefined) return done;
    return new Promise<T>((resolve, reject) => {
      const takeBack = onCancel(signal, () => reject(new CancelledError({ state, cause: signal.reason })));
      done.finally(takeBack).then(resolve, reject);
    });
  }

  /** Waits for the work under way, a little, and closes the link. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await new Promise<void>((resolve) => {
      const { clock } = this.#settings;
      const nowMs = clock.monotonicMs();
      const silentMs = nowMs - (this.#turn?.unansweredSinceMs ?? nowMs);
      const stopTimer = clock.after(Math.max(0, CLOSE_GRACE_MS - silentMs), resolve);
      void this.#last.then(() => {
        stopTimer();
        resolve();
      });
    });
    await this.#settings.link.close();
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting += 1;
    const done = this.#last.then(work);
    const over = (): void => {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#settings.link.rest();
    };
    this.#last = done.then(over, over);
    return done;
  }

  async #takeTurn<T>(signal: CancelSignal | undefined, state: string, work: (turn: TpmTurn) => Promise<T>): Promise<T> {
    throwIfCancelled(signal, state);
    if (this.#isClosed) throw new TypeError(`The TPM at ${this.place} was closed.`);
    const turn = new TpmTurn(this.#settings, signal, state);
    this.#turn = turn;
    try {
      return await work(turn);
    } finally {
      await turn.end();
      this.#turn = undefined;
    }
  }
}

/** The TPM for the time of one piece of work. */
export class TpmTurn {
  readonly #settings: TpmSettings;
  readonly #held: number[] = [];
  readonly #state: string;
  #signal: CancelSignal | undefined;
  #unansweredSinceMs: number | undefined;

  constructor(settings: TpmSettings, signal: CancelSignal | undefined, state: string) {
    this.#settings = settings;
    this.#signal = signal;
    this.#state = state;
  }

  /** When the command that is under way was sent; undefined where one may take its time, for it makes a key. */
  get unansweredSinceMs(): number | undefined {
    return this.#unansweredSinceMs;
  }

  /**
   * Sends one command and reads its response. A handle that comes back is held, and flushed at the end of the turn.
   *
   * @throws {TpmCommandError} when the TPM refuses it, also after having been asked again.
   * @throws {TpmFormatError} when the response is not one.
   * @throws {CancelledError} when the signal aborted before it was sent.
   */
  async execute<T>(command: TpmCommand<T>, ...sessions: readonly CommandSession[]): Promise<T> {
    throwIfCancelled(this.#signal, this.#state);
    const head = await this.#exchange(command.name, encodeCommand(command, sessions));
    return readResponse(command, sessions, head, (handle) => this.#held.push(handle));
  }

  /** From now on the work is done to its end: half of it would be worse than none. */
  finishAnyway(): void {
    throwIfCancelled(this.#signal, this.#state);
    this.#signal = undefined;
  }

  /** Before the turn ends. Not there any more is as good. */
  async flush(handle: number): Promise<void> {
    this.forget(handle);
    try {
      await this.execute(flushContext(handle));
    } catch (error) {
      if (isRefusal(error, TPM_RC.HANDLE)) return;
      this.#held.push(handle);
      throw error;
    }
  }

  /** The TPM has dropped it by itself. */
  forget(handle: number): void {
    const index = this.#held.indexOf(handle);
    if (index >= 0) this.#held.splice(index, 1);
  }

  /** Flushes whatever is still held. Never fails: what matters of the turn has been said. */
  async end(): Promise<void> {
    this.#signal = undefined;
    for (let handle = this.#held.pop(); handle !== undefined; handle = this.#held.pop()) {
      try {
        await this.execute(flushContext(handle));
      } catch (error) {
        // One that does not answer would be waited for again and again.
        if (isDpsError(error) && error.code === 'ERR_DPS_HSM_TPM_TIMEOUT') return;
      }
    }
  }

  async #exchange(name: string, bytes: Uint8Array): Promise<ResponseHead> {
    let isStarted = false;
    for (let pauseMs = FIRST_PAUSE_MS, pausedMs = 0; ; ) {
      const head = await this.#transceive(name, bytes);
      const code = baseCode(head.code);
      if (head.code === 0) return head;
      if (code === TPM_RC.INITIALIZE && !isStarted) {
        isStarted = true;
        await this.#start();
        continue;
      }
      if (!BUSY_CODES.includes(code) || pausedMs + pauseMs > PAUSES_TOTAL_MS) {
        throw new TpmCommandError(name, head.code);
      }
      await this.#pause(pauseMs);
      pausedMs += pauseMs;
      pauseMs *= 2;
    }
  }

  /** On the kernel's devices this has happened long ago; a simulator that was just switched on waits for it. */
  async #start(): Promise<void> {
    const head = await this.#transceive('Startup', encodeCommand(startup(), []));
    const refusal = new TpmCommandError('Startup', head.code);
    if (head.code !== 0 && !isRefusal(refusal, TPM_RC.INITIALIZE)) throw refusal;
  }

  async #transceive(name: string, bytes: Uint8Array): Promise<ResponseHead> {
    const { link, clock, commandTimeoutMs, creationTimeoutMs } = this.#settings;
    const makesKey = name === 'CreatePrimary';
    const timeoutMs = makesKey ? Math.max(creationTimeoutMs, commandTimeoutMs) : commandTimeoutMs;
    this.#unansweredSinceMs = makesKey ? undefined : clock.monotonicMs();
    try {
      return readResponseHead(await link.transceive(bytes, timeoutMs), `the response to ${name}`);
    } finally {
      this.#unansweredSinceMs = undefined;
    }
  }

  async #pause(forMs: number): Promise<void> {
    const signal = this.#signal;
    await new Promise<void>((resolve) => {
      const stopTimer = this.#settings.clock.after(forMs, () => {
        takeBack();
        resolve();
      });
      const takeBack =
        signal === undefined
          ? (): void => undefined
          : onCancel(signal, () => {
              stopTimer();
              resolve();
            });
    });
    throwIfCancelled(signal, this.#state);
  }
}
