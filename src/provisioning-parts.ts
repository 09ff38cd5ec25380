import type { Hsm } from './core/attestation.js';
import type { Clock, Random } from './core/clock.js';
import type { HubTransport } from './core/hub.js';
import type { RecordStore } from './core/store.js';
import type { DpsTransport } from './core/transport.js';
import type { JsonValue } from './core/twin.js';

/** All that a journey needs, ready made. `compose.ts` fills it from names. */
export interface ProvisioningParts {
  readonly idScope: string;
  readonly endpoint: string;
  readonly hsm: Hsm;
  readonly dps: DpsTransport;
  readonly hub: HubTransport;
  /** To be tried in turn, where the network does not let `dps`, or `hub`, through. Default: none. */
  readonly otherDps?: readonly DpsTransport[];
  readonly otherHubs?: readonly HubTransport[];
  /** Where the record is kept; without one, every journey begins at DPS. */
  readonly store?: RecordStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly payload?: JsonValue;
  readonly reprovision?: boolean;
  readonly startSpreadMs?: number;
  readonly deadlineMs: number;
  /** When the deadline began to run, if that was before `provisionWith`. */
  readonly startedAtMs?: number;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly hubTimeoutMs: number;
  readonly tokenLifeSeconds: number;
  readonly signal?: AbortSignal;
  /** Gives back what was opened for this journey alone, such as the lock on a store. */
  readonly release?: () => Promise<void>;
  /** Closes the HSM that was made for this journey: where no hub was reached, nobody has it. Never fails. */
  readonly closeHsm?: () => Promise<void>;
}

/** The one that the machine has chosen; without a choice, the only one. */
export function dpsTransportOf({ dps, otherDps = [] }: ProvisioningParts, name: string | undefined): DpsTransport {
  return otherDps.find((each) => each.name === name) ?? dps;
}

export function hubTransportOf({ hub, otherHubs = [] }: ProvisioningParts, name: string | undefined): HubTransport {
  return otherHubs.find((each) => each.name === name) ?? hub;
}
