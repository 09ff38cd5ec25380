import { CancelledError, isDpsError } from '../errors.js';

/** `TransportConfig` of azure-iot-common. */
export interface HubTransportConfig {
  readonly host: string;
  readonly deviceId: string;
  readonly sharedAccessSignature?: string;
  readonly x509?: object;
}

export type CredentialsCallback = (error?: Error | null, credentials?: HubTransportConfig) => void;

interface Waiter {
  give(config: HubTransportConfig): void;
  fail(error: Error): void;
}

/**
 * Where Microsoft's transport waits for credentials, by callback or promise. Clearing it answers all who wait at once
 * with an error: a late credential would make the transport open a connection that nobody closes.
 */
export class CredentialDesk {
  readonly #waiting = new Set<Waiter>();
  #controller = new AbortController();

  /** Aborts when the desk is cleared. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** `toConfig` is called only if the answer is still wanted. */
  serve<T>(
    work: Promise<T>,
    toConfig: (value: T) => HubTransportConfig,
    callback: CredentialsCallback | undefined,
  ): Promise<HubTransportConfig> | undefined {
    if (callback === undefined) return new Promise((give, fail) => this.#wait(work, toConfig, { give, fail }));
    this.#wait(work, toConfig, {
      give: (config) => callback(null, config),
      fail: (error) => callback(forTransport(error)),
    });
    return undefined;
  }

  clear(): void {
    const cancelled = new CancelledError({ state: 'making hub credentials' });
    this.#controller.abort(cancelled);
    this.#controller = new AbortController();
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const waiter of waiting) waiter.fail(cancelled);
  }

  #wait<T>(work: Promise<T>, toConfig: (value: T) => HubTransportConfig, waiter: Waiter): void {
    this.#waiting.add(waiter);
    work.then(
      (value) => {
        if (this.#waiting.delete(waiter)) waiter.give(toConfig(value));
      },
      (error: Error) => {
        if (this.#waiting.delete(waiter)) waiter.fail(error);
      },
    );
  }
}

/**
 * Microsoft's transport takes an error with a `code` for one of the network, and its client tries again for four
 * minutes. That suits what may pass; what will not pass goes without a code, and `open()` ends with it at once.
 */
function forTransport(error: Error): Error {
  const mayPass = isDpsError(error) && error.retryable && error.code !== 'ERR_DPS_CANCELLED';
  if (mayPass || !isDpsError(error)) return error;
  return Object.assign(new Error(error.message, { cause: error }), { name: error.name });
}
