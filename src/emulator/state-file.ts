/** The optional file in which the emulator survives a restart. Holds keys, so it is readable by its owner only. */
import { readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { ConfigurationError } from '../errors.js';
import { isJsonObject } from './json.js';
import type { StoredScope } from './scope.js';

export interface StoredState {
  readonly version: 1;
  readonly authority: { readonly certificatePem: string; readonly privateKeyPem: string };
  readonly scopes: readonly StoredScope[];
}

/**
 * Reads the state of an earlier run; `undefined` when there is none yet.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when there is something else at that place.
 */
export function loadState(file: string): StoredState | undefined {
  const text = readIfThere(file);
  if (text === undefined) return undefined;
  const state = parse(text);
  if (isJsonObject(state) && state.version === 1 && Array.isArray(state.scopes)) return state as unknown as StoredState;
  throw damaged(file);
}

export function damaged(file: string, cause?: unknown): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_FILE',
    message: `${file} is not a state file of this emulator, or damaged. Delete it to start afresh, or name another.`,
    option: 'stateFile',
    cause,
  });
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
    const temporary = `${this.#file}.new`;
    const handle = await open(temporary, 'w', 0o600);
    try {
      await handle.chmod(0o600);
      await handle.writeFile(JSON.stringify(this.#take()));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, this.#file);
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ConfigurationError({
      code: 'ERR_DPS_CONFIG_FILE',
      message: `The state file ${file} cannot be read.`,
      option: 'stateFile',
      cause,
    });
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
