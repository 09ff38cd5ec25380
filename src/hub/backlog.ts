import type { CancelSignal } from '../core/cancel-signal.js';
import { onCancel } from '../core/on-cancel.js';
import { TransportError } from '../errors.js';

/** How much may be begun and not finished. */
export interface BacklogLimits {
  readonly operations: number;
  /** While there is no session, and all of it waits. */
  readonly waitingBytes: number;
  /** While there is one, and all of it is on its way. */
  readonly sentBytes: number;
}

/** An operation that was begun. */
export interface Waiter {
  /** What was begun first is sent first. */
  readonly turn: number;
  /** Of what it holds to send. */
  readonly bytes: number;
}

/** The operations that are not finished, be they on their way or waiting for the next session. */
export class Backlog {
  readonly #limits: BacklogLimits;
  readonly #begun: Set<Waiter> = new Set();
  readonly #waiting: Map<Waiter, () => void> = new Map();
  #bytes = 0;

  constructor(limits: BacklogLimits) {
    this.#limits = limits;
  }

  /**
   * Does `work` and counts it until it settles. What was on its way when the connection was lost has its place for sure.
   *
   * @throws {TransportError} `ERR_DPS_BACKLOG` when one operation more, or so many bytes, are too many.
   */
  async hold<T>(
    waiter: Waiter,
    hub: { readonly isOnline: boolean; readonly peer: string },
    work: () => Promise<T>,
  ): Promise<T> {
    this.#checkRoom(waiter.bytes, hub);
    this.#begun.add(waiter);
    this.#bytes += waiter.bytes;
    try {
      return await work();
    } finally {
      this.#begun.delete(waiter);
      this.#bytes -= waiter.bytes;
    }
  }

  /** Settles at `wakeAll`, or the abort of the signal. */
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

  #checkRoom(bytes: number, { isOnline, peer }: { readonly isOnline: boolean; readonly peer: string }): void {
    const { operations, waitingBytes, sentBytes } = this.#limits;
    const { size } = this.#begun;
    const limit = isOnline ? sentBytes : waitingBytes;
    const isFull = size >= operations;
    // One alone always has room.
    if (!isFull && (size === 0 || this.#bytes + bytes <= limit)) return;
    const held = isFull ? `${size} operations` : `${this.#bytes} bytes in ${size} operations (of ${limit})`;
    throw new TransportError({
      code: 'ERR_DPS_BACKLOG',
      message: `${held} ${isOnline ? 'are on their way to' : 'wait for'} ${peer} already. Await what sendTelemetry() and report() return before the next, or drop data while the device is ${isOnline ? 'busy' : 'offline'}.`,
      phase: 'established',
      peer,
      retryable: true,
    });
  }
}
