import { realpath } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { makeKeyFile, type SealingOptions } from '../../hsm/key-store/sealing-secret.js';
import { UsageError } from './cli-errors.js';
import type { KeysContext } from './keys-work.js';

type KeyFileOption = 'key-store-key-file' | 'new-key-store-key-file';

/**
 * A key file that lies in the folder it seals goes wherever a copy of the folder goes. To be called before a store is
 * sealed; one that was sealed like that must still be opened.
 *
 * @throws {UsageError} naming the option.
 */
export async function refuseKeyFileInStore(
  { sealingKey }: SealingOptions,
  directory: string,
  { options }: KeysContext,
  option: KeyFileOption,
): Promise<void> {
  if (sealingKey === undefined || !('file' in sealingKey)) return;
  const [store, file] = [await placeOf(directory), await placeOf(sealingKey.file)];
  const way = relative(store, file);
  if (way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way)) return;
  throw new UsageError(
    `${options.place(option)}: a key file must not be in the folder of the key store that it seals, ${directory}: who copies the folder could open it. Keep it elsewhere.`,
  );
}

/** Where a path leads in the end; of what is not there yet, where it will be made. */
async function placeOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    const above = dirname(path);
    return above === path ? resolve(path) : join(await placeOf(above), basename(path));
  }
}

/** Makes the key file of a store to be sealed, if there is none. */
export async function makeKeyFileIfMissing(
  { sealingKey }: SealingOptions,
  { log, signal }: KeysContext,
): Promise<void> {
  if (sealingKey === undefined || !('file' in sealingKey)) return;
  const { file } = sealingKey;
  if (!(await makeKeyFile(file, signal))) return;
  const text = `made the key file ${file}: keep a copy elsewhere, without it the key store cannot be opened`;
  log.entry({ type: 'log', line: 'key file made', file }, text);
}
