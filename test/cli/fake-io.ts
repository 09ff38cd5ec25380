import type { StopSignal } from '../../src/cli/exit-codes.js';
import type { CliIo, Output } from '../../src/cli/io.js';
import { CancelledError } from '../../src/errors.js';

/** A process for a command to run in. */
export interface FakeIo extends CliIo {
  /** What was written so far. */
  readonly out: () => string;
  readonly err: () => string;
  /** As if the process got the signal. */
  readonly send: (signal: StopSignal) => void;
  /** Statuses that the process was to end with on the spot. */
  readonly exits: readonly number[];
  /** How many listeners for signals there are. */
  readonly listeners: () => number;
}

export interface FakeIoOptions {
  readonly env?: Record<string, string>;
  readonly stdin?: string;
  readonly isStdinTerminal?: boolean;
  /** Reading standard input waits for ever. */
  readonly isStdinSilent?: boolean;
  readonly isTerminal?: boolean;
  readonly stdoutFailure?: Error;
  readonly onStdout?: (text: string) => void;
}

export function fakeIo(options: FakeIoOptions = {}): FakeIo {
  const out: string[] = [];
  const err: string[] = [];
  const exits: number[] = [];
  const listeners = new Set<(signal: StopSignal) => void>();
  return {
    env: { ...options.env },
    stdin: {
      isTerminal: options.isStdinTerminal ?? false,
      read: async (limitBytes, signal) => {
        if (options.isStdinSilent) await aborted(signal);
        return new TextEncoder().encode(options.stdin ?? '').subarray(0, limitBytes + 1);
      },
    },
    stdout: output(out, false, options.stdoutFailure, options.onStdout),
    stderr: output(err, options.isTerminal ?? false),
    onSignal(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    exitNow: (status) => exits.push(status),
    out: () => out.join(''),
    err: () => err.join(''),
    send: (signal) => {
      for (const listener of [...listeners]) listener(signal);
    },
    exits,
    listeners: () => listeners.size,
  };
}

function output(
  written: string[],
  isTerminal: boolean,
  failure?: Error,
  listener: (text: string) => void = () => undefined,
): Output {
  return {
    isTerminal,
    columns: 80,
    failure,
    write: async (text) => {
      written.push(text);
      listener(text);
    },
  };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const cancel = (): void => reject(new CancelledError({ state: 'reading standard input', cause: signal.reason }));
    if (signal.aborted) cancel();
    else signal.addEventListener('abort', cancel, { once: true });
  });
}
