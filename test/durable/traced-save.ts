import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';

const run = promisify(execFile);

/** One system call of a save: the `nth` of that name, from 1. */
export interface TracedCall {
  readonly name: string;
  readonly nth: number;
}

export type Outcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string }
  | { readonly kind: 'killed' };

export interface SaveOrder {
  readonly directory: string;
  readonly doing: 'save' | 'forget';
  readonly number: number;
}

/** Makes a program out of one of the files beside this one. */
export async function bundle(name: string, outfile: string): Promise<void> {
  const entry = fileURLToPath(new URL(name, import.meta.url));
  await build({ entryPoints: [entry], outfile, bundle: true, platform: 'node', format: 'esm' });
}

/** Runs saves as processes of their own under strace, which tampers with one system call. */
export class SaveTracer {
  readonly #folder: string = mkdtempSync(join(tmpdir(), 'traced-save-'));
  readonly #program: string = join(this.#folder, 'save-once.mjs');

  static async make(): Promise<SaveTracer> {
    const tracer = new SaveTracer();
    await bundle('save-once.ts', tracer.#program);
    return tracer;
  }

  /** A new folder for one case; what is to hold the record is not made. */
  newFolder(): string {
    return mkdtempSync(join(this.#folder, 'case-'));
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** The calls that a save makes on its files and folders, in order. */
  async callsOf(order: SaveOrder): Promise<TracedCall[]> {
    const log = join(this.#folder, 'calls.log');
    await this.#run(order, ['-o', log]);
    const counts = new Map<string, number>();
    return [...readFileSync(log, 'utf8').matchAll(/^\d+ +(\w+)\(/gm)].map(([, name = '']) => {
      const nth = (counts.get(name) ?? 0) + 1;
      counts.set(name, nth);
      return { name, nth };
    });
  }

  /** `tampering` is what strace does instead of the call: `signal=KILL`, `error=ENOSPC`. */
  async saveWith(order: SaveOrder, { name, nth }: TracedCall, tampering: string): Promise<Outcome> {
    const log = join(this.#folder, 'tampered.log');
    const outcome = await this.#run(order, ['-o', log, '-e', `inject=${name}:${tampering}:when=${nth}`]);
    const isTampered = outcome.kind === 'killed' || readFileSync(log, 'utf8').includes('(INJECTED)');
    if (!isTampered) throw new Error(`${name} number ${nth} did not come to pass`);
    return outcome;
  }

  #run(order: SaveOrder, options: readonly string[]): Promise<Outcome> {
    const paths = pathsOf(order.directory).flatMap((path) => ['-P', path]);
    const words = ['-f', '-qq', ...paths, ...options, process.execPath, ...this.#wordsOf(order)];
    // One thread for files, so that their calls come in one order and are counted as one.
    return outcomeOf(run('strace', words, { env: { ...process.env, UV_THREADPOOL_SIZE: '1' } }));
  }

  #wordsOf({ directory, doing, number }: SaveOrder): string[] {
    return [this.#program, directory, doing, String(number)];
  }
}

/** All that a store may touch; its token is that of `save-once.ts`. */
function pathsOf(directory: string): string[] {
  const draft = `device.lock.${'ab'.repeat(8)}.new`;
  const names = ['device.a', 'device.b', 'device.new', 'device.lock', draft];
  return [dirname(directory), directory, ...names.map((name) => join(directory, name))];
}

async function outcomeOf(running: Promise<{ readonly stdout: string }>): Promise<Outcome> {
  try {
    const { stdout } = await running;
    const said = JSON.parse(stdout) as { done: boolean; code: string; message: string };
    return said.done ? { kind: 'done' } : { kind: 'failed', code: said.code, message: said.message };
  } catch (error) {
    if ((error as { signal?: string }).signal === 'SIGKILL') return { kind: 'killed' };
    throw new Error(`The process that was to save has failed (${basename(process.execPath)}).`, { cause: error });
  }
}
