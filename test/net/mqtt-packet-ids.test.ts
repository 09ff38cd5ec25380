import { describe, expect, it } from 'vitest';
import { MqttPacketIds } from '../../src/net/mqtt-packet-ids.js';

describe('MqttPacketIds', () => {
  it('starts at 1, goes round after 65,535 and passes over what is in use', () => {
    const ids = new MqttPacketIds();
    expect(ids.getLastAllocated()).toBeNull();
    const first = Array.from({ length: 65_535 }, () => ids.allocate());
    expect([first[0], first.at(-1)]).toEqual([1, 65_535]);
    expect(ids.allocate()).toBeNull();
    ids.deallocate(3);
    expect(ids.allocate()).toBe(3);
    ids.clear();
    expect(ids.allocate()).toBe(4);
    expect(ids.register(4)).toBe(false);
    expect(ids.register(9)).toBe(true);
  });
});
