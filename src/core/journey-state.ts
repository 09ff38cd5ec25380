import type { DpsError } from '../errors.js';
import type { RegistrationResult } from './messages.js';
import type { DeviceRecord } from './record.js';
import {
  type Registration,
  type RegistrationConfig,
  type RegistrationEffect,
  type RegistrationInput,
  registrationWakeAtMs,
} from './registration.js';
import type { RequestBudget } from './retry.js';
import type { LoadedRecord } from './store.js';
import { orderTransports, type TransportOrder } from './transport-order.js';
import type { Twin } from './twin.js';
import { unreachable } from './unreachable.js';

/** The journey machine's words: what it is told, what it orders, where it can be. `journey.ts` says what follows from what. */

export interface JourneyConfig extends RegistrationConfig {
  /** `once` ends with the twin; `keep` stays with the hub, and comes back to it, until it is cancelled. Default `once`. */
  readonly purpose?: 'once' | 'keep';
  /** Bound on one attempt to reach the hub and read the twin. */
  readonly hubTimeoutMs: number;
  /** The only way to the hub where `hubTransports` names none; it goes into the record. Default `mqtt`. */
  readonly hubTransport?: string;
  /** To try in turn, where the network lets one not through. Default: `transport`, and `hubTransport`, alone. */
  readonly transports?: readonly string[];
  readonly hubTransports?: readonly string[];
  /** There is a store: the journey begins with its record and saves one when the hub has accepted the device. */
  readonly hasStore?: boolean;
  /** The HSM wants to know which credential the hub has accepted. */
  readonly tellsAcceptance?: boolean;
  /** The slot of the HSM's staged key, if it has one. */
  readonly stagedSlot?: number;
  /** What the HSM calls the credentials in its slots. */
  readonly keyIds?: readonly string[];
  /** Asks DPS first, whatever the record says. */
  readonly reprovision?: boolean;
  /** The first packet leaves after a random part of this: devices that get power at the same moment spread. Default 0. */
  readonly startSpreadMs?: number;
}

export type JourneyInput =
  | RegistrationInput
  | { readonly type: 'RecordLoaded'; readonly ticket: number; readonly loaded: LoadedRecord }
  | { readonly type: 'RecordSaved'; readonly ticket: number }
  | { readonly type: 'IdentityStaged'; readonly ticket: number }
  | { readonly type: 'HubReached'; readonly ticket: number; readonly twin: Twin }
  | { readonly type: 'IdentityCommitted'; readonly ticket: number }
  /** The session that was handed out is over. */
  | { readonly type: 'HubLost'; readonly error: DpsError }
  | { readonly type: 'TwinChanged'; readonly twin: Twin }
  /** Somebody wants the device to ask DPS again. Not heard where DPS has just been asked. */
  | { readonly type: 'ReprovisionRequested'; readonly by: string };

export type JourneyEffect =
  | Exclude<RegistrationEffect, { readonly type: 'Finish' | 'OpenConnection' }>
  /** `transport` is left out where there is but one, as with `OpenHub`. */
  | { readonly type: 'OpenConnection'; readonly ticket: number; readonly transport?: string }
  | { readonly type: 'LoadRecord'; readonly ticket: number }
  | { readonly type: 'SaveRecord'; readonly ticket: number; readonly record: DeviceRecord }
  /** TPM: takes the hub key in beside the identity in use. */
  | { readonly type: 'StageIdentity'; readonly ticket: number; readonly authenticationKey: string }
  /** Connects with a fresh credential, subscribes, reads the twin; the answer is `HubReached`. */
  | {
      readonly type: 'OpenHub';
      readonly ticket: number;
      readonly assignedHub: string;
      readonly deviceId: string;
      readonly slot: number;
      readonly transport?: string;
    }
  /** The hub has accepted the credential in the slot: what was staged is the identity from now on. */
  | { readonly type: 'CommitIdentity'; readonly ticket: number; readonly slot: number }
  /** Takes a staged identity back; nothing waits for it. */
  | { readonly type: 'DiscardIdentity' }
  /** The session is the application's now. `before` is the twin as it was last known, by the record if need be. */
  | { readonly type: 'HandOutSession'; readonly arrival: Arrival; readonly before: Twin | undefined }
  | { readonly type: 'CloseHub' }
  | { readonly type: 'FinishJourney'; readonly outcome: JourneyOutcome };

/** Accepted by the hub that DPS, now or earlier, sent the device to. */
export interface Arrival extends Assignment {
  readonly twin: Twin;
  /** By what DPS, now or earlier, and the hub were reached. */
  readonly transport: { readonly dps: string; readonly hub: string };
}

export type JourneyOutcome =
  | ({ readonly kind: 'provisioned' } & Arrival)
  | { readonly kind: 'failed'; readonly error: DpsError };

export interface Assignment {
  readonly result: RegistrationResult;
  readonly slot: number;
  readonly source: 'registered' | 'stored';
}

export type JourneyState =
  | { readonly name: 'Idle' }
  | { readonly name: 'AwaitingRecord'; readonly untilMs: number }
  | { readonly name: 'AwaitingStart'; readonly atMs: number }
  | { readonly name: 'Registering'; readonly registration: Registration }
  /** The record is being marked: DPS sent the device elsewhere. */
  | {
      readonly name: 'AwaitingNote';
      readonly assignment: Assignment;
      readonly noted: DeviceRecord;
      readonly untilMs: number;
    }
  | { readonly name: 'AwaitingStaging'; readonly assignment: Assignment; readonly untilMs: number }
  | { readonly name: 'AwaitingHub'; readonly assignment: Assignment; readonly timeoutAtMs: number }
  | { readonly name: 'AwaitingHubRetry'; readonly assignment: Assignment; readonly atMs: number }
  | { readonly name: 'AwaitingCommit'; readonly arrival: Arrival; readonly untilMs: number }
  | { readonly name: 'AwaitingSave'; readonly arrival: Arrival }
  | {
      readonly name: 'Online';
      readonly arrival: Arrival;
      readonly sinceMs: number;
      /** When the record is to be saved; undefined: nothing to save, or it is being saved. */
      readonly saveAtMs: number | undefined;
      /** What is being saved, and how long that may take. */
      readonly saving: { readonly record: DeviceRecord; readonly untilMs: number } | undefined;
    }
  /** DPS could not help; what was there before is tried again. */
  | { readonly name: 'AwaitingReturn'; readonly atMs: number }
  | { readonly name: 'AwaitingLastSave'; readonly untilMs: number; readonly outcome: JourneyOutcome }
  | { readonly name: 'Done'; readonly outcome: JourneyOutcome };

export interface Journey {
  readonly config: JourneyConfig;
  readonly state: JourneyState;
  readonly memory: JourneyMemory;
}

export interface JourneyMemory {
  /** `once`: bound on everything. */
  readonly deadlineAtMs: number;
  readonly deadlineFromMs: number;
  readonly ticket: number;
  /** Requests to DPS are counted across registrations. */
  readonly budget: RequestBudget | undefined;
  /** What is known of the device's place; saved or not. */
  readonly record: DeviceRecord | undefined;
  /** What the store holds. */
  readonly saved: DeviceRecord | undefined;
  /** Where DPS has sent the device, while the hub there has not accepted it. */
  readonly assignment: Assignment | undefined;
  /** The store held something for this device that cannot be read any more. */
  readonly lookUpFirst: boolean;
  /** A TPM may hold a key that no hub has accepted, the nonce's or a staged one: also an order that failed or was cut short may have left it. */
  readonly staged: boolean;
  /** The staged key of a key store has been committed; its slot stays what it is. */
  readonly isKeyRolled: boolean;
  /** What got through to DPS, in this life or by the record; undefined: nothing has. */
  readonly dpsReachedBy: string | undefined;
  readonly dpsOrder: TransportOrder;
  readonly hubOrder: TransportOrder;
  readonly hubAttempts: number;
  /** In a row, on this hub. */
  readonly hubFailures: number;
  readonly hubRefusals: number;
  /** After this moment a hub that keeps failing is given up; undefined: it does not fail. */
  readonly hubPatienceUntilMs: number | undefined;
  /** When DPS last assigned a hub; undefined: not in this life. */
  readonly registeredAtMs: number | undefined;
  /** DPS has said no, and is not asked again before this moment unless somebody wants it. */
  readonly dpsNotBeforeMs: number | undefined;
  /** Tries at DPS in a row that did not end at a hub. */
  readonly dpsFailures: number;
  /** Who wants DPS to be asked as soon as the device is at the hub. */
  readonly reprovisionBy: string | undefined;
  readonly lastError: DpsError | undefined;
}

export interface JourneyStep {
  readonly journey: Journey;
  readonly effects: readonly JourneyEffect[];
}

/** A refused credential is tried once more after 5 to 30 s: a busy hub, or one that has not heard of the device yet, refuses too. */
export const HUB_REFUSAL_RETRIES = 1;
export const HUB_REFUSAL_DELAY_MS: readonly [number, number] = [5_000, 30_000];
/** A throttled twin read waits 10 to 60 s. */
export const HUB_THROTTLE_DELAY_MS: readonly [number, number] = [10_000, 60_000];
/** A hub nobody can vouch for, or that refuses while DPS has just named it, is asked seldom. */
export const HUB_SLOW_DELAY_MS: readonly [number, number] = [60_000, 300_000];
/** So many failures in a row, or so long a time of them, send the device to DPS. */
export const HUB_FAILURES_BEFORE_DPS = 10;
export const HUB_PATIENCE_MS: readonly [number, number] = [15 * 60_000, 30 * 60_000];
/** DPS is not asked again so soon after it has named the hub that fails. */
export const DPS_INTERVAL_MS: number = 30 * 60_000;
/** DPS said no: only a person changes that. */
export const DPS_REFUSAL_DELAY_MS: readonly [number, number] = [30 * 60_000, 60 * 60_000];
/** A TPM that is busy for so many registrations is broken. */
export const HSM_FAILURES_BEFORE_PAUSE = 3;
/** A store or an HSM that has not answered for so long never will. */
export const LOCAL_PATIENCE_MS: number = 10 * 60_000;
/** A session that lasted so long counts as a hub that works. */
export const HUB_STEADY_MS = 60_000;
/** At most one save in this time for a twin that keeps changing: flash wears out. */
export const SAVE_INTERVAL_MS = 60_000;
/** A stop waits so long for the last save. */
export const LAST_SAVE_MS = 5_000;

/** A journey that has not started yet. */
export function newJourney(config: JourneyConfig): Journey {
  const { transports, hubTransports } = transportsOf(config);
  return {
    config,
    state: { name: 'Idle' },
    memory: {
      deadlineAtMs: Number.POSITIVE_INFINITY,
      deadlineFromMs: 0,
      ticket: 0,
      budget: undefined,
      record: undefined,
      saved: undefined,
      assignment: undefined,
      lookUpFirst: false,
      staged: false,
      isKeyRolled: false,
      dpsReachedBy: undefined,
      dpsOrder: orderTransports(transports),
      hubOrder: orderTransports(hubTransports),
      hubAttempts: 0,
      hubFailures: 0,
      hubRefusals: 0,
      hubPatienceUntilMs: undefined,
      registeredAtMs: undefined,
      dpsNotBeforeMs: undefined,
      dpsFailures: 0,
      reprovisionBy: undefined,
      lastError: undefined,
    },
  };
}

/** All that may be tried, in order. */
export function transportsOf({ transport, hubTransport, ...config }: JourneyConfig): {
  readonly transports: readonly string[];
  readonly hubTransports: readonly string[];
} {
  const { transports = [transport], hubTransports = [hubTransport ?? 'mqtt'] } = config;
  return { transports, hubTransports };
}

/** The monotonic time at which the machine wants to be woken; undefined when it waits for nothing. */
export function journeyWakeAtMs({ state, memory }: Journey): number | undefined {
  switch (state.name) {
    case 'Idle':
    case 'Done':
      return undefined;
    case 'Registering':
      return registrationWakeAtMs(state.registration);
    case 'AwaitingSave':
      return memory.deadlineAtMs;
    case 'AwaitingRecord':
    case 'AwaitingNote':
    case 'AwaitingStaging':
    case 'AwaitingCommit':
      return Math.min(state.untilMs, memory.deadlineAtMs);
    case 'AwaitingHub':
      return Math.min(state.timeoutAtMs, memory.deadlineAtMs);
    case 'AwaitingStart':
    case 'AwaitingHubRetry':
    case 'AwaitingReturn':
      return Math.min(state.atMs, memory.deadlineAtMs);
    case 'AwaitingLastSave':
      return state.untilMs;
    case 'Online':
      return state.saving?.untilMs ?? state.saveAtMs;
    default:
      return unreachable(state);
  }
}
