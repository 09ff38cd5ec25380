import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';

const run = promisify(execFile);

/** One system call of a program: the `nth` of that name, from 1. */
export interface TracedCall {
  readonly name: string;
  readonly nth: number;
}

export type Outcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string }
  | { readonly kind: 'killed' };

/** What the program is to do, and all the files and folders that it may touch. */
export interface TracedOrder {
  readonly args: readonly string[];
  readonly paths: readonly string[];
}

/** Makes a program out of one of the files beside this one. */
export async function bundle(name: string, outfile: string): Promise<void> {
  const entry = fileURLToPath(new URL(name, import.meta.url));
  await build({ entryPoints: [entry], outfile, bundle: true, platform: 'node', format: 'esm' });
}

/**
 * Runs a program in processes of its own under strace, which tampers with one system call. The program prints what came
 * of it: `{"done":true}`, or the `code` and `message` of its error.
 */
export class SystemCallTracer {
  readonly #program: string;
  /** For whatever the cases need; goes with the tracer. */
  readonly folder: string = mkdtempSync(join(tmpdir(), 'traced-'));

  private constructor() {
    this.#program = join(this.folder, 'program.mjs');
  }

  /** `name` is a file beside this one. */
  static async make(name: string): Promise<SystemCallTracer> {
    const tracer = new SystemCallTracer();
    await bundle(name, tracer.#program);
    return tracer;
  }

  /** A new folder for one case. */
  newFolder(): string {
    return mkdtempSync(join(this.folder, 'case-'));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The calls that the program makes on its files and folders, in order. */
  async callsOf(order: TracedOrder): Promise<TracedCall[]> {
    const log = join(this.folder, 'calls.log');
    await this.#run(order, ['-o', log]);
    const counts = new Map<string, number>();
    return [...readFileSync(log, 'utf8').matchAll(/^\d+ +(\w+)\(/gm)].map(([, name = '']) => {
      const nth = (counts.get(name) ?? 0) + 1;
      counts.set(name, nth);
      return { name, nth };
    });
  }

  /** `tampering` is what strace does instead of the call: `signal=KILL`, `error=ENOSPC`. */
  async tamperWith({ name, nth }: TracedCall, tampering: string, order: TracedOrder): Promise<Outcome> {
    const log = join(this.folder, 'tampered.log');
    const outcome = await this.#run(order, ['-o', log, '-e', `inject=${name}:${tampering}:when=${nth}`]);
    const isTampered = outcome.kind === 'killed' || readFileSync(log, 'utf8').includes('(INJECTED)');
    if (!isTampered) throw new Error(`${name} number ${nth} did not come to pass`);
    return outcome;
  }

  async #run({ args, paths }: TracedOrder, options: readonly string[]): Promise<Outcome> {
    const program = [process.execPath, this.#program, ...args];
    const words = ['-f', '-qq', ...paths.flatMap((path) => ['-P', path]), ...options, ...program];
    try {
      // One thread for files, so that their calls come in one order and are counted as one.
      const { stdout } = await run('strace', words, { env: { ...process.env, UV_THREADPOOL_SIZE: '1' } });
      const said = JSON.parse(stdout) as { done: boolean; code: string; message: string };
      return said.done ? { kind: 'done' } : { kind: 'failed', code: said.code, message: said.message };
    } catch (error) {
      if ((error as { signal?: string }).signal === 'SIGKILL') return { kind: 'killed' };
      throw new Error('The process under strace has failed.', { cause: error });
    }
  }
}
