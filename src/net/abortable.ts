import type { CancelSignal } from '../core/cancel-signal.js';
import { onCancel } from '../core/on-cancel.js';

/**
 * Work as a promise that also settles, at once, when `signal` aborts: rejected with the signal's reason.
 *
 * `start` begins the work and returns what frees its timers and listeners; that runs exactly once, however the promise
 * settled, before anybody can see that it did. With a signal that has already aborted `start` is not called.
 */
export function abortable<T>(
  signal: CancelSignal,
  start: (resolve: (value: T) => void, reject: (reason: unknown) => void) => () => void,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    let isSettled = false;
    let release: (() => void) | undefined;
    const settle = (conclude: () => void): void => {
      if (isSettled) return;
      isSettled = true;
      leaveSignal();
      release?.();
      conclude();
    };
    const leaveSignal = onCancel(signal, () => settle(() => reject(signal.reason)));
    try {
      release = start(
        (value) => settle(() => resolve(value)),
        (reason) => settle(() => reject(reason)),
      );
    } catch (error) {
      settle(() => reject(error));
    }
    // Settled before `start` came back: `settle` had nothing to release yet.
    if (isSettled) release?.();
  });
}

/** For what is bounded by the life of its connection alone. */
export const NEVER_CANCELLED: CancelSignal = {
  aborted: false,
  reason: undefined,
  addEventListener: () => {},
  removeEventListener: () => {},
};

/** Aborts when either of two signals does; the first one's reason counts. Holds nothing that would have to be freed. */
export function eitherSignal(first: CancelSignal, second: CancelSignal): CancelSignal {
  return {
    get aborted() {
      return first.aborted || second.aborted;
    },
    get reason() {
      return first.aborted ? first.reason : second.reason;
    },
    addEventListener: (type, listener, options) => {
      first.addEventListener(type, listener, options);
      second.addEventListener(type, listener, options);
    },
    removeEventListener: (type, listener) => {
      first.removeEventListener(type, listener);
      second.removeEventListener(type, listener);
    },
  };
}
