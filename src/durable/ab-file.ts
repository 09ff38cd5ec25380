import { join } from 'node:path';
import { equalBytes } from '../core/bytes.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import { throwIfCancelled, unlessCancelled } from '../core/cancellation.js';
import type { StoreOperation } from '../errors.js';
import { type DurableIo, nodeDurableIo } from './durable-io.js';
import { explainedStoreError } from './explained-failure.js';
import { readPrivateFile, removeFile, writePrivateFile } from './private-file.js';
import { isPrivateFolder, preparePrivateFolder, syncFolder, syncFolderAbove } from './private-folder.js';
import { decodeSlot, encodeSlot, MAX_GENERATION, SLOT_FORMAT, SLOT_HEADER_BYTES } from './slot.js';
import { newerFormatError, storeError, storeErrorFrom, systemCodeOf } from './store-failure.js';

/**
 * A small file that outlives whatever happens while it is written: afterwards there is the old content or the new, never
 * a mixture, never nothing.
 *
 * It is kept twice, as NAME.a and NAME.b, each with a generation number and a checksum (see `slot.ts`); the valid one of
 * the higher generation counts. A write goes to the other one:
 *
 * ```
 * NAME.new  made, written, fsync    a process killed, or a disk full, up to here leaves both slots as they were
 * rename to the older slot          one step for the file system: a process killed before or after it is no matter
 * fsync of the folder               now a power cut cannot take the name back; only now is the write reported as done
 * ```
 *
 * The rename alone would do where a disk keeps its word. Two slots are for those that do not: cards that tear a sector,
 * acknowledge an fsync they have not done, or lose a block years later. Then the slot that suffered fails its
 * checksum, and the other one, untouched since the write before, takes its place. Writing into the older slot directly
 * would give that spare up during every write.
 *
 * Writers need a lock (`file-lock.ts`); readers need none.
 */

export interface AbFileOptions {
  /** Made when missing (mode 0700), the folders above it are not. */
  readonly directory: string;
  /** Of the files, before `.a` and `.b`; part of their checksum. */
  readonly name: string;
  /** Longest content, below 100 MB. What is longer is not written, and where it is found it counts as damaged. */
  readonly maxBytes: number;
  /** What its user can do about a file of a later release, beside using that release; completes "or …". */
  readonly insteadOfNewer?: string;
  readonly io?: DurableIo;
}

export type AbContent =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'content';
      readonly bytes: Uint8Array;
      /** Higher with every write. */
      readonly generation: number;
      /** Sentences about a slot that cannot be used, maybe a newer one; the next write mends it. */
      readonly damaged?: string;
    }
  /** There is something, and none of it can be used. The next write replaces it. */
  | { readonly kind: 'damaged'; readonly what: string };

/** See above. The methods of one instance may be called at any time: each waits for the one before. */
export class AbFile {
  readonly #directory: string;
  readonly #name: string;
  readonly #maxBytes: number;
  readonly #insteadOfNewer: string;
  readonly #io: DurableIo;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: AbFileOptions) {
    this.#directory = options.directory;
    this.#name = options.name;
    this.#maxBytes = options.maxBytes;
    this.#insteadOfNewer = options.insteadOfNewer ?? 'put its files back from a backup made by this one';
    this.#io = options.io ?? nodeDurableIo;
  }

  /**
   * The newest content that is whole.
   *
   * @throws {StoreError} when files or folder belong to someone else, are open to others, are no regular files, cannot
   *   be read, or were written by a later release (`ERR_DPS_STORE_NEWER_FORMAT`).
   * @throws {CancelledError} when the signal aborts.
   */
  read(signal?: CancelSignal): Promise<AbContent> {
    return this.#enqueue('read', signal, async () => newestContent(await this.#readSlots('read')));
  }

  /**
   * Replaces the content; when this settles, it survives a power cut.
   *
   * @throws {StoreError} when that fails: as `read` does, and when the disk is full, read-only or broken. The old
   *   content is still there then; after a broken disk it may also be the new.
   * @throws {CancelledError} when the signal aborts. A write that has come to its rename is completed all the same.
   */
  write(bytes: Uint8Array, signal?: CancelSignal): Promise<void> {
    return this.#enqueue('write', signal, () => this.#write(bytes, signal));
  }

  /**
   * Removes both slots, the older first: until the last moment the newest content is there. Also what is damaged or
   * was written by a later release.
   *
   * @throws {StoreError} as `write` does.
   * @throws {CancelledError} when the signal aborts; the removal is completed all the same once it has begun.
   */
  remove(signal?: CancelSignal): Promise<void> {
    return this.#enqueue('remove', signal, () => this.#remove());
  }

  /** Settles when nothing is under way any more, not even what was cancelled. Never fails. For who gives the lock back. */
  async settled(): Promise<void> {
    await this.#last;
  }

  #enqueue<T>(operation: Operation, signal: CancelSignal | undefined, work: () => Promise<T>): Promise<T> {
    const state = `${DOING[operation]} ${this.#name}`;
    const result = this.#last.then(async () => {
      throwIfCancelled(signal, state);
      return work().catch(async (error: unknown) => {
        throw await explainedStoreError(this.#io, error, { operation, path: join(this.#directory, this.#name) });
      });
    });
    this.#last = result.catch(() => undefined);
    return unlessCancelled(signal, state, () => result);
  }

  async #write(bytes: Uint8Array, signal: CancelSignal | undefined): Promise<void> {
    this.#checkLength(bytes);
    await preparePrivateFolder(this.#io, this.#directory, 'write');
    const slots = await this.#readSlots('write');
    const [target, other] = slotToReplace(slots);
    const generation = Math.max(0, ...slots.map((slot) => (slot.kind === 'whole' ? slot.generation : 0))) + 1;
    if (generation > MAX_GENERATION) throw this.#noNextGeneration(other.path);
    await this.#replace(target.path, encodeSlot(this.#name, { format: SLOT_FORMAT, generation, bytes }), signal);
    if (slots.every(({ kind }) => kind === 'missing')) await syncFolderAbove(this.#io, this.#directory);
    // A disk that could read neither might find the other one again some day, with any generation.
    if (other.kind === 'damaged') await this.#removeForGood(other.path);
  }

  async #replace(path: string, file: Uint8Array, signal: CancelSignal | undefined): Promise<void> {
    const draft = this.#path('new');
    try {
      await this.#removeDraft('write');
      await writePrivateFile(this.#io, draft, file, { isSynced: true });
      throwIfCancelled(signal, `${DOING.write} ${this.#name}`);
      await this.#io.rename(draft, path);
    } catch (error) {
      await this.#io.unlink(draft).catch(() => undefined);
      throw error;
    }
    await syncFolder(this.#io, this.#directory);
  }

  async #remove(): Promise<void> {
    if (!(await isPrivateFolder(this.#io, this.#directory, 'remove'))) return;
    const [first, last] = slotToReplace(await this.#readSlots('remove', 'any'));
    await this.#removeDraft('remove');
    await this.#removeForGood(first.path);
    await this.#removeForGood(last.path);
  }

  /** What a dead process has left. A folder of that name is somebody's own. */
  async #removeDraft(operation: Operation): Promise<void> {
    const path = this.#path('new');
    await removeFile(this.#io, path).catch((error: unknown) => {
      throw systemCodeOf(error) === 'EISDIR' ? storeErrorFrom(error, { operation, path }, this.#io.userId) : error;
    });
  }

  async #removeForGood(path: string): Promise<void> {
    await removeFile(this.#io, path);
    await syncFolder(this.#io, this.#directory);
  }

  /** Both, in the order of their letters. */
  async #readSlots(operation: Operation, formats: 'any' | 'known' = 'known'): Promise<FoundSlots> {
    const isThere = await isPrivateFolder(this.#io, this.#directory, operation);
    if (!isThere) return [this.#missing('a'), this.#missing('b')];
    return [await this.#readSlot('a', operation, formats), await this.#readSlot('b', operation, formats)];
  }

  async #readSlot(letter: SlotLetter, operation: Operation, formats: 'any' | 'known'): Promise<FoundSlot> {
    const path = this.#path(letter);
    try {
      const file = await readPrivateFile(this.#io, path, SLOT_HEADER_BYTES + this.#maxBytes, operation);
      if (file.kind === 'missing') return this.#missing(letter);
      const decoded = file.kind === 'content' ? decodeSlot(this.#name, file.bytes) : file;
      if (decoded.kind === 'damaged') return { kind: 'damaged', path, what: decoded.what };
      const { format, generation, bytes } = decoded.slot;
      if (formats === 'known' && format > SLOT_FORMAT)
        throw newerFormatError({ operation, path }, format, this.#insteadOfNewer);
      return { kind: 'whole', path, generation, bytes };
    } catch (error) {
      // Whatever is done in the end, what failed here is reading.
      throw await explainedStoreError(this.#io, error, { operation: 'read', path });
    }
  }

  #missing(letter: SlotLetter): FoundSlot {
    return { kind: 'missing', path: this.#path(letter) };
  }

  #path(suffix: SlotLetter | 'new'): string {
    return join(this.#directory, `${this.#name}.${suffix}`);
  }

  /** What could not be read back must not count as written. */
  #noNextGeneration(path: string): Error {
    return storeError(
      'ERR_DPS_STORE_UNWRITABLE',
      { operation: 'write', path },
      `has generation ${MAX_GENERATION}, the last there can be, so that nothing can be written after it. No device writes that often: somebody has made that file. Put the files back from a backup, or remove them.`,
    );
  }

  #checkLength(bytes: Uint8Array): void {
    if (bytes.length <= this.#maxBytes) return;
    throw storeError(
      'ERR_DPS_STORE_UNWRITABLE',
      { operation: 'write', path: join(this.#directory, this.#name) },
      `cannot be written: its content would have ${bytes.length} bytes, and ${this.#maxBytes} are the most. Store less.`,
    );
  }
}

type Operation = Exclude<StoreOperation, 'lock'>;
type SlotLetter = 'a' | 'b';

const DOING: Readonly<Record<Operation, string>> = { read: 'reading', write: 'writing', remove: 'removing' };

type FoundSlot =
  | { readonly kind: 'missing'; readonly path: string }
  | { readonly kind: 'damaged'; readonly path: string; readonly what: string }
  | { readonly kind: 'whole'; readonly path: string; readonly generation: number; readonly bytes: Uint8Array };
type FoundSlots = readonly [FoundSlot, FoundSlot];

/** What counts, and what has to be told about the rest. */
function newestContent(slots: FoundSlots): AbContent {
  const [older, newest] = slotToReplace(slots);
  const damaged = slots.flatMap((slot) => (slot.kind === 'damaged' ? [`${slot.path} is damaged: ${slot.what}.`] : []));
  const what = damaged.join(' ');
  if (newest.kind !== 'whole') return what === '' ? { kind: 'none' } : { kind: 'damaged', what };
  const { bytes, generation } = newest;
  const told = isContradicted(newest, older) ? `${older.path} has other content of the same generation.` : what;
  return { kind: 'content', bytes, generation, ...(told === '' ? {} : { damaged: told }) };
}

/** No write leaves two contents of one generation; a backup put back in part does. */
function isContradicted(newest: FoundSlot, older: FoundSlot): boolean {
  if (newest.kind !== 'whole' || older.kind !== 'whole') return false;
  return newest.generation === older.generation && !equalBytes(newest.bytes, older.bytes);
}

/** The slot that is missed least comes first: a damaged one, then a missing one, then the one of the lower generation. */
function slotToReplace([a, b]: FoundSlots): FoundSlots {
  return worth(a) < worth(b) || (worth(a) === worth(b) && a.kind !== 'whole') ? [a, b] : [b, a];
}

function worth(slot: FoundSlot): number {
  return slot.kind === 'whole' ? slot.generation : slot.kind === 'missing' ? -1 : -2;
}
