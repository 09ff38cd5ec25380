import { decodeUtf8 } from '../core/bytes.js';
import type { MethodResponse, Unsubscribe } from '../core/hub.js';
import type { JsonValue } from '../core/twin.js';
import { ConfigurationError } from '../errors.js';
import { kindOf } from '../value-kind.js';
import { InFlight } from './in-flight.js';
import type { StrayErrorSink } from './stray-error.js';

export type MethodHandler = (payload: JsonValue) => MethodResponse | Promise<MethodResponse>;

export interface MethodRouterOptions {
  /** Sends the response; a lost one is the caller's time-out, never an error here. */
  readonly respond: (status: number, requestId: string, payload: Uint8Array) => Promise<void>;
  readonly onStrayError: StrayErrorSink;
}

/** In each direction (hub-protocol, section 3.3). */
const MAX_PAYLOAD_BYTES = 128 * 1024;

/** Far more than a device has at a time; a hub that asks and does not read the answers must not fill its memory. */
export const MAX_RUNNING_METHODS = 100;

/** Two handlers of one name would answer one question twice. */
export function methodTaken(name: string): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `The method ${JSON.stringify(name)} has a handler already. Take that one away first.`,
    option: 'name',
  });
}

/** Which of the two came second does not matter: the application has chosen both names. */
export function orderMethodTaken(name: string): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `The method ${JSON.stringify(name)} is the one that reprovisionOn names, which the run handles itself, and the application has a handler of that name, too. Give one of the two another name.`,
    option: 'reprovisionOn',
  });
}

/** Answers direct method requests, also wrong ones: an unanswered one keeps its caller waiting for its time-out. */
export class MethodRouter {
  readonly #options: MethodRouterOptions;
  readonly #handlers: Map<string, MethodHandler> = new Map();
  readonly #running: InFlight = new InFlight();

  constructor(options: MethodRouterOptions) {
    this.#options = options;
  }

  /** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` when the name is taken. */
  handle(name: string, handler: MethodHandler): Unsubscribe {
    if (this.#handlers.has(name)) {
      throw methodTaken(name);
    }
    this.#handlers.set(name, handler);
    let isMine = true;
    return () => {
      if (isMine) this.#handlers.delete(name);
      isMine = false;
    };
  }

  /** Settles when no handler is running. Never fails. */
  idle(): Promise<void> {
    return this.#running.idle();
  }

  end(): void {
    this.#handlers.clear();
  }

  receive(name: string, requestId: string, body: Uint8Array): void {
    if (this.#running.count >= MAX_RUNNING_METHODS) {
      const problem = new Error(
        `A method request was left unanswered: ${MAX_RUNNING_METHODS} others are not finished.`,
      );
      this.#options.onStrayError(problem, 'delivery');
      return;
    }
    void this.#running.track(this.#answer(name, requestId, body));
  }

  async #answer(name: string, requestId: string, body: Uint8Array): Promise<void> {
    const { status, payload } = await this.#call(name, body);
    try {
      await this.#options.respond(status, requestId, payload);
    } catch (error) {
      this.#options.onStrayError(error, 'method response');
    }
  }

  async #call(name: string, body: Uint8Array): Promise<{ readonly status: number; readonly payload: Uint8Array }> {
    const handler = this.#handlers.get(name);
    if (handler === undefined) return failure(501, 'The device has no handler for this method.');
    const payload = parsePayload(body);
    if (payload === undefined) return failure(400, 'The payload of the method is not JSON.');
    try {
      return encodeResponse(name, await handler(payload));
    } catch (error) {
      this.#options.onStrayError(error, 'method handler');
      return failure(500, 'The handler of this method failed.');
    }
  }
}

/** An empty payload counts as null. */
function parsePayload(body: Uint8Array): JsonValue | undefined {
  if (body.length === 0) return null;
  const text = decodeUtf8(body);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}

function encodeResponse(name: string, response: unknown): { readonly status: number; readonly payload: Uint8Array } {
  const must = `The handler of the method ${JSON.stringify(name)} must return`;
  if (typeof response !== 'object' || response === null)
    throw new TypeError(`${must} an object such as { status: 200, payload: { done: true } }, not ${kindOf(response)}.`);
  const { status, payload = null } = response as Partial<MethodResponse>;
  if (!Number.isSafeInteger(status)) {
    const got = typeof status === 'number' ? status : kindOf(status);
    throw new TypeError(`${must} an integer as status, such as { status: 200 }, not ${got}.`);
  }
  // Undefined for what JSON does not know, such as a function.
  const text: string | undefined = JSON.stringify(payload);
  if (text === undefined) throw new TypeError(`${must} a JSON value as payload, not ${kindOf(payload)}.`);
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > MAX_PAYLOAD_BYTES) {
    throw new RangeError(`The method response has ${bytes.length} bytes; the hub takes ${MAX_PAYLOAD_BYTES}.`);
  }
  return { status: Number(status), payload: bytes };
}

/** Says nothing about the device's inside: whoever calls methods is not who reads its logs. */
function failure(status: number, message: string): { readonly status: number; readonly payload: Uint8Array } {
  return { status, payload: new TextEncoder().encode(JSON.stringify({ message })) };
}
