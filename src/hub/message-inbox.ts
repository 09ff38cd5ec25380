import type { CloudToDeviceMessage, Unsubscribe } from '../core/hub.js';
import { InFlight } from './in-flight.js';
import type { StrayErrorSink } from './stray-error.js';

export type MessageListener = (message: CloudToDeviceMessage) => void | Promise<void>;

/** As many as the hub queues for one device (hub-protocol, section 3.2). */
export const MAX_WAITING_MESSAGES = 50;

interface WaitingMessage {
  readonly message: CloudToDeviceMessage;
  readonly acknowledge: () => void;
}

/**
 * Cloud-to-device messages, one after the other. PUBACK completes a message at the hub, so it is sent only when every
 * listener has settled; until the first listener comes messages wait here unacknowledged, and the hub keeps them.
 */
export class MessageInbox {
  readonly #onStrayError: StrayErrorSink;
  readonly #listeners: Set<MessageListener> = new Set();
  readonly #running: InFlight = new InFlight();
  #waiting: WaitingMessage[] = [];
  #isBusy = false;

  constructor(onStrayError: StrayErrorSink) {
    this.#onStrayError = onStrayError;
  }

  add(listener: MessageListener): Unsubscribe {
    const own: MessageListener = (message) => listener(message);
    this.#listeners.add(own);
    // Not from inside the caller's own call, and not before a second listener of the same moment is there too.
    queueMicrotask(() => this.#advance());
    return () => {
      this.#listeners.delete(own);
    };
  }

  /** Beyond the bound a message is left with the hub, which delivers it again on the next connection. */
  receive(message: CloudToDeviceMessage, acknowledge: () => void): void {
    if (this.#waiting.length >= MAX_WAITING_MESSAGES) return;
    this.#waiting.push({ message, acknowledge });
    this.#advance();
  }

  /** The connection is gone: the hub delivers all of these again. */
  clear(): void {
    this.#waiting = [];
  }

  end(): void {
    this.clear();
    this.#listeners.clear();
  }

  /** Settles when no listener is running. Never fails. */
  idle(): Promise<void> {
    return this.#running.idle();
  }

  #advance(): void {
    if (this.#isBusy || this.#listeners.size === 0) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#isBusy = true;
    void this.#running.track(this.#process(next));
  }

  async #process({ message, acknowledge }: WaitingMessage): Promise<void> {
    const calls = [...this.#listeners].map(async (listener) => listener(message));
    const results = await Promise.allSettled(calls);
    const failures = results.filter((result) => result.status === 'rejected');
    for (const { reason } of failures) this.#onStrayError(reason, 'message listener');
    if (failures.length === 0) acknowledge();
    this.#isBusy = false;
    this.#advance();
  }
}
