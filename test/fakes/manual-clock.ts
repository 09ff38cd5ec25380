import type { Clock } from '../../src/core/clock.js';

/** A clock that stands still until a test moves it. */
export class ManualClock implements Clock {
  #monotonicMs = 0;
  #wallMs: number;
  readonly #timers = new Set<{ atMs: number; fn: () => void }>();

  constructor(wallMs: number = Date.UTC(2026, 10, 21)) {
    this.#wallMs = wallMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  wallMs(): number {
    return this.#wallMs;
  }

  after(delayMs: number, fn: () => void): () => void {
    const timer = { atMs: this.#monotonicMs + delayMs, fn };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** How many timers are set: 0 after anything that cleans up after itself. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves both clocks on and fires what is due, in order. */
  advance(ms: number): void {
    const untilMs = this.#monotonicMs + ms;
    for (;;) {
      const due = [...this.#timers].filter((timer) => timer.atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#step(Math.max(0, due.atMs - this.#monotonicMs));
      due.fn();
    }
    this.#step(untilMs - this.#monotonicMs);
  }

  /** Moves to the next timer and fires it; false when none is set. */
  advanceToNext(): boolean {
    const next = Math.min(...[...this.#timers].map((timer) => timer.atMs));
    if (next === Number.POSITIVE_INFINITY) return false;
    this.advance(Math.max(0, next - this.#monotonicMs));
    return true;
  }

  #step(ms: number): void {
    this.#monotonicMs += ms;
    this.#wallMs += ms;
  }
}
