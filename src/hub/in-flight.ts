/** Counts what is under way, so that somebody can wait until nothing is. */
export class InFlight {
  #count = 0;
  #waiting: (() => void)[] = [];

  get count(): number {
    return this.#count;
  }

  /** Counts `work` until it settles, and hands its promise through. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#count += 1;
    const leave = (): void => {
      this.#count -= 1;
      if (this.#count > 0) return;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const resolve of waiting) resolve();
    };
    work.then(leave, leave);
    return work;
  }

  /** Settles when nothing is under way: at once, or later. Never fails. */
  idle(): Promise<void> {
    if (this.#count === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
