/** The optional file in which the emulator survives a restart. Holds keys, so it is readable by its owner only. */
import { open, rename, rm } from 'node:fs/promises';
import { ConfigurationError } from '../errors.js';
import { explainFileError, readRegularFile } from './regular-file.js';
import { readStoredState, type StoredState } from './state-reader.js';

/** Thousands of devices with full twins; more is no state file. */
const MAX_STATE_BYTES = 256 * 1_048_576;

/**
 * Reads the state of an earlier run; `undefined` when there is none yet.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when there is something else at that place.
 */
export function loadState(file: string): StoredState | undefined {
  const found = readRegularFile(file, MAX_STATE_BYTES);
  if ('problem' in found) {
    if (found.isMissing) return undefined;
    throw stateError(`The state file ${file} ${found.problem}`, found.cause);
  }
  try {
    return readStoredState(JSON.parse(found.text));
  } catch (error) {
    throw damaged(file, error);
  }
}

/** @param cause its message is repeated when it is one of ours: the parser's may quote a key. */
export function damaged(file: string, cause: unknown): ConfigurationError {
  const detail = cause instanceof ConfigurationError ? ` (${cause.message.replace(/\.$/, '')})` : '';
  const message = `${file} is not a state file of this emulator, or damaged${detail}. Delete it to start afresh, or name another.`;
  return stateError(message, cause instanceof ConfigurationError ? cause : undefined);
}

/** Writes the state soon after it changed, once for many changes, never two writes at a time. */
export class StateWriter {
  readonly #file: string;
  readonly #take: () => StoredState;
  readonly #onError: (error: unknown) => void;
  #isDue = false;
  #writing: Promise<void> | undefined;

  constructor(file: string, take: () => StoredState, onError: (error: unknown) => void) {
    this.#file = file;
    this.#take = take;
    this.#onError = onError;
  }

  /** Writes for the first time. @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when that is not possible. */
  async begin(): Promise<void> {
    try {
      await this.#write();
    } catch (error) {
      throw stateError(`The state file cannot be written: ${this.#file} ${explainFileError(error)}`, error);
    }
  }

  changed(): void {
    this.#isDue = true;
    this.#writing ??= this.#writeWhileDue();
  }

  /** Resolves when everything is written. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  async #writeWhileDue(): Promise<void> {
    // Many changes come in one go: all of them go into one write.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#isDue) {
      this.#isDue = false;
      await this.#write().catch(this.#onError);
    }
    this.#writing = undefined;
  }

  async #write(): Promise<void> {
    const draft = `${this.#file}.new`;
    // What an earlier run left, or whatever else is there: a pipe would never take what is written.
    await rm(draft, { force: true });
    const handle = await open(draft, 'wx', 0o600);
    try {
      await handle.writeFile(JSON.stringify(this.#take()));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, this.#file);
  }
}

function stateError(message: string, cause?: unknown): ConfigurationError {
  return new ConfigurationError({ code: 'ERR_DPS_CONFIG_FILE', message, option: 'stateFile', cause });
}
