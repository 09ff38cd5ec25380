import type { StopSignal } from '../../src/cli/exit-codes.js';
import type { CliIo, Output } from '../../src/cli/io.js';
import { CancelledError } from '../../src/errors.js';
import { ManualClock } from '../fakes/manual-clock.js';

/** A process for a command to run in. */
export interface FakeIo extends CliIo {
  /** What was written so far. */
  readonly out: () => string;
  readonly err: () => string;
  /** As if the process got the signal. */
  readonly send: (signal: StopSignal) => void;
  /** Signals by which the process was to end on the spot. */
  readonly exits: readonly StopSignal[];
  readonly clock: ManualClock;
  /** As if the process got SIGHUP. */
  readonly hangUp: () => void;
  /** How many listeners for SIGHUP there are. */
  readonly hangUps: () => number;
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
  readonly stdoutFailure?: NodeJS.ErrnoException;
  /** Nobody reads: what is written never leaves. */
  readonly stuck?: readonly ('stdout' | 'stderr')[];
  readonly onStdout?: (text: string) => void;
}

export function fakeIo(options: FakeIoOptions = {}): FakeIo {
  const out: string[] = [];
  const err: string[] = [];
  const exits: StopSignal[] = [];
  const hangUps = new Set<() => void>();
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
    stdout: output(out, {
      isTerminal: false,
      isStuck: options.stuck?.includes('stdout') ?? false,
      failure: options.stdoutFailure,
      listener: options.onStdout,
    }),
    stderr: output(err, {
      isTerminal: options.isTerminal ?? false,
      isStuck: options.stuck?.includes('stderr') ?? false,
    }),
    clock: new ManualClock(),
    onHangUp(listener) {
      hangUps.add(listener);
      return () => hangUps.delete(listener);
    },
    hangUps: () => hangUps.size,
    hangUp: () => {
      for (const listener of [...hangUps]) listener();
    },
    onSignal(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    exitNow: (signal) => exits.push(signal),
    end: () => undefined,
    out: () => out.join(''),
    err: () => err.join(''),
    send: (signal) => {
      for (const listener of [...listeners]) listener(signal);
    },
    exits,
    listeners: () => listeners.size,
  };
}

interface FakeOutput {
  readonly isTerminal: boolean;
  readonly isStuck: boolean;
  readonly failure?: NodeJS.ErrnoException | undefined;
  readonly listener?: ((text: string) => void) | undefined;
}

function output(written: string[], { isTerminal, isStuck, failure, listener }: FakeOutput): Output {
  return {
    isTerminal,
    columns: 80,
    failure,
    get backlogBytes() {
      return isStuck ? Buffer.byteLength(written.join('')) : 0;
    },
    write: async (text) => {
      written.push(text);
      listener?.(text);
      if (isStuck) await new Promise(() => undefined);
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
