import { describe, expect, it } from 'vitest';
import { runRegistrations } from './registrations-run.js';

describe('registrations in one process, over MQTT and HTTPS, by key and by certificate', () => {
  it('leave no socket, timer or other handle behind', async () => {
    const report = await runRegistrations(20, 4);
    expect(report.registrations).toBe(24);
    expect(report.resourcesAfter).toEqual(report.resourcesBefore);
  });
});
