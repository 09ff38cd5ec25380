import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { CancelledError } from '../../src/errors.js';
import { CountingAbort, failureOf, HUB, HubBench } from '../fakes/hub-bench.js';
import {
  DEVICE_KEY,
  fakeSymmetricKeyHsm,
  fakeTpmHsm,
  fakeX509Hsm,
  sealedSymmetricKeyHsm,
} from '../fakes/hub-identity.js';

describe('mqttOptions', () => {
  it('are those of MQTT.js, with a token made on call', async () => {
    const bench = new HubBench({ ca: 'ROOT', userAgent: 'u', tokenLifeSeconds: 600 });
    const info = bench.transport.connectionInfo(bench.parameters);
    const first = await info.mqttOptions();
    expect(first).toEqual({
      protocol: 'mqtts',
      host: HUB,
      port: 8883,
      servername: HUB,
      protocolVersion: 4,
      clean: false,
      keepalive: 240,
      clientId: 'dev-1',
      username: `${HUB}/dev-1/?api-version=2021-04-12&DeviceClientType=u`,
      password: expect.stringMatching(/^SharedAccessSignature sr=.*&se=1795219800$/),
      passwordExpiresAtSeconds: 1795219800,
      ca: 'ROOT',
      minVersion: 'TLSv1.2',
    });
    bench.clock.advance(1000);
    expect((await info.mqttOptions()).passwordExpiresAtSeconds).toBe(1795219801);
    expect(bench.broker.requests).toEqual([]);
  });

  it('carry certificate, key and passphrase for X.509, and no password', async () => {
    const bench = new HubBench({ hsm: fakeX509Hsm() });
    const options = await bench.transport.connectionInfo(bench.parameters).mqttOptions();
    expect(options).toMatchObject({ cert: 'CHAIN', key: 'PRIVATE', passphrase: 'PASSPHRASE' });
    expect(Object.keys(options)).not.toContain('password');
    expect(Object.keys(options)).not.toContain('ca');
  });

  it.each([
    ['localhost:45915', 'localhost', 45915, 'localhost'],
    ['127.0.0.1:1', '127.0.0.1', 1, ''],
    ['[::1]:8884', '::1', 8884, ''],
  ])('take %s apart', async (hostName, host, port, servername) => {
    const bench = new HubBench();
    const info = bench.transport.connectionInfo({ ...bench.parameters, hostName });
    expect(await info.mqttOptions()).toMatchObject({ host, port, servername });
  });

  it('say the name that the certificate has when that is given', async () => {
    const bench = new HubBench({ servername: 'hub.test' });
    expect(await bench.transport.connectionInfo(bench.parameters).mqttOptions()).toMatchObject({
      servername: 'hub.test',
    });
  });

  it('are not made by a wrong clock', async () => {
    const bench = new HubBench();
    bench.clock.stepWall(-bench.clock.wallMs());
    const making = bench.transport.connectionInfo(bench.parameters).mqttOptions();
    expect(await failureOf(making)).toMatchObject({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE' });
  });

  it('show no secret when printed, yet hand them to a client that copies', async () => {
    const [sas, x509] = await Promise.all(
      [fakeSymmetricKeyHsm(), fakeX509Hsm()].map((hsm) => {
        const bench = new HubBench({ hsm });
        return bench.transport.connectionInfo(bench.parameters).mqttOptions();
      }),
    );
    expect(inspect(sas)).toMatch(/password: '\[hidden\]'/);
    expect(inspect({ sas, x509 }, { depth: 5 })).not.toMatch(/SharedAccess|PRIVATE|PASSPHRASE/);
    expect({ ...sas }.password).toMatch(/^SharedAccessSignature/);
    expect({ ...x509 }.key).toBe('PRIVATE');
  });

  it('stop when cancelled', async () => {
    const hsm = { ...fakeSymmetricKeyHsm(), sign: () => new Promise<Uint8Array>(() => {}) };
    const bench = new HubBench({ hsm });
    const abort = new CountingAbort();
    const failure = failureOf(bench.transport.connectionInfo(bench.parameters).mqttOptions(abort.signal));
    abort.abort();
    expect(await failure).toBeInstanceOf(CancelledError);
    expect(abort.listeners).toBe(0);
  });
});

describe('connectionString', () => {
  it('carries the key of the slot', async () => {
    const bench = new HubBench({ hsm: fakeSymmetricKeyHsm(['other', DEVICE_KEY]) });
    const info = bench.transport.connectionInfo({ ...bench.parameters, slot: 1 });
    expect(await info.connectionString()).toBe(
      'HostName=myhub.azure-devices.net;DeviceId=dev-1;SharedAccessKey=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=',
    );
  });

  it('says x509=true for a certificate', async () => {
    const bench = new HubBench({ hsm: fakeX509Hsm() });
    const info = bench.transport.connectionInfo(bench.parameters);
    expect(await info.connectionString()).toBe('HostName=myhub.azure-devices.net;DeviceId=dev-1;x509=true');
  });

  it.each([
    ['a TPM', fakeTpmHsm()],
    ['a store that keeps its key', sealedSymmetricKeyHsm()],
  ])('is not to be had from %s', async (_name, hsm) => {
    const bench = new HubBench({ hsm });
    const failure = await failureOf(bench.transport.connectionInfo(bench.parameters).connectionString());
    expect(failure).toMatchObject({ code: 'ERR_DPS_HSM_NOT_EXPORTABLE', operation: 'export the key' });
    expect(failure.message).toMatch(/mqttOptions/);
  });

  it('shows nothing of the identity when the info itself is printed', () => {
    const bench = new HubBench();
    const info = bench.transport.connectionInfo(bench.parameters);
    expect(inspect(info, { depth: 10, showHidden: true })).not.toContain(DEVICE_KEY);
  });
});

describe('what is no signal', () => {
  it.each<[unknown, string]>([
    [null, 'null'],
    [{}, 'an object'],
    [() => {}, 'a function'],
    [new AbortController(), 'an object. Of an AbortController pass controller.signal'],
  ])('is refused by name (%s)', async (signal, words) => {
    const bench = new HubBench();
    const info = bench.transport.connectionInfo(bench.parameters);
    const session = await bench.open();
    const given = signal as AbortSignal;
    const calls: [string, () => Promise<unknown>][] = [
      ['mqttOptions()', () => info.mqttOptions(given)],
      ['connectionString()', () => info.connectionString(given)],
      ['Opening a hub session', () => bench.transport.open(bench.parameters, given)],
      ['report()', () => session.report({ a: 1 }, given)],
      ['sendTelemetry()', () => session.sendTelemetry({ body: 1 }, given)],
    ];
    bench.takeLog();
    for (const [name, call] of calls) {
      expect(await failureOf(call())).toMatchObject({
        name: 'ConfigurationError',
        code: 'ERR_DPS_CONFIG_OPTION',
        option: 'signal',
        message: `${name} takes an AbortSignal as signal, not ${words}.`,
      });
    }
    expect(bench.takeLog()).toEqual([]);
    await session.close();
  });
});
