import { rmdir } from 'node:fs/promises';
import { openKeyStore, type SoftwareKeyStore } from '../../hsm/software-key-store.js';
import { nodeDurableIo } from '../durable/durable-io.js';
import { isPrivateFolder, preparePrivateFolder } from '../durable/private-folder.js';
import { isDpsError } from '../errors.js';
import type { CommandLog } from './command-log.js';
import type { CliIo } from './io.js';
import { chooseSealing } from './key-store-sealing.js';
import type { EndedWith } from './keys-end.js';
import { makeKeyFileIfMissing, refuseKeyFileInStore } from './keys-key-file.js';
import type { Options } from './options.js';
import { checkNewTarget, checkTarget, writeFileWhole } from './output-file.js';
import type { GivenSecrets } from './secrets.js';
import type { InputSource } from './text-file.js';

/** What a command of `keys` works with. */
export interface KeysContext {
  readonly options: Options;
  readonly secrets: GivenSecrets;
  readonly io: CliIo;
  readonly env: CliIo['env'];
  readonly log: CommandLog;
  readonly signal: AbortSignal;
}

/** Does it; what it gives is printed, an object as JSON. */
export type KeysWork = (context: KeysContext) => Promise<object | string | EndedWith>;

/** Opens the store that the options name. */
export async function openStore(context: KeysContext): Promise<SoftwareKeyStore> {
  const directory = storeDirectory(context);
  return openKeyStore({ directory, ...(await chooseSealing(context)) }, context.signal);
}

/** As `openStore`; where there is none it is made, and its key file with it. */
export async function openOrMakeStore(context: KeysContext): Promise<SoftwareKeyStore> {
  const { log, signal } = context;
  const directory = storeDirectory(context);
  const sealing = await chooseSealing(context);
  try {
    return await openKeyStore({ directory, ...sealing }, signal);
  } catch (error) {
    if (!isDpsError(error) || error.code !== 'ERR_DPS_HSM_STORE_MISSING') throw error;
  }
  await refuseKeyFileInStore(sealing, directory, context, 'key-store-key-file');
  await withFolder(directory, () => makeKeyFileIfMissing(sealing, context));
  const store = await openKeyStore({ directory, ...sealing, create: true }, signal);
  log.entry({ type: 'log', line: 'key store made', directory }, `made the key store ${directory}`);
  return store;
}

/** A folder that cannot be made must not leave a key file behind, nor a key file that cannot be made a folder. */
async function withFolder(directory: string, work: () => Promise<void>): Promise<void> {
  const wasThere = await isPrivateFolder(nodeDurableIo, directory, 'write');
  await preparePrivateFolder(nodeDurableIo, directory, 'write');
  try {
    await work();
  } catch (error) {
    // Fails where somebody has put something into it meanwhile.
    if (!wasThere) await rmdir(directory).catch(() => undefined);
    throw error;
  }
}

export function storeDirectory({ options }: KeysContext): string {
  const directory = options.text('key-store');
  if (directory !== undefined) return directory;
  throw options.missing('key-store', '--key-store is missing: give the folder of the key store.');
}

export function entryName({ options }: KeysContext): string {
  const name = options.text('key-name');
  if (name !== undefined) return name;
  throw options.missing('key-name', '--key-name is missing: give the name of the entry in the key store.');
}

/** A file to write when the work is done. */
export interface Target {
  write(text: string): Promise<{ readonly path: string }>;
}

const MODES = { secret: 0o600, public: 0o644 };

/** Looked at before anything is made; `undefined` when the option is not given. */
export async function findTarget(
  { options }: KeysContext,
  option: string,
  content: keyof typeof MODES,
): Promise<Target | undefined> {
  const source: InputSource | undefined = options.input(option);
  if (source === undefined) return undefined;
  await (content === 'secret' ? checkNewTarget(source) : checkTarget(source));
  return {
    write: async (text) => {
      await writeFileWhole(source, text, MODES[content]);
      return { path: source.path };
    },
  };
}
