/** MQTT 3.1.1 written by hand from the specification, so that tests do not take the word of the codec under test. */

/** Pairs of hex digits with any spacing, and text in single quotes as UTF-8. */
export function bytes(spelling: string): Buffer {
  const parts = spelling.match(/'[^']*'|[0-9a-f]{2}/g) ?? [];
  return Buffer.concat(
    parts.map((part) => (part.startsWith("'") ? Buffer.from(part.slice(1, -1)) : Buffer.from(part, 'hex'))),
  );
}

export interface LiteralPublish {
  readonly topic: string;
  readonly packetId: number;
  readonly payload: Buffer;
}

/** Section 3.3: takes a PUBLISH of QoS 1 apart, as `Wire.readMqttPacket` returns it. */
export function readPublish(packet: Buffer): LiteralPublish {
  const lengthBytes = packet.subarray(1).findIndex((digit) => digit < 0x80) + 1;
  const body = packet.subarray(1 + lengthBytes);
  const topicEnd = 2 + body.readUInt16BE(0);
  return {
    topic: body.toString('utf8', 2, topicEnd),
    packetId: body.readUInt16BE(topicEnd),
    payload: body.subarray(topicEnd + 2),
  };
}

/** Section 3.3: a PUBLISH of QoS 1. */
export function publishPacket({ topic, packetId, payload }: LiteralPublish): Buffer {
  const body = Buffer.concat([textField(topic), Uint8Array.of(packetId >> 8, packetId & 0xff), payload]);
  return Buffer.concat([Uint8Array.of(0x32), remainingLength(body.length), body]);
}

/** Section 1.5.3: UTF-8 behind two bytes of length. */
function textField(text: string): Buffer {
  const utf8 = Buffer.from(text);
  return Buffer.concat([Uint8Array.of(utf8.length >> 8, utf8.length & 0xff), utf8]);
}

/** Section 2.2.3. */
function remainingLength(length: number): Buffer {
  const digits: number[] = [];
  for (let left = length; left > 0 || digits.length === 0; left = Math.floor(left / 128)) digits.push(left % 128);
  return Buffer.from(digits.map((digit, index) => (index < digits.length - 1 ? digit | 0x80 : digit)));
}
