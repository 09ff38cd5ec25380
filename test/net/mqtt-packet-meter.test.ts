import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MqttPacketMeter } from '../../src/net/mqtt-packet-meter.js';
import { bytes } from '../fakes/mqtt-bytes.js';

/** A packet by its remaining length; the length in the four digits of MQTT 3.1.1, section 2.2.3, or fewer. */
function packetOf(bodyBytes: number): Uint8Array {
  const digits: number[] = [];
  for (let left = bodyBytes; left > 0 || digits.length === 0; left = Math.floor(left / 128)) digits.push(left % 128);
  const length = digits.map((digit, index) => (index < digits.length - 1 ? digit | 0x80 : digit));
  return Buffer.concat([Uint8Array.of(0x30, ...length), Buffer.alloc(bodyBytes, 0xff)]);
}

describe('MqttPacketMeter', () => {
  it('knows a packet that is too large by its header', () => {
    const meter = new MqttPacketMeter(1000);
    expect(meter.exceeds(packetOf(1000))).toBe(false);
    // 200 MB.
    expect(meter.exceeds(bytes('30 80 84 af'))).toBe(false);
    expect(meter.exceeds(bytes('5f'))).toBe(true);
    expect(new MqttPacketMeter(1000).exceeds(packetOf(1001).subarray(0, 3))).toBe(true);
    // Four digits that promise a fifth: no length of MQTT, and already too much.
    expect(new MqttPacketMeter(1000).exceeds(bytes('30 ff ff ff ff'))).toBe(true);
  });

  it('never takes a body, or four digits at the most, for a header', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(20_000), { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 9000 })),
        (sizes, cuts) => {
          const meter = new MqttPacketMeter(20_000);
          const stream = Buffer.concat(sizes.map(packetOf));
          for (let offset = 0, index = 0; offset < stream.length; index += 1) {
            const end = offset + (cuts[index % cuts.length] ?? stream.length);
            expect(meter.exceeds(stream.subarray(offset, end))).toBe(false);
            offset = end;
          }
          expect(meter.exceeds(packetOf(20_001))).toBe(true);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('finds the large one behind small ones in one chunk', () => {
    const chunk = Buffer.concat([packetOf(0), packetOf(3), packetOf(129), packetOf(5000)]);
    expect(new MqttPacketMeter(4999).exceeds(chunk)).toBe(true);
    expect(new MqttPacketMeter(5000).exceeds(chunk)).toBe(false);
  });
});
