import { withoutRemarks } from '../../../hsm/key-store/store-header.js';
import { decodeSlot } from '../../../src/durable/slot.js';
import { anyDisk, MISHAPS, type Mishap, meetMishap } from '../../durable/disk-mishap.js';
import { FakeProcesses } from '../../durable/fake-processes.js';
import { seededRandom } from '../../durable/seeded-random.js';
import type { SimulatedDisk } from '../../durable/simulated-disk.js';
import { CHANGES, type Change, type ChangedStore, goOn, observe, perform, prepare, STATES } from './change-plan.js';

export interface StoreLife {
  readonly seed: number;
  readonly change: Change;
  readonly mishap: Mishap;
}

/** A mishap of any kind at any call of any change; the same for the same seed. */
export function randomLife(seed: number): StoreLife {
  const random = seededRandom(seed ^ 0x5eed);
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
  return { seed, change: pick(CHANGES), mishap: { kind: pick(MISHAPS), atCall: Math.floor(random() * 110) } };
}

const DIRECTORY = '/var/lib/keys';
/** A disk that cannot read one of two slots makes do with the other: then a change may find nothing to change. */
const TYPED = /^ERR_DPS_(STORE_|HSM_(STORE|ENTRY|OPERATION))/;

/**
 * Lives through it, and throws a sentence when the store is neither as before nor as after the change, or does not work
 * as if nothing had been. Gives back how many calls the change has made of the disk.
 *
 * @param keyFiles the two files that may seal the store, on the real disk.
 */
export async function liveThrough(life: StoreLife, keyFiles: Omit<ChangedStore, 'options'>): Promise<number> {
  const random = seededRandom(life.seed);
  const disk = anyDisk(random);
  const processes = new FakeProcesses();
  const start = (): { place: ChangedStore; end: () => void } => {
    const table = processes.start();
    const place = { ...keyFiles, options: { directory: DIRECTORY, io: disk, processes: table } };
    return { place, end: () => processes.kill(table.pid) };
  };

  const first = start();
  await prepare(first.place, life.change);
  first.end();
  const second = start();
  const { outcome, calls } = await meetMishap(disk, life.mishap, TYPED, () => perform(second.place, life.change));
  second.end();
  if (life.mishap.kind === 'power cut') disk.cutPower(random);

  const third = start();
  const [before, after] = STATES[life.change];
  const found = await explained(life, () => observe(third.place));
  const allowed = outcome === 'done' ? [after] : [before, after];
  if (!allowed.includes(found)) throw new Error(`${JSON.stringify(life)}: ${outcome}, and the state is "${found}"`);
  await explained(life, () => goOn(third.place));
  checkLeftovers(disk, life);
  return calls;
}

async function explained<T>(life: StoreLife, work: () => Promise<T>): Promise<T> {
  return work().catch((error: unknown) => {
    throw new Error(`${JSON.stringify(life)}: ${String(error)}`, { cause: error });
  });
}

/** After the next change nothing is left of the mishap, and no slot of the header is sealed in another way than the other. */
function checkLeftovers(disk: SimulatedDisk, life: StoreLife): void {
  const left = disk.paths().filter((path) => !/\/(store|entry-a)\.[ab]$/.test(path));
  if (left.length > 0) throw new Error(`${JSON.stringify(life)}: left behind ${left.join(', ')}`);
  const headers = ['a', 'b'].map((letter) => {
    const decoded = decodeSlot('store', disk.bytesOf(`${DIRECTORY}/store.${letter}`) ?? new Uint8Array(0));
    return decoded.kind === 'slot' ? Buffer.from(withoutRemarks(decoded.slot.bytes)).toString() : decoded.what;
  });
  if (headers[0] !== headers[1]) throw new Error(`${JSON.stringify(life)}: the header's slots differ`);
}
