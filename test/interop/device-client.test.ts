/**
 * Microsoft's `azure-iot-device` with its MQTT transport, unmodified, against the emulator's hub over real TLS, with what
 * its provisioning client brought. Each test has a process of its own for their client (see
 * `provisioning-client.test.ts`). Those for the hub trust nothing by themselves: the CA goes into `setOptions({ ca })`.
 * The hub's port is part of its host name, which their connection strings take.
 */
import { describe, expect, it } from 'vitest';
import { type Emulator, makeSelfSigned, type TraceMatch } from '../../src/emulator/index.js';
import { ClientProcess } from './client-process.js';
import { makeKey, startBench } from './emulator-bench.js';
import type { Credential, HubOptions } from './microsoft-client.js';

const TWIN_ANSWERS = '$iothub/twin/res/#';
const DESIRED_PUSHES = '$iothub/twin/PATCH/properties/desired/#';
const METHOD_CALLS = '$iothub/methods/POST/#';
const MESSAGES = 'devices/dev-1/messages/devicebound/#';

describe.each([
  ['a symmetric key', enrollKey],
  ['a certificate', enrollCertificate],
])('their clients with %s', (_name, enroll) => {
  it('register, read the twin, report, and exchange telemetry, desired properties, messages and methods', async () => {
    const emulator = await startBench();
    const credential = await enroll(emulator);
    const registrar = await ClientProcess.start(emulator.caPem);
    const { assignedHub, deviceId } = await registrar.call('register', {
      transport: 'mqtt',
      endpoint: emulator.endpoints.dps.mqtt,
      idScope: emulator.idScope,
      registrationId: 'dev-1',
      credential,
    });
    const hub = emulator.hub();
    const client = await ClientProcess.start();
    await client.call('open', { hostName: assignedHub, deviceId, credential, ca: emulator.caPem });

    const desired = { interval: 60, led: { on: true }, $version: 1 };
    expect(await client.call('getTwin')).toEqual({ desired, reported: { $version: 1 } });
    await client.call('updateReported', { firmware: '1.2.0', town: 'Köln' });
    expect(hub.twin('dev-1')?.reported).toEqual({ version: 2, properties: { firmware: '1.2.0', town: 'Köln' } });

    await client.call('sendEvent', { body: '{"t":21}', messageId: 'm/1 2', properties: { 'p a': 'v&=' } });
    const [telemetry] = hub.telemetry('dev-1');
    expect(Buffer.from(telemetry?.body ?? []).toString()).toBe('{"t":21}');
    const system = { '$.mid': 'm/1 2', '$.ct': 'application/json', '$.ce': 'utf-8' };
    expect(telemetry?.properties).toEqual({ ...system, 'p a': 'v&=' });

    await client.call('watchDesired');
    expect(await client.next('desired')).toEqual(desired);
    await subscribed(emulator, DESIRED_PUSHES);
    hub.patchDesired('dev-1', { interval: 30 });
    expect(await client.next('desired')).toEqual({ interval: 30, $version: 2 });

    await client.call('watchMessages');
    const messageId = hub.sendC2D('dev-1', { body: 'hello' });
    expect(await client.next('message')).toMatchObject({ body: 'hello', messageId });

    await client.call('answerMethod', { name: 'reboot', status: 202, payload: { in: 5 } });
    await subscribed(emulator, METHOD_CALLS);
    expect(await hub.invokeMethod('dev-1', 'reboot', { delay: 5 })).toEqual({ status: 202, payload: { in: 5 } });

    await client.call('close');
    await emulator.trace.waitFor({ service: 'hub', event: 'disconnect' });
    expect(hub.queuedC2D('dev-1')).toEqual([]);
    expect(emulator.trace.count({ event: 'refused' })).toBe(0);
    expect(emulator.trace.count({ event: 'violation' })).toBe(0);
  });
});

describe('their device client', () => {
  it('gets what is desired, at once and whenever it changes', async () => {
    const { emulator, client } = await withOpenClient();
    await watchDesired(emulator, client);
    expect(await client.next('desired')).toEqual({ interval: 60, $version: 1 });
    emulator.hub().patchDesired('dev-1', { interval: null, led: { on: true } });
    expect(await client.next('desired')).toEqual({ interval: null, led: { on: true }, $version: 2 });
    emulator.hub().replaceDesired('dev-1', { fan: 3 });
    expect(await client.next('desired')).toEqual({ led: null, fan: 3, $version: 3 });
    expect(await client.call('getTwin')).toMatchObject({ desired: { fan: 3, $version: 3 } });
  });

  it('is told that a reported patch is refused', async () => {
    const { emulator, client } = await withOpenClient();
    await client.call('getTwin');
    await expect(client.call('updateReported', { 'a.b': 1 })).rejects.toMatchObject({
      message: expect.stringContaining('"a.b"'),
    });
    expect(emulator.hub().twin('dev-1')?.reported).toEqual({ version: 1, properties: {} });
  });

  it('takes messages from the cloud and completes them', async () => {
    const { emulator, client } = await withOpenClient();
    const hub = emulator.hub();
    // Waits in the queue until somebody subscribes.
    const early = hub.sendC2D('dev-1', { body: 'early' });
    await client.call('watchMessages');
    expect(await client.next('message')).toMatchObject({ body: 'early', messageId: early });
    const properties = { 'p a': 'v&=', town: 'Köln' };
    hub.sendC2D('dev-1', { body: 'later', messageId: 'id 2', properties });
    expect(await client.next('message')).toEqual({ body: 'later', messageId: 'id 2', properties });
    await happens(emulator, { event: 'cloudToDeviceDone' }, 2);
    expect(hub.queuedC2D('dev-1')).toEqual([]);
  });

  it('answers direct methods', async () => {
    const { emulator, client } = await withOpenClient();
    const hub = emulator.hub();
    await expect(hub.invokeMethod('dev-1', 'reboot')).rejects.toMatchObject({ errorCode: 404103 });
    await client.call('answerMethod', { name: 'reboot', status: 202, payload: { in: 5 } });
    await subscribed(emulator, METHOD_CALLS);
    const payload = { delay: 5 };
    expect(await hub.invokeMethod('dev-1', 'reboot', payload)).toEqual({ status: 202, payload: { in: 5 } });
    expect(await client.next('method')).toEqual({ name: 'reboot', payload });
    expect(await hub.invokeMethod('dev-1', 'reboot')).toMatchObject({ status: 202 });
    expect(await client.next('method')).toEqual({ name: 'reboot', payload: null });
  });

  it('comes back after a cut, and still gets what is desired without subscribing again', async () => {
    const { emulator, client } = await withOpenClient();
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
    const { emulator, client } = await withOpenClient();
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
    const { emulator, client } = await withOpenClient();
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
    const { emulator, client } = await withOpenClient();
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
  it.each<[string, (emulator: Emulator, options: HubOptions) => HubOptions | Promise<HubOptions>, RegExp]>([
    ['a wrong key', (_, options) => ({ ...options, credential: { symmetricKey: makeKey() } }), /another key/],
    ['an unknown device', (_, options) => ({ ...options, deviceId: 'nobody' }), /knows no device/],
    [
      'a disabled device',
      (emulator, options) => {
        emulator.hub().setDeviceEnabled('dev-1', false);
        return options;
      },
      /disabled/,
    ],
    [
      'a certificate instead of a key',
      async (_, options) => ({ ...options, credential: await makeCertificate() }),
      /keys/,
    ],
  ])('for %s', async (_name, prepare, reason) => {
    const { emulator, options } = await withDevice();
    const prepared = await prepare(emulator, options);
    const client = await ClientProcess.start();
    await expect(client.call('open', prepared)).rejects.toMatchObject({
      name: 'UnauthorizedError',
      message: expect.stringContaining('Connection refused: Not authorized'),
    });
    expect(emulator.trace.entries({ event: 'refused' })).toMatchObject([
      { status: 5, detail: expect.stringMatching(reason) },
    ]);
  });

  it('by a busy hub tries again', async () => {
    const { emulator, options } = await withDevice();
    emulator.faults.add({ at: 'hub.connack', times: 1, action: { kind: 'connack', code: 3 } });
    const client = await ClientProcess.start();
    await client.call('open', options);
    expect(emulator.trace.entries({ event: 'connack' }).map(({ status }) => status)).toEqual([3, 0]);
  });

  it('does not trust a hub by itself', async () => {
    const { emulator, options } = await withDevice();
    const stranger = await startBench();
    const client = await ClientProcess.start();
    await expect(client.call('open', { ...options, ca: stranger.caPem })).rejects.toThrow(/certificate/);
    expect(emulator.trace.count({ event: 'connect' })).toBe(0);
  });
});

const INITIAL_TWIN = { properties: { desired: { interval: 60, led: { on: true } } } };

function enrollKey(emulator: Emulator): Credential {
  const primaryKey = makeKey();
  const attestation = { symmetricKey: { primaryKey } };
  emulator.enroll({ registrationId: 'dev-1', attestation, initialTwin: INITIAL_TWIN });
  return { symmetricKey: primaryKey };
}

async function enrollCertificate(emulator: Emulator): Promise<Credential> {
  const credential = await makeCertificate();
  const clientCertificates = { primary: { certificate: credential.cert } };
  emulator.enroll({
    registrationId: 'dev-1',
    attestation: { x509: { clientCertificates } },
    initialTwin: INITIAL_TWIN,
  });
  return credential;
}

async function makeCertificate(): Promise<{ readonly cert: string; readonly key: string }> {
  const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'dev-1' });
  return { cert: certificatePem, key: privateKeyPem };
}

/** An emulator whose hub knows the device `dev-1`, and what the device needs. */
async function withDevice(): Promise<{ emulator: Emulator; options: HubOptions }> {
  const emulator = await startBench();
  const [primaryKey, secondaryKey] = [makeKey(), makeKey()];
  const authentication = { type: 'sas', primaryKey, secondaryKey } as const;
  emulator.hub().addDevice({ deviceId: 'dev-1', authentication }, { desired: { interval: 60 } });
  const { hostName } = emulator.hub();
  return {
    emulator,
    options: { hostName, deviceId: 'dev-1', credential: { symmetricKey: primaryKey }, ca: emulator.caPem },
  };
}

async function withOpenClient(): Promise<{ emulator: Emulator; client: ClientProcess }> {
  const { emulator, options } = await withDevice();
  const client = await ClientProcess.start();
  await client.call('open', options);
  return { emulator, client };
}

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

/** Settles when the filter is subscribed to: their listeners subscribe some time later and tell nobody. */
async function subscribed(emulator: Emulator, filter: string): Promise<void> {
  for (let after = 0; ; ) {
    const { topic, sequence } = await emulator.trace.waitFor({ event: 'subscribe' }, after);
    if (topic === filter) return;
    after = sequence;
  }
}

/** Settles when so many entries match. */
async function happens(emulator: Emulator, match: TraceMatch, times: number): Promise<void> {
  let after = 0;
  for (let time = 0; time < times; time += 1) after = (await emulator.trace.waitFor(match, after)).sequence;
}

function sequenceNow(emulator: Emulator): number {
  return emulator.trace.entries().at(-1)?.sequence ?? 0;
}
