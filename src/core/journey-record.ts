import { isPlausibleWallMs } from './clock.js';
import type { Arrival, JourneyConfig } from './journey-state.js';
import type { DeviceRecord } from './record.js';
import { diffPatch } from './twin.js';

/** A hub that accepted the device again is written down once a day: flash wears out. */
const ACCEPTED_AGAIN_MS = 24 * 3_600_000;

/** What to remember of a hub that has just accepted the device. `wallMs` is written down only if it can be right. */
export function recordOf(config: JourneyConfig, arrival: Arrival, wallMs: number): DeviceRecord {
  const { endpoint, idScope, registrationId, attestation, keyIds } = config;
  const { result, slot, twin, transport } = arrival;
  return {
    binding: { endpoint, idScope, registrationId, attestation },
    assignment: result,
    slot,
    ...(keyIds === undefined ? {} : { keyIds }),
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
    isSameList(known.keyIds, next.keyIds) &&
    known.dpsTransport === next.dpsTransport &&
    known.hubTransport === next.hubTransport &&
    known.assignment.assignedHub === next.assignment.assignedHub &&
    known.assignment.deviceId === next.assignment.deviceId &&
    known.assignment.etag === next.assignment.etag &&
    isSameTwin(known, next) &&
    isSameDay(known.acceptedAtWallMs, next.acceptedAtWallMs)
  );
}

/**
 * The slot that now has the credential which the hub accepted then: it moves when a key is staged before it, committed or
 * dropped. Where nothing tells, the slot it had, while there are so many.
 */
export function acceptedSlot({ slots, keyIds }: JourneyConfig, record: DeviceRecord): number {
  const accepted = record.keyIds?.[record.slot];
  const moved = accepted === undefined ? -1 : (keyIds ?? []).indexOf(accepted);
  if (moved >= 0) return moved;
  return record.slot < slots ? record.slot : 0;
}

/** A key was staged since the record was written: the hub in it cannot know that key before DPS has told it. */
export function hasNewStagedKey({ keyIds, stagedSlot }: JourneyConfig, record: DeviceRecord): boolean {
  const staged = stagedSlot === undefined ? undefined : keyIds?.[stagedSlot];
  return staged !== undefined && record.keyIds !== undefined && !record.keyIds.includes(staged);
}

function isSameList(known: readonly string[] | undefined, next: readonly string[] | undefined): boolean {
  return known?.join('\n') === next?.join('\n');
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
