import { close, constants, fstat, open, read, type Stats } from 'node:fs';
import { Socket } from 'node:net';
import { promisify } from 'node:util';
import type { CancelSignal } from './core/cancel-signal.js';
import { unlessCancelled } from './core/cancellation.js';

/**
 * Reads the start of a regular file or of a pipe: to its end, or one byte more than `limitBytes`, which is enough to know.
 * For callers that have words of their own: errors of the system come as they are.
 *
 * `judge` looks at what was opened, and says what to throw instead of reading it.
 * @throws {CancelledError} when the signal aborts, at once, also while a pipe has nothing to say yet.
 */
export function readFileStart(path: string, options: FileStartOptions): Promise<Uint8Array> {
  return unlessCancelled(options.signal, options.state, () => readOnce(path, options));
}

export interface FileStartOptions {
  readonly limitBytes: number;
  readonly signal: CancelSignal | undefined;
  /** What is going on, for a `CancelledError`: `reading the key file`. */
  readonly state: string;
  readonly judge: (stats: Stats, readContent: () => Promise<Uint8Array>) => Promise<Error | undefined>;
}

/** What was opened where a file or pipe was meant; `undefined` for these two. */
export function describeOddKind(stats: Stats): string | undefined {
  if (stats.isFile() || stats.isFIFO()) return undefined;
  if (stats.isDirectory()) return 'a directory';
  return stats.isCharacterDevice() ? 'a terminal or another device' : 'a socket or a device';
}

const openFile = promisify(open);
const statDescriptor = promisify(fstat);
const readDescriptor = promisify(read);
const closeDescriptor = promisify(close);

/** Not on every platform: without it the wait for a pipe's other end cannot be cancelled, nor the process ended. */
const OPEN_FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0);

async function readOnce(path: string, { limitBytes, signal, judge }: FileStartOptions): Promise<Uint8Array> {
  const descriptor = await openFile(path, OPEN_FLAGS);
  let isOurs = true;
  try {
    const stats = await statDescriptor(descriptor);
    const refusal = await judge(stats, () => readToEnd(descriptor, limitBytes));
    if (refusal !== undefined) throw refusal;
    if (!stats.isFIFO()) return await readToEnd(descriptor, limitBytes);
    const pipe = new Socket({ fd: descriptor, readable: true, writable: false });
    isOurs = false;
    return await readPipe(pipe, limitBytes, signal);
  } finally {
    if (isOurs) await closeDescriptor(descriptor);
  }
}

async function readToEnd(descriptor: number, limitBytes: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(limitBytes + 1);
  let end = 0;
  while (end < bytes.length) {
    const { bytesRead } = await readDescriptor(descriptor, bytes, end, bytes.length - end, null);
    if (bytesRead === 0) break;
    end += bytesRead;
  }
  return bytes.subarray(0, end);
}

/** A pipe is awaited rather than read by a thread that nothing could wake. Closes it, however it ends. */
function readPipe(pipe: Socket, limitBytes: number, signal: CancelSignal | undefined): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    const stop = (): void => {
      pipe.destroy();
    };
    pipe.on('data', (chunk: Uint8Array) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length > limitBytes) stop();
    });
    pipe.on('error', reject);
    pipe.on('close', () => {
      signal?.removeEventListener('abort', stop);
      resolve(Buffer.concat(chunks).subarray(0, limitBytes + 1));
    });
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop();
  });
}
