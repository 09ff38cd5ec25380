import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import { CancelledError, HsmError, isDpsError } from '../errors.js';

/** How long a call into somebody else's code may take, unless told otherwise. */
export const DEFAULT_CALL_TIMEOUT_MS = 30_000;

export interface CallBounds {
  /** Who is asked, for messages, e.g. `the HSM`. */
  readonly who: string;
  /** What for, e.g. `sign the token`. */
  readonly operation: string;
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly signal?: CancelSignal | undefined;
}

/**
 * Starts `work` and gives what it gives, but waits no longer than its bounds allow. Whatever ends the wait early also
 * aborts the signal that the work got; afterwards no timer and no listener is left.
 *
 * @throws {CancelledError} when `signal` aborts; an error of this package that is the signal's reason stays what it is.
 * @throws {HsmError} `ERR_DPS_HSM_OPERATION` when time is up, or for whatever else the work throws.
 */
export function boundedCall<T>(bounds: CallBounds, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const { signal, clock, timeoutMs } = bounds;
    if (signal?.aborted) {
      reject(cancellation(bounds));
      return;
    }
    const controller = new AbortController();
    const leave = (settle: () => void): void => {
      signal?.removeEventListener('abort', onAbort);
      stopTimer();
      settle();
    };
    const giveUp = (error: Error): void =>
      leave(() => {
        reject(error);
        controller.abort(error);
      });
    const onAbort = (): void => giveUp(cancellation(bounds));
    signal?.addEventListener('abort', onAbort, { once: true });
    const stopTimer = clock.after(timeoutMs, () => giveUp(timedOut(bounds)));
    startSafely(work, controller.signal).then(
      (value) => leave(() => resolve(value)),
      (error: unknown) => leave(() => reject(hsmFailure(bounds, error))),
    );
  });
}

/**
 * A Node-style call as a promise: `call` gets the callback, and may as well return a promise or the value itself.
 * It settles by whichever comes first.
 */
export function viaCallback(call: (callback: (error?: unknown, value?: unknown) => void) => unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const returned = call((error, value) => {
      if (error === undefined || error === null) resolve(value);
      else reject(error);
    });
    if (returned !== undefined) resolve(returned);
  });
}

/** An error of this package as it is; anything else as an HsmError with the original as its cause. */
function hsmFailure({ who, operation }: CallBounds, error: unknown): Error {
  if (isDpsError(error)) return error;
  return new HsmError({
    code: 'ERR_DPS_HSM_OPERATION',
    message: `${capital(who)} failed to ${operation}: ${error instanceof Error ? error.message : String(error)}`,
    operation,
    cause: error,
  });
}

function startSafely<T>(work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return work(signal);
  } catch (error) {
    return Promise.reject(error);
  }
}

function timedOut({ who, operation, timeoutMs }: CallBounds): HsmError {
  return new HsmError({
    code: 'ERR_DPS_HSM_OPERATION',
    message: `${capital(who)} did not ${operation} within ${timeoutMs} ms. Look at why it does not answer, or allow more with timeoutMs.`,
    operation,
    retryable: true,
  });
}

function cancellation({ who, operation, signal }: CallBounds): Error {
  const reason = signal?.reason;
  return isDpsError(reason) ? reason : new CancelledError({ state: `asking ${who} to ${operation}`, cause: reason });
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
