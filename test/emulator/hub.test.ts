import { describe, expect, it } from 'vitest';
import { Hub } from '../../src/emulator/hub.js';
import { ManualClock } from '../fakes/manual-clock.js';

function makeHub(): Hub {
  const clock = new ManualClock();
  const world = { wallMs: () => clock.wallMs(), randomBytes: (size: number) => new Uint8Array(size) };
  const rules = { hostName: undefined, allocationWeight: 1, takesAllocations: true, onChange: () => {} };
  return new Hub({ name: 'hub-1', world, clock, ...rules });
}

describe('telemetry', () => {
  it('is kept for a thousand messages, but not for any size of them', () => {
    const hub = makeHub();
    for (let index = 0; index < 1500; index += 1) hub.receive('dev-1', Uint8Array.of(index & 0xff), {});
    expect(hub.telemetry()).toHaveLength(1000);
    const large = new Uint8Array(256 * 1024);
    for (let index = 0; index < 100; index += 1) hub.receive('dev-2', large, {});
    expect(hub.telemetry('dev-1')).toEqual([]);
    expect(hub.telemetry('dev-2')).toHaveLength(64);
  });

  it('holds on to no more than its own bytes', () => {
    const hub = makeHub();
    hub.receive('dev-1', Buffer.alloc(65_536).subarray(0, 3), {});
    expect(hub.telemetry()[0]?.body.buffer.byteLength).toBe(3);
  });
});
