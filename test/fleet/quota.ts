/** At most so many in each minute by the service's clock; who is over it is told when the next minute begins. */
export class MinuteQuota {
  readonly #perMinute: number;
  #minute = -1;
  #used = 0;
  /** Over all minutes. */
  refused = 0;

  constructor(perMinute: number) {
    this.#perMinute = perMinute;
  }

  /** Seconds to wait, or 0: taken. */
  take(nowMs: number): number {
    const minute = Math.floor(nowMs / 60_000);
    if (minute !== this.#minute) this.#used = 0;
    this.#minute = minute;
    if (this.#used < this.#perMinute) {
      this.#used += 1;
      return 0;
    }
    this.refused += 1;
    return Math.ceil(((minute + 1) * 60_000 - nowMs) / 1000);
  }
}

/**
 * So many connections a second. What is over it is queued first, so that it only takes longer, and refused when the queue
 * is full: hub-protocol 6.4.
 */
export class ConnectionGate {
  readonly #intervalMs: number;
  readonly #queueMs: number;
  #nextAtMs = 0;
  refused = 0;

  constructor(perSecond: number, queueMs: number) {
    this.#intervalMs = 1000 / perSecond;
    this.#queueMs = queueMs;
  }

  /** How long the connection waits until it is let in; undefined: refused. */
  enter(nowMs: number): number | undefined {
    const waitMs = Math.max(0, this.#nextAtMs - nowMs);
    if (waitMs > this.#queueMs) {
      this.refused += 1;
      return undefined;
    }
    this.#nextAtMs = Math.max(this.#nextAtMs, nowMs) + this.#intervalMs;
    return waitMs;
  }
}
