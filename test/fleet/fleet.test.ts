import { describe, expect, it } from 'vitest';
import { type FleetResult, type FleetSettings, runFleet } from './fleet.js';
import { countUpTo, drawFleet } from './fleet-chart.js';
import { firstStartTable, restartTable } from './fleet-report.js';

/** The service's quotas and the fleet, both a two-hundredth. */
const SMALL: FleetSettings = {
  devices: 500,
  startSpreadMs: 0,
  registrationsPerMinute: 5,
  operationsPerMinute: 5,
  hubConnectionsPerSecond: 100,
  hasRecords: false,
  seed: 1,
};
const HUNDRED_MINUTES_MS = 100 * 60_000;

function lastAtMinutes({ arrivalsMs }: FleetResult): number {
  return (arrivalsMs.at(-1) ?? 0) / 60_000;
}

describe('500 devices that get power at the same moment', () => {
  const crowd = runFleet(SMALL);
  const spread = runFleet({ ...SMALL, startSpreadMs: HUNDRED_MINUTES_MS });

  it('all get to their hub, as fast as the quota lets them', () => {
    for (const result of [crowd, spread]) {
      expect(result.arrivalsMs).toHaveLength(500);
      expect(lastAtMinutes(result)).toBeGreaterThan(99);
    }
    expect(lastAtMinutes(crowd)).toBeLessThan(130);
  });

  it('spread over that time they hardly get in each other’s way', () => {
    expect(crowd.throttled).toBeGreaterThan(10 * spread.throttled);
    expect(spread.mostRequests).toBeLessThan(crowd.mostRequests);
  });

  it('are never let in faster than the quota', () => {
    for (let minute = 1; minute < 100; minute += 1) {
      expect(countUpTo(crowd.arrivalsMs, minute * 60_000)).toBeLessThanOrEqual(5 * (minute + 1));
    }
  });

  it('is the same again for the same seed, and another for another', () => {
    expect(runFleet(SMALL)).toEqual(crowd);
    expect(runFleet({ ...SMALL, seed: 2 }).arrivalsMs).not.toEqual(crowd.arrivalsMs);
  });

  it('makes a table and a picture', () => {
    expect(firstStartTable([crowd, spread]).split('\n')).toHaveLength(4);
    expect(drawFleet([crowd, spread]).match(/<polyline/g)).toHaveLength(4);
  });
});

describe('500 devices that know their hub', () => {
  const result = runFleet({ ...SMALL, hasRecords: true, hubConnectionsPerSecond: 10 });

  it('come back to it without one request to DPS, however busy it is', () => {
    expect(result.arrivalsMs).toHaveLength(500);
    expect(result.hubRefusals).toBeGreaterThan(0);
    expect(result.registerRequests + result.statusRequests).toBe(0);
    expect(restartTable([result])).toContain('| 10 a second | none |');
  });
});
