import type { CancelSignal } from './cancel-signal.js';
import type { DeviceRecord } from './record.js';

/** What a store had to give. */
export type LoadedRecord =
  | {
      readonly kind: 'record';
      readonly record: DeviceRecord;
      /** Sentences about what could not be read beside it, perhaps a newer one. */
      readonly damaged?: string;
    }
  | { readonly kind: 'none' }
  /** There was a record, and nothing of it can be used. `what` is one or more sentences. */
  | { readonly kind: 'damaged'; readonly what: string };

/**
 * Where a device keeps what it knows from one start to the next: one record. Implement it to keep the record elsewhere
 * than in a file; `encodeRecord` and `decodeRecord` turn it into bytes and back. Every method may fail with `StoreError`,
 * and with `CancelledError` when the signal aborts; what was stored before is still there then.
 */
export interface RecordStore {
  /** The record that was saved last, whatever configuration it belongs to: that is for the caller to judge. */
  load(signal: CancelSignal): Promise<LoadedRecord>;
  /** Replaces the record. All or nothing, also if the power is cut; when it settles, the new one is safe. */
  save(record: DeviceRecord, signal: CancelSignal): Promise<void>;
  /** Removes the record. */
  forget(signal: CancelSignal): Promise<void>;
  /** Gives back what the store holds, such as a lock. Never fails; called once, by whoever made the store. */
  close?(): Promise<void>;
}
