/** Microsoft's `azure-iot-device` and `azure-iot-device-mqtt`, unmodified, at the emulator's hub over real TLS. */
import { createHmac } from 'node:crypto';
import { inspect } from 'node:util';
import azureIotDevice, { type Client as ClientType, type Twin } from 'azure-iot-device';
import azureIotDeviceMqtt from 'azure-iot-device-mqtt';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type AzureDeviceClientOptions, azureDeviceClient } from '../../src/azure/index.js';
import { provision } from '../../src/compose.js';
import type { Hsm, SymmetricKeyHsm, X509Hsm } from '../../src/core/attestation.js';
import type { ProvisionedDevice } from '../../src/core/provisioned-device.js';
import { type Emulator, makeSelfSigned } from '../../src/emulator/index.js';
import { ConfigurationError, HsmError } from '../../src/errors.js';
import type { ProvisionOptions } from '../../src/provision-options.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { makeKey, startBench } from '../interop/emulator-bench.js';

const { Client } = azureIotDevice;
const { Mqtt } = azureIotDeviceMqtt;

const INITIAL_TWIN = { properties: { desired: { interval: 60 } } };

/** Signs, and hands out nothing else: `connectionString()` is out of the question. */
function keyHsm(base64Key: string): SymmetricKeyHsm & { signed: number; fails: Error | undefined } {
  const hsm = {
    kind: 'symmetricKey' as const,
    signed: 0,
    fails: undefined as Error | undefined,
    registrationId: async () => 'dev-1',
    sign: async (data: Uint8Array) => {
      if (hsm.fails !== undefined) throw hsm.fails;
      hsm.signed += 1;
      return new Uint8Array(createHmac('sha256', Buffer.from(base64Key, 'base64')).update(data).digest());
    },
  };
  return hsm;
}

function enrollKey(emulator: Emulator): ReturnType<typeof keyHsm> {
  const primaryKey = makeKey();
  const attestation = { symmetricKey: { primaryKey } };
  emulator.enroll({ registrationId: 'dev-1', attestation, initialTwin: INITIAL_TWIN });
  return keyHsm(primaryKey);
}

async function enrollCertificate(emulator: Emulator): Promise<X509Hsm> {
  const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'dev-1' });
  const clientCertificates = { primary: { certificate: certificatePem } };
  emulator.enroll({
    registrationId: 'dev-1',
    attestation: { x509: { clientCertificates } },
    initialTwin: INITIAL_TWIN,
  });
  return {
    kind: 'x509',
    registrationId: async () => 'dev-1',
    tlsCredential: async () => ({ certificateChainPem: certificatePem, privateKeyPem }),
  };
}

function provisionAt(
  emulator: Emulator,
  hsm: Hsm,
  options: Partial<ProvisionOptions> = {},
): Promise<ProvisionedDevice> {
  const { idScope, caPem: ca, endpoints } = emulator;
  return provision({ idScope, ca, endpoint: endpoints.dps.mqtt, hsm, ...options });
}

async function keyDevice(options: Partial<ProvisionOptions> = {}) {
  const emulator = await startBench();
  const hsm = enrollKey(emulator);
  return { emulator, hsm, device: await provisionAt(emulator, hsm, options) };
}

async function clientOf(device: ProvisionedDevice, options: AzureDeviceClientOptions = {}): Promise<ClientType> {
  const client = await azureDeviceClient(device, { client: Client, transport: Mqtt, ...options });
  onTestFinished(async () => void (await client.close()));
  return client as ClientType;
}

function report(twin: Twin, patch: object): Promise<void> {
  const { reported } = twin.properties as unknown as {
    reported: { update(patch: object, done: (error?: Error) => void): void };
  };
  return new Promise((resolve, reject) => reported.update(patch, (error) => (error ? reject(error) : resolve())));
}

/** Connections to the hub, the library's own first. */
const hubConnects = (emulator: Emulator): number => emulator.trace.count({ service: 'hub', event: 'connect' });
const lastSequence = (emulator: Emulator): number => emulator.trace.entries().at(-1)?.sequence ?? 0;

describe.each<[string, (emulator: Emulator) => Hsm | Promise<Hsm>]>([
  ['a symmetric key that cannot leave', enrollKey],
  ['a certificate', enrollCertificate],
])('azureDeviceClient with %s', (_name, enroll) => {
  it('reads the twin, reports, sends, and hears of desired properties and methods, in one connection', async () => {
    const emulator = await startBench();
    const device = await provisionAt(emulator, await enroll(emulator));
    const hub = emulator.hub();
    const before = hubConnects(emulator);

    const client: ClientType = await azureDeviceClient(device, { client: Client, transport: Mqtt });
    expect(hubConnects(emulator)).toBe(before);
    await client.open();
    const twin = await client.getTwin();
    expect(twin.properties.desired).toEqual({ interval: 60, $version: 1 });
    await report(twin, { firmware: '1.2.0' });
    expect(hub.twin('dev-1')?.reported).toEqual({ version: 2, properties: { firmware: '1.2.0' } });
    await client.sendEvent(new azureIotDevice.Message('{"t":21}'));
    expect(Buffer.from(hub.telemetry('dev-1')[0]?.body ?? []).toString()).toBe('{"t":21}');

    const desired: unknown[] = [];
    const changed = new Promise<void>((resolve) =>
      twin.on('properties.desired', (delta) => {
        // Their twin merges later changes into the object it handed out.
        desired.push({ ...delta });
        if (desired.length === 2) resolve();
      }),
    );
    for (let after = 0, topic: string | undefined; topic?.includes('PATCH') !== true; ) {
      ({ sequence: after, topic } = await emulator.trace.waitFor({ service: 'hub', event: 'subscribe' }, after));
    }
    const beforePush = lastSequence(emulator);
    hub.patchDesired('dev-1', { interval: 30 });
    await emulator.trace.waitFor({ event: 'desiredPush' }, beforePush);
    await changed;
    expect(desired).toEqual([
      { interval: 60, $version: 1 },
      { interval: 30, $version: 2 },
    ]);

    await client.close();
    expect(hubConnects(emulator)).toBe(before + 1);
    expect(emulator.trace.count({ event: 'refused' })).toBe(0);
    expect(emulator.trace.count({ event: 'violation' })).toBe(0);
  });
});

describe('azureDeviceClient', () => {
  it('loads the installed packages by itself', async () => {
    const { device } = await keyDevice();
    const client = await azureDeviceClient(device);
    expect(client).toBeInstanceOf(Client);
    await client.open();
    await client.close();
  });

  it('uses one token for making the client and for its first connection', async () => {
    const { hsm, device } = await keyDevice();
    const signed = hsm.signed;
    const client = await clientOf(device);
    await client.open();
    expect(hsm.signed).toBe(signed + 1);
  });

  it('renews the token in time: one more connection, subscriptions kept', async () => {
    const { emulator, hsm, device } = await keyDevice();
    const clock = new ManualClock(Date.now());
    const client = await clientOf(device, { clock, random: () => 0 });
    await client.open();
    const twin = await client.getTwin();
    const [signed, connects, before] = [hsm.signed, hubConnects(emulator), lastSequence(emulator)];
    clock.advance(0.8 * 3_600_000 - 10_000);
    expect(hsm.signed).toBe(signed);
    clock.advance(20_000);
    await emulator.trace.waitFor({ service: 'hub', event: 'connack', status: 0 }, before);
    await report(twin, { renewed: true });
    expect(hsm.signed).toBe(signed + 1);
    expect(hubConnects(emulator)).toBe(connects + 1);
    expect(emulator.hub().twin('dev-1')?.reported.properties).toEqual({ renewed: true });
    await client.close();
    expect(clock.pending).toBe(0);
  });

  it('lives on when a renewal fails', async () => {
    const { emulator, hsm, device } = await keyDevice();
    const clock = new ManualClock(Date.now());
    const client = await clientOf(device, { clock, random: () => 0 });
    await client.open();
    hsm.fails = new Error('chip busy');
    clock.advance(0.8 * 3_600_000 + 5_000);
    await client.sendEvent(new azureIotDevice.Message('still here'));
    expect(emulator.hub().telemetry('dev-1')).toHaveLength(1);
  });

  it('says in open() why the HSM gave no credential', async () => {
    const { hsm, device } = await keyDevice();
    const clock = new ManualClock(Date.now());
    const client = await clientOf(device, { clock });
    clock.advance(3_600_000);
    hsm.fails = new HsmError({ code: 'ERR_DPS_HSM_OPERATION', message: 'The chip is gone.', operation: 'sign' });
    await expect(client.open()).rejects.toMatchObject({
      name: 'HsmError',
      message: 'The chip is gone.',
      cause: { code: 'ERR_DPS_HSM_OPERATION' },
    });
  });

  it('lets their client try again while the HSM may come back', async () => {
    const { hsm, device } = await keyDevice();
    const clock = new ManualClock(Date.now());
    const client = await clientOf(device, { clock });
    clock.advance(3_600_000);
    const { sign } = hsm;
    hsm.sign = async () => {
      hsm.sign = sign;
      throw new HsmError({
        code: 'ERR_DPS_HSM_OPERATION',
        message: 'The bus is busy.',
        operation: 'sign',
        retryable: true,
      });
    };
    await client.open();
  });

  it('opens again after it was closed', async () => {
    const { emulator, device } = await keyDevice();
    const client = await clientOf(device);
    await client.open();
    await client.close();
    const connects = hubConnects(emulator);
    await client.open();
    expect(hubConnects(emulator)).toBe(connects + 1);
    expect((await client.getTwin()).properties.desired).toMatchObject({ interval: 60 });
  });

  it.each<[string, (emulator: Emulator) => SymmetricKeyHsm | Promise<X509Hsm>]>([
    ['a token', enrollKey],
    ['a certificate', enrollCertificate],
  ])('is closed while it waits for %s: open() ends, and nothing connects afterwards', async (_name, enroll) => {
    const emulator = await startBench();
    const hsm = await enroll(emulator);
    const device = await provisionAt(emulator, hsm);
    const clock = new ManualClock(Date.now());
    const client = await clientOf(device, { clock });
    clock.advance(3_600_000);
    const connects = hubConnects(emulator);
    let answer = (): void => {};
    const isAsked = new Promise<void>((resolve) => {
      const wait = (): Promise<never> => {
        resolve();
        return new Promise((_, reject) => {
          answer = () => reject(new Error('too late'));
        });
      };
      if (hsm.kind === 'x509') hsm.tlsCredential = wait;
      else hsm.sign = wait;
    });
    const opened = client.open();
    await isAsked;
    await client.close();
    await expect(opened).rejects.toMatchObject({ name: 'CancelledError' });
    answer();
    expect(hubConnects(emulator)).toBe(connects);
    expect(clock.pending).toBe(0);
  });

  it('reads the certificate again for each connection', async () => {
    const emulator = await startBench();
    const hsm = await enrollCertificate(emulator);
    const device = await provisionAt(emulator, hsm);
    const client = await clientOf(device);
    await client.open();
    await client.close();
    hsm.tlsCredential = () => Promise.reject(new Error('the slot is empty'));
    await expect(client.open()).rejects.toThrow(/the slot is empty/);
  });

  it('hands on what provision() was told, and what it is told itself', async () => {
    const { emulator, device } = await keyDevice({ modelId: 'dtmi:com:example:Thermostat;1' });
    const seen: Record<string, unknown>[] = [];
    class Watched extends Mqtt {
      override setOptions(options: Record<string, unknown>, done?: (error?: Error) => void): void {
        seen.push(options);
        super.setOptions(options, done);
      }
    }
    const clientOptions = { mqtt: { forceDisconnect: true } };
    await clientOf(device, { transport: Watched, productInfo: 'valve/1', keepaliveSeconds: 60, clientOptions });
    await clientOf(device, { transport: Watched, ca: ['A', 'B'], modelId: 'dtmi:com:example:Other;1' });
    expect(seen).toEqual([
      {
        ca: emulator.caPem,
        modelId: 'dtmi:com:example:Thermostat;1',
        productInfo: 'valve/1',
        keepalive: 60,
        ...clientOptions,
      },
      { ca: 'A\nB', modelId: 'dtmi:com:example:Other;1' },
    ]);
  });

  it('ends when the signal aborts while the HSM is at work', async () => {
    const { hsm, device } = await keyDevice();
    const controller = new AbortController();
    hsm.sign = () => new Promise(() => controller.abort());
    await expect(azureDeviceClient(device, {}, controller.signal)).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    await expect(azureDeviceClient(device, {}, AbortSignal.abort())).rejects.toMatchObject({
      code: 'ERR_DPS_CANCELLED',
    });
  });

  it.each<[string, unknown, unknown, string, RegExp]>([
    ['a promise of a device', Promise.resolve(), {}, 'ERR_DPS_CONFIG_OPTION', /await provision/],
    ['no device', undefined, {}, 'ERR_DPS_CONFIG_OPTION', /await provision/],
    ['an unknown option', undefined, { modelID: 'x' }, 'ERR_DPS_CONFIG_UNKNOWN_OPTION', /Did you mean modelId\?/],
    ['options that are none', undefined, 'mqtt', 'ERR_DPS_CONFIG_OPTION', /must be an object/],
    ['client options that are none', undefined, { clientOptions: 'ca' }, 'ERR_DPS_CONFIG_OPTION', /an object/],
    [
      'client options that would end the process in setOptions()',
      undefined,
      { clientOptions: { cert: 'x' } },
      'ERR_DPS_CONFIG_OPTION',
      /cannot have cert/,
    ],
    ['a keep-alive of 0', undefined, { keepaliveSeconds: 0 }, 'ERR_DPS_CONFIG_OPTION', /keepaliveSeconds/],
  ])('refuses %s', async (_name, device, options, code, message) => {
    const refused = azureDeviceClient(device as ProvisionedDevice, options as AzureDeviceClientOptions);
    await expect(refused).rejects.toBeInstanceOf(ConfigurationError);
    await expect(refused).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('refuses classes that are none', async () => {
    const { device } = await keyDevice();
    const transport = new Mqtt({ type: 0 } as never) as never;
    await expect(azureDeviceClient(device, { client: Client, transport })).rejects.toMatchObject({
      code: 'ERR_DPS_CONFIG_OPTION',
      message: expect.stringContaining('not an instance'),
    });
    await expect(azureDeviceClient(device, { client: {} as never, transport: Mqtt })).rejects.toMatchObject({
      code: 'ERR_DPS_CONFIG_OPTION',
      message: expect.stringContaining('Client class'),
    });
  });

  it('shows no token in what it makes itself', async () => {
    const { device } = await keyDevice();
    let provider: unknown;
    class Keeping extends Mqtt {
      constructor(given: ConstructorParameters<typeof Mqtt>[0]) {
        super(given);
        provider = given;
      }
    }
    await clientOf(device, { transport: Keeping });
    expect(inspect(provider, { depth: 9, showHidden: true })).not.toMatch(/SharedAccessSignature|sig=/);
  });
});
