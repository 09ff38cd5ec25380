import { MISHAPS } from './disk-mishap.js';
import { seededRandom } from './seeded-random.js';
import type { StoreLife } from './store-life.js';

/** A power cut has the most outcomes. */
const KINDS = ['power cut', 'power cut', ...MISHAPS] as const;
const BEFORE = [undefined, 'a slot is damaged', 'a dead process left its lock', 'syncs are lies from now on'] as const;

/** A mishap of any kind at any call; the same for the same seed. */
export function randomLife(seed: number): StoreLife {
  const random = seededRandom(seed ^ 0x5eed);
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
  const before = pick(BEFORE);
  return {
    seed,
    // A disk that lies keeps what it was given before, not what it is given first.
    savesBefore: before === 'syncs are lies from now on' ? 2 + Math.floor(random() * 2) : Math.floor(random() * 4),
    doing: before === undefined && random() < 0.2 ? 'forget' : 'save',
    mishap: { kind: pick(KINDS), atCall: Math.floor(random() * 70) },
    before,
  };
}
