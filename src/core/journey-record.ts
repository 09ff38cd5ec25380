import { isPlausibleWallMs } from './clock.js';
import type { Arrival, JourneyConfig } from './journey-state.js';
import type { DeviceRecord } from './record.js';
import { diffPatch } from './twin.js';

/** A hub that accepted the device again is written down once a day: flash wears out. */
const ACCEPTED_AGAIN_MS = 24 * 3_600_000;

/** What to remember of a hub that has just accepted the device. `wallMs` is written down only if it can be right. */
export function recordOf(config: JourneyConfig, arrival: Arrival, wallMs: number): DeviceRecord {
  const { endpoint, idScope, registrationId, attestation } = config;
  const { result, slot, twin, transport } = arrival;
  return {
    binding: { endpoint, idScope, registrationId, attestation },
    assignment: result,
    slot,
    dpsTransport: transport.dps,
    hubTransport: transport.hub,
    twin,
    ...(isPlausibleWallMs(wallMs) ? { acceptedAtWallMs: Math.floor(wallMs) } : {}),
  };
}

/** Whether saving `next` over `known` would change nothing that is worth a write. */
export function sameRecord(known: DeviceRecord, next: DeviceRecord): boolean {
  return (
    known.movedTo === next.movedTo &&
    known.slot === next.slot &&
    known.dpsTransport === next.dpsTransport &&
    known.hubTransport === next.hubTransport &&
    known.assignment.assignedHub === next.assignment.assignedHub &&
    known.assignment.deviceId === next.assignment.deviceId &&
    known.assignment.etag === next.assignment.etag &&
    isSameTwin(known, next) &&
    isSameDay(known.acceptedAtWallMs, next.acceptedAtWallMs)
  );
}

function isSameDay(knownMs: number | undefined, nextMs: number | undefined): boolean {
  return nextMs === undefined || (knownMs !== undefined && Math.abs(nextMs - knownMs) < ACCEPTED_AGAIN_MS);
}

function isSameTwin({ twin: known }: DeviceRecord, { twin: next }: DeviceRecord): boolean {
  return (['desired', 'reported'] as const).every(
    (section) =>
      known[section].version === next[section].version &&
      Object.keys(diffPatch(known[section].properties, next[section].properties)).length === 0,
  );
}
