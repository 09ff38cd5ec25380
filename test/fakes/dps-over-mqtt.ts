import type { Scene, Stages } from '../contracts/transport-bench.js';
import { bytes, publishPacket, readPublish } from './mqtt-bytes.js';

const CONNACK = bytes('20 02 00 00');
const SUBACK = bytes('90 03 0001 01');
const STRAY_TOPIC = '$dps/registrations/res/500/?$rid=nobodys';

/** One connection that carries MQTT, read and written packet by packet. */
export interface PacketWire {
  readMqttPacket(): Promise<Buffer>;
  write(data: Uint8Array): Promise<void>;
}

/** Before each thing that the server sends. */
export const MQTT_STAGES: Stages = { opening: ['CONNACK'], exchange: ['SUBACK', 'PUBACK', 'reply'] };

/** Plays DPS until the client has gone. */
export async function playDps(wire: PacketWire, scene: Scene): Promise<void> {
  await wire.readMqttPacket();
  await scene.reach('CONNACK');
  await wire.write(CONNACK);
  await wire.readMqttPacket();
  await scene.reach('SUBACK');
  await wire.write(SUBACK);
  for (let packetId = 1; ; packetId += 1) {
    const request = await nextRequest(wire);
    const acknowledge = (): Promise<void> =>
      wire.write(Uint8Array.of(0x40, 0x02, request.packetId >> 8, request.packetId & 0xff));
    await scene.reach('PUBACK');
    if (!scene.isJumbled) await acknowledge();
    await scene.reach('reply');
    const isRegister = request.topic.startsWith('$dps/registrations/PUT/iotdps-register/?');
    const { status, body, retryAfter } = scene.answer(isRegister ? 'register' : 'operationStatus');
    const requestId = /\$rid=([^&]*)/.exec(request.topic)?.[1];
    const delay = retryAfter === undefined ? '' : `&retry-after=${encodeURIComponent(retryAfter)}`;
    const topic = `$dps/registrations/res/${status}/?$rid=${requestId}${delay}`;
    const stray = publishPacket({ topic: STRAY_TOPIC, packetId: 0x100 + packetId, payload: Buffer.from('stray') });
    if (scene.isJumbled) await wire.write(stray);
    await wire.write(publishPacket({ topic, packetId, payload: Buffer.from(body) }));
    if (scene.isJumbled) await wire.write(stray);
    if (scene.isJumbled) await acknowledge();
  }
}

/** The next PUBLISH of the client; what acknowledges ours is passed over. */
export async function nextRequest(wire: PacketWire): Promise<ReturnType<typeof readPublish>> {
  for (;;) {
    const packet = await wire.readMqttPacket();
    if (packet[0] === 0x32) return readPublish(packet);
  }
}
