import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { bundle, type Outcome, type TracedCall } from '../../durable/traced-save.js';
import { type Change, type ChangedStore, goOn, observe, prepare, STATES } from './change-plan.js';
import { keyFile } from './store-bench.js';

const run = promisify(execFile);

/** All that a change may touch; the token is that of `change-once.ts`. */
const FILES = [
  'store.a',
  'store.b',
  'store.new',
  'entry-a.a',
  'entry-a.b',
  'entry-a.new',
  'lock',
  `lock.${'ab'.repeat(8)}.new`,
];

/** Makes changes of a key store in processes of their own under strace, which tampers with one system call. */
export class ChangeTracer {
  readonly #folder: string = mkdtempSync(join(tmpdir(), 'traced-change-'));
  readonly #program: string = join(this.#folder, 'change-once.mjs');

  static async make(): Promise<ChangeTracer> {
    const tracer = new ChangeTracer();
    await bundle('../hsm/key-store/change-once.ts', tracer.#program);
    return tracer;
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /**
   * One case for each system call of a change. After each the store is as before or as after, as after if the change was
   * reported as done, and works as if nothing had been. Throws a sentence otherwise.
   *
   * @param tampering what strace does instead of the call: `signal=KILL`, `error=ENOSPC`.
   */
  async tamperWithEachCall(
    change: Change,
    tampering: string,
  ): Promise<{ readonly call: TracedCall; readonly outcome: Outcome }[]> {
    const cases: { call: TracedCall; outcome: Outcome }[] = [];
    for (const call of await this.#callsOf(change)) {
      const place = await this.#prepared(change);
      const outcome = await this.#changeWith(place, change, call, tampering);
      await check(place, change, outcome).catch((error: Error) => {
        throw new Error(`${JSON.stringify({ change, tampering, call, outcome })}: ${error.message}`, { cause: error });
      });
      cases.push({ call, outcome });
    }
    return cases;
  }

  async #prepared(change: Change): Promise<ChangedStore> {
    const folder = mkdtempSync(join(this.#folder, 'case-'));
    const place = {
      options: { directory: join(folder, 'store') },
      oldKeyFile: keyFile(this.#folder, 7),
      newKeyFile: keyFile(this.#folder, 9),
    };
    await prepare(place, change);
    return place;
  }

  async #callsOf(change: Change): Promise<TracedCall[]> {
    const log = join(this.#folder, 'calls.log');
    await this.#run(await this.#prepared(change), change, ['-o', log]);
    const counts = new Map<string, number>();
    return [...readFileSync(log, 'utf8').matchAll(/^\d+ +(\w+)\(/gm)].map(([, name = '']) => {
      const nth = (counts.get(name) ?? 0) + 1;
      counts.set(name, nth);
      return { name, nth };
    });
  }

  async #changeWith(
    place: ChangedStore,
    change: Change,
    { name, nth }: TracedCall,
    tampering: string,
  ): Promise<Outcome> {
    const log = join(this.#folder, 'tampered.log');
    const outcome = await this.#run(place, change, ['-o', log, '-e', `inject=${name}:${tampering}:when=${nth}`]);
    const isTampered = outcome.kind === 'killed' || readFileSync(log, 'utf8').includes('(INJECTED)');
    if (!isTampered) throw new Error(`${name} number ${nth} did not come to pass`);
    return outcome;
  }

  async #run(place: ChangedStore, change: Change, options: readonly string[]): Promise<Outcome> {
    const { directory } = place.options;
    const paths = [dirname(directory), directory, ...FILES.map((name) => join(directory, name))];
    const program = [process.execPath, this.#program, directory, place.oldKeyFile, place.newKeyFile, change];
    const words = ['-f', '-qq', ...paths.flatMap((path) => ['-P', path]), ...options, ...program];
    try {
      // One thread for files, so that their calls come in one order and are counted as one.
      const { stdout } = await run('strace', words, { env: { ...process.env, UV_THREADPOOL_SIZE: '1' } });
      const said = JSON.parse(stdout) as { done: boolean; code: string; message: string };
      return said.done ? { kind: 'done' } : { kind: 'failed', code: said.code, message: said.message };
    } catch (error) {
      if ((error as { signal?: string }).signal === 'SIGKILL') return { kind: 'killed' };
      throw new Error('The process that was to change the key store has failed.', { cause: error });
    }
  }
}

async function check(place: ChangedStore, change: Change, outcome: Outcome): Promise<void> {
  const [before, after] = STATES[change];
  const found = await observe(place);
  const allowed = outcome.kind === 'done' ? [after] : [before, after];
  if (!allowed.includes(found)) throw new Error(`the state is "${found}"`);
  await goOn(place);
  const left = readdirSync(place.options.directory).filter((name) => !/^(store|entry-a)\.[ab]$/.test(name));
  if (left.length > 0) throw new Error(`left behind ${left.join(', ')}`);
}
