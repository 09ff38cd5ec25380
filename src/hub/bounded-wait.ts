import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import { onCancel } from '../core/on-cancel.js';
import { CancelledError, isDpsError } from '../errors.js';
import type { Lifeline } from './lifeline.js';

/** What may end a wait before its work is done. */
export interface WaitBounds<T> {
  /** For the caller's own cancellation, e.g. `sending telemetry`. */
  readonly doing: string;
  readonly signal?: CancelSignal | undefined;
  readonly lifeline?: Lifeline | undefined;
  readonly timeout?: { readonly clock: Clock; readonly afterMs: number; readonly error: () => Error } | undefined;
  /** Takes what the work brings after nobody waits for it any more. */
  readonly discard?: ((late: T) => void) | undefined;
}

/**
 * Starts `work` at once and waits for it, but no longer than its bounds allow. Whatever ends the wait also aborts the
 * signal that the work got; afterwards no timer or listener is left.
 */
export function waitWithin<T>(bounds: WaitBounds<T>, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const { signal, lifeline, timeout } = bounds;
    if (signal?.aborted) return reject(cancellation(bounds.doing, signal));
    if (lifeline?.error !== undefined) return reject(lifeline.error);
    const controller = new AbortController();
    let isOver = false;
    const conclude = (settle: () => void): void => {
      if (isOver) return;
      isOver = true;
      leaveSignal?.();
      leaveLifeline?.();
      stopTimer?.();
      settle();
    };
    const fail = (error: Error): void =>
      conclude(() => {
        reject(error);
        controller.abort(error);
      });
    const leaveSignal = signal && onCancel(signal, () => fail(cancellation(bounds.doing, signal)));
    const leaveLifeline = lifeline?.onEnd(fail);
    const stopTimer = timeout?.clock.after(timeout.afterMs, () => fail(timeout.error()));
    startSafely(work, controller.signal).then(
      (value) => {
        if (isOver) bounds.discard?.(value);
        else conclude(() => resolve(value));
      },
      (error: unknown) => conclude(() => reject(error)),
    );
  });
}

function startSafely<T>(work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return work(signal);
  } catch (error) {
    return Promise.reject(error);
  }
}

/** A deadline of this package that travels as the signal's reason stays what it is. */
function cancellation(doing: string, signal: CancelSignal | undefined): Error {
  const reason = signal?.reason;
  return isDpsError(reason) ? reason : new CancelledError({ state: doing, cause: reason });
}
