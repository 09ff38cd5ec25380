import { dirname } from 'node:path';
import type { StoreOperation } from '../errors.js';
import { quoteForShell } from '../shell-word.js';
import { type DurableIo, OPEN_FOLDER, withOpen } from './durable-io.js';
import { explainedStoreError } from './explained-failure.js';
import { checkPrivate, type StoreStep, storeError, systemCodeOf, unusableCode } from './store-failure.js';

/**
 * Makes sure that the folder is there and is its owner's alone. Made when missing, mode 0700; the folders above it are
 * not.
 *
 * @throws {StoreError} when it belongs to someone else, is open to others, or cannot be made.
 */
export async function preparePrivateFolder(io: DurableIo, path: string, operation: StoreOperation): Promise<void> {
  const step = { operation, path };
  try {
    if (await isPrivateFolder(io, path, operation)) return;
    await io.mkdir(path, 0o700);
  } catch (error) {
    // Someone else made it in between: then it is looked at like any other.
    if (systemCodeOf(error) !== 'EEXIST') throw await explainedStoreError(io, error, step);
    if (!(await isPrivateFolder(io, path, operation))) throw leadsNowhere(step);
  }
}

/**
 * Whether the folder is there.
 *
 * @throws {StoreError} when it is, and belongs to someone else, is open to others, or is no folder.
 */
export async function isPrivateFolder(io: DurableIo, path: string, operation: StoreOperation): Promise<boolean> {
  const step = { operation, path };
  if (io.userId === undefined) return io.list(path).then(isThere, (error) => isNotThere(error, step, io));
  return withOpen(io.open(path, OPEN_FOLDER), async (folder) => {
    checkPrivate(await folder.stat(), step, io.userId);
  }).then(isThere, (error) => isNotThere(error, step, io));
}

/** Makes the names in a folder survive a power cut. Windows has no such call, and some file systems do not know it. */
export async function syncFolder(io: DurableIo, path: string): Promise<void> {
  if (io.userId === undefined) return;
  try {
    await withOpen(io.open(path, OPEN_FOLDER), (folder) => folder.sync());
  } catch (error) {
    if (!CANNOT_SYNC.has(systemCodeOf(error) ?? '')) throw error;
  }
}

/** The folder above: it holds the name of the folder itself. One that may only be passed through cannot be opened. */
export async function syncFolderAbove(io: DurableIo, path: string): Promise<void> {
  try {
    await syncFolder(io, dirname(path));
  } catch (error) {
    if (systemCodeOf(error) !== 'EACCES') throw error;
  }
}

const CANNOT_SYNC: ReadonlySet<string> = new Set(['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

function isThere(): boolean {
  return true;
}

async function isNotThere(error: unknown, step: StoreStep, io: DurableIo): Promise<boolean> {
  if (systemCodeOf(error) === 'ENOENT') return false;
  throw systemCodeOf(error) === 'ELOOP' ? leadsRound(step) : await explainedStoreError(io, error, step);
}

/** There is something of that name, and nothing behind it. */
function leadsNowhere(step: StoreStep): Error {
  const problem = `is a symbolic link to a folder that does not exist. Make that folder, or remove the link: rm ${quoteForShell(step.path)}`;
  return storeError(unusableCode(step), step, problem);
}

function leadsRound(step: StoreStep): Error {
  const problem =
    'cannot be reached: it, or something above it, is a symbolic link that leads back to itself (ELOOP). Mend the link, or choose another folder.';
  return storeError(unusableCode(step), step, problem);
}
