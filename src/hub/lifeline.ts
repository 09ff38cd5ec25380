/**
 * Ends once, with an error, and tells whoever depends on it. A plain list of listeners: an `AbortSignal` with many
 * waits hanging on it makes Node warn of a leak.
 */
export class Lifeline {
  readonly #listeners: Set<(error: Error) => void> = new Set();
  #error: Error | undefined;

  /** What it ended with; undefined while it lasts. */
  get error(): Error | undefined {
    return this.#error;
  }

  /** How many wait on it; for tests that look for leaks. */
  get listenerCount(): number {
    return this.#listeners.size;
  }

  /** The returned function takes the listener back. */
  onEnd(listener: (error: Error) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  end(error: Error): void {
    if (this.#error !== undefined) return;
    this.#error = error;
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    for (const listener of listeners) listener(error);
  }
}
