import type { Clock } from '../core/clock.js';
import { CancelledError, DeadlineError } from '../errors.js';

/** One bound over all that a command waits for: input, the work, and whoever reads the result. */
export class TimeLimit {
  readonly #clock: Clock;
  readonly #startedAtMs: number;
  readonly #interruption: AbortSignal;
  readonly #controller = new AbortController();
  readonly #onInterruption = (): void => this.#controller.abort(this.#interruption.reason);
  #limitMs: number;
  #isOver = false;
  #stopTimer: () => void = () => undefined;

  /** Starts to run at once. */
  constructor(limitMs: number, clock: Clock, interruption: AbortSignal) {
    this.#clock = clock;
    this.#startedAtMs = clock.monotonicMs();
    this.#interruption = interruption;
    this.#limitMs = limitMs;
    if (interruption.aborted) this.#onInterruption();
    else interruption.addEventListener('abort', this.#onInterruption, { once: true });
    this.#arm();
  }

  /** Aborts when time is up, and when the process is told to end. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get limitMs(): number {
    return this.#limitMs;
  }

  /** What is left, as a whole number of at least 1. */
  get leftMs(): number {
    return Math.max(1, Math.floor(this.#limitMs - (this.#clock.monotonicMs() - this.#startedAtMs)));
  }

  /** Another bound, from the same start on; `undefined` leaves it as it is. */
  setSeconds(seconds: number | undefined): void {
    if (seconds === undefined) return;
    this.#limitMs = seconds * 1000;
    this.#arm();
  }

  /** Does the work, and lets go of timer and signal. @throws {DeadlineError} instead of `CancelledError` when time was up. */
  async over<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.#isOver && error instanceof CancelledError && !this.#interruption.aborted
        ? new DeadlineError({ state: error.state, deadlineMs: this.#limitMs })
        : error;
    } finally {
      this.#stopTimer();
      this.#interruption.removeEventListener('abort', this.#onInterruption);
    }
  }
  #arm(): void {
    this.#stopTimer();
    this.#stopTimer = this.#clock.after(this.leftMs, () => {
      this.#isOver = true;
      this.#controller.abort(new Error('time is up'));
    });
  }
}
