import type { Readable, Writable } from 'node:stream';
import { CancelledError } from '../errors.js';
import type { StopSignal } from './exit-codes.js';

/** Standard output or standard error. */
export interface Output {
  /** A terminal that can redraw a line. */
  readonly isTerminal: boolean;
  readonly columns: number;
  /** What kept text from being written, other than a reader that went away. */
  readonly failure: Error | undefined;
  /** Settles when the text has left this process, or cannot. Never fails. */
  write(text: string): Promise<void>;
}

/** Standard input. */
export interface Input {
  readonly isTerminal: boolean;
  /** Everything up to the end, or the first `limitBytes + 1` bytes. Fails with `CancelledError` when the signal aborts. */
  read(limitBytes: number, signal: AbortSignal): Promise<Uint8Array>;
}

/** All that a command sees of its process, so that a test can be one. */
export interface CliIo {
  /** Secrets are deleted from it once they are read. */
  readonly env: Record<string, string | undefined>;
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  /** Returns the way to stop listening. */
  onSignal(listener: (signal: StopSignal) => void): () => void;
  /** Ends the process on the spot. */
  exitNow(status: number): void;
}

/** The process as it is. */
export function processIo(): CliIo {
  return {
    env: process.env,
    stdin: {
      get isTerminal() {
        return process.stdin.isTTY === true;
      },
      read: (limitBytes, signal) => readStream(process.stdin, limitBytes, signal),
    },
    stdout: outputTo(process.stdout),
    stderr: outputTo(process.stderr),
    onSignal(listener) {
      process.on('SIGINT', listener).on('SIGTERM', listener);
      return () => process.off('SIGINT', listener).off('SIGTERM', listener);
    },
    exitNow: (status) => process.exit(status),
  };
}

/** A reader that goes away (EPIPE) is not an error: there is nobody left to tell. */
export function outputTo(stream: Writable & { readonly isTTY?: boolean; readonly columns?: number }): Output {
  let failure: Error | undefined;
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') failure ??= error;
  });
  return {
    isTerminal: stream.isTTY === true && process.env.TERM !== 'dumb',
    get columns() {
      // Some terminals do not know how wide they are, and say 0.
      return stream.columns || 80;
    },
    get failure() {
      return failure;
    },
    write: (text) =>
      new Promise((resolve) => {
        stream.write(text, () => resolve());
      }),
  };
}

/** Reads to the end. Cancelling destroys the stream, so that an open pipe does not keep the process alive. */
export async function readStream(stream: Readable, limitBytes: number, signal: AbortSignal): Promise<Uint8Array> {
  const cancel = (): void => {
    stream.destroy();
  };
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  try {
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      chunks.push(chunk);
      length += chunk.length;
      if (length > limitBytes) break;
    }
    if (signal.aborted) throw cancelled(signal);
    return Buffer.concat(chunks).subarray(0, limitBytes + 1);
  } catch (error) {
    throw signal.aborted ? cancelled(signal) : error;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

function cancelled(signal: AbortSignal): CancelledError {
  return new CancelledError({ state: 'reading standard input', cause: signal.reason });
}
