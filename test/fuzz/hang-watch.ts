import { Worker } from 'node:worker_threads';

/** Far more than any case takes, on any machine: a case that lasts this long would last for ever. */
const HANG_AFTER_MS = 40_000;

/** Runs beside the thread that it watches, which could not say anything when it hangs: so it writes by itself. */
const WATCHER = `
const { workerData } = require('node:worker_threads');
const { writeSync } = require('node:fs');
const { shared, hangAfterMs, pid } = workerData;
const [CASE, SEED, TARGET] = [0, 1, 2];
let last = -1;
let since = Date.now();
setInterval(() => {
  const current = Atomics.load(shared, CASE);
  if (current !== last || current === 0) {
    last = current;
    since = Date.now();
  } else if (Date.now() - since > hangAfterMs) {
    const letters = shared.subarray(TARGET + 1, TARGET + 1 + shared[TARGET]);
    const seed = Atomics.load(shared, SEED) >>> 0;
    writeSync(2, "Fuzz target '" + String.fromCharCode(...letters) + "' hangs for seed " + seed + '\\n');
    process.kill(pid, 'SIGKILL');
  }
}, 1000).unref();
setInterval(() => {}, 0x7fffffff);
`;

const CASE = 0;
const SEED = 1;
const TARGET = 2;
const NAME_CHARACTERS = 100;

/** Names the seed of a case that never ends, and ends the process: nothing else could. */
export class HangWatch {
  readonly #shared: Int32Array = new Int32Array(new SharedArrayBuffer(4 * (TARGET + 1 + NAME_CHARACTERS)));
  readonly #worker: Worker;
  #cases = 0;
  #name = '';

  constructor(hangAfterMs: number = HANG_AFTER_MS) {
    this.#worker = new Worker(WATCHER, {
      eval: true,
      workerData: { shared: this.#shared, hangAfterMs, pid: process.pid },
    });
    this.#worker.unref();
  }

  begin(target: string, seed: number): void {
    if (target !== this.#name) {
      this.#name = target;
      const letters = target.slice(0, NAME_CHARACTERS);
      this.#shared[TARGET] = letters.length;
      for (let index = 0; index < letters.length; index += 1) {
        this.#shared[TARGET + 1 + index] = letters.charCodeAt(index);
      }
    }
    // 0 is idle.
    this.#cases = (this.#cases % 0x7fff_fff0) + 1;
    Atomics.store(this.#shared, SEED, seed | 0);
    Atomics.store(this.#shared, CASE, this.#cases);
  }

  /** Between runs. */
  idle(): void {
    Atomics.store(this.#shared, CASE, 0);
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}
