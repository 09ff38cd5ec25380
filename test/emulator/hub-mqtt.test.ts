import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  certificate,
  clock,
  emulator,
  FILTERS,
  fields,
  hub,
  leave,
  open,
  readTwin,
  ready,
  seconds,
  stranger,
} from './hub-mqtt-bench.js';
import type { MqttProbe, ProbeOptions } from './mqtt-probe.js';
import { DEVICE_KEY, GROUP_KEY, hmacBase64, hubToken, OTHER_KEY } from './tokens.js';

describe('CONNECT', () => {
  const isLetIn = async (more: object, options: Partial<ProbeOptions> = {}): Promise<number | undefined> => {
    const probe = await open(options);
    const { returnCode } = await probe.connect({ ...fields(), ...more });
    return returnCode;
  };
  const cause = (): string | undefined => emulator.trace.entries({ event: 'refused' }).at(-1)?.detail;

  it.each<[string, () => object]>([
    ['the primary key', () => fields()],
    ['the secondary key', () => fields({ key: OTHER_KEY })],
    ['127.0.0.1 for the host', () => fields({ host: hub.hostName.replace('localhost', '127.0.0.1') })],
    ['the hub’s short name', () => fields({ host: 'hub-1' })],
    ['the DPS listener’s door', () => fields()],
    ['the old form of the user name', () => ({ username: `${hub.hostName}/dev-1/api-version=2016-11-14` })],
    [
      'a raw model id',
      () => ({
        username: `${hub.hostName}/dev-1/?api-version=2021-04-12&model-id=dtmi:com:example:Thermostat;1&DeviceClientType=x`,
      }),
    ],
    [
      'keys in another order',
      () => ({ username: `${hub.hostName}/dev-1/?DeviceClientType=a%2Fb&api-version=2019-10-01` }),
    ],
    [
      'a token with a raw resource, as from the C client',
      () => {
        const signed = `${hub.hostName}/devices/dev-1`;
        const expiry = seconds(60);
        return {
          password: `SharedAccessSignature sr=${signed}&sig=${encodeURIComponent(hmacBase64(DEVICE_KEY, `${signed}\n${expiry}`))}&se=${expiry}`,
        };
      },
    ],
    [
      'a token that expired within the skew',
      () => ({ password: hubToken(hub.hostName, 'dev-1', DEVICE_KEY, seconds(-299)) }),
    ],
  ])('takes %s', async (what, more) => {
    const options = what.startsWith('the DPS') ? { address: emulator.endpoints.dps.mqtt } : {};
    expect(await isLetIn(more(), options)).toBe(0);
  });

  it.each<[string, () => object, string]>([
    ['another key', () => fields({ key: GROUP_KEY }), 'signed with another key'],
    [
      'a token for another device',
      () => ({ password: hubToken(hub.hostName, 'Dev-1', DEVICE_KEY, seconds(60)) }),
      'another resource',
    ],
    [
      'a token for another hub',
      () => ({ password: hubToken('elsewhere.test', 'dev-1', DEVICE_KEY, seconds(60)) }),
      'another resource',
    ],
    ['an expired token', () => ({ password: hubToken(hub.hostName, 'dev-1', DEVICE_KEY, seconds(-301)) }), 'expired'],
    ['no token', () => ({ password: undefined }), 'no SAS token'],
    ['garbage for a token', () => ({ password: 'x' }), 'malformed'],
    [
      'an unknown device',
      () => ({ clientId: 'nobody', username: `${hub.hostName}/nobody/?api-version=2021-04-12` }),
      'knows no device',
    ],
    [
      'another spelling of the device',
      () => ({ clientId: 'DEV-1', username: `${hub.hostName}/DEV-1/?api-version=2021-04-12` }),
      'knows no device',
    ],
    ['another client id', () => ({ clientId: 'other' }), 'client id'],
    ['an unknown hub', () => fields({ host: 'elsewhere.test' }), 'no hub "elsewhere.test"'],
    [
      'a module',
      () => ({ clientId: 'dev-1/mod', username: `${hub.hostName}/dev-1/mod/?api-version=2021-04-12` }),
      'modules',
    ],
  ])('refuses %s with return code 5, and logs the cause', async (_what, more, reason) => {
    expect(await isLetIn(more())).toBe(5);
    expect(cause()).toContain(reason);
  });

  it('knows certificates by their thumbprint, SHA-256 or SHA-1', async () => {
    const { fingerprint, fingerprint256 } = new X509Certificate(certificate.certificatePem);
    const who = { clientId: 'x-1', username: `${hub.hostName}/x-1/?api-version=2021-04-12`, password: undefined };
    const shown = { cert: certificate.certificatePem, key: certificate.privateKeyPem };
    for (const thumbprint of [fingerprint, fingerprint256]) {
      const primaryThumbprint = thumbprint.replaceAll(':', '');
      hub.addDevice({ deviceId: 'x-1', authentication: { type: 'selfSigned', primaryThumbprint } });
      expect(await isLetIn(who, shown)).toBe(0);
    }
    const primaryThumbprint = 'ab'.repeat(32);
    const secondaryThumbprint = fingerprint256.replaceAll(':', '').toLowerCase();
    hub.addDevice({ deviceId: 'x-1', authentication: { type: 'selfSigned', primaryThumbprint, secondaryThumbprint } });
    expect(await isLetIn(who, shown)).toBe(0);
    expect(await isLetIn(who, { cert: stranger.certificatePem, key: stranger.privateKeyPem })).toBe(5);
    expect(cause()).toContain('another thumbprint');
    expect(await isLetIn(who)).toBe(5);
    expect(cause()).toContain('no client certificate');
  });

  it('refuses a disabled device and throws a connected one out', async () => {
    const probe = await ready();
    hub.setDeviceEnabled('dev-1', false);
    await probe.closed;
    expect(await isLetIn({})).toBe(5);
    expect(cause()).toContain('disabled');
    hub.setDeviceEnabled('dev-1', true);
    expect(await isLetIn({})).toBe(0);
  });

  it('throws out a device whose identity is removed', async () => {
    const probe = await ready();
    hub.removeDevice('dev-1');
    await probe.closed;
    expect(await isLetIn({})).toBe(5);
  });
});

describe('a live connection', () => {
  it('ends without a packet when a newer one takes over', async () => {
    const older = await ready();
    older.received.length = 0;
    const newer = await ready();
    await older.closed;
    expect(older.received).toEqual([]);
    await newer.settle();
    expect(hub.devices().find(({ deviceId }) => deviceId === 'dev-1')).toMatchObject({ isConnected: true });
    await leave(newer);
    expect(hub.devices().find(({ deviceId }) => deviceId === 'dev-1')).toMatchObject({ isConnected: false });
  });

  it('ends ten minutes after its token expired', async () => {
    const probe = await open();
    await probe.connect({
      ...fields(),
      keepalive: 0,
      password: hubToken(hub.hostName, 'dev-1', DEVICE_KEY, seconds(60)),
    });
    clock.advance(60_000 + 599_999);
    await probe.settle();
    clock.advance(1);
    await probe.closed;
  });

  it('ends when nothing was heard for 1.5 keep-alives, 1767 s at most', async () => {
    const quick = await open();
    await quick.connect({ ...fields(), keepalive: 10 });
    clock.advance(14_999);
    await quick.settle();
    clock.advance(15_000);
    await quick.closed;
    const slow = await open();
    await slow.connect({ ...fields(), keepalive: 65535 });
    clock.advance(1_766_999);
    await slow.settle();
    clock.advance(1_767_000);
    await slow.closed;
  });

  it.each<[string, (probe: MqttProbe) => void]>([
    ['QoS 2', (probe) => probe.publish('devices/dev-1/messages/events/', 'x', 2)],
    ['more than 256 KB', (probe) => probe.publish('devices/dev-1/messages/events/', 'x'.repeat(262_145))],
    ['an unknown topic', (probe) => probe.publish('my/topic', 'x')],
    ['another device’s topic', (probe) => probe.publish('devices/dev-2/messages/events/', 'x')],
    ['a twin request without $rid', (probe) => probe.publish('$iothub/twin/GET/', '')],
    ['garbage', (probe) => probe.send(Buffer.from('nonsense, nonsense'))],
  ])('ends with %s', async (_what, misbehave) => {
    const probe = await ready();
    misbehave(probe);
    await probe.closed;
  });

  it('is told that other filters are not granted', async () => {
    const probe = await ready({});
    expect(
      await probe.subscribe({
        '#': 0,
        'devices/dev-2/messages/devicebound/#': 1,
        [FILTERS.messages]: 2,
        'devices/+/messages/devicebound/#': 1,
      }),
    ).toEqual([0x80, 0x80, 1, 1]);
  });
});

describe('sessions', () => {
  it('keep the subscriptions of a client that does not start clean', async () => {
    const first = await open();
    expect(await first.connect(fields({ clean: false }))).toMatchObject({ sessionPresent: false });
    await first.subscribe({ [FILTERS.twinAnswers]: 0, [FILTERS.desired]: 0 });
    await first.close();
    const second = await open();
    expect(await second.connect(fields({ clean: false }))).toMatchObject({ sessionPresent: true });
    expect(await readTwin(second)).toMatchObject({ desired: { fan: 'on' } });
    hub.patchDesired('dev-1', { fan: 'off' });
    expect((await second.nextPublish()).topic).toBe('$iothub/twin/PATCH/properties/desired/?$version=2');
    second.send({ cmd: 'unsubscribe', messageId: 3, unsubscriptions: [FILTERS.desired] });
    await second.next();
    await second.close();
    const third = await open();
    await third.connect(fields({ clean: false }));
    hub.patchDesired('dev-1', { fan: 'on' });
    await third.settle();
  });

  it('are dropped by a client that starts clean', async () => {
    await leave(await ready({ [FILTERS.twinAnswers]: 0 }, false));
    const clean = await open();
    expect(await clean.connect(fields({ clean: true }))).toMatchObject({ sessionPresent: false });
    await clean.close();
    const after = await open();
    expect(await after.connect(fields({ clean: false }))).toMatchObject({ sessionPresent: false });
    after.publish('$iothub/twin/GET/?$rid=1', '');
    await after.settle();
  });

  it('can be lost by a fault', async () => {
    await leave(await ready({ [FILTERS.twinAnswers]: 0 }, false));
    emulator.faults.add({ at: 'hub.connack', action: { kind: 'loseSession' }, times: 1 });
    expect(await (await open()).connect(fields({ clean: false }))).toMatchObject({ sessionPresent: false });
  });
});

describe('fault switches', () => {
  it('force a CONNACK, or cut after it', async () => {
    emulator.faults.add({ at: 'hub.connack', action: { kind: 'connack', code: 3 }, times: 1 });
    expect(await (await open()).connect(fields())).toMatchObject({ returnCode: 3 });
    emulator.faults.add({ at: 'hub.connack', action: { kind: 'cut', when: 'after' }, times: 1 });
    const probe = await open();
    expect(await probe.connect(fields())).toMatchObject({ returnCode: 0 });
    await probe.closed;
  });

  it('lose or replace a twin answer', async () => {
    const probe = await ready();
    emulator.faults.add({ at: 'hub.twinGet', action: { kind: 'silent' }, times: 1 });
    probe.publish('$iothub/twin/GET/?$rid=1', '');
    await probe.settle();
    emulator.faults.add({ at: 'hub.twinGet', action: { kind: 'respond', status: 429 }, times: 1 });
    probe.publish('$iothub/twin/GET/?$rid=2', '');
    const throttled = await probe.nextPublish();
    expect(throttled.topic).toBe('$iothub/twin/res/429/?$rid=2');
    expect(JSON.parse(throttled.text)).toMatchObject({ errorCode: 429001 });
    emulator.faults.add({ at: 'hub.twinPatch', action: { kind: 'respond', status: 500, text: '' }, times: 1 });
    probe.publish('$iothub/twin/PATCH/properties/reported/?$rid=3', '{}');
    expect(await probe.nextPublish()).toMatchObject({ topic: '$iothub/twin/res/500/?$rid=3', text: '' });
  });

  it('push between SUBACK and GET, or between GET and its answer', async () => {
    const probe = await ready({ [FILTERS.twinAnswers]: 0 });
    emulator.faults.add({ at: 'hub.suback', action: { kind: 'pushDesired', patch: { a: 1 } }, times: 1 });
    await probe.subscribe({ [FILTERS.desired]: 0 });
    expect((await probe.nextPublish()).text).toBe('{"a":1,"$version":2}');
    emulator.faults.add({
      at: 'hub.twinGet',
      action: { kind: 'pushDesired', patch: { a: 2 }, answer: 'stale' },
      times: 1,
    });
    probe.publish('$iothub/twin/GET/?$rid=1', '');
    expect((await probe.nextPublish()).text).toBe('{"a":2,"$version":3}');
    expect((await probe.nextPublish()).text).toContain('"a":1,"$version":2');
    emulator.faults.add({ at: 'hub.twinGet', action: { kind: 'pushDesired', patch: { a: 3 } }, times: 1 });
    probe.publish('$iothub/twin/GET/?$rid=2', '');
    expect((await probe.nextPublish()).text).toBe('{"a":3,"$version":4}');
    expect((await probe.nextPublish()).text).toContain('"a":3,"$version":4');
  });

  it('make a gap in the versions', async () => {
    const probe = await ready({ [FILTERS.desired]: 0 });
    emulator.faults.add({ at: 'hub.desiredPush', action: { kind: 'silent' }, times: 1 });
    hub.patchDesired('dev-1', { a: 1 });
    hub.patchDesired('dev-1', { b: 2 });
    expect((await probe.nextPublish()).text).toBe('{"b":2,"$version":3}');
  });

  it('swallow acknowledgements, pings, messages and method calls', async () => {
    const probe = await ready({ [FILTERS.messages]: 1, [FILTERS.methods]: 0 });
    emulator.faults.add({ at: 'hub.puback', action: { kind: 'silent' }, times: 1 });
    emulator.faults.add({ at: 'hub.ping', action: { kind: 'silent' }, times: 1 });
    emulator.faults.add({ at: 'hub.cloudToDevice', action: { kind: 'silent' }, times: 1 });
    emulator.faults.add({ at: 'hub.method', action: { kind: 'cut' }, times: 1 });
    probe.publish('devices/dev-1/messages/events/', 'x', 1);
    probe.send({ cmd: 'pingreq' });
    await emulator.trace.waitFor({ event: 'ping' });
    hub.sendC2D('dev-1', { body: 'lost' });
    const called = hub.invokeMethod('dev-1', 'x');
    called.catch(() => {});
    await probe.closed;
    expect(emulator.trace.count({ event: 'fault' })).toBe(4);
    clock.advance(30_000);
    await expect(called).rejects.toMatchObject({ status: 504 });
  });

  it('that fail when their time comes end the connection, not the process', async () => {
    const probe = await ready();
    const action = [
      { kind: 'wait', ms: 1000 },
      { kind: 'pushDesired', patch: { 'a.b': 1 } },
    ] as const;
    emulator.faults.add({ at: 'hub.twinGet', action });
    probe.publish('$iothub/twin/GET/?$rid=1', '');
    await emulator.trace.waitFor({ event: 'fault' });
    expect(() => clock.advance(1000)).not.toThrow();
    await probe.closed;
    expect(emulator.trace.entries({ event: 'violation' })[0]?.detail).toContain('cannot be handled');
  });
});
