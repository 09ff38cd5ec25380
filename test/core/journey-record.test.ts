import { describe, expect, it } from 'vitest';
import type { Arrival } from '../../src/core/journey.js';
import { recordOf, sameRecord } from '../../src/core/journey-record.js';
import { type DeviceRecord, decodeRecord, encodeRecord } from '../../src/core/record.js';
import { CONFIG, RECORD, TWIN } from './journey-driver.js';
import { WALL_MS } from './registration-driver.js';

const ARRIVAL: Arrival = {
  result: RECORD.assignment,
  slot: 1,
  source: 'registered',
  twin: TWIN,
  transport: { dps: 'mqtt', hub: 'mqtt' },
};
const DAY_MS = 24 * 3_600_000;

describe('recordOf', () => {
  it('says what the device is, where it is, how it got there, and when', () => {
    const arrival = { ...ARRIVAL, transport: { dps: 'https', hub: 'mqtt-ws' } };
    expect(recordOf(CONFIG, arrival, WALL_MS)).toEqual({
      binding: {
        endpoint: 'dps.example',
        idScope: '0ne00111111',
        registrationId: 'dev-1',
        attestation: 'symmetricKey',
      },
      assignment: RECORD.assignment,
      slot: 1,
      dpsTransport: 'https',
      hubTransport: 'mqtt-ws',
      twin: TWIN,
      acceptedAtWallMs: WALL_MS,
    });
  });

  it.each([0, Number.NaN, -1e15, 1e15])('leaves out a date that cannot be right: %d', (wallMs) => {
    expect(recordOf(CONFIG, ARRIVAL, wallMs)).not.toHaveProperty('acceptedAtWallMs');
  });

  it('can be stored also where the clock tells fractions of a millisecond', () => {
    const record = recordOf(CONFIG, ARRIVAL, WALL_MS + 0.75);
    expect(decodeRecord(encodeRecord(record))).toMatchObject({ kind: 'record', record: { acceptedAtWallMs: WALL_MS } });
  });
});

describe('sameRecord', () => {
  const changed = (change: Partial<DeviceRecord>): DeviceRecord => ({ ...RECORD, ...change });
  const section = (version: number, properties: { readonly led: boolean }): DeviceRecord['twin']['desired'] => ({
    version,
    properties,
  });

  it.each<[string, DeviceRecord]>([
    ['itself', RECORD],
    ['members in another order', changed({ twin: { ...TWIN, desired: section(4, { led: true }) } })],
    ['the same day', changed({ acceptedAtWallMs: WALL_MS + DAY_MS - 1 })],
    ['no date', { ...recordOf(CONFIG, { ...ARRIVAL, slot: 0 }, 0) }],
  ])('is so for %s', (_what, next) => {
    expect(sameRecord(RECORD, next)).toBe(true);
  });

  it.each<[string, DeviceRecord]>([
    ['another hub', changed({ assignment: { ...RECORD.assignment, assignedHub: 'other.example' } })],
    ['another device id', changed({ assignment: { ...RECORD.assignment, deviceId: 'dev-2' } })],
    ['another assignment of the same', changed({ assignment: { ...RECORD.assignment, etag: 'new' } })],
    ['another slot', changed({ slot: 1 })],
    ['other keys', changed({ keyIds: ['a'] })],
    ['another way to DPS', changed({ dpsTransport: 'https' })],
    ['another way to the hub', changed({ hubTransport: 'mqtt-ws' })],
    ['a mark', changed({ movedTo: 'other.example' })],
    ['a newer twin', changed({ twin: { ...TWIN, desired: section(5, { led: true }) } })],
    ['another twin of the same version', changed({ twin: { ...TWIN, desired: section(4, { led: false }) } })],
    ['the next day', changed({ acceptedAtWallMs: WALL_MS + DAY_MS })],
    ['a day before', changed({ acceptedAtWallMs: WALL_MS - DAY_MS })],
  ])('is not so for %s', (_what, next) => {
    expect(sameRecord(RECORD, next)).toBe(false);
  });

  it('is not so when only now the date is known', () => {
    const { acceptedAtWallMs: _, ...undated } = RECORD;
    expect(sameRecord(undated, RECORD)).toBe(false);
  });
});
