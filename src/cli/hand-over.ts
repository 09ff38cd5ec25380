import { CancelledError } from '../errors.js';
import { OutputError } from './cli-errors.js';
import type { CliIo } from './io.js';

/** What a reader is given to take the last words of a process that has been told to end. */
const GRACE_MS = 2_000;

/** A result that came in the last moment is not lost to it. */
const SHORTEST_LIMIT_MS = 5_000;

/** How long to wait for a reader. */
export interface Patience {
  /** Ends it, but for a short grace. */
  readonly signal: AbortSignal;
  /** At least five seconds are given. Default: no limit. */
  readonly limitMs?: number | undefined;
}

/**
 * Writes to standard output and waits until the text has left this process.
 *
 * @throws {OutputError} when it cannot be written, or not within the limit; its cause has the code `EPIPE` when the
 *   reader has gone away.
 * @throws {CancelledError} when the signal aborts and nobody takes the text in the grace after that.
 */
export async function handOver(text: string, { stdout, clock }: CliIo, patience: Patience): Promise<void> {
  const { signal } = patience;
  const limitMs = patience.limitMs === undefined ? undefined : Math.max(SHORTEST_LIMIT_MS, patience.limitMs);
  const end = await patiently(stdout.write(text), clock, { signal, limitMs });
  if (end === 'done') return checkOutput({ stdout });
  if (end === 'cancelled') {
    throw new CancelledError({ state: 'waiting for a reader of standard output', cause: signal.reason });
  }
  throw new OutputError(
    `Nobody read the result from standard output within ${limitMs} ms: what it is piped into does not read. End that program.`,
  );
}

/** @throws {OutputError} when something kept text from being written. */
export function checkOutput({ stdout }: Pick<CliIo, 'stdout'>): void {
  const { failure } = stdout;
  if (failure === undefined) return;
  const message =
    failure.code === 'EPIPE'
      ? 'Nobody took the result: what read standard output ended before (EPIPE). Redirect it into a file, or mend that program.'
      : `Standard output cannot be written: ${failure.message}. Give it room or another target.`;
  throw new OutputError(message, { cause: failure });
}

/** Waits for last words on standard error, for as long as a grace lasts. */
export async function flush(written: Promise<void>, { clock }: Pick<CliIo, 'clock'>): Promise<void> {
  await patiently(written, clock, { signal: new AbortController().signal, limitMs: GRACE_MS });
}

function patiently(
  written: Promise<void>,
  clock: CliIo['clock'],
  { signal, limitMs }: Patience,
): Promise<'done' | 'late' | 'cancelled'> {
  return new Promise((resolve) => {
    const timers: (() => void)[] = [];
    const settle = (end: 'done' | 'late' | 'cancelled'): void => {
      for (const stop of timers) stop();
      signal.removeEventListener('abort', onAbort);
      resolve(end);
    };
    const onAbort = (): void => {
      timers.push(clock.after(GRACE_MS, () => settle('cancelled')));
    };
    if (limitMs !== undefined) timers.push(clock.after(limitMs, () => settle('late')));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    void written.then(() => settle('done'));
  });
}
