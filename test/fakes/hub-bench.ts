import type { Hsm } from '../../src/core/attestation.js';
import type { HubOpenParameters, HubSession, HubTransport } from '../../src/core/hub.js';
import type { MqttHubOptions } from '../../src/hub/mqtt-hub-options.js';
import { mqttHubTransport } from '../../src/hub/session.js';
import { FakeHubBroker } from './hub-broker.js';
import { HubClock } from './hub-clock.js';
import { fakeSymmetricKeyHsm } from './hub-identity.js';

export const HUB = 'myhub.azure-devices.net';

/** A session's whole world: clock, broker, identity, and what strayed. */
export class HubBench {
  readonly clock: HubClock = new HubClock();
  readonly broker: FakeHubBroker = new FakeHubBroker();
  readonly strays: string[] = [];
  readonly transport: HubTransport;
  readonly parameters: HubOpenParameters;

  constructor({ hsm = fakeSymmetricKeyHsm(), ...options }: Partial<MqttHubOptions> & { readonly hsm?: Hsm } = {}) {
    let requests = 0;
    this.parameters = { hostName: HUB, deviceId: 'dev-1', hsm, slot: 0 };
    this.transport = mqttHubTransport({
      clock: this.clock,
      random: () => 0,
      newRequestId: () => {
        requests += 1;
        return `r${requests}`;
      },
      onStrayError: (error, origin) => {
        this.strays.push(`${origin}: ${error instanceof Error ? error.message : String(error)}`);
      },
      openConnection: this.broker.open,
      ...options,
    });
  }

  open(signal: AbortSignal = new AbortController().signal): Promise<HubSession> {
    return this.transport.open(this.parameters, signal);
  }

  /** The device's packets since the last look. */
  takeLog(): string[] {
    return this.broker.log.splice(0);
  }
}

/** What a promise was rejected with, or its value in an error. */
export async function failureOf(work: Promise<unknown>): Promise<Error & { readonly code?: string }> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

/** An `AbortController` that counts what listens on its signal. */
export class CountingAbort {
  readonly signal: AbortSignal;
  listeners = 0;
  readonly #controller: AbortController = new AbortController();

  constructor() {
    this.signal = this.#controller.signal;
    const add = this.signal.addEventListener.bind(this.signal);
    const remove = this.signal.removeEventListener.bind(this.signal);
    this.signal.addEventListener = (...args: Parameters<typeof add>): void => {
      this.listeners += 1;
      add(...args);
    };
    this.signal.removeEventListener = (...args: Parameters<typeof remove>): void => {
      this.listeners -= 1;
      remove(...args);
    };
  }

  abort(reason?: unknown): void {
    this.#controller.abort(reason);
  }
}
