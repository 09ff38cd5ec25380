import type { ProgressEvent } from './core/progress.js';

/** So many events are kept for readers that come late or read slowly; older ones are dropped. */
const KEPT_EVENTS = 1_000;

/** Progress of one journey: every reader sees the kept events from the first on, then each new one, until the end. */
export class ProgressLog implements AsyncIterable<ProgressEvent> {
  readonly #events: ProgressEvent[] = [];
  /** Number of the first kept event. */
  #first = 0;
  #ended = false;
  #waiting: (() => void)[] = [];

  append(event: ProgressEvent): void {
    this.#events.push(event);
    if (this.#events.length > KEPT_EVENTS) {
      this.#events.shift();
      this.#first += 1;
    }
    this.#wakeReaders();
  }

  end(): void {
    this.#ended = true;
    this.#wakeReaders();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ProgressEvent, void, undefined> {
    for (let next = this.#first; ; ) {
      next = Math.max(next, this.#first);
      const event = this.#events[next - this.#first];
      if (event !== undefined) {
        next += 1;
        yield event;
      } else if (this.#ended) return;
      else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #wakeReaders(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
