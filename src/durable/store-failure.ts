import { dirname } from 'node:path';
import { DpsError, type DpsErrorCode, StoreError, type StoreOperation } from '../errors.js';
import { quoteForShell } from '../shell-word.js';
import type { DurableStats } from './durable-io.js';

/** What was being done, and to which file or folder. */
export interface StoreStep {
  readonly operation: StoreOperation;
  readonly path: string;
}

/** A StoreError about a path: `problem` is what follows its name, with the fix. */
export function storeError(code: DpsErrorCode, step: StoreStep, problem: string, cause?: unknown): StoreError {
  return new StoreError({ code, message: `${step.path} ${problem}`, ...step, cause });
}

/**
 * Something that a later release of this package wrote, and that is left as it is. `otherwise` completes "Use that release
 * again, or …".
 */
export function newerFormatError(step: StoreStep, format: number, otherwise: string): StoreError {
  return storeError(
    'ERR_DPS_STORE_NEWER_FORMAT',
    step,
    `has format ${format}: a later release of dps-device wrote it, and this one leaves it as it is. Use that release again, or ${otherwise}.`,
  );
}

/** The code that Node gives to a failed system call, `ENOSPC`. */
export function systemCodeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | null | undefined)?.code;
}

/** What a failed system call means. An error that is typed already stays what it is. */
export function storeErrorFrom(error: unknown, step: StoreStep, userId: number | undefined): DpsError {
  if (error instanceof DpsError) return error;
  const code = systemCodeOf(error);
  const folder = quoteForShell(dirname(step.path));
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return storeError(
        'ERR_DPS_STORE_FULL',
        step,
        `cannot be written: the disk is full, or a quota is used up (${code}). What was stored before is still there. Free space (look with: df ${folder}), then try again.`,
        error,
      );
    case 'EROFS':
      return storeError(
        'ERR_DPS_STORE_READ_ONLY',
        step,
        `cannot be written: its file system is mounted read-only. Mount it writable (after an error of the disk the kernel makes it read-only: see dmesg), or choose a folder elsewhere.`,
        error,
      );
    default:
      return storeError(unusableCode(step), step, explain(code, step, userId), error);
  }
}

/**
 * Refuses what belongs to another user, or what others than its owner may get at: in a folder they could put files of
 * their own there.
 *
 * @throws {StoreError} `ERR_DPS_STORE_OWNER` or `ERR_DPS_STORE_MODE`, with the command that mends it.
 */
export function checkPrivate(stats: DurableStats, step: StoreStep, userId: number | undefined): void {
  if (userId === undefined) return;
  const name = quoteForShell(step.path);
  if (stats.userId !== userId) {
    throw storeError(
      'ERR_DPS_STORE_OWNER',
      step,
      `belongs to user ${stats.userId}, and this process runs as user ${userId}. Run it as user ${stats.userId}, or make user ${userId} the owner: chown ${userId} ${name}`,
    );
  }
  if ((stats.mode & 0o077) === 0) return;
  const found = stats.mode.toString(8).padStart(4, '0');
  const unit = stats.kind === 'folder' ? ' (in a systemd unit: StateDirectoryMode=0700)' : '';
  throw storeError(
    'ERR_DPS_STORE_MODE',
    step,
    `has mode ${found}: others than its owner may get at it. Run: chmod ${stats.kind === 'folder' ? 700 : 600} ${name}${unit}`,
  );
}

/** What an error of no other code has. */
export function unusableCode({ operation }: StoreStep): DpsErrorCode {
  return operation === 'read' ? 'ERR_DPS_STORE_UNREADABLE' : 'ERR_DPS_STORE_UNWRITABLE';
}

function explain(code: string | undefined, { operation, path }: StoreStep, userId: number | undefined): string {
  const what = operation === 'read' ? 'cannot be read' : 'cannot be written';
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return `${what} by user ${userId ?? 'of this process'} (${code}). Make that user the owner, and let it through the folders above.`;
    case 'ENOENT':
      return `${what}: the folder above it does not exist. Make it first: mkdir -p ${quoteForShell(dirname(path))}`;
    case 'ENOTDIR':
      return `${what}: it, or something above it, is not a folder. Choose another folder.`;
    case 'ELOOP':
    case 'EMLINK':
      return 'is a symbolic link, which is not followed. Put the file itself there, or remove the link.';
    case 'ENXIO':
    case 'EISDIR':
      return 'is not a regular file. Remove it, or choose another folder.';
    case 'EIO':
      return `${what}: the disk reports an error (EIO). Look at dmesg; the disk or card may have to be replaced.`;
    default:
      return `${what} (${code ?? 'unknown reason'}).`;
  }
}
