import { constants, type Stats } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';

/** Every call that durable files make of the system, one method each, so that tests can cut the power between any two. */
export interface DurableIo {
  /** The user whose files these have to be; `undefined` where the system knows neither owners nor modes. */
  readonly userId: number | undefined;
  open(path: string, flags: number, mode?: number): Promise<DurableFile>;
  mkdir(path: string, mode: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Gives the file a second name; fails with `EEXIST` where that name is taken. */
  link(existing: string, path: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** Of what a path leads to, links followed: needs access to the folders above it alone. */
  stat(path: string): Promise<DurableStats>;
  /** The names in a folder. */
  list(path: string): Promise<readonly string[]>;
}

/** An open file or folder. */
export interface DurableFile {
  stat(): Promise<DurableStats>;
  /** Reads from `position` into `bytes`; how many came, 0 at the end. */
  read(bytes: Uint8Array, position: number): Promise<number>;
  /** Writes `bytes` at `position`; how many went, which may be fewer. */
  write(bytes: Uint8Array, position: number): Promise<number>;
  /** Settles when what was written, or the names in a folder, would survive a power cut. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface DurableStats {
  readonly kind: 'file' | 'folder' | 'other';
  readonly userId: number;
  /** Permission bits. */
  readonly mode: number;
  readonly sizeBytes: number;
}

/** Links are not followed, and opening a pipe or a device neither blocks nor makes it the terminal of the process. */
const GUARDED: number = (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0);
export const OPEN_TO_READ: number = constants.O_RDONLY | GUARDED;
/** Fails with `EEXIST` where anything has that name, a link that leads nowhere included. */
export const OPEN_NEW: number = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | GUARDED;
/** Links to a folder are followed, as are those in the path that leads to it. */
export const OPEN_FOLDER: number = constants.O_RDONLY | (constants.O_DIRECTORY ?? 0);

/** Opens, lets `work` have the file, and closes it however that ends. */
export async function withOpen<T>(opening: Promise<DurableFile>, work: (file: DurableFile) => Promise<T>): Promise<T> {
  const file = await opening;
  let result: T;
  try {
    result = await work(file);
  } catch (error) {
    await file.close().catch(() => undefined);
    throw error;
  }
  // Some file systems tell only now that a write failed.
  await file.close();
  return result;
}

/** The system's own files. */
export const nodeDurableIo: DurableIo = {
  get userId(): number | undefined {
    return process.geteuid?.();
  },
  open: async (path, flags, mode) => new NodeFile(await open(path, flags, mode)),
  mkdir: (path, mode) => mkdir(path, { mode }).then(() => undefined),
  rename,
  link,
  unlink,
  stat: async (path) => durableStats(await stat(path)),
  list: (path) => readdir(path),
};

function durableStats(stats: Stats): DurableStats {
  const kind = stats.isFile() ? 'file' : stats.isDirectory() ? 'folder' : 'other';
  return { kind, userId: stats.uid, mode: stats.mode & 0o7777, sizeBytes: stats.size };
}

class NodeFile implements DurableFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async stat(): Promise<DurableStats> {
    return durableStats(await this.#handle.stat());
  }

  async read(bytes: Uint8Array, position: number): Promise<number> {
    return (await this.#handle.read(bytes, 0, bytes.length, position)).bytesRead;
  }

  async write(bytes: Uint8Array, position: number): Promise<number> {
    return (await this.#handle.write(bytes, 0, bytes.length, position)).bytesWritten;
  }

  sync(): Promise<void> {
    return this.#handle.sync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}
