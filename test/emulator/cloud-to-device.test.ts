import { describe, expect, it } from 'vitest';
import { CloudToDeviceQueue } from '../../src/emulator/cloud-to-device.js';

const world = (wallMs = 0) => ({ wallMs: () => wallMs, randomBytes: (size: number) => new Uint8Array(size) });

describe('a queue', () => {
  it('hands out each message once, in order, until it is released', () => {
    const queue = new CloudToDeviceQueue();
    queue.add('dev-1', { body: 'a' }, world());
    queue.add('dev-1', { body: 'b' }, world());
    expect([queue.take(0)?.sequence, queue.take(0)?.sequence, queue.take(0)]).toEqual([1, 2, undefined]);
    queue.complete(1);
    queue.release({ keepPacketIds: true });
    expect(queue.take(0)).toMatchObject({ sequence: 2, deliveryCount: 2 });
  });

  it('gives a message up after ten deliveries in vain', () => {
    const queue = new CloudToDeviceQueue();
    queue.add('dev-1', { body: 'a' }, world());
    for (let delivery = 1; delivery <= 10; delivery += 1) {
      expect(queue.take(0)?.deliveryCount).toBe(delivery);
      queue.release({ keepPacketIds: true });
    }
    expect(queue.take(0)).toBeUndefined();
    expect(queue.messages()).toEqual([]);
  });

  it('forgets packet ids with the session they belong to', () => {
    const queue = new CloudToDeviceQueue();
    queue.add('dev-1', { body: 'a' }, world());
    queue.take(0);
    queue.setPacketId(1, 7);
    queue.release({ keepPacketIds: true });
    expect(queue.take(0)?.packetId).toBe(7);
    queue.release({ keepPacketIds: false });
    expect(queue.take(0)).not.toHaveProperty('packetId');
  });

  it('forgets what expired, unless it is on its way', () => {
    const queue = new CloudToDeviceQueue();
    queue.add('dev-1', { body: 'a', timeToLiveMs: 10 }, world());
    queue.add('dev-1', { body: 'b', timeToLiveMs: 10 }, world());
    queue.take(0);
    expect(queue.take(10)).toBeUndefined();
    expect(queue.messages()).toHaveLength(1);
  });

  it('counts on after a restart', () => {
    const before = new CloudToDeviceQueue();
    before.add('dev-1', { body: 'a' }, world());
    const after = new CloudToDeviceQueue(before.messages());
    expect(after.add('dev-1', { body: 'b' }, world())?.sequence).toBe(2);
  });
});
