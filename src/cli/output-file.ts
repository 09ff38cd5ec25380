import { createHash, randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { access, constants, lstat, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ConfigurationError } from '../errors.js';
import type { InputSource } from './text-file.js';
import { explainFileError } from './text-file.js';

/**
 * Looks before the work begins whether a file can be put at the path; to be sure, it makes one beside it and removes it.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when its folder is missing, closed to us or read-only, its name is too
 *   long, or something is in the way that is not a regular file of ours: a folder, a link, a device.
 */
export async function checkTarget(target: InputSource): Promise<void> {
  const { path } = target;
  if (path === '-') throw targetError(target, 'cannot be standard output, which is for the result. Give a path.');
  if (/[\\/]$/.test(path)) throw targetError(target, 'is a folder; give the path of a file in it.');
  await checkFolder(target);
  await checkPlace(target);
  const draft = draftFor(path);
  try {
    await (await open(draft, 'wx', OWNER_ONLY)).close();
    await rm(draft);
  } catch (error) {
    throw targetError(target, `cannot be made: a new file in ${dirname(path)} ${explainFileError(error)}`, error);
  }
}

/**
 * Looks, in addition, that there is no file yet: what is to be written is a secret, and so may be what is there.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when there is, and as `checkTarget`.
 */
export async function checkNewTarget(target: InputSource): Promise<void> {
  await checkTarget(target);
  if ((await lookAt(target)) === undefined) return;
  throw targetError(target, 'exists, and may be the only copy of a key. Give another path, or remove it first.');
}

/**
 * Writes a file all or nothing: the text goes to a new file beside the target, onto the disk, and takes the target's
 * place. A link or folder at the path is not followed. Of `mode`, what is for the owner counts whatever the umask is.
 * Drafts that a process left when it was killed are removed: there is a secret in them.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when that fails; then the target is as it was.
 */
export async function writeFileWhole(target: InputSource, text: string, mode: number): Promise<void> {
  await checkTarget(target);
  const { path } = target;
  const draft = draftFor(path);
  try {
    const file = await open(draft, 'wx', mode);
    try {
      const made = (await file.stat()).mode & PERMISSIONS;
      await file.chmod(made | (mode & OWNER_ALL));
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await removeStaleDrafts(path, draft);
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined);
    throw targetError(target, `cannot be written: it ${explainFileError(error)}`, error);
  }
  await syncFolder(dirname(path));
}

const PERMISSIONS = 0o777;
const OWNER_ALL = 0o700;
const OWNER_ONLY = 0o600;
const STICKY = 0o1000;

async function checkFolder(target: InputSource): Promise<void> {
  const folder = dirname(target.path);
  try {
    if (!(await stat(folder)).isDirectory()) throw targetError(target, `lies in ${folder}, which is not a folder.`);
    await access(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    if (error instanceof ConfigurationError) throw error;
    throw targetError(target, `cannot be made: the folder ${folder} ${explainFileError(error)}`, error);
  }
}

async function checkPlace(target: InputSource): Promise<void> {
  const found = await lookAt(target);
  if (found === undefined) return;
  if (!found.isFile()) {
    const kind = describeKind(found);
    throw targetError(target, `is ${kind}; only a regular file is replaced. Give another path, or remove it first.`);
  }
  const folder = await stat(dirname(target.path));
  const user = process.geteuid?.();
  const isOurs = user === undefined || user === 0 || user === found.uid || user === folder.uid;
  if (isOurs || (folder.mode & STICKY) === 0) return;
  throw targetError(target, `belongs to user ${found.uid}, and its folder lets only that user replace it.`);
}

async function lookAt(target: InputSource): Promise<Stats | undefined> {
  try {
    return await lstat(target.path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw targetError(target, explainFileError(error), error);
  }
}

function describeKind(stats: Stats): string {
  if (stats.isDirectory()) return 'a folder';
  return stats.isSymbolicLink() ? 'a link' : 'a device, pipe or socket';
}

/** Of a fixed length, so that any name that the target may have leaves room for it. The process is named for the next one. */
function draftFor(path: string): string {
  return join(dirname(path), `${draftPrefix(path)}${process.pid}.${randomBytes(6).toString('hex')}`);
}

function draftPrefix(path: string): string {
  return `.dps-draft-${createHash('sha256').update(basename(path)).digest('hex').slice(0, 16)}.`;
}

/** A draft lives for an instant; one this much older or younger than ours was left, whoever has its number now. */
const STALE_MS = 3_600_000;

async function removeStaleDrafts(path: string, draft: string): Promise<void> {
  const folder = dirname(path);
  const all = await readdir(folder).catch(() => []);
  const names = all.filter((name) => name.startsWith(draftPrefix(path)));
  const { mtimeMs } = await stat(draft);
  for (const name of names) {
    if (name === basename(draft)) continue;
    const found = join(folder, name);
    const stats = await lstat(found).catch(() => undefined);
    if (stats === undefined) continue;
    const isOld = Math.abs(stats.mtimeMs - mtimeMs) > STALE_MS;
    if (isOld || !isRunning(Number(name.split('.')[2]))) await rm(found, { force: true }).catch(() => undefined);
  }
}

function isRunning(pid: number): boolean {
  try {
    return Number.isInteger(pid) && process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
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

function targetError({ path, option }: InputSource, problem: string, cause?: unknown): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_FILE',
    message: `${option}: ${path} ${problem}`,
    option,
    cause,
  });
}
