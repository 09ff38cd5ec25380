import type { JourneyConfig } from '../../src/core/journey.js';
import { type DeviceRecord, encodeRecord } from '../../src/core/record.js';
import type { LoadedRecord } from '../../src/core/store.js';
import type { Twin } from '../../src/core/twin.js';
import { ensure } from '../fuzz/properties.js';

/** A store that works has what a hub has accepted within a minute, and a moment to write it. */
const SAVED_WITHIN_MS = 65_000;
/** A store that does not answer is given up after so long. */
const HANGS_MS = 600_000;

/** What a hub has accepted. */
export interface Acceptance {
  readonly hub: string;
  readonly key: string;
  readonly twin: Twin;
}

/** The last good record is never lost: what a hub has accepted gets into the store, stays there, and comes back. */
export class RecordRules {
  #config: JourneyConfig;
  /** By the store's own word. */
  #stored: DeviceRecord | undefined;
  /** Ordered since, and perhaps done: its end was not heard. */
  #perhapsStored: DeviceRecord[] = [];
  /** A copy has rotted since: what the disk holds is not what it said. */
  #isRotten = false;
  #storeGoodAtMs = 0;
  // In this process:
  #found: DeviceRecord | undefined;
  #accepted: Acceptance | undefined;
  #owedSinceMs: number | undefined;
  #isExcused = false;
  #isCancelled = false;
  #isLastOrdered = false;
  /** The hub that the store says the device was moved away from. */
  #leftHub: string | undefined;

  constructor(config: JourneyConfig) {
    this.#config = config;
  }

  begin(config: JourneyConfig): void {
    this.#config = config;
    this.#found = undefined;
    this.#accepted = undefined;
    this.#owedSinceMs = undefined;
    this.#isExcused = false;
    this.#isCancelled = false;
    this.#isLastOrdered = false;
  }

  /** At a boot there is what was saved last; where the power failed during a save, that may be there instead. */
  loaded(loaded: LoadedRecord): void {
    const found = loaded.kind === 'record' ? loaded.record : undefined;
    if (!this.#isRotten) {
      const might = [this.#stored, ...this.#perhapsStored];
      const isOne = might.some((record) => isSame(record, found));
      ensure(isOne, `the store gave ${wordsFor(found)}, and was last told to keep ${wordsFor(might.at(-1))}`);
    }
    this.#isRotten = false;
    this.#perhapsStored = [];
    this.#stored = found;
    this.#found = found;
  }

  rotted(): void {
    this.#isRotten = true;
  }

  /** The store refuses or hangs until then. */
  storeTroubled(untilMs: number): void {
    this.#storeGoodAtMs = Math.max(this.#storeGoodAtMs, untilMs);
  }

  storeHangs(nowMs: number): void {
    this.storeTroubled(nowMs + HANGS_MS);
    this.#isExcused = true;
  }

  saveRefused(): void {
    this.#isExcused = true;
  }

  /** Only what is true is saved: what a hub accepted in this run, or else what was there before. */
  seeSave(record: DeviceRecord): void {
    this.#perhapsStored.push(record);
    this.#isLastOrdered ||= this.#isCancelled;
    const accepted = this.#accepted;
    const known = accepted === undefined ? acceptedBy(this.#found) : wordsOf(accepted);
    if (known !== undefined) {
      const saved = acceptedBy(record);
      ensure(saved === known, `what goes into the record is ${saved}, and the hub has accepted ${known}`);
    }
  }

  saved(record: DeviceRecord, nowMs: number): void {
    this.#stored = record;
    this.#perhapsStored = [];
    this.#isRotten = false;
    if (record.movedTo !== undefined) this.#leftHub = record.assignment.assignedHub;
    if (this.#owedSinceMs !== undefined) this.#owe(nowMs);
  }

  /** DPS's word: it may send the device back. */
  told(hub: string): void {
    if (this.#leftHub === hub) this.#leftHub = undefined;
  }

  /** Before DPS has spoken in this run. */
  seeHubByRecord(hub: string): void {
    ensure(hub !== this.#leftHub, `${hub} is opened, and it was written down that the device was moved away from it`);
  }

  arrived(accepted: Acceptance, nowMs: number): void {
    this.#leftHub = undefined;
    this.#accepted = accepted;
    this.#owe(nowMs);
  }

  twinChanged(twin: Twin, nowMs: number): void {
    if (this.#accepted === undefined) return;
    this.#accepted = { ...this.#accepted, twin };
    if (this.#owedSinceMs === undefined) this.#owe(nowMs);
  }

  /** Off the hub nothing is saved, but at the end. */
  left(): void {
    this.#owedSinceMs = undefined;
  }

  cancelled(): void {
    this.#isCancelled = true;
    this.left();
  }

  check(nowMs: number): void {
    if (this.#owedSinceMs === undefined) return;
    const forMs = nowMs - Math.max(this.#owedSinceMs, this.#storeGoodAtMs);
    const { hub = '' } = this.#accepted ?? {};
    ensure(forMs <= SAVED_WITHIN_MS, `${hub} accepted the device ${forMs} ms ago, and the record does not say so`);
  }

  /** A journey that has ended at its hub, or a life that was told to end. */
  ended(isProvisioned: boolean): void {
    const accepted = this.#accepted;
    if (this.#config.hasStore !== true || accepted === undefined) return;
    const isStored = wordsOf(accepted) === acceptedBy(this.#stored);
    if (isProvisioned) {
      ensure(isStored || this.#isExcused || this.#perhapsStored.length > 0, `it ends at ${accepted.hub}, unsaved`);
    } else if (this.#isCancelled) {
      ensure(isStored || this.#isLastOrdered, `it was told to end, and does not save ${wordsOf(accepted)}`);
    }
    this.left();
  }

  #owe(nowMs: number): void {
    const accepted = this.#accepted;
    const isStored =
      accepted === undefined ||
      this.#config.hasStore !== true ||
      this.#config.purpose !== 'keep' ||
      (acceptedBy(this.#stored) === wordsOf(accepted) && this.#stored?.movedTo === undefined);
    this.#owedSinceMs = isStored ? undefined : nowMs;
  }
}

function isSame(one: DeviceRecord | undefined, other: DeviceRecord | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return one === other || Buffer.compare(encodeRecord(one), encodeRecord(other)) === 0;
}

function acceptedBy(record: DeviceRecord | undefined): string | undefined {
  if (record === undefined) return undefined;
  const { assignment, slot, keyIds, twin } = record;
  return wordsOf({ hub: assignment.assignedHub, key: keyOf(slot, keyIds), twin });
}

/** How a credential is called in a record. */
export function keyOf(slot: number, keyIds: readonly string[] | undefined): string {
  return keyIds?.[slot] ?? `slot ${slot}`;
}

function wordsOf({ hub, key, twin: { desired, reported } }: Acceptance): string {
  const properties = JSON.stringify([desired.properties, reported.properties]);
  return `${hub} with ${key}, twin ${desired.version}/${reported.version} ${properties}`;
}

function wordsFor(record: DeviceRecord | undefined): string {
  if (record === undefined) return 'nothing';
  return `${acceptedBy(record)}${record.movedTo === undefined ? '' : `, moved to ${record.movedTo}`}`;
}
