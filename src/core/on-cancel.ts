import type { CancelSignal } from './cancel-signal.js';

/** One for each signal that somebody listens to. */
const audiences: WeakMap<CancelSignal, Audience> = new WeakMap();

/**
 * Calls `listener` once when `signal` aborts; the returned function takes it back. A signal that has aborted calls nobody.
 *
 * However many listen this way, the signal carries one listener: Node warns of a leak at the eleventh, and an application
 * may well end a whole fleet of operations with one signal.
 */
export function onCancel(signal: CancelSignal, listener: () => void): () => void {
  let audience = audiences.get(signal);
  if (audience === undefined) {
    audience = new Audience(signal);
    audiences.set(signal, audience);
  }
  return audience.join(listener);
}

class Audience {
  readonly #signal: CancelSignal;
  readonly #listeners: Set<() => void> = new Set();
  readonly #onAbort: () => void = () => this.#tellAll();

  constructor(signal: CancelSignal) {
    this.#signal = signal;
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  join(listener: () => void): () => void {
    // A wrapper of its own: the same function may be given twice.
    const own = (): void => listener();
    this.#listeners.add(own);
    return () => {
      if (this.#listeners.delete(own) && this.#listeners.size === 0) this.#dissolve();
    };
  }

  #tellAll(): void {
    const listeners = [...this.#listeners];
    this.#dissolve();
    for (const listener of listeners) {
      // One that an earlier one took back is not called any more.
      if (this.#listeners.delete(listener)) listener();
    }
  }

  #dissolve(): void {
    audiences.delete(this.#signal);
    this.#signal.removeEventListener('abort', this.#onAbort);
  }
}
