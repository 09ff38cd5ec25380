import { join } from 'node:path';
import { type CancelSignal, isCancelSignal } from '../core/cancel-signal.js';
import { throwIfCancelled, unlessCancelled } from '../core/cancellation.js';
import { excerptOf } from '../core/json-body.js';
import { type DeviceRecord, decodeRecord, encodeRecord, MAX_RECORD_BYTES } from '../core/record.js';
import type { LoadedRecord, RecordStore } from '../core/store.js';
import { type AbContent, AbFile } from '../durable/ab-file.js';
import type { DurableIo } from '../durable/durable-io.js';
import { type FileLock, lockFile } from '../durable/file-lock.js';
import type { ProcessTable } from '../durable/process-table.js';
import { newerFormatError, type StoreStep, storeError } from '../durable/store-failure.js';
import { ConfigurationError, type DpsError, isDpsError, type StoreError, type StoreOperation } from '../errors.js';
import { nearestName } from '../nearest-name.js';
import { kindOf } from '../value-kind.js';

export interface FileRecordStoreOptions {
  /** A folder of the device alone, on a disk of this machine. Made when missing, mode 0700; the folders above it are not. */
  readonly directory: string;
  /** Of the files in it, for more than one device in a folder: letters, digits, `-` and `_`. Default `device`. */
  readonly name?: string;
  /** The calls of the system, for tests. */
  readonly io?: DurableIo;
  readonly processes?: ProcessTable;
}

/** A record store that has to be closed. */
export type FileRecordStore = RecordStore & Required<Pick<RecordStore, 'close'>>;

/**
 * Keeps the record in `NAME.a` and `NAME.b` (see `AbFile`). From its first call on it holds the lock `NAME.lock`, until
 * `close()`: two programs that are one device would fight for its hub. Should somebody remove the folder meanwhile, the next
 * call takes the lock again, or fails with `ERR_DPS_STORE_LOCKED` if another process was faster. A record is read without the lock where none can be
 * made because the disk is full or read-only: the device starts from it all the same, and saving is what fails.
 *
 * Fails with `StoreError`: `ERR_DPS_STORE_LOCKED` while another store holds the lock, `ERR_DPS_STORE_NEWER_FORMAT` (from
 * `load` and `save`) for a record of a later release, which only `forget` removes; and what `AbFile` fails with.
 *
 * @throws {ConfigurationError} when an option is missing, unknown, or cannot be what it is for. The methods fail with one
 *   when what they are given is no record, or no signal.
 */
export function fileRecordStore(options: FileRecordStoreOptions): FileRecordStore {
  checkOptionNames(options);
  return new AbRecordStore(options);
}

/** Loads the record without the lock: to look at what another program may be using. Fails as `load` does. */
export async function readStoredRecord(options: FileRecordStoreOptions, signal?: CancelSignal): Promise<LoadedRecord> {
  checkOptionNames(options);
  checkSignal(signal);
  const path = join(options.directory, nameOf(options));
  return loadedRecordOf(await recordFile(options).read(signal), { operation: 'read', path });
}

class AbRecordStore implements FileRecordStore {
  readonly #options: FileRecordStoreOptions;
  readonly #file: AbFile;
  #lock: FileLock | undefined;
  /** One after the other: the lock that one call is taking must not be fought for by the next. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: FileRecordStoreOptions) {
    this.#options = options;
    this.#file = recordFile(options);
  }

  load(signal: CancelSignal): Promise<LoadedRecord> {
    return this.#enqueue('loading the record', signal, async () => {
      await this.#takeLockIfWritable(signal);
      return loadedRecordOf(await this.#file.read(signal), this.#step('read'));
    });
  }

  save(record: DeviceRecord, signal: CancelSignal): Promise<void> {
    return this.#enqueue('saving the record', signal, async () => {
      const bytes = encodeRecord(checkedRecord(record));
      await this.#takeLock(signal);
      // Fails for a record of a later release, which is not to be overwritten.
      loadedRecordOf(await this.#file.read(signal), this.#step('write'));
      await this.#file.write(bytes, signal);
      // Should this copy be lost, the other one must not lead back to the hub that the device was moved away from.
      if (record.movedTo !== undefined) await this.#file.write(bytes, signal);
    });
  }

  forget(signal: CancelSignal): Promise<void> {
    return this.#enqueue('forgetting the record', signal, async () => {
      await this.#takeLockIfWritable(signal);
      await this.#file.remove(signal);
    });
  }

  async close(): Promise<void> {
    await this.#enqueue('closing the store', undefined, async () => {
      // A write that was cancelled comes to its end under the lock.
      await this.#file.settled();
      await this.#lock?.release();
      this.#lock = undefined;
    });
  }

  /** Also when it is held already: a folder that was removed meanwhile took the lock along, and others see none. */
  async #takeLock(signal: CancelSignal): Promise<void> {
    if (this.#lock !== undefined && (await this.#lock.isHeld())) return;
    const isLost = this.#lock !== undefined;
    const { directory, io, processes } = this.#options;
    const taking = lockFile(join(directory, `${nameOf(this.#options)}.lock`), {
      signal,
      ...(io === undefined ? {} : { io }),
      ...(processes === undefined ? {} : { processes }),
    });
    this.#lock = await taking.catch((error: unknown) => {
      throw isLost && isDpsError(error) && error.code === 'ERR_DPS_STORE_LOCKED' ? this.#lostLock(error) : error;
    });
  }

  #lostLock(cause: DpsError): StoreError {
    return storeError(
      'ERR_DPS_STORE_LOCKED',
      this.#step('lock'),
      `was in use by this process when somebody removed its lock, or the folder; another process uses it now: ${cause.message} Two processes are one device: end one of them, and remove no folder that is in use.`,
      cause,
    );
  }

  /** Without room for a lock there may still be a record to start from, or one to make room by. */
  async #takeLockIfWritable(signal: CancelSignal): Promise<void> {
    await this.#takeLock(signal).catch((error: unknown) => {
      if (!isUnwritableDisk(error)) throw error;
    });
  }

  #step(operation: StoreOperation): StoreStep {
    return { operation, path: join(this.#options.directory, nameOf(this.#options)) };
  }

  async #enqueue<T>(state: string, signal: CancelSignal | undefined, work: () => Promise<T>): Promise<T> {
    checkSignal(signal);
    const result = this.#last.then(() => {
      throwIfCancelled(signal, state);
      return work();
    });
    this.#last = result.catch(() => undefined);
    return unlessCancelled(signal, state, () => result);
  }
}

const DEFAULT_NAME = 'device';
/** DPS knows the rest. */
const INSTEAD_OF_NEWER = 'have the store forgotten to start afresh';

const OPTION_NAMES = ['directory', 'name'];
/** For tests, and not worth telling who mistyped another. */
const TEST_OPTION_NAMES = ['io', 'processes'];

function checkOptionNames(options: unknown): void {
  if (typeof options !== 'object' || options === null) {
    throw optionError('options', `The record store takes one object, at least { directory }, not ${kindOf(options)}.`);
  }
  const unknown = Object.keys(options).find((name) => ![...OPTION_NAMES, ...TEST_OPTION_NAMES].includes(name));
  if (unknown === undefined) return;
  const nearest = nearestName(unknown, OPTION_NAMES);
  const advice = nearest === undefined ? `Known are ${OPTION_NAMES.join(', ')}.` : `Did you mean ${nearest}?`;
  const shown = JSON.stringify(excerptOf(unknown));
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
    option: unknown,
    message: `Option ${shown} is unknown to the record store. ${advice}`,
  });
}

function checkSignal(signal: unknown): void {
  if (signal === undefined || isCancelSignal(signal)) return;
  throw optionError('signal', `The signal must be an AbortSignal, not ${kindOf(signal)}.`);
}

/** Its members are looked at when it is written. */
function checkedRecord(record: DeviceRecord): DeviceRecord {
  const { binding, assignment, twin } = isObject(record) ? record : {};
  if ([binding, assignment, twin, twin?.desired, twin?.reported].every(isObject)) return record;
  throw optionError(
    'record',
    'What is to be saved is no record: it needs at least binding, assignment and twin, as `load` gives them.',
  );
}

function isObject<T>(value: T): value is T & object {
  return typeof value === 'object' && value !== null;
}

function nameOf({ name }: FileRecordStoreOptions): string {
  return name ?? DEFAULT_NAME;
}

function recordFile(options: FileRecordStoreOptions): AbFile {
  const { directory, io } = options;
  const name = nameOf(options);
  if (typeof directory !== 'string' || directory === '' || directory.includes('\0')) {
    throw optionError('directory', 'The folder of the store has no usable path. Give the path of a folder.');
  }
  if (typeof name !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(name)) {
    throw optionError(
      'name',
      'The name of the store must be 1 to 64 letters, digits, - or _, a letter or digit first.',
    );
  }
  return new AbFile({
    directory,
    name,
    maxBytes: MAX_RECORD_BYTES,
    insteadOfNewer: INSTEAD_OF_NEWER,
    ...(io === undefined ? {} : { io }),
  });
}

function loadedRecordOf(content: AbContent, step: StoreStep): LoadedRecord {
  if (content.kind !== 'content') return content;
  const decoded = decodeRecord(content.bytes);
  const { damaged } = content;
  switch (decoded.kind) {
    case 'record':
      return { kind: 'record', record: decoded.record, ...(damaged === undefined ? {} : { damaged }) };
    case 'damaged':
      return { kind: 'damaged', what: [decoded.what, ...(damaged === undefined ? [] : [damaged])].join(' ') };
    case 'newer':
      throw newerFormatError(step, decoded.format, INSTEAD_OF_NEWER);
  }
}

function isUnwritableDisk(error: unknown): boolean {
  return isDpsError(error) && (error.code === 'ERR_DPS_STORE_FULL' || error.code === 'ERR_DPS_STORE_READ_ONLY');
}

function optionError(option: string, message: string): ConfigurationError {
  return new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', option, message });
}
