/** Reading the files that a configuration names, without being held up by what is no file or has no end. */
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { decodeUtf8 } from '../core/bytes.js';

/** `problem` follows the file's name and says what to do. */
export type FileText =
  | { readonly text: string }
  | { readonly problem: string; readonly isMissing: boolean; readonly cause?: unknown };

/** Without it, opening a named pipe that took the file's place waits for its other end, and everything waits with it. */
const OPEN_FLAGS: number = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/** Reads UTF-8 text of at most `maxBytes`, without byte order mark. Never throws. */
export function readRegularFile(file: string, maxBytes: number): FileText {
  try {
    const kind = statSync(file);
    if (!kind.isFile()) return { problem: kindProblem(kind.isDirectory()), isMissing: false };
    const bytes = kind.size > maxBytes ? 'too long' : readStart(file, maxBytes);
    if (bytes === undefined) return { problem: kindProblem(false), isMissing: false };
    if (bytes === 'too long' || bytes.length > maxBytes) {
      return { problem: `is longer than ${maxBytes} bytes. Is it the right file?`, isMissing: false };
    }
    const text = decodeUtf8(bytes);
    if (text === undefined) return { problem: 'is not UTF-8 text. Is it the right file?', isMissing: false };
    return { text: text.replace(/^\uFEFF/, '') };
  } catch (cause) {
    return {
      problem: explainFileError(cause),
      isMissing: (cause as NodeJS.ErrnoException).code === 'ENOENT',
      cause,
    };
  }
}

/** What a failed file operation means and what to do, to follow the file's name. */
export function explainFileError(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'does not exist, or the folder that it should lie in. Check the path.';
    case 'EACCES':
    case 'EPERM':
      return 'is not accessible for the user of this process. Check owner and mode, also of the folders above.';
    case 'EROFS':
      return 'lies on a file system that cannot be written. Give another path.';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'does not fit: the disk is full. Make room, or give another path.';
    case 'EISDIR':
      return 'is a folder. Give the path of a file.';
    default:
      return `is not accessible (${code ?? 'unknown reason'}).`;
  }
}

/** The first `maxBytes + 1` bytes; `undefined` when it is no regular file by now. */
function readStart(file: string, maxBytes: number): Uint8Array | undefined {
  const descriptor = openSync(file, OPEN_FLAGS);
  try {
    const stats = fstatSync(descriptor);
    if (!stats.isFile()) return undefined;
    // One more than it says: it may grow while it is read, and some files say 0.
    const bytes = new Uint8Array(Math.min(maxBytes, Math.max(stats.size, 64 * 1024)) + 1);
    let end = 0;
    while (end < bytes.length) {
      const count = readSync(descriptor, bytes, end, bytes.length - end, null);
      if (count === 0) break;
      end += count;
    }
    return bytes.subarray(0, end);
  } finally {
    closeSync(descriptor);
  }
}

function kindProblem(isFolder: boolean): string {
  return isFolder
    ? 'is a folder. Give the path of a file.'
    : 'is a device, pipe or socket, not a regular file. Give the path of a file.';
}
