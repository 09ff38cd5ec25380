import { encodeRecord } from '../../src/core/record.js';
import type { LoadedRecord } from '../../src/core/store.js';
import { type FileRecordStore, fileRecordStore } from '../../src/state/file-store.js';
import { anyDisk, type Mishap, meetMishap } from './disk-mishap.js';
import { FakeProcesses } from './fake-processes.js';
import { sampleRecord } from './sample-record.js';
import { seededRandom } from './seeded-random.js';
import type { SimulatedDisk } from './simulated-disk.js';

export interface StoreLife {
  readonly seed: number;
  /** Records saved before, one after the other. */
  readonly savesBefore: number;
  readonly doing: 'save' | 'forget';
  /** To the save, or to forgetting the record. */
  readonly mishap: Mishap;
  /** Something that was wrong with the disk before. */
  readonly before?: 'a slot is damaged' | 'a dead process left its lock' | 'syncs are lies from now on' | undefined;
}

const DIRECTORY = '/var/lib/device';
const NEVER = new AbortController().signal;

/**
 * Lives through it, and throws a sentence when the record is wrong or gone: afterwards it must be the old one or the new
 * one, the new one if the save was reported as done, and the store must work as if nothing had been. Gives back how many
 * calls the save has made of the disk.
 */
export async function liveThrough(life: StoreLife): Promise<number> {
  const random = seededRandom(life.seed);
  const disk = anyDisk(random);
  const processes = new FakeProcesses();
  const sizes = [0, 1, 2, 3, 4, 5, 6].map(() => Math.floor(random() ** 3 * 6000));
  const saved = (number: number): string => textOf(number, sizes[number] ?? 0);

  const first = openStore(disk, processes);
  for (let number = 1; number <= life.savesBefore; number += 1) {
    await first.store.save(sampleRecord(number, sizes[number]), NEVER);
  }
  const isLockLeft = life.before === 'a dead process left its lock' && life.savesBefore > 0;
  if (!isLockLeft) await first.store.close();
  processes.kill(first.pid);
  const known = [life.savesBefore];
  if (life.before === 'a slot is damaged' && life.savesBefore > 1)
    known.push(damageOneSlot(disk, life.savesBefore, random));
  if (life.before === 'syncs are lies from now on') disk.syncLies = true;

  const next = life.savesBefore + 1;
  const second = openStore(disk, processes);
  const { outcome, calls } = await meetMishap(disk, life.mishap, /^ERR_DPS_STORE_/, () =>
    life.doing === 'save' ? second.store.save(sampleRecord(next, sizes[next]), NEVER) : second.store.forget(NEVER),
  );
  if (life.mishap.kind !== 'power cut' && life.mishap.kind !== 'kill') await second.store.close();
  processes.kill(second.pid);
  if (life.mishap.kind === 'power cut') disk.cutPower(random);
  disk.syncLies = false;

  const allowed = (outcome === 'done' && life.before !== 'syncs are lies from now on' ? [] : known).map((number) =>
    number === 0 ? 'none' : saved(number),
  );
  allowed.push(life.doing === 'save' ? saved(next) : 'none');
  const third = openStore(disk, processes);
  check(describe(await third.store.load(NEVER)), allowed, life, 'after the mishap');
  const last = sampleRecord(6, sizes[6]);
  await third.store.save(last, NEVER);
  check(describe(await third.store.load(NEVER)), [saved(6)], life, 'after the next save');
  await third.store.close();
  const left = disk.paths().filter((path) => !/\/device\.[ab]$/.test(path));
  if (left.length > 0) throw new Error(`${JSON.stringify(life)}: left behind ${left.join(', ')}`);
  return calls;
}

function openStore(disk: SimulatedDisk, processes: FakeProcesses): { store: FileRecordStore; pid: number } {
  const table = processes.start();
  return { store: fileRecordStore({ directory: DIRECTORY, io: disk, processes: table }), pid: table.pid };
}

/** Flips a bit in one of the slots; gives back the number of the record that is the newest now. */
function damageOneSlot(disk: SimulatedDisk, newest: number, random: () => number): number {
  // The first save goes to slot a, the second to b, and so on.
  const isNewest = random() < 0.5;
  const letter = (newest % 2 === 1) === isNewest ? 'a' : 'b';
  const path = `${DIRECTORY}/device.${letter}`;
  const bytes = disk.bytesOf(path) ?? new Uint8Array(0);
  const place = Math.floor(random() * bytes.length);
  bytes[place] = (bytes[place] ?? 0) ^ (1 << Math.floor(random() * 8));
  disk.put(path, { bytes });
  return isNewest ? newest - 1 : newest;
}

function describe(loaded: LoadedRecord): string {
  if (loaded.kind === 'record') return Buffer.from(encodeRecord(loaded.record)).toString();
  return loaded.kind === 'none' ? 'none' : `damaged: ${loaded.what}`;
}

function textOf(number: number, size: number): string {
  return Buffer.from(encodeRecord(sampleRecord(number, size))).toString();
}

function check(found: string, allowed: readonly string[], life: StoreLife, when: string): void {
  if (allowed.includes(found)) return;
  throw new Error(`${JSON.stringify(life)}: ${when} the record is ${found.slice(0, 300)}`);
}
