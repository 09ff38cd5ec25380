/** The door to the record: the store that `state` names, and what a store of one's own needs. Re-exports only. */
export type { DecodedRecord, DeviceRecord, RecordBinding } from '../core/record.js';
export { bindingDifference, decodeRecord, encodeRecord } from '../core/record.js';
export type { LoadedRecord, RecordStore } from '../core/store.js';
export type { FileRecordStore, FileRecordStoreOptions } from './file-store.js';
export { fileRecordStore, readStoredRecord } from './file-store.js';
