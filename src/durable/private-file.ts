import type { StoreOperation } from '../errors.js';
import { type DurableFile, type DurableIo, OPEN_NEW, OPEN_TO_READ, withOpen } from './durable-io.js';
import { checkPrivate, storeError, systemCodeOf } from './store-failure.js';

/** What a file was found to be. */
export type PrivateContent =
  | { readonly kind: 'missing' }
  | { readonly kind: 'content'; readonly bytes: Uint8Array }
  | { readonly kind: 'damaged'; readonly what: string };

/**
 * Reads a regular file that is its owner's alone, at most `maxBytes`. The owner and mode are those of the very file that
 * is read. A file that is too long, or that the disk cannot read, counts as damaged: there may be another.
 *
 * @throws {StoreError} when it belongs to someone else or is open to others; when it is a link, pipe, device or folder.
 * @throws the system's error when it cannot be opened.
 */
export async function readPrivateFile(
  io: DurableIo,
  path: string,
  maxBytes: number,
  operation: StoreOperation,
): Promise<PrivateContent> {
  try {
    return await withOpen(io.open(path, OPEN_TO_READ), async (file) => {
      const stats = await file.stat();
      if (stats.kind !== 'file') {
        const problem = 'is not a regular file. Remove it, or choose another folder.';
        throw storeError('ERR_DPS_STORE_UNREADABLE', { operation, path }, problem);
      }
      checkPrivate(stats, { operation, path }, io.userId);
      return stats.sizeBytes > maxBytes ? tooLong(stats.sizeBytes, maxBytes) : await readAll(file, stats.sizeBytes);
    });
  } catch (error) {
    const code = systemCodeOf(error);
    if (code === 'ENOENT') return { kind: 'missing' };
    if (code === 'EIO') return { kind: 'damaged', what: 'the disk cannot read it (EIO)' };
    throw error;
  }
}

/** Makes a new file, mode 0600, with all of `bytes` in it; on the disk before this settles if `isSynced`. */
export async function writePrivateFile(
  io: DurableIo,
  path: string,
  bytes: Uint8Array,
  { isSynced }: { readonly isSynced: boolean },
): Promise<void> {
  await withOpen(io.open(path, OPEN_NEW, 0o600), async (file) => {
    for (let end = 0; end < bytes.length; ) {
      const count = await file.write(bytes.subarray(end), end);
      if (count === 0) throw storeError('ERR_DPS_STORE_UNWRITABLE', { operation: 'write', path }, TAKES_NOTHING);
      end += count;
    }
    if (isSynced) await file.sync();
  });
}

const TAKES_NOTHING = 'cannot be written: the disk takes no bytes, and gives no reason. Look at dmesg.';

/** Removes a file if it is there. */
export async function removeFile(io: DurableIo, path: string): Promise<void> {
  try {
    await io.unlink(path);
  } catch (error) {
    if (systemCodeOf(error) !== 'ENOENT') throw error;
  }
}

/** One byte more is asked for than there should be: whoever holds no lock may meet a file that someone else changes. */
async function readAll(file: DurableFile, sizeBytes: number): Promise<PrivateContent> {
  const bytes = new Uint8Array(sizeBytes + 1);
  let end = 0;
  while (end < bytes.length) {
    const count = await file.read(bytes.subarray(end), end);
    if (count === 0) return { kind: 'content', bytes: bytes.subarray(0, end) };
    end += count;
  }
  return { kind: 'damaged', what: 'it grew while it was read' };
}

function tooLong(sizeBytes: number, maxBytes: number): PrivateContent {
  return { kind: 'damaged', what: `it has ${sizeBytes} bytes, and ${maxBytes} are the most` };
}
