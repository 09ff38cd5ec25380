import { createHash } from 'node:crypto';
import type { AllocationPolicy } from './enrollment.js';

/** A hub as far as allocation is concerned. */
export interface AllocationCandidate {
  readonly name: string;
  /** 1..1000 */
  readonly allocationWeight: number;
}

/**
 * Chooses the hub for a device, the same one every time. `geoLatency` is answered by the weighted hash too: every hub
 * of the emulator is equally near, and that is how the service settles ties.
 */
export function chooseHub<T extends AllocationCandidate>(
  policy: AllocationPolicy,
  candidates: readonly T[],
  registrationId: string,
): T | undefined {
  if (policy === 'static') return candidates[0];
  const scored = candidates.map((candidate) => ({ candidate, score: scoreOf(candidate, registrationId) }));
  return scored.reduce<(typeof scored)[number] | undefined>(
    (best, next) => (best === undefined || next.score > best.score ? next : best),
    undefined,
  )?.candidate;
}

/**
 * Weighted rendezvous hashing: every hub draws a number that depends on it and the device alone, so adding a hub moves
 * only the devices that it wins.
 */
function scoreOf(candidate: AllocationCandidate, registrationId: string): number {
  const digest = createHash('sha256').update(`${candidate.name}\n${registrationId.toLowerCase()}`, 'utf8').digest();
  const draw = (digest.readUIntBE(0, 6) + 1) / (2 ** 48 + 1);
  return -candidate.allocationWeight / Math.log(draw);
}
