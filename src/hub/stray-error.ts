import { wordsOf } from '../core/thrown-words.js';

/** What a listener can fail at, or what arrived damaged. */
export type StrayErrorOrigin =
  | 'desired listener'
  | 'message listener'
  | 'method handler'
  | 'method response'
  | 'token renewal'
  | 'delivery';

/** Takes an error that no call of the application is waiting for. */
export type StrayErrorSink = (error: unknown, origin: StrayErrorOrigin) => void;

/** A hub that sends nonsense must not fill the log of the device. */
export const MAX_WARNINGS_PER_SESSION = 10;

/**
 * Where the errors of one session go. A failing listener must neither end the process nor fail unseen: without a sink
 * of the application's own the first ten are warnings of the process, and how many more there were is said at the end.
 */
export class StrayErrors {
  readonly #sink: StrayErrorSink | undefined;
  #warnings = 0;

  constructor(sink: StrayErrorSink | undefined) {
    this.#sink = sink;
  }

  /** Never throws: what the application's own sink throws is shown as a warning, too. */
  readonly take: StrayErrorSink = (error, origin) => {
    if (this.#sink === undefined) {
      this.#warn(error, origin);
      return;
    }
    try {
      this.#sink(error, origin);
    } catch (sinkError) {
      this.#warn(sinkError, origin);
    }
  };

  /** The session is over. */
  end(): void {
    const leftOut = this.#warnings - MAX_WARNINGS_PER_SESSION;
    if (leftOut > 0) showWarning(`${leftOut} more errors in this hub session were left out.`);
    this.#warnings = 0;
  }

  #warn(error: unknown, origin: StrayErrorOrigin): void {
    this.#warnings += 1;
    if (this.#warnings > MAX_WARNINGS_PER_SESSION) return;
    showWarning(`Error in a hub session (${origin}): ${wordsOf(error)}`);
  }
}

function showWarning(text: string): void {
  process.emitWarning(text, { type: 'DpsDeviceWarning' });
}

/** Calls `work`; what it throws, or its promise rejects with, goes to the sink. */
export function guard(work: () => unknown, onStrayError: StrayErrorSink, origin: StrayErrorOrigin): void {
  callNow(work).catch((error: unknown) => onStrayError(error, origin));
}

async function callNow(work: () => unknown): Promise<unknown> {
  return work();
}
