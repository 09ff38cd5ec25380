import { join } from 'node:path';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { type AbContent, AbFile } from '../../src/durable/ab-file.js';
import { type DurableIo, nodeDurableIo } from '../../src/durable/durable-io.js';
import { explainedStoreError } from '../../src/durable/explained-failure.js';
import { lockFile } from '../../src/durable/file-lock.js';
import { removeFile } from '../../src/durable/private-file.js';
import type { ProcessTable } from '../../src/durable/process-table.js';
import { systemCodeOf } from '../../src/durable/store-failure.js';
import { entryFileName, entryOfFile, MAX_ENTRY_BYTES } from './entry.js';
import { INSTEAD_OF_NEWER, keyStoreError } from './key-store-error.js';
import { MAX_HEADER_BYTES, markSpareOlder, readHeader, type StoreHeader, withoutRemarks } from './store-header.js';

export interface StoreFilesOptions {
  readonly io?: DurableIo;
  readonly processes?: ProcessTable;
}

/** A header with the file it was read from. */
export interface FoundHeader {
  readonly header: StoreHeader;
  readonly file: Uint8Array;
  /** The other slot is damaged, or still sealed as before. */
  readonly isDue: boolean;
}

/** The files of a key store, as they are named and written. Knows no key. */
export class StoreFiles {
  readonly directory: string;
  readonly #io: DurableIo;
  readonly #processes: ProcessTable | undefined;

  constructor(directory: string, options: StoreFilesOptions) {
    this.directory = directory;
    this.#io = options.io ?? nodeDurableIo;
    this.#processes = options.processes;
  }

  /**
   * `undefined` when there is none, and no entry either.
   *
   * @throws {HsmError} `ERR_DPS_HSM_STORE_DAMAGED` when it cannot be used, or is gone while entries are there.
   * @throws {StoreError} when its file cannot be used.
   */
  async findHeader(signal: CancelSignal | undefined): Promise<FoundHeader | undefined> {
    const content = await this.#withHeader((file) => file.read(signal));
    if (content.kind === 'damaged') throw damagedHeader(content.what);
    if (content.kind === 'content') {
      const header = readHeader(content.bytes, this.#headerPath);
      return { header, file: content.bytes, isDue: header.isSpareOlder || content.damaged !== undefined };
    }
    if ((await this.entryNames()).length > 0) throw damagedHeader(`${this.#headerPath}.a and .b are gone.`);
    return undefined;
  }

  /** After the first write it holds; the others see to it that no slot is left as it was before. */
  async writeHeader(file: Uint8Array, signal: CancelSignal | undefined): Promise<void> {
    await this.#withHeader((header) => header.write(markSpareOlder(file), signal));
    await this.#settle(file, signal);
  }

  /** What is left to do of that, when something came between. */
  async settleHeader({ file, isDue }: FoundHeader, signal: CancelSignal | undefined): Promise<void> {
    if (isDue) await this.#settle(withoutRemarks(file), signal);
  }

  /** Removes what a process left that was killed while it wrote. For who has the lock. */
  async sweepDrafts(): Promise<void> {
    for (const name of await this.#names()) {
      if (DRAFT.test(name)) await removeFile(this.#io, join(this.directory, name)).catch(() => undefined);
    }
  }

  /** Lets `work` have the file of an entry, and returns when nothing is under way in it any more. */
  async withEntry<T>(name: string, work: (file: AbFile) => Promise<T>): Promise<T> {
    return withSettled(this.#file(entryFileName(name), MAX_ENTRY_BYTES), work);
  }

  readEntry(name: string, signal: CancelSignal | undefined): Promise<AbContent> {
    return this.withEntry(name, (file) => file.read(signal));
  }

  /** Where it is, for messages. */
  entryPath(name: string): string {
    return join(this.directory, entryFileName(name));
  }

  /** In alphabetical order. The folder must have been looked at before: reading the header does that. */
  async entryNames(): Promise<string[]> {
    const names = (await this.#names()).map(entryOfFile);
    return [...new Set(names.filter((name) => name !== undefined))].sort();
  }

  /** @throws {StoreError} `ERR_DPS_STORE_LOCKED` at once when somebody else has the lock. */
  async locked<T>(signal: CancelSignal | undefined, work: () => Promise<T>): Promise<T> {
    const lock = await lockFile(join(this.directory, 'lock'), {
      io: this.#io,
      signal,
      ...(this.#processes === undefined ? {} : { processes: this.#processes }),
    });
    try {
      return await work();
    } finally {
      await lock.release();
    }
  }

  async #names(): Promise<readonly string[]> {
    try {
      return await this.#io.list(this.directory);
    } catch (error) {
      if (systemCodeOf(error) === 'ENOENT') return [];
      throw await explainedStoreError(this.#io, error, { operation: 'read', path: this.directory });
    }
  }

  /** One write for each slot: a single one might replace the slot that a disk could not read for a moment, and leave the other. */
  #settle(file: Uint8Array, signal: CancelSignal | undefined): Promise<void> {
    return this.#withHeader(async (header) => {
      await header.write(markSpareOlder(file), signal);
      await header.write(file, signal);
    });
  }

  #withHeader<T>(work: (file: AbFile) => Promise<T>): Promise<T> {
    return withSettled(this.#file(HEADER_FILE, MAX_HEADER_BYTES), work);
  }

  #file(name: string, maxBytes: number): AbFile {
    return new AbFile({ directory: this.directory, name, maxBytes, insteadOfNewer: INSTEAD_OF_NEWER, io: this.#io });
  }

  get #headerPath(): string {
    return join(this.directory, HEADER_FILE);
  }
}

const HEADER_FILE = 'store';
/** What an A/B file writes before it gives it its name. */
const DRAFT = /^(?:store|entry-.+)\.new$/;

async function withSettled<T>(file: AbFile, work: (file: AbFile) => Promise<T>): Promise<T> {
  try {
    return await work(file);
  } finally {
    // A cancelled write goes on behind the caller's back, and must not do so without the lock.
    await file.settled();
  }
}

function damagedHeader(what: string): Error {
  const message = `The header of the key store cannot be used: ${what} Put the folder back from a backup. Without its header no entry can be opened; if there is no backup, remove the folder and give the device new keys.`;
  return keyStoreError('ERR_DPS_HSM_STORE_DAMAGED', 'open key store', message);
}
