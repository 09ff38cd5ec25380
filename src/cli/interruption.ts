import type { StopSignal } from './exit-codes.js';
import type { CliIo } from './io.js';

/** The first SIGINT or SIGTERM asks for an orderly end; the second one gets its way. */
export interface Interruption {
  /** Aborts at the first signal. */
  readonly signal: AbortSignal;
  /** The first signal, once it has come. */
  readonly by: StopSignal | undefined;
  /** Stops listening: from here on signals do what they do by default. */
  release(): void;
}

export function listenForInterruption(io: CliIo): Interruption {
  const controller = new AbortController();
  let by: StopSignal | undefined;
  const release = io.onSignal((signal) => {
    if (by !== undefined) return io.exitNow(signal);
    by = signal;
    controller.abort(new Error(`received ${signal}`));
  });
  return {
    signal: controller.signal,
    get by() {
      return by;
    },
    release,
  };
}
