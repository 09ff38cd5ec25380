import { type FileLock, lockFile } from '../../src/durable/file-lock.js';
import type { ProcessTable } from '../../src/durable/process-table.js';
import { isDpsError } from '../../src/errors.js';
import { FakeProcesses } from './fake-processes.js';
import { claimPath, EMPTY_TOKEN } from './lock-claims.js';
import { seededRandom } from './seeded-random.js';
import { SimulatedDisk, systemError } from './simulated-disk.js';

const LOCK = '/var/lib/device/device.lock';

/** The second is what a failed rename ends in. */
const EXPECTED: ReadonlySet<string> = new Set(['ERR_DPS_STORE_LOCKED', 'ERR_DPS_STORE_UNWRITABLE']);

/** Far more than any fight takes. */
const MOST_CALLS = 20_000;

/** What came of it. */
export interface RaceResult {
  readonly taken: number;
  readonly refused: number;
  readonly killed: number;
}

/**
 * Some processes fight for a lock, over and over, whose files a dead owner and dead claimants may have left. Their calls
 * of the disk are put in an order that the seed decides, and it decides which of them are killed, and where. Throws when
 * two of them own the lock at once, or nobody gets it although nobody has it.
 */
export async function raceForLock(seed: number): Promise<RaceResult> {
  const random = seededRandom(seed);
  const disk = new SimulatedDisk('/var', '/var/lib', '/var/lib/device');
  const race = new Race(seed, random, disk);
  race.plantLeftovers();
  const contenders = 2 + Math.floor(random() * 3);
  for (let index = 0; index < contenders; index += 1) race.enter();
  race.start();
  await race.over;
  return race.finish();
}

class Race {
  readonly #seed: number;
  readonly #random: () => number;
  readonly #disk: SimulatedDisk;
  readonly #processes: FakeProcesses = new FakeProcesses();
  /** Those that wait for their next call of the disk, by process. */
  readonly #waiting: Map<number, () => void> = new Map();
  readonly #running: Set<number> = new Set();
  readonly #tally = { taken: 0, refused: 0, killed: 0 };
  #isStarted = false;
  #owner: number | undefined;
  #problem: string | undefined;
  #end: () => void = () => undefined;
  readonly over: Promise<void> = new Promise((resolve) => {
    this.#end = resolve;
  });

  constructor(seed: number, random: () => number, disk: SimulatedDisk) {
    this.#seed = seed;
    this.#random = random;
    this.#disk = disk;
  }

  /**
   * A lock whose owner is dead, the claim of a dead claimant on it, and so on; of few tokens, so that they come again, and
   * some emptied by a power cut.
   */
  plantLeftovers(): void {
    const length = Math.floor(this.#random() * 5);
    const tokens: string[] = [];
    for (let index = 0; index < length; index += 1) {
      const path = index === 0 ? LOCK : claimPath(LOCK, tokens);
      tokens.push(this.#plantLeftover(path));
      // As it would be called if a claim went by the token alone.
      if (this.#random() < 0.5) this.#plantLeftover(claimPath(LOCK, tokens.slice(-1)));
    }
  }

  /** The token of what is there then. */
  #plantLeftover(path: string): string {
    const pid = 1 + Math.floor(this.#random() * 3);
    const token = String(pid).repeat(16);
    const owner = { token, pid, startTicks: 1, bootId: 'boot-1', pidNamespace: 'pid:[1]' };
    const isEmptied = this.#random() < 0.3;
    this.#disk.put(path, { bytes: Buffer.from(isEmptied ? '' : JSON.stringify(owner)) });
    return isEmptied ? EMPTY_TOKEN : token;
  }

  enter(): void {
    const process = this.#processes.start();
    this.#running.add(process.pid);
    const io = Object.create(this.#disk) as SimulatedDisk;
    for (const name of ['open', 'mkdir', 'rename', 'link', 'unlink', 'list'] as const) {
      const call = this.#disk[name].bind(this.#disk) as (...parts: unknown[]) => Promise<unknown>;
      Object.defineProperty(io, name, {
        value: async (...parts: unknown[]) => {
          await this.#turn(process.pid);
          if (name === 'rename' && this.#random() < 0.2) throw systemError('EIO');
          return call(...parts);
        },
      });
    }
    void this.#compete(process, io, 1 + Math.floor(this.#random() * 3));
  }

  start(): void {
    this.#isStarted = true;
    this.#disk.onCall = (_, index) => {
      if (index > MOST_CALLS) throw new Error('the processes go round and round');
    };
    this.#next();
  }

  /** The dead have left the lock free for one who comes later. */
  async finish(): Promise<RaceResult> {
    if (this.#problem !== undefined) throw new Error(`seed ${this.#seed}: ${this.#problem}`);
    const last = await lockFile(LOCK, { io: this.#disk, processes: this.#processes.start() });
    const left = this.#disk.paths();
    if (left.length > 1) throw new Error(`seed ${this.#seed}: left behind ${left.join(', ')}`);
    await last.release();
    return this.#tally;
  }

  async #compete(process: ProcessTable & { readonly pid: number }, io: SimulatedDisk, rounds: number): Promise<void> {
    for (let round = 0; round < rounds; round += 1) {
      const lock = await lockFile(LOCK, { io, processes: process }).catch((error: unknown) => this.#refused(error));
      if (lock !== undefined) await this.#use(process.pid, lock);
    }
    this.#leave(process.pid);
  }

  async #use(pid: number, lock: FileLock): Promise<void> {
    this.#tally.taken += 1;
    if (this.#owner !== undefined) this.#problem = `process ${pid} got the lock of process ${this.#owner}`;
    this.#owner = pid;
    for (let turn = 0; turn < 3; turn += 1) await this.#turn(pid);
    this.#owner = undefined;
    await lock.release();
  }

  #refused(error: unknown): undefined {
    if (!isDpsError(error) || !EXPECTED.has(error.code)) this.#problem = String(error);
    this.#tally.refused += 1;
  }

  #turn(pid: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.set(pid, resolve);
      this.#next();
    });
  }

  #leave(pid: number): void {
    this.#running.delete(pid);
    this.#next();
  }

  /** When all wait, one of them goes on; or is killed where it stands. */
  #next(): void {
    if (!this.#isStarted) return;
    if (this.#running.size === 0) this.#end();
    if (this.#running.size === 0 || this.#waiting.size < this.#running.size) return;
    const pids = [...this.#waiting.keys()];
    const pid = pids[Math.floor(this.#random() * pids.length)] ?? 0;
    const goOn = this.#waiting.get(pid);
    this.#waiting.delete(pid);
    if (this.#random() > 0.05) {
      goOn?.();
      return;
    }
    this.#tally.killed += 1;
    if (this.#owner === pid) this.#owner = undefined;
    this.#processes.kill(pid);
    if (this.#random() < 0.7) this.enter();
    this.#leave(pid);
  }
}
