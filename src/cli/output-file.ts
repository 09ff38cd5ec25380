import { randomBytes } from 'node:crypto';
import { access, constants, lstat, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ConfigurationError } from '../errors.js';
import type { InputSource } from './text-file.js';
import { explainFileError } from './text-file.js';

/**
 * Looks before the work begins whether a file can be put at the path.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when its folder is missing or closed to us, or something is in the way that is
 *   not a regular file: a folder, a link, a device.
 */
export async function checkTarget(target: InputSource): Promise<void> {
  const { path } = target;
  if (path === '-') throw targetError(target, 'cannot be standard output, which is for the result. Give a path.');
  const folder = dirname(path);
  try {
    if (!(await stat(folder)).isDirectory()) throw targetError(target, `lies in ${folder}, which is not a folder.`);
    await access(folder, constants.W_OK);
  } catch (error) {
    if (error instanceof ConfigurationError) throw error;
    throw targetError(target, `cannot be made: the folder ${folder} ${explainFileError(error)}`, error);
  }
  const kind = await kindOf(path);
  if (kind === 'none' || kind === 'file') return;
  throw targetError(target, `is ${kind}; only a regular file is replaced. Give another path, or remove it first.`);
}

/**
 * Writes a file all or nothing: the text goes to a new file beside the target, onto the disk, and takes the target's
 * place. A link or folder at the path is not followed.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when that fails; then the target is as it was.
 */
export async function writeFileWhole(target: InputSource, text: string, mode: number): Promise<void> {
  await checkTarget(target);
  const folder = dirname(target.path);
  const draft = join(folder, `.${basename(target.path)}.${randomBytes(6).toString('hex')}`);
  try {
    const file = await open(draft, 'wx', mode);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, target.path);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined);
    throw targetError(target, `cannot be written: it ${explainFileError(error)}`, error);
  }
  await syncFolder(folder);
}

/** Makes the new name last; where folders cannot be synchronized, it lasts when the system thinks so. */
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch {
    // Not every file system can.
  }
}

async function kindOf(path: string): Promise<'none' | 'file' | 'a folder' | 'a link' | 'a device, pipe or socket'> {
  try {
    const stats = await lstat(path);
    if (stats.isFile()) return 'file';
    if (stats.isDirectory()) return 'a folder';
    return stats.isSymbolicLink() ? 'a link' : 'a device, pipe or socket';
  } catch {
    return 'none';
  }
}

function targetError({ path, option }: InputSource, problem: string, cause?: unknown): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_FILE',
    message: `${option}: ${path} ${problem}`,
    option,
    cause,
  });
}
