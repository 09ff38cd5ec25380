/**
 * Microsoft's `azure-iot-device` with its AMQP transport, unmodified, against the emulator's hub over real TLS. A hub has
 * one port for all protocols, so that the host name that DPS gives leads there whatever a device speaks.
 */
import { describe, expect, it } from 'vitest';
import { type Emulator, makeSelfSigned } from '../../src/emulator/index.js';
import { ClientProcess } from './client-process.js';
import { makeKey, startBench } from './emulator-bench.js';
import type { Credential, HubOptions } from './microsoft-client.js';

const DESIRED = '/notifications/twin/properties/desired';
const INITIAL_TWIN = { properties: { desired: { interval: 60, led: { on: true } } } };

describe.each([
  ['a symmetric key', 'amqp', enrollKey],
  ['a certificate', 'amqp', enrollCertificate],
  ['a symmetric key', 'amqp-ws', enrollKey],
  ['a certificate', 'amqp-ws', enrollCertificate],
] as const)('their clients with %s over %s', (_name, protocol, enroll) => {
  it('register, read the twin, report, and exchange telemetry, desired properties, messages and methods', async () => {
    const emulator = await startBench();
    const credential = await enroll(emulator);
    const registrar = await ClientProcess.start(emulator.caPem);
    const { assignedHub, deviceId } = await registrar.call('register', {
      transport: protocol,
      endpoint: protocol === 'amqp' ? emulator.endpoints.dps.amqp : emulator.endpoints.dps.https,
      idScope: emulator.idScope,
      registrationId: 'dev-1',
      credential,
    });
    const hub = emulator.hub();
    const client = await ClientProcess.start();
    await client.call('open', { protocol, hostName: assignedHub, deviceId, credential, ca: emulator.caPem });

    const desired = { interval: 60, led: { on: true }, $version: 1 };
    expect(await client.call('getTwin')).toEqual({ desired, reported: { $version: 1 } });
    await client.call('updateReported', { firmware: '1.2.0', town: 'Köln' });
    expect(hub.twin('dev-1')?.reported).toEqual({ version: 2, properties: { firmware: '1.2.0', town: 'Köln' } });

    await client.call('sendEvent', { body: '{"t":21}', messageId: 'm/1 2', properties: { 'p a': 'v&=' } });
    const [telemetry] = hub.telemetry('dev-1');
    expect(Buffer.from(telemetry?.body ?? []).toString()).toBe('{"t":21}');
    const system = { '$.mid': 'm/1 2', '$.ct': 'application/json', '$.ce': 'utf-8' };
    expect(telemetry?.properties).toMatchObject({ ...system, 'p a': 'v&=' });

    await client.call('watchDesired');
    expect(await client.next('desired')).toEqual(desired);
    await subscribed(emulator, DESIRED);
    hub.patchDesired('dev-1', { interval: 30 });
    expect(await client.next('desired')).toEqual({ interval: 30, $version: 2 });

    await client.call('watchMessages');
    const messageId = hub.sendC2D('dev-1', { body: 'hello', properties: { town: 'Köln' } });
    expect(await client.next('message')).toEqual({ body: 'hello', messageId, properties: { town: 'Köln' } });
    await emulator.trace.waitFor({ event: 'cloudToDeviceDone' });

    await client.call('answerMethod', { name: 'reboot', status: 202, payload: { in: 5 } });
    await subscribed(emulator, 'methods/devicebound');
    expect(await hub.invokeMethod('dev-1', 'reboot', { delay: 5 })).toEqual({ status: 202, payload: { in: 5 } });
    expect(await client.next('method')).toEqual({ name: 'reboot', payload: { delay: 5 } });

    await client.call('close');
    await emulator.trace.waitFor({ service: 'hub', event: 'close' });
    expect(hub.queuedC2D('dev-1')).toEqual([]);
    expect(emulator.trace.entries({ event: 'refused' })).toEqual([]);
    expect(emulator.trace.entries({ event: 'violation' })).toEqual([]);
  });
});

describe('their device client over AMQP', () => {
  it('is told that a reported patch is refused', async () => {
    const { emulator, client } = await withOpenClient();
    await client.call('getTwin');
    await expect(client.call('updateReported', { 'a.b': 1 })).rejects.toThrow();
    expect(emulator.hub().twin('dev-1')?.reported).toEqual({ version: 1, properties: {} });
  });

  it('takes messages that waited, and completes them', async () => {
    const { emulator, client } = await withOpenClient();
    const early = emulator.hub().sendC2D('dev-1', { body: 'early' });
    await client.call('watchMessages');
    expect(await client.next('message')).toMatchObject({ body: 'early', messageId: early });
    await emulator.trace.waitFor({ event: 'cloudToDeviceDone' });
    expect(emulator.hub().queuedC2D('dev-1')).toEqual([]);
  });

  it('renews its token on the same connection', async () => {
    const { emulator, client } = await withOpenClient();
    const before = emulator.trace.entries().at(-1)?.sequence ?? 0;
    await client.call('renewToken');
    await emulator.trace.waitFor({ event: 'connect' }, before).catch(() => {});
    await client.call('sendEvent', { body: 'renewed', messageId: '1', properties: {} });
    expect(emulator.hub().telemetry('dev-1')).toHaveLength(1);
    expect(emulator.trace.count({ event: 'close' })).toBe(0);
  });

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
  ])('is refused for %s', async (_name, prepare, reason) => {
    const { emulator, options } = await withDevice();
    const client = await ClientProcess.start();
    await expect(client.call('open', await prepare(emulator, options))).rejects.toMatchObject({
      name: 'UnauthorizedError',
    });
    expect(emulator.trace.entries({ event: 'refused' })).toMatchObject([{ detail: expect.stringMatching(reason) }]);
  });
});

function enrollKey(emulator: Emulator): Credential {
  const primaryKey = makeKey();
  const attestation = { symmetricKey: { primaryKey } };
  emulator.enroll({ registrationId: 'dev-1', attestation, initialTwin: INITIAL_TWIN });
  return { symmetricKey: primaryKey };
}

async function enrollCertificate(emulator: Emulator): Promise<Credential> {
  const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'dev-1' });
  const clientCertificates = { primary: { certificate: certificatePem } };
  emulator.enroll({
    registrationId: 'dev-1',
    attestation: { x509: { clientCertificates } },
    initialTwin: INITIAL_TWIN,
  });
  return { cert: certificatePem, key: privateKeyPem };
}

async function withDevice(): Promise<{ emulator: Emulator; options: HubOptions }> {
  const emulator = await startBench();
  const [primaryKey, secondaryKey] = [makeKey(), makeKey()];
  const authentication = { type: 'sas', primaryKey, secondaryKey } as const;
  emulator.hub().addDevice({ deviceId: 'dev-1', authentication }, { desired: { interval: 60 } });
  const { hostName } = emulator.hub();
  const credential = { symmetricKey: primaryKey };
  return { emulator, options: { protocol: 'amqp', hostName, deviceId: 'dev-1', credential, ca: emulator.caPem } };
}

async function withOpenClient(): Promise<{ emulator: Emulator; client: ClientProcess }> {
  const { emulator, options } = await withDevice();
  const client = await ClientProcess.start();
  await client.call('open', options);
  return { emulator, client };
}

/** Settles when a link is there, or the notifications are on: their listeners subscribe some time later. */
async function subscribed(emulator: Emulator, topic: string): Promise<void> {
  for (let after = 0; ; ) {
    const entry = await emulator.trace.waitFor({ event: 'subscribe' }, after);
    if (entry.topic === topic) return;
    after = entry.sequence;
  }
}
