import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import type { MqttConnection } from '../net/mqtt-engine.js';
import { waitWithin } from './bounded-wait.js';
import { requestTimedOut } from './hub-errors.js';
import { InFlight } from './in-flight.js';
import { Lifeline } from './lifeline.js';

export interface HubLineOptions {
  readonly clock: Clock;
  /** One bound over the wait for a connection and the work on it. */
  readonly timeoutMs: number;
  /** `host:port`, for errors. */
  readonly peer: string;
  /** The session's. */
  readonly lifeline: Lifeline;
}

const HINT = 'Check the network, and whether the hub is throttling.';

/** The connection of the moment: work waits here while one is replaced by the next. */
export class HubLine {
  readonly #options: HubLineOptions;
  readonly #running: InFlight = new InFlight();
  #connection: MqttConnection | undefined;
  /** Of the connection: ends when it is given up. */
  #tenure: Lifeline = new Lifeline();
  #isOpen = false;
  #opened: Promise<void>;
  #resolveOpened: () => void = () => {};

  constructor(options: HubLineOptions) {
    this.#options = options;
    this.#opened = this.#newOpening();
  }

  /** Whether work can begin at once. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Lets everything that waits, and comes, use this connection. */
  attach(connection: MqttConnection): void {
    this.#connection = connection;
    this.#tenure = new Lifeline();
    this.#isOpen = true;
    this.#resolveOpened();
  }

  /** Lets nothing new begin; settles when all that is under way is over. Never fails. */
  hold(): Promise<void> {
    if (this.#isOpen) this.#opened = this.#newOpening();
    this.#isOpen = false;
    return this.#running.idle();
  }

  /** The connection is given up: what is still under way on it fails with `error`. */
  detach(error: Error): void {
    void this.hold();
    this.#connection = undefined;
    this.#tenure.end(error);
  }

  /** Does `work` with the connection: at once if there is one, else on the next. Fails when its time is up. */
  run<T>(
    doing: string,
    signal: CancelSignal | undefined,
    work: (connection: MqttConnection, signal: CancelSignal) => Promise<T>,
  ): Promise<T> {
    const { clock, timeoutMs, lifeline, peer } = this.#options;
    const timeout = { clock, afterMs: timeoutMs, error: () => requestTimedOut(peer, `(${doing})`, timeoutMs, HINT) };
    return waitWithin({ doing, signal, lifeline, timeout }, (within) => this.#begin(doing, work, within));
  }

  async #begin<T>(
    doing: string,
    work: (connection: MqttConnection, signal: CancelSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    while (!this.#isOpen && !signal.aborted) await this.#opened;
    const connection = this.#connection;
    if (connection === undefined) throw signal.reason;
    return this.#running.track(
      waitWithin({ doing, signal, lifeline: this.#tenure }, (within) => work(connection, within)),
    );
  }

  #newOpening(): Promise<void> {
    return new Promise((resolve) => {
      this.#resolveOpened = resolve;
    });
  }
}
