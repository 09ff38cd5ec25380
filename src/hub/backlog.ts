import type { CancelSignal } from '../core/cancel-signal.js';
import { onCancel } from '../core/on-cancel.js';
import { TransportError } from '../errors.js';

/** What may wait at most. */
export interface BacklogLimits {
  readonly operations: number;
  readonly bytes: number;
}

/** An operation between two sessions. */
export interface Waiter {
  /** What was begun first is sent first. */
  readonly turn: number;
  /** Of what it holds to send. */
  readonly bytes: number;
}

/** The operations that wait for the next session. */
export class Backlog {
  readonly #limits: BacklogLimits;
  readonly #waiting: Map<Waiter, () => void> = new Map();

  constructor(limits: BacklogLimits) {
    this.#limits = limits;
  }

  /** Settles at `wakeAll`, or the abort of the signal. What waits again after a lost connection has its place for sure. */
  wait(waiter: Waiter, signal: CancelSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(waiter);
        stopListening();
        resolve();
      };
      this.#waiting.set(waiter, wake);
      const stopListening = signal === undefined ? (): void => {} : onCancel(signal, wake);
    });
  }

  /** In the order of their turns. */
  wakeAll(): void {
    for (const [, wake] of [...this.#waiting].sort(([a], [b]) => a.turn - b.turn)) wake();
  }

  /** @throws {TransportError} `ERR_DPS_BACKLOG` when so many bytes more, in one operation more, are too many. */
  checkRoom(bytes: number, peer: string): void {
    const { size } = this.#waiting;
    if (size === 0) return;
    if (size >= this.#limits.operations) throw backlogFull(`${size} operations`, 'wait', peer);
    const held = [...this.#waiting.keys()].reduce((sum, waiter) => sum + waiter.bytes, 0);
    if (held + bytes <= this.#limits.bytes) return;
    throw backlogFull(`${held} bytes in ${size} operations`, `(of ${this.#limits.bytes}) wait`, peer);
  }
}

function backlogFull(what: string, wait: string, peer: string): TransportError {
  return new TransportError({
    code: 'ERR_DPS_BACKLOG',
    message: `${what} ${wait} for ${peer} already. Await what sendTelemetry() and report() return before the next, or drop data while the device is offline.`,
    phase: 'established',
    peer,
    retryable: true,
  });
}
