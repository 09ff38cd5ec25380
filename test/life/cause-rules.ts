import type { JourneyConfig } from '../../src/core/journey.js';
import type { DeviceRecord } from '../../src/core/record.js';
import type { LoadedRecord } from '../../src/core/store.js';
import { ensure } from '../fuzz/properties.js';
import type { HubTrouble } from './hub-trouble.js';

const REFUSALS = 2;
const FAILURES = 10;
const PATIENCE_MS = 15 * 60_000;
/** No single wait at a hub is longer where it may be put into the second half of a deadline. */
const LONGEST_RETRY_MS = 60_000;

/** DPS is asked only with cause: each needless request of a fleet is one too many in an outage. */
export class CauseRules {
  readonly #trouble: HubTrouble;
  #config: JourneyConfig;
  #deadlineFromMs = 0;
  #isAsked = false;
  #isNewKey = false;
  /** The hub that the device can go to by what it has written down, or would have. */
  #recordHub: string | undefined;
  #hasPlace = false;

  constructor(config: JourneyConfig, trouble: HubTrouble) {
    this.#config = config;
    this.#trouble = trouble;
  }

  /** There is a hub to go to without asking. */
  get hasPlace(): boolean {
    return this.#hasPlace;
  }

  begin(config: JourneyConfig, monotonicMs: number): void {
    this.#config = config;
    this.#deadlineFromMs = monotonicMs;
    this.#isAsked = false;
    this.#isNewKey = false;
    this.#recordHub = undefined;
    this.#hasPlace = false;
  }

  loaded(loaded: LoadedRecord): void {
    const record = loaded.kind === 'record' && loaded.record.movedTo === undefined ? loaded.record : undefined;
    this.#isNewKey = record !== undefined && isStagedSince(this.#config, record);
    this.#recordHub = record?.assignment.assignedHub;
    this.#hasPlace = record !== undefined;
  }

  spread(forMs: number): void {
    this.#deadlineFromMs += forMs;
  }

  commanded(): void {
    this.#isAsked = true;
  }

  told(hub: string): void {
    this.#isAsked = false;
    if (this.#recordHub !== hub) this.#recordHub = undefined;
    // A TPM has the key of that hub only until it turns away from it.
    this.#hasPlace = this.#config.attestation !== 'tpm' || this.#recordHub !== undefined;
  }

  arrived(hub: string): void {
    this.#recordHub = hub;
    this.#hasPlace = true;
  }

  /** A registration begins. */
  started(monotonicMs: number): void {
    const { refusals, failures, last } = this.#trouble;
    const isCaused =
      !this.#hasPlace ||
      this.#isAsked ||
      this.#isNewKey ||
      last === 'refusedForGood' ||
      refusals >= REFUSALS ||
      failures >= FAILURES ||
      this.#trouble.failingForMs(monotonicMs) >= PATIENCE_MS ||
      (last !== undefined && this.#isHalfOver(monotonicMs));
    const why = `after ${refusals} refusals and ${failures} failures in ${this.#trouble.failingForMs(monotonicMs)} ms`;
    ensure(isCaused, `DPS is asked without cause, ${why}`);
    this.#isAsked = false;
    this.#isNewKey = false;
  }

  /** Half of a journey's time belongs to DPS. */
  #isHalfOver(monotonicMs: number): boolean {
    const { purpose, deadlineMs } = this.#config;
    return purpose !== 'keep' && monotonicMs + LONGEST_RETRY_MS >= this.#deadlineFromMs + deadlineMs / 2;
  }
}

function isStagedSince({ stagedSlot, keyIds = [] }: JourneyConfig, record: DeviceRecord): boolean {
  const staged = stagedSlot === undefined ? undefined : keyIds[stagedSlot];
  return staged !== undefined && record.keyIds?.includes(staged) === false;
}
