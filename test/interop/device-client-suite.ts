/**
 * What Microsoft's `azure-iot-device`, unmodified, does against the emulator's hub over real TLS, with what its
 * provisioning client brought; on each of its transports. Each test has a process of its own for their client (see
 * `provisioning-client.test.ts`). Those for the hub trust nothing by themselves: the CA goes into `setOptions({ ca })`.
 * The hub's port is part of its host name, which their connection strings take.
 */
import { describe, expect, it } from 'vitest';
import { type Emulator, makeSelfSigned, type TraceMatch } from '../../src/emulator/index.js';
import { ClientProcess } from './client-process.js';
import { makeKey, startBench } from './emulator-bench.js';
import type { Credential, HubOptions } from './microsoft-client.js';

/** A transport of theirs, and how it shows in the emulator's trace. */
export interface HubWire {
  readonly protocol: NonNullable<HubOptions['protocol']>;
  /** Where their provisioning client reaches DPS by it. */
  readonly dpsEndpoint: (emulator: Emulator) => string;
  /** What is subscribed to, or linked, by who listens to it. */
  readonly topics: { readonly desired: string; readonly methods: string };
  /** What the trace shows when a client says goodbye. */
  readonly goodbye: 'disconnect' | 'close';
  /** What their client says of a patch that is refused for the name `a.b`. */
  readonly refusedPatch: object;
  /** What their client says when it is refused, and what the trace says beside the reason. */
  readonly refusal: { readonly error: object; readonly entry: object };
}

const INITIAL_TWIN = { properties: { desired: { interval: 60, led: { on: true } } } };

/** One registration and one life, by each kind of credential. */
export function describeExchange(wire: HubWire): void {
  describe.each([
    ['a symmetric key', enrollKey],
    ['a certificate', enrollCertificate],
  ])(`their clients with %s over ${wire.protocol}`, (_name, enroll) => {
    it('register, read the twin, report, and exchange telemetry, desired properties, messages and methods', async () => {
      const emulator = await startBench();
      const credential = await enroll(emulator);
      const registrar = await ClientProcess.start(emulator.caPem);
      const { assignedHub, deviceId } = await registrar.call('register', {
        transport: wire.protocol,
        endpoint: wire.dpsEndpoint(emulator),
        idScope: emulator.idScope,
        registrationId: 'dev-1',
        credential,
      });
      const hub = emulator.hub();
      const client = await ClientProcess.start();
      const { protocol } = wire;
      await client.call('open', { protocol, hostName: assignedHub, deviceId, credential, ca: emulator.caPem });

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
      await subscribed(emulator, wire.topics.desired);
      hub.patchDesired('dev-1', { interval: 30 });
      expect(await client.next('desired')).toEqual({ interval: 30, $version: 2 });

      await client.call('watchMessages');
      const messageId = hub.sendC2D('dev-1', { body: 'hello', properties: { town: 'Köln' } });
      expect(await client.next('message')).toEqual({ body: 'hello', messageId, properties: { town: 'Köln' } });
      await emulator.trace.waitFor({ event: 'cloudToDeviceDone' });

      await client.call('answerMethod', { name: 'reboot', status: 202, payload: { in: 5 } });
      await subscribed(emulator, wire.topics.methods);
      expect(await hub.invokeMethod('dev-1', 'reboot', { delay: 5 })).toEqual({ status: 202, payload: { in: 5 } });
      expect(await client.next('method')).toEqual({ name: 'reboot', payload: { delay: 5 } });

      await client.call('close');
      await emulator.trace.waitFor({ service: 'hub', event: wire.goodbye });
      expect(hub.queuedC2D('dev-1')).toEqual([]);
      expect(emulator.trace.entries({ event: 'refused' })).toEqual([]);
      expect(emulator.trace.entries({ event: 'violation' })).toEqual([]);
    });
  });
}

/** What an open client does, and how it is refused. */
export function describeDeviceClient(wire: HubWire): void {
  describe(`their device client over ${wire.protocol}`, () => {
    it('is told that a reported patch is refused', async () => {
      const { emulator, client } = await withOpenClient(wire);
      await client.call('getTwin');
      await expect(client.call('updateReported', { 'a.b': 1 })).rejects.toMatchObject(wire.refusedPatch);
      expect(emulator.hub().twin('dev-1')?.reported).toEqual({ version: 1, properties: {} });
    });

    it('takes messages from the cloud and completes them', async () => {
      const { emulator, client } = await withOpenClient(wire);
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
      const { emulator, client } = await withOpenClient(wire);
      const hub = emulator.hub();
      await expect(hub.invokeMethod('dev-1', 'reboot')).rejects.toMatchObject({ errorCode: 404103 });
      await client.call('answerMethod', { name: 'reboot', status: 202, payload: { in: 5 } });
      await subscribed(emulator, wire.topics.methods);
      const payload = { delay: 5 };
      expect(await hub.invokeMethod('dev-1', 'reboot', payload)).toEqual({ status: 202, payload: { in: 5 } });
      expect(await client.next('method')).toEqual({ name: 'reboot', payload });
      expect(await hub.invokeMethod('dev-1', 'reboot')).toMatchObject({ status: 202 });
      expect(await client.next('method')).toEqual({ name: 'reboot', payload: null });
    });

    it.each<[string, Preparation, RegExp]>([
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
    ])('is refused for %s', (_name, prepare, reason) => expectRefusal(wire, prepare, reason));
  });
}

/** Makes what the device knows, or what the hub does, such that it is refused. */
export type Preparation = (emulator: Emulator, options: HubOptions) => HubOptions | Promise<HubOptions>;

/** Their client says that it is refused, and the trace why. */
export async function expectRefusal(wire: HubWire, prepare: Preparation, reason: RegExp): Promise<void> {
  const { emulator, options } = await withDevice(wire);
  const prepared = await prepare(emulator, options);
  const client = await ClientProcess.start();
  await expect(client.call('open', prepared)).rejects.toMatchObject({
    name: 'UnauthorizedError',
    ...wire.refusal.error,
  });
  expect(emulator.trace.entries({ event: 'refused' })).toMatchObject([
    { ...wire.refusal.entry, detail: expect.stringMatching(reason) },
  ]);
}

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

/** A self-signed one, with its key. */
export async function makeCertificate(): Promise<{ readonly cert: string; readonly key: string }> {
  const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'dev-1' });
  return { cert: certificatePem, key: privateKeyPem };
}

/** An emulator whose hub knows the device `dev-1`, and what the device needs. */
export async function withDevice({ protocol }: HubWire): Promise<{ emulator: Emulator; options: HubOptions }> {
  const emulator = await startBench();
  const [primaryKey, secondaryKey] = [makeKey(), makeKey()];
  const authentication = { type: 'sas', primaryKey, secondaryKey } as const;
  emulator.hub().addDevice({ deviceId: 'dev-1', authentication }, { desired: { interval: 60 } });
  const { hostName } = emulator.hub();
  return {
    emulator,
    options: { protocol, hostName, deviceId: 'dev-1', credential: { symmetricKey: primaryKey }, ca: emulator.caPem },
  };
}

/** The same, and a client that is open. */
export async function withOpenClient(wire: HubWire): Promise<{ emulator: Emulator; client: ClientProcess }> {
  const { emulator, options } = await withDevice(wire);
  const client = await ClientProcess.start();
  await client.call('open', options);
  return { emulator, client };
}

/** Settles when the filter is subscribed to, the link there, or the notifications on: their listeners subscribe some time later and tell nobody. */
export async function subscribed(emulator: Emulator, filter: string): Promise<void> {
  for (let after = 0; ; ) {
    const { topic, sequence } = await emulator.trace.waitFor({ event: 'subscribe' }, after);
    if (topic === filter) return;
    after = sequence;
  }
}

/** Settles when so many entries match. */
export async function happens(emulator: Emulator, match: TraceMatch, times: number): Promise<void> {
  let after = 0;
  for (let time = 0; time < times; time += 1) after = (await emulator.trace.waitFor(match, after)).sequence;
}

export function sequenceNow(emulator: Emulator): number {
  return emulator.trace.entries().at(-1)?.sequence ?? 0;
}
