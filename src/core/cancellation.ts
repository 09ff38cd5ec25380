import { CancelledError } from '../errors.js';
import type { CancelSignal } from './cancel-signal.js';
import { onCancel } from './on-cancel.js';

/** @throws {CancelledError} when `signal` has aborted. `state` says what was going on, e.g. `signing`. */
export function throwIfCancelled(signal: CancelSignal | undefined, state: string): void {
  if (signal?.aborted) throw new CancelledError({ state, cause: signal.reason });
}

/**
 * Starts `work` and gives what it gives, or a `CancelledError` as soon as `signal` aborts. Work left behind that way
 * ends by itself, unheard, and has to release what it holds. With a signal that has already aborted, it is not started.
 */
export async function unlessCancelled<T>(
  signal: CancelSignal | undefined,
  state: string,
  work: () => Promise<T>,
): Promise<T> {
  throwIfCancelled(signal, state);
  if (signal === undefined) return work();
  let stopListening: () => void = () => undefined;
  const cancelled = new Promise<never>((_, reject) => {
    stopListening = onCancel(signal, () => reject(new CancelledError({ state, cause: signal.reason })));
  });
  try {
    return await Promise.race([work(), cancelled]);
  } finally {
    stopListening();
  }
}
