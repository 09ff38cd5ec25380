import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../core/clock.js';
import { CancelledError } from '../errors.js';
import { systemClock } from '../system-clock.js';
import type { StopSignal } from './exit-codes.js';

/** Standard output or standard error. */
export interface Output {
  /** A terminal that can redraw a line. */
  readonly isTerminal: boolean;
  readonly columns: number;
  /** What kept text from being written; its code is `EPIPE` where the reader went away. */
  readonly failure: NodeJS.ErrnoException | undefined;
  /** Bytes given to it that nobody has taken yet: above 0 for long where a reader does not read. */
  readonly backlogBytes: number;
  /** Settles when the text has left this process, or cannot; never, where a reader does not read. Never fails. */
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
  readonly clock: Clock;
  /** Returns the way to stop listening. */
  onSignal(listener: (signal: StopSignal) => void): () => void;
  /** SIGHUP, which ends the process while nobody listens. Returns the way to stop listening. */
  onHangUp(listener: () => void): () => void;
  /** Ends the process on the spot, by the signal's default. */
  exitNow(signal: StopSignal): void;
  /** Lets the process end with the status; on the spot where a reader that does not read would keep it. */
  end(status: number): void;
}

/** The process as it is. */
export function processIo(): CliIo {
  const stdout = outputTo(process.stdout);
  const stderr = outputTo(process.stderr);
  return {
    env: process.env,
    stdin: {
      get isTerminal() {
        return process.stdin.isTTY === true;
      },
      read: (limitBytes, signal) => readStream(process.stdin, limitBytes, signal),
    },
    stdout,
    stderr,
    clock: systemClock,
    onSignal(listener) {
      process.on('SIGINT', listener).on('SIGTERM', listener);
      return () => process.off('SIGINT', listener).off('SIGTERM', listener);
    },
    onHangUp(listener) {
      process.on('SIGHUP', listener);
      return () => process.off('SIGHUP', listener);
    },
    // Not process.exit: it waits for the thread pool, where a name look-up or a named pipe may block for ever.
    exitNow: (signal) => {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    },
    end: (status) => {
      process.exitCode = status;
      if (stdout.backlogBytes + stderr.backlogBytes > 0) process.exit(status);
    },
  };
}

/** Pipes are written to without blocking (Node's own way on POSIX), so that signals and timers get their turn. */
export function outputTo(stream: Writable & { readonly isTTY?: boolean; readonly columns?: number }): Output {
  let failure: NodeJS.ErrnoException | undefined;
  stream.on('error', (error: NodeJS.ErrnoException) => {
    failure ??= error;
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
    get backlogBytes() {
      return stream.destroyed ? 0 : stream.writableLength;
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
