import type { Stats } from 'node:fs';
import type { CancelSignal } from '../src/core/cancel-signal.js';
import { type DpsErrorCode, HsmError, isDpsError } from '../src/errors.js';
import { describeOddKind, readFileStart } from '../src/file-start.js';
import { isPathLike, isSecretPathLike } from '../src/path-like.js';
import { quoteForShell } from '../src/shell-word.js';

/** No key, passphrase or certificate chain of a device comes near this; a log file given by mistake does. */
export const MAX_SECRET_FILE_BYTES: number = 65_536;

export interface SecretFileOptions {
  /** What the file is to hold, for messages: `device key`. */
  readonly what: string;
  readonly signal?: CancelSignal | undefined;
  /** Looks into a file that its mode forbids to use: what is there instead of a secret, if another file was meant. */
  readonly mistakeIn?: (content: Uint8Array) => HsmError | undefined;
}

/**
 * Reads a secret from a regular file or a pipe (`/dev/stdin`, process substitution, a named pipe), which nobody but
 * its owner may read or write. The mode is that of the very file that is read, found after opening it. Windows has no
 * such modes: there the check is left out. Links are followed, so mounted secrets work.
 *
 * @throws {HsmError} `ERR_DPS_HSM_FILE_MODE` when group or others may read or write it.
 * @throws {HsmError} `ERR_DPS_HSM_FILE_UNREADABLE` when it is missing, forbidden, empty, larger than
 *   `MAX_SECRET_FILE_BYTES`, or neither a file nor a pipe.
 * @throws {CancelledError} when the signal aborts, also while a pipe has nothing to say yet.
 */
export function readSecretFile(path: string, options: SecretFileOptions): Promise<Uint8Array> {
  const judge = (stats: Stats): HsmError | undefined => {
    const isPublic = process.platform !== 'win32' && (stats.mode & 0o077) !== 0;
    return isPublic ? modeError(path, options.what, stats.mode) : undefined;
  };
  return readSmallFile(path, options, judge, isSecretPathLike(path));
}

/** Reads a file that anybody may read, such as a certificate: as `readSecretFile`, but whatever its mode is. */
export function readPublicFile(path: string, options: SecretFileOptions): Promise<Uint8Array> {
  return readSmallFile(path, options, () => undefined, isPathLike(path));
}

type Judge = (stats: Stats) => HsmError | undefined;

/** `isShown`: whether the path may be repeated where it leads to nothing. */
async function readSmallFile(
  path: string,
  options: SecretFileOptions,
  judge: Judge,
  isShown: boolean,
): Promise<Uint8Array> {
  const { what, signal } = options;
  try {
    const bytes = await readFileStart(path, {
      limitBytes: MAX_SECRET_FILE_BYTES,
      signal,
      state: `reading the ${what} file`,
      judge: (stats, readContent) => judgeSecret(path, options, judge(stats), stats, readContent),
    });
    if (bytes.length > MAX_SECRET_FILE_BYTES) {
      throw unreadable(path, what, `has more than ${MAX_SECRET_FILE_BYTES} bytes. Is it the right file?`);
    }
    if (bytes.length === 0) throw unreadable(path, what, 'is empty. Write it again from where it came from.');
    return bytes;
  } catch (error) {
    if (isDpsError(error)) throw error;
    if (isShown) throw unreadable(path, what, explainSystemError(error), error);
    // Node's error repeats the path, too.
    throw unreadable('given (not shown: it may be a secret)', what, explainSystemError(error));
  }
}

async function judgeSecret(
  path: string,
  { what, mistakeIn }: SecretFileOptions,
  refusal: HsmError | undefined,
  stats: Stats,
  readContent: () => Promise<Uint8Array>,
): Promise<HsmError | undefined> {
  const kind = describeOddKind(stats);
  if (kind !== undefined) return unreadable(path, what, `is ${kind}, not a file. Give the path of the file itself.`);
  if (refusal === undefined || mistakeIn === undefined || !stats.isFile()) return refusal;
  const bytes = await readContent();
  const mistake = mistakeIn(bytes);
  bytes.fill(0);
  return mistake ?? refusal;
}

function modeError(path: string, what: string, mode: number): HsmError {
  const found = (mode & 0o7777).toString(8).padStart(4, '0');
  // What is redirected to /dev/stdin has a name of its own, unknown here.
  const target = /^\/(dev|proc)\//.test(path) ? 'the file behind it' : quoteForShell(path);
  return fileError(
    'ERR_DPS_HSM_FILE_MODE',
    what,
    `The ${what} file ${path} has mode ${found}: others than its owner may read or write it. Run: chmod 600 ${target}`,
  );
}

function unreadable(path: string, what: string, reason: string, cause?: unknown): HsmError {
  return fileError('ERR_DPS_HSM_FILE_UNREADABLE', what, `The ${what} file ${path} ${reason}`, cause);
}

function fileError(code: DpsErrorCode, what: string, message: string, cause?: unknown): HsmError {
  return new HsmError({ code, operation: `load ${what}`, message, cause });
}

function explainSystemError(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'does not exist. Check the path; a relative one starts at the working directory of the process.';
    case 'EACCES':
    case 'EPERM':
      return `may not be read by user ${describeUser()}. Make that user its owner, and let it through the folders above.`;
    case 'ELOOP':
      return 'is a symbolic link that leads nowhere. Mend the link.';
    case 'ENAMETOOLONG':
      return 'has a name longer than the file system takes. Is it a path?';
    case 'ENXIO':
      return 'is a socket or a device, not a file. Give the path of the file itself.';
    default:
      return `cannot be read (${code ?? 'unknown reason'}).`;
  }
}

function describeUser(): string {
  return process.getuid === undefined ? 'of this process' : String(process.getuid());
}
