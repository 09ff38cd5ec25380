import type { CancelSignal } from '../core/cancel-signal.js';
import { onCancel } from '../core/on-cancel.js';
import { CancelledError } from '../errors.js';

/** @throws {CancelledError} when `signal` has aborted. `state` says what was going on, e.g. `writing device`. */
export function throwIfCancelled(signal: CancelSignal | undefined, state: string): void {
  if (signal?.aborted) throw new CancelledError({ state, cause: signal.reason });
}

/** Gives what `work` gives, or a `CancelledError` as soon as `signal` aborts; the work then ends by itself, unheard. */
export async function unlessCancelled<T>(
  signal: CancelSignal | undefined,
  state: string,
  work: Promise<T>,
): Promise<T> {
  if (signal === undefined) return work;
  let stopListening: () => void = () => undefined;
  const cancelled = new Promise<never>((_, reject) => {
    const cancel = (): void => reject(new CancelledError({ state, cause: signal.reason }));
    if (signal.aborted) cancel();
    else stopListening = onCancel(signal, cancel);
  });
  try {
    return await Promise.race([work, cancelled]);
  } finally {
    stopListening();
  }
}
