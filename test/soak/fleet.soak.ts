import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type FleetResult, type FleetSettings, runFleet } from '../fleet/fleet.js';
import { drawFleet } from '../fleet/fleet-chart.js';
import { firstStartTable, putBetweenMarks, restartTable } from '../fleet/fleet-report.js';

const DEVICES = Number(process.env.SOAK_FLEET ?? 100_000);
/** Puts what came out into docs/. */
const UPDATES_DOCS = process.env.SOAK_FLEET_UPDATE === '1';
const DOCUMENT = new URL('../../docs/fleet.md', import.meta.url);
const PICTURE = new URL('../../docs/fleet.svg', import.meta.url);

/** DPS as documented; an S1 hub of one unit. */
const SERVICE: FleetSettings = {
  devices: DEVICES,
  startSpreadMs: 0,
  registrationsPerMinute: 1_000,
  operationsPerMinute: 1_000,
  hubConnectionsPerSecond: 100,
  hasRecords: false,
  seed: 1,
};

const minutes = (count: number): number => count * 60_000;
const FIRST_STARTS = [0, 30, 60, 100, 120].map((count) => ({ ...SERVICE, startSpreadMs: minutes(count) }));
const RESTARTS = [100, 120].flatMap((hubConnectionsPerSecond) =>
  [0, 20].map((count) => ({ ...SERVICE, hasRecords: true, hubConnectionsPerSecond, startSpreadMs: minutes(count) })),
);

describe(`${DEVICES} devices that get power at the same moment`, () => {
  it('all get to their hub', () => {
    const firstStarts = FIRST_STARTS.map(runAndTell);
    const restarts = RESTARTS.map(runAndTell);
    console.log(`${firstStartTable(firstStarts)}\n\n${restartTable(restarts)}`);
    for (const { arrivalsMs } of [...firstStarts, ...restarts]) expect(arrivalsMs).toHaveLength(DEVICES);
    if (!UPDATES_DOCS) return;
    const document = putBetweenMarks(readFileSync(DOCUMENT, 'utf8'), 'first start', firstStartTable(firstStarts));
    writeFileSync(DOCUMENT, putBetweenMarks(document, 'restart', restartTable(restarts)));
    writeFileSync(PICTURE, drawFleet(firstStarts));
  });
});

function runAndTell(settings: FleetSettings): FleetResult {
  const startedAtMs = performance.now();
  const result = runFleet(settings);
  const { startSpreadMs, hasRecords, hubConnectionsPerSecond } = settings;
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(0);
  console.log(
    `spread ${startSpreadMs / 60_000} min, hub ${hubConnectionsPerSecond}/s${hasRecords ? ', with records' : ''}: ${seconds} s`,
  );
  return result;
}
