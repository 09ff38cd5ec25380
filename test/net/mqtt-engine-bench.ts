import { connect as connectTcp } from 'node:net';
import { onTestFinished } from 'vitest';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { type MqttConnection, type MqttDelivery, type MqttOpenOptions, openMqtt } from '../../src/net/mqtt-engine.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { bytes } from '../fakes/mqtt-bytes.js';
import { startTcpPeer, type Wire } from '../fakes/wire-peer.js';

export const never = new AbortController().signal;

export const CONNACK = bytes('20 02 00 00');

export interface Bench {
  readonly clock: ManualClock;
  readonly messages: MqttDelivery[];
  readonly wire: Wire;
  readonly opening: Promise<MqttConnection>;
}

/** A client on its way to a server that has done nothing yet. */
export async function bench(overrides: Partial<MqttOpenOptions> = {}, signal: CancelSignal = never): Promise<Bench> {
  const clock = new ManualClock();
  const messages: MqttDelivery[] = [];
  const peer = await startTcpPeer(async () => {});
  const socket = connectTcp({ port: peer.port, host: '127.0.0.1' });
  onTestFinished(() => {
    socket.destroy();
  });
  await new Promise((resolve) => socket.once('connect', resolve));
  const opening = openMqtt(
    {
      socket,
      peer: 'broker:8883',
      clientId: 'dev-1',
      username: 'u',
      clean: true,
      keepaliveSeconds: 180,
      clock,
      onMessage: (delivery) => messages.push(delivery),
      ...overrides,
    },
    signal,
  );
  opening.catch(() => {});
  return { clock, messages, wire: await peer.wire(0), opening };
}

/** The same, accepted. */
export async function connectedBench(overrides: Partial<MqttOpenOptions> = {}) {
  const started = await bench(overrides);
  await started.wire.readMqttPacket();
  await started.wire.write(CONNACK);
  return { ...started, connection: await started.opening };
}

export const publishOf = (text: string, qos: 0 | 1 = 1) => ({ topic: 't', payload: Buffer.from(text), qos });

/** Settles after what has been read from sockets so far has been handled. */
export async function roundTrip(connection: MqttConnection, wire: Wire): Promise<void> {
  const done = connection.publish(publishOf('sync'), never);
  const packet = await wire.readMqttPacket();
  await wire.write(Uint8Array.of(0x40, 0x02, packet.at(5) ?? 0, packet.at(6) ?? 0));
  await done;
}
