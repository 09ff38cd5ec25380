import type { CancelSignal } from './core/cancel-signal.js';
import { CancelledError } from './errors.js';

/** @throws {CancelledError} when `signal` has aborted. `state` says what was going on, e.g. `signing`. */
export function throwIfCancelled(signal: CancelSignal | undefined, state: string): void {
  if (signal?.aborted) throw new CancelledError({ state, cause: signal.reason });
}

/**
 * Starts `work` and gives what it gives, or a `CancelledError` as soon as `signal` aborts. Work left behind that way
 * has to release what it holds by itself. With a signal that has already aborted, it is not started.
 */
export async function unlessCancelled<T>(
  signal: CancelSignal | undefined,
  state: string,
  work: () => Promise<T>,
): Promise<T> {
  throwIfCancelled(signal, state);
  if (signal === undefined) return work();
  let cancel: () => void = () => undefined;
  const cancelled = new Promise<never>((_, reject) => {
    cancel = () => reject(new CancelledError({ state, cause: signal.reason }));
    signal.addEventListener('abort', cancel, { once: true });
  });
  try {
    return await Promise.race([work(), cancelled]);
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}
