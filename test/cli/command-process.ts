import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished } from 'vitest';

/** The built command. `npm run build` comes first. */
export const PROGRAM: string = fileURLToPath(new URL('../../dist/dps-device.mjs', import.meta.url));

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

export interface Running {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<Ended>;
  /** Settles when standard error has the text so often. */
  readonly seen: (text: string, times?: number) => Promise<void>;
  /** Settles when standard output has the text. */
  readonly told: (text: string) => Promise<void>;
}

/** Runs the command, or another program, with this environment alone. It is gone at the end of the test. */
export function startCommand(
  args: readonly string[],
  env: Record<string, string> = {},
  program: readonly string[] = [process.execPath, PROGRAM],
): Running {
  const [file = '', ...words] = program;
  const child = spawn(file, [...words, ...args], { env: { PATH: process.env.PATH, ...env } });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  child.stdin.on('error', () => undefined);
  const ended = once(child, 'close').then(([status, signal]) => ({ status, signal, out, err }) as Ended);
  const waitFor = async (stream: Readable, isThere: () => boolean, text: string): Promise<void> => {
    while (!isThere()) {
      const isOver = await Promise.race([ended.then(() => true), once(stream, 'data').then(() => false)]);
      if (isOver && !isThere()) expect.fail(`Ended without ${text}: ${err}`);
    }
  };
  const seen = (text: string, times = 1): Promise<void> =>
    waitFor(child.stderr, () => err.split(text).length > times, text);
  const told = (text: string): Promise<void> => waitFor(child.stdout, () => out.includes(text), text);
  return { child, ended, seen, told };
}
