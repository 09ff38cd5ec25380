import { type DeviceRecord, decodeRecord, encodeRecord } from '../../src/core/record.js';
import type { LoadedRecord } from '../../src/core/store.js';
import type { FuzzRandom } from '../fuzz/fuzz-random.js';

type Copy =
  | { readonly kind: 'missing' }
  | { readonly kind: 'damaged' }
  | { readonly kind: 'whole'; readonly generation: number; readonly bytes: Uint8Array };

const DAMAGED: Copy = { kind: 'damaged' };

/** What can rot: the copy that counts, the one before it, or both. */
export type Rot = 'both' | 'newest' | 'spare';

/**
 * The file store's disk: two copies, of which the newer counts, and a save goes to the other one. A record that is marked
 * as moved goes to both, so that none is left that leads to the old hub.
 */
export class DiskModel {
  /** The one to be replaced first. */
  #spare: Copy = { kind: 'missing' };
  #newest: Copy = { kind: 'missing' };
  #generation = 0;

  load(): LoadedRecord {
    const isDamaged = this.#spare.kind === 'damaged' || this.#newest.kind === 'damaged';
    const whole = this.#newest.kind === 'whole' ? this.#newest : this.#spare;
    if (whole.kind !== 'whole') return isDamaged ? { kind: 'damaged', what: 'It has rotted.' } : { kind: 'none' };
    const decoded = decodeRecord(whole.bytes);
    if (decoded.kind !== 'record') throw new Error('no such record was written');
    return isDamaged ? { ...decoded, damaged: 'A copy has rotted.' } : decoded;
  }

  save(record: DeviceRecord): void {
    const bytes = encodeRecord(record);
    for (let left = copiesOf(record); left > 0; left -= 1) this.#replace(bytes);
  }

  /** A save that is cut short: each copy is done or not; with the power gone it may be torn. */
  saveInPart(
    record: DeviceRecord,
    { random, mayTear }: { readonly random: FuzzRandom; readonly mayTear: boolean },
  ): void {
    const bytes = encodeRecord(record);
    for (let left = copiesOf(record); left > 0 && random.chance(0.6); left -= 1) {
      if (mayTear && random.chance(0.15)) {
        this.#prepare();
        this.#spare = DAMAGED;
        return;
      }
      this.#replace(bytes);
    }
  }

  rot(what: Rot): void {
    this.#prepare();
    if (what !== 'spare' && this.#newest.kind === 'whole') this.#newest = DAMAGED;
    if (what !== 'newest' && this.#spare.kind === 'whole') this.#spare = DAMAGED;
  }

  #replace(bytes: Uint8Array): void {
    this.#prepare();
    this.#generation += 1;
    // What cannot be read is removed after a write.
    this.#spare = this.#newest.kind === 'damaged' ? { kind: 'missing' } : this.#newest;
    this.#newest = { kind: 'whole', generation: this.#generation, bytes };
  }

  /** A copy that is damaged counts as the spare one, and is replaced first, also if it was the newer one. */
  #prepare(): void {
    if (this.#newest.kind !== 'damaged' || this.#spare.kind !== 'whole') return;
    [this.#newest, this.#spare] = [this.#spare, this.#newest];
  }
}

function copiesOf({ movedTo }: DeviceRecord): number {
  return movedTo === undefined ? 1 : 2;
}
