import type { Clock } from '../core/clock.js';
import { asError } from '../core/thrown-words.js';
import type { TokenLife } from './credentials.js';
import type { StrayErrorSink } from './stray-error.js';

/** How often the clock is looked at for a step, and how soon, at the latest, a failed renewal is tried again. */
export const TOKEN_WATCH_MS = 60_000;

export interface TokenWatchOptions {
  readonly clock: Clock;
  /** Gets a new token and puts it to use. */
  readonly renew: () => Promise<void>;
  /** Whether the connection of the old token is still in use: then a renewal that failed can be tried again. */
  readonly isOpen: () => boolean;
  readonly onGiveUp: (error: Error) => void;
  readonly onStrayError: StrayErrorSink;
}

/** Sees to it that a token is replaced before it runs out. */
export class TokenWatch {
  readonly #options: TokenWatchOptions;
  #stopTimer: (() => void) | undefined;
  #isOver = false;

  constructor(options: TokenWatchOptions) {
    this.#options = options;
  }

  start(life: TokenLife): void {
    if (this.#isOver) return;
    const delayMs = Math.min(Math.max(life.untilRenewalMs(), 0), TOKEN_WATCH_MS);
    this.#stopTimer = this.#options.clock.after(delayMs, () => {
      if (life.untilRenewalMs() > 0) this.start(life);
      else void this.#renew(life);
    });
  }

  end(): void {
    this.#isOver = true;
    this.#stopTimer?.();
  }

  async #renew(life: TokenLife): Promise<void> {
    try {
      await this.#options.renew();
    } catch (error) {
      this.#renewalFailed(life, asError(error));
    }
  }

  #renewalFailed(life: TokenLife, error: Error): void {
    const { clock, isOpen, onGiveUp, onStrayError } = this.#options;
    if (!isOpen() || life.isOver()) {
      onGiveUp(error);
      return;
    }
    onStrayError(error, 'token renewal');
    const delayMs = Math.min(TOKEN_WATCH_MS, life.lifeMs / 20);
    this.#stopTimer = clock.after(delayMs, () => void this.#renew(life));
  }
}
