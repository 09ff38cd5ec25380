/**
 * Microsoft's `azure-iot-device` with its MQTT transports; see `device-client-suite.ts`. What is told here beside the suite
 * has to do with what MQTT keeps over a cut: subscriptions, and messages without PUBACK.
 */
import { describe, expect, it } from 'vitest';
import type { Emulator } from '../../src/emulator/index.js';
import { ClientProcess } from './client-process.js';
import {
  describeDeviceClient,
  describeExchange,
  expectRefusal,
  type HubWire,
  happens,
  makeCertificate,
  sequenceNow,
  subscribed,
  withDevice,
  withOpenClient,
} from './device-client-suite.js';
import { startBench } from './emulator-bench.js';

const TWIN_ANSWERS = '$iothub/twin/res/#';
const DESIRED_PUSHES = '$iothub/twin/PATCH/properties/desired/#';
const MESSAGES = 'devices/dev-1/messages/devicebound/#';
const MQTT: HubWire = {
  protocol: 'mqtt',
  dpsEndpoint: (emulator) => emulator.endpoints.dps.mqtt,
  topics: { desired: DESIRED_PUSHES, methods: '$iothub/methods/POST/#' },
  goodbye: 'disconnect',
  refusedPatch: { message: expect.stringContaining('"a.b"') },
  refusal: { error: { message: expect.stringContaining('Connection refused: Not authorized') }, entry: { status: 5 } },
};
const MQTT_WS: HubWire = { ...MQTT, protocol: 'mqtt-ws', dpsEndpoint: (emulator) => emulator.endpoints.dps.https };

describeExchange(MQTT);
describeExchange(MQTT_WS);
describeDeviceClient(MQTT);

describe('their device client', () => {
  it('gets what is desired, at once and whenever it changes', async () => {
    const { emulator, client } = await withOpenClient(MQTT);
    await watchDesired(emulator, client);
    expect(await client.next('desired')).toEqual({ interval: 60, $version: 1 });
    emulator.hub().patchDesired('dev-1', { interval: null, led: { on: true } });
    expect(await client.next('desired')).toEqual({ interval: null, led: { on: true }, $version: 2 });
    emulator.hub().replaceDesired('dev-1', { fan: 3 });
    expect(await client.next('desired')).toEqual({ led: null, fan: 3, $version: 3 });
    expect(await client.call('getTwin')).toMatchObject({ desired: { fan: 3, $version: 3 } });
  });

  it('comes back after a cut, and still gets what is desired without subscribing again', async () => {
    const { emulator, client } = await withOpenClient(MQTT);
    await watchDesired(emulator, client);
    await client.next('desired');
    const cut = sequenceNow(emulator);
    emulator.hub().disconnectDevice('dev-1');
    await emulator.trace.waitFor({ event: 'connack', status: 0 }, cut);
    emulator.hub().patchDesired('dev-1', { interval: 30 });
    expect(await client.next('desired')).toEqual({ interval: 30, $version: 2 });
    // Answers to twin requests are still subscribed to as well.
    expect(await client.call('getTwin')).toMatchObject({ desired: { interval: 30, $version: 2 } });
    expect(emulator.trace.count({ event: 'subscribe' })).toBe(2);
    expect(client.untaken('disconnect')).toEqual([]);
  });

  it('gets after a cut what was sent meanwhile, once', async () => {
    const { emulator, client } = await withOpenClient(MQTT);
    const hub = emulator.hub();
    await client.call('watchMessages');
    await subscribed(emulator, MESSAGES);
    const cut = sequenceNow(emulator);
    hub.disconnectDevice('dev-1');
    await emulator.trace.waitFor({ event: 'close' }, cut);
    hub.sendC2D('dev-1', { body: 'meanwhile' });
    expect(await client.next('message')).toMatchObject({ body: 'meanwhile' });
    await happens(emulator, { event: 'cloudToDeviceDone' }, 1);
    expect(emulator.trace.count({ event: 'cloudToDevice' })).toBe(1);
  });

  it('stays deaf to desired properties once the hub has lost its session (their issue 1255)', async () => {
    const { emulator, client } = await withOpenClient(MQTT);
    await watchDesired(emulator, client);
    await client.next('desired');
    emulator.faults.add({ at: 'hub.connack', times: 1, action: { kind: 'loseSession' } });
    const cut = sequenceNow(emulator);
    emulator.hub().disconnectDevice('dev-1');
    await emulator.trace.waitFor({ event: 'connack', status: 0 }, cut);
    // A round trip later it has not subscribed again, nor will it.
    await client.call('sendEvent', { body: '1', messageId: '1', properties: {} });
    emulator.hub().patchDesired('dev-1', { interval: 30 });
    expect(emulator.trace.count({ event: 'subscribe' })).toBe(2);
    expect(emulator.trace.count({ event: 'desiredPush' })).toBe(0);
  });

  it('renews its token by a new connection, and keeps its subscriptions', async () => {
    const { emulator, client } = await withOpenClient(MQTT);
    await watchDesired(emulator, client);
    await client.next('desired');
    const before = sequenceNow(emulator);
    await client.call('renewToken');
    await emulator.trace.waitFor({ event: 'connack', status: 0 }, before);
    expect(emulator.trace.entries({ event: 'disconnect' })).toHaveLength(1);
    emulator.hub().patchDesired('dev-1', { interval: 30 });
    expect(await client.next('desired')).toEqual({ interval: 30, $version: 2 });
    await client.call('sendEvent', { body: 'renewed', messageId: '1', properties: {} });
    expect(emulator.hub().telemetry('dev-1')).toHaveLength(1);
    expect(emulator.trace.count({ event: 'subscribe' })).toBe(2);
  });
});

describe('their device client, refused', () => {
  it('for a certificate instead of a key', () =>
    expectRefusal(MQTT, async (_, options) => ({ ...options, credential: await makeCertificate() }), /keys/));

  it('by a busy hub tries again', async () => {
    const { emulator, options } = await withDevice(MQTT);
    emulator.faults.add({ at: 'hub.connack', times: 1, action: { kind: 'connack', code: 3 } });
    const client = await ClientProcess.start();
    await client.call('open', options);
    expect(emulator.trace.entries({ event: 'connack' }).map(({ status }) => status)).toEqual([3, 0]);
  });

  it('does not trust a hub by itself', async () => {
    const { emulator, options } = await withDevice(MQTT);
    const stranger = await startBench();
    const client = await ClientProcess.start();
    await expect(client.call('open', { ...options, ca: stranger.caPem })).rejects.toThrow(/certificate/);
    expect(emulator.trace.count({ event: 'connect' })).toBe(0);
  });
});

/** Reads the twin, then has the client listen: in this order their client subscribes. */
async function watchDesired(emulator: Emulator, client: ClientProcess): Promise<void> {
  await client.call('getTwin');
  await client.call('watchDesired');
  await subscribed(emulator, DESIRED_PUSHES);
  expect(emulator.trace.entries({ event: 'subscribe' }).map(({ topic }) => topic)).toEqual([
    TWIN_ANSWERS,
    DESIRED_PUSHES,
  ]);
}
