import { describe, expect, it } from 'vitest';
import { runRegistrations } from './registrations-run.js';

const COUNT = Number(process.env.SOAK_REGISTRATIONS ?? 1_000);
const WARM_UP = 300;
const MEGABYTE = 1_000_000;
/** Far under a thousand times the least that a leaked socket or session would weigh. */
const MAX_HEAP_GROWTH_BYTES = 2 * MEGABYTE;
const MAX_RSS_GROWTH_BYTES = 16 * MEGABYTE;

const inMegabytes = (bytes: number): string => `${(bytes / MEGABYTE).toFixed(1)} MB`;

describe(`${COUNT} registrations in one process, over MQTT and HTTPS, by key and by certificate`, () => {
  it('leave no handle behind, and memory as it was', async () => {
    const { registrations, seconds, resourcesBefore, resourcesAfter, samples } = await runRegistrations(COUNT, WARM_UP);
    const tenth = samples[1];
    const last = samples.at(-1);
    if (tenth === undefined || last === undefined) throw new Error('no samples');
    console.log(`${registrations} registrations (${WARM_UP} of them to warm up) in ${seconds.toFixed(1)} s`);
    console.log(`active handles before: ${resourcesBefore.join(' ')}; after: ${resourcesAfter.join(' ')}`);
    console.log(`rss  ${samples.map(({ rssBytes }) => inMegabytes(rssBytes)).join('  ')}`);
    console.log(`heap ${samples.map(({ heapUsedBytes }) => inMegabytes(heapUsedBytes)).join('  ')}`);
    expect(resourcesAfter).toEqual(resourcesBefore);
    expect(last.heapUsedBytes - tenth.heapUsedBytes).toBeLessThan(MAX_HEAP_GROWTH_BYTES);
    expect(last.rssBytes - tenth.rssBytes).toBeLessThan(MAX_RSS_GROWTH_BYTES);
  });
});
