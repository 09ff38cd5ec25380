import { decodeUtf8 } from '../core/bytes.js';
import type { JsonObject, JsonValue } from '../core/twin.js';
import { ConfigurationError, isDpsError } from '../errors.js';
import { describeOddKind, readFileStart } from '../file-start.js';
import { describeJsonPlace } from '../json-place.js';
import { isPathLike } from '../path-like.js';
import type { CliIo } from './io.js';

/** Far above any configuration, payload or bundle of certificates; far below what hurts. */
const MAX_INPUT_BYTES = 1_048_576;

/** An input of a command: a file, or standard input. */
export interface InputSource {
  /** `-` for standard input. */
  readonly path: string;
  /** The option that named it, for messages. */
  readonly option: string;
}

/**
 * Reads UTF-8 text of at most 1 MiB, without byte order mark.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when it cannot be read, is too long, or is not text.
 * @throws {CancelledError} when the signal aborts, at once, also while a pipe has nothing to say yet.
 */
export async function readTextInput(source: InputSource, io: CliIo, signal: AbortSignal): Promise<string> {
  const bytes = source.path === '-' ? await readStandardInput(source, io, signal) : await readFile(source, signal);
  if (bytes.length > MAX_INPUT_BYTES)
    throw fileError(source, `is longer than ${MAX_INPUT_BYTES} bytes. Is it the right file?`);
  const text = decodeUtf8(bytes);
  if (text === undefined) throw fileError(source, 'is not UTF-8 text. Is it the right file?');
  return text.replace(/^\uFEFF/, '');
}

/**
 * Reads a JSON document.
 *
 * @throws {ConfigurationError} as `readTextInput` does, and when it is not JSON.
 */
export async function readJsonInput(source: InputSource, io: CliIo, signal: AbortSignal): Promise<JsonValue> {
  const text = await readTextInput(source, io, signal);
  try {
    return JSON.parse(text) as JsonValue;
  } catch (error) {
    throw fileError(source, `is not JSON${describeJsonPlace(text, error)}.`);
  }
}

/**
 * Reads a JSON document that is an object.
 *
 * @throws {ConfigurationError} as `readJsonInput` does, and when it is anything else.
 */
export async function readJsonObjectInput(source: InputSource, io: CliIo, signal: AbortSignal): Promise<JsonObject> {
  const value = await readJsonInput(source, io, signal);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw fileError(source, 'must hold a JSON object.');
}

async function readStandardInput(source: InputSource, io: CliIo, signal: AbortSignal): Promise<Uint8Array> {
  if (io.stdin.isTerminal) {
    throw fileError(source, 'is a terminal. Pipe or redirect the content in.');
  }
  const bytes = await io.stdin.read(MAX_INPUT_BYTES, signal).catch((error: unknown) => {
    throw isDpsError(error) ? error : fileError(source, 'cannot be read. Redirect a file or a pipe in.', error);
  });
  if (bytes.length === 0) throw fileError(source, 'is empty.');
  return bytes;
}

async function readFile(source: InputSource, signal: AbortSignal): Promise<Uint8Array> {
  try {
    return await readFileStart(source.path, {
      limitBytes: MAX_INPUT_BYTES,
      signal,
      state: `reading the file of ${source.option}`,
      judge: async (stats) => {
        const kind = describeOddKind(stats);
        return kind === undefined ? undefined : fileError(source, `is ${kind}. Give the path of a file.`);
      },
    });
  } catch (error) {
    if (isDpsError(error)) throw error;
    if (isPathLike(source.path)) throw fileError(source, explainFileError(error), error);
    // Node's error repeats the path, too.
    throw fileError({ ...source, path: 'the path given (not shown: it may be a secret)' }, explainFileError(error));
  }
}

/** What a failed file operation means, to follow the file's name. */
export function explainFileError(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'does not exist. Check the path.';
    case 'EACCES':
    case 'EPERM':
      return 'is not accessible for the user of this process. Check owner and mode, also of the folders above.';
    case 'EISDIR':
      return 'is a folder. Give the path of a file.';
    case 'ENXIO':
      return 'is a socket or a device. Give the path of a file.';
    case 'ELOOP':
      return 'is a symbolic link that leads nowhere. Mend the link.';
    case 'ENAMETOOLONG':
      return 'has a name longer than the file system takes. Give a shorter one.';
    case 'EROFS':
      return 'lies on a file system that is mounted read-only. Choose another place, or mount it for writing.';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'does not fit: the file system, or the quota of the user, is full. Make room.';
    case 'EBUSY':
      return 'is in use, e.g. as a mount point. Choose another place.';
    default:
      return `is not accessible (${code ?? 'unknown reason'}).`;
  }
}

function fileError({ path, option }: InputSource, problem: string, cause?: unknown): ConfigurationError {
  const name = path === '-' ? 'standard input' : path;
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_FILE',
    message: `${option}: ${name} ${problem}`,
    option,
    cause,
  });
}
