import type { Clock } from '../core/clock.js';
import { hubError } from './hub-error.js';
import type { JsonValue } from './json.js';
import type { World } from './world.js';

export interface MethodResult {
  readonly status: number;
  readonly payload: JsonValue;
}

interface PendingCall {
  readonly deviceId: string;
  readonly resolve: (result: MethodResult) => void;
  readonly reject: (error: Error) => void;
  readonly cancelTimer: () => void;
}

/** Direct method calls that wait for a device's answer. */
export class MethodCalls {
  readonly #clock: Clock;
  readonly #world: World;
  readonly #pending = new Map<string, PendingCall>();
  #lastRequest = 0;

  constructor(clock: Clock, world: World) {
    this.#clock = clock;
    this.#world = world;
  }

  /** `send` gets the request id and says whether the device was there to take the call. */
  call(deviceId: string, timeoutMs: number, send: (requestId: string) => boolean): Promise<MethodResult> {
    this.#lastRequest += 1;
    const requestId = this.#lastRequest.toString();
    return new Promise((resolve, reject) => {
      const cancelTimer = this.#clock.after(timeoutMs, () => {
        this.#pending.delete(requestId);
        reject(hubError(this.#world, 504101, `Device "${deviceId}" did not answer within ${timeoutMs} ms.`));
      });
      this.#pending.set(requestId, { deviceId, resolve, reject, cancelTimer });
      if (send(requestId)) return;
      this.#take(deviceId, requestId);
      reject(hubError(this.#world, 404103, `Device "${deviceId}" is not online, or takes no methods.`));
    });
  }

  /** Whether somebody waited for it. `undefined` payload: the device's answer was not JSON. */
  answer(deviceId: string, requestId: string, status: number, payload: JsonValue | undefined): boolean {
    const call = this.#take(deviceId, requestId);
    if (call === undefined) return false;
    if (payload === undefined)
      call.reject(hubError(this.#world, 502000, `Device "${deviceId}" answered with a body that is no JSON.`));
    else call.resolve({ status, payload });
    return true;
  }

  close(): void {
    for (const [requestId, call] of this.#pending) {
      this.#take(call.deviceId, requestId);
      call.reject(hubError(this.#world, 503000, 'The emulator was closed.'));
    }
  }

  #take(deviceId: string, requestId: string): PendingCall | undefined {
    const call = this.#pending.get(requestId);
    if (call === undefined || call.deviceId !== deviceId) return undefined;
    this.#pending.delete(requestId);
    call.cancelTimer();
    return call;
  }
}
