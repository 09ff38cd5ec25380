import { X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Emulator, type HubControls, startEmulator } from '../../src/emulator/index.js';
import { type IssuedCertificate, makeSelfSigned } from '../../src/emulator/pki.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { bytes } from '../fakes/mqtt-bytes.js';
import { MqttProbe, type ProbeOptions } from './mqtt-probe.js';
import { DEVICE_KEY, GROUP_KEY, hmacBase64, hubToken, OTHER_KEY } from './tokens.js';

const TWIN_ANSWERS = '$iothub/twin/res/#';
const DESIRED = '$iothub/twin/PATCH/properties/desired/#';
const METHODS = '$iothub/methods/POST/#';
const MESSAGES = 'devices/dev-1/messages/devicebound/#';

let clock: ManualClock;
let emulator: Emulator;
let hub: HubControls;
let certificate: IssuedCertificate;
let stranger: IssuedCertificate;
const probes: MqttProbe[] = [];

beforeAll(async () => {
  clock = new ManualClock();
  emulator = await startEmulator({}, { clock });
  hub = emulator.hub();
  certificate = await makeSelfSigned({ commonName: 'x-1', usage: 'client' });
  stranger = await makeSelfSigned({ commonName: 'x-1', usage: 'client' });
});

afterAll(() => emulator.close());

beforeEach(() => {
  emulator.faults.clear();
  emulator.trace.clear();
  hub.removeDevice('dev-1');
  hub.addDevice(
    { deviceId: 'dev-1', authentication: { type: 'sas', primaryKey: DEVICE_KEY, secondaryKey: OTHER_KEY } },
    { tags: { line: 3 }, desired: { fan: 'on' } },
  );
});

afterEach(async () => {
  await Promise.all(probes.splice(0).map((probe) => probe.close()));
});

async function open(options: Partial<ProbeOptions> = {}): Promise<MqttProbe> {
  const address = emulator.endpoints.hubs[0]?.mqtt ?? '';
  const probe = await MqttProbe.open({ address, caPem: emulator.caPem, ...options });
  probes.push(probe);
  return probe;
}

const seconds = (offset: number): number => Math.floor(clock.wallMs() / 1000) + offset;

const fields = (more: { key?: string; host?: string; clean?: boolean } = {}) => ({
  clientId: 'dev-1',
  username: `${more.host ?? hub.hostName}/dev-1/?api-version=2021-04-12&DeviceClientType=azure-iot-device%2F1.18.4`,
  password: hubToken(more.host ?? hub.hostName, 'dev-1', more.key ?? DEVICE_KEY, seconds(3600)),
  clean: more.clean ?? false,
});

/** Connected, with these subscriptions. */
async function ready(
  filters: Readonly<Record<string, 0 | 1>> = { [TWIN_ANSWERS]: 0 },
  clean = true,
): Promise<MqttProbe> {
  const probe = await open();
  expect(await probe.connect(fields({ clean }))).toMatchObject({ returnCode: 0 });
  if (Object.keys(filters).length > 0) await probe.subscribe(filters);
  return probe;
}

/** Closes the connection that was opened last, and waits until the emulator has noticed. */
async function leave(probe: MqttProbe): Promise<void> {
  const connection = emulator.trace.entries({ event: 'connect' }).at(-1)?.connection ?? 0;
  await probe.close();
  await emulator.trace.waitFor({ event: 'close', connection });
}

async function readTwin(probe: MqttProbe, requestId = '1'): Promise<unknown> {
  probe.publish(`$iothub/twin/GET/?$rid=${requestId}`, '');
  const { topic, text } = await probe.nextPublish();
  expect(topic).toBe(`$iothub/twin/res/200/?$rid=${requestId}`);
  return JSON.parse(text);
}

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
        [MESSAGES]: 2,
        'devices/+/messages/devicebound/#': 1,
      }),
    ).toEqual([0x80, 0x80, 1, 1]);
  });
});

describe('sessions', () => {
  it('keep the subscriptions of a client that does not start clean', async () => {
    const first = await open();
    expect(await first.connect(fields({ clean: false }))).toMatchObject({ sessionPresent: false });
    await first.subscribe({ [TWIN_ANSWERS]: 0, [DESIRED]: 0 });
    await first.close();
    const second = await open();
    expect(await second.connect(fields({ clean: false }))).toMatchObject({ sessionPresent: true });
    expect(await readTwin(second)).toMatchObject({ desired: { fan: 'on' } });
    hub.patchDesired('dev-1', { fan: 'off' });
    expect((await second.nextPublish()).topic).toBe('$iothub/twin/PATCH/properties/desired/?$version=2');
    second.send({ cmd: 'unsubscribe', messageId: 3, unsubscriptions: [DESIRED] });
    await second.next();
    await second.close();
    const third = await open();
    await third.connect(fields({ clean: false }));
    hub.patchDesired('dev-1', { fan: 'on' });
    await third.settle();
  });

  it('are dropped by a client that starts clean', async () => {
    await leave(await ready({ [TWIN_ANSWERS]: 0 }, false));
    const clean = await open();
    expect(await clean.connect(fields({ clean: true }))).toMatchObject({ sessionPresent: false });
    await clean.close();
    const after = await open();
    expect(await after.connect(fields({ clean: false }))).toMatchObject({ sessionPresent: false });
    after.publish('$iothub/twin/GET/?$rid=1', '');
    await after.settle();
  });

  it('can be lost by a fault', async () => {
    await leave(await ready({ [TWIN_ANSWERS]: 0 }, false));
    emulator.faults.add({ at: 'hub.connack', action: { kind: 'loseSession' }, times: 1 });
    expect(await (await open()).connect(fields({ clean: false }))).toMatchObject({ sessionPresent: false });
  });
});

describe('the twin', () => {
  it('is read and written, byte by byte', async () => {
    const probe = await ready();
    probe.received.length = 0;
    probe.send(bytes("32 1c 00 18 '$iothub/twin/GET/?$rid=1' 00 07"));
    expect(await probe.next()).toMatchObject({ cmd: 'puback', messageId: 7 });
    const answer = await probe.nextPublish();
    expect(answer.topic).toBe('$iothub/twin/res/200/?$rid=1');
    expect(answer.text).toBe('{"desired":{"fan":"on","$version":1},"reported":{"$version":1}}');
    expect(answer.packet.qos).toBe(0);
    probe.publish('$iothub/twin/PATCH/properties/reported/?$rid=a2', '{"fw":"1.2.0","gone":null}', 1, 8);
    expect(await probe.next()).toMatchObject({ cmd: 'puback', messageId: 8 });
    expect(await probe.nextPublish()).toMatchObject({ topic: '$iothub/twin/res/204/?$rid=a2&$version=2', text: '' });
    expect(hub.twin('dev-1')).toEqual({
      tags: { line: 3 },
      desired: { version: 1, properties: { fan: 'on' } },
      reported: { version: 2, properties: { fw: '1.2.0' } },
    });
  });

  it.each([
    ['no JSON', '{'],
    ['an array', '[]'],
    ['a text', '"x"'],
    ['nothing', ''],
    ['a $-key', '{"$version":3}'],
    ['too deep', '{"1":{"2":{"3":{"4":{"5":{"6":{"7":{"8":{"9":{"10":{"11":{"12":1}}}}}}}}}}}}'],
    ['far too deep', '['.repeat(30_000)],
    ['too deep in arrays', `{"a":${'['.repeat(5000)}${']'.repeat(5000)}}`],
  ])('refuses a report of %s with a body that says so', async (_what, body) => {
    const probe = await ready();
    probe.publish('$iothub/twin/PATCH/properties/reported/?$rid=1', body);
    const { topic, text } = await probe.nextPublish();
    expect(topic).toBe('$iothub/twin/res/400/?$rid=1');
    expect(JSON.parse(text)).toEqual({
      errorCode: 400004,
      trackingId: expect.stringMatching(/^[0-9a-f]{32}-G:\d+-TimeStamp:\d\d\/\d\d\/\d{4} \d\d:\d\d:\d\d$/),
      message: expect.any(String),
      timestampUtc: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$/),
    });
    expect(hub.twin('dev-1')?.reported.version).toBe(1);
  });

  it('is not written without an api-version in the user name', async () => {
    const probe = await open();
    await probe.connect({ ...fields(), username: `${hub.hostName}/dev-1` });
    await probe.subscribe({ [TWIN_ANSWERS]: 0 });
    probe.publish('$iothub/twin/PATCH/properties/reported/?$rid=1', '{}');
    expect((await probe.nextPublish()).topic).toBe('$iothub/twin/res/400/?$rid=1');
  });

  it('is not told to those who did not subscribe', async () => {
    const probe = await ready({});
    probe.publish('$iothub/twin/GET/?$rid=1', ' ');
    hub.patchDesired('dev-1', { fan: 'off' });
    await probe.settle();
    expect(emulator.trace.entries({ event: 'twinAnswer' })).toMatchObject([{ detail: 'nobody subscribed to it' }]);
    expect(emulator.trace.count({ event: 'desiredPush' })).toBe(0);
  });

  it('is pushed as it was patched, or as a whole with nulls', async () => {
    const probe = await ready({ [DESIRED]: 0 });
    expect(hub.patchDesired('dev-1', { led: { on: true }, fan: 'on' })).toBe(2);
    expect(await probe.nextPublish()).toMatchObject({
      topic: '$iothub/twin/PATCH/properties/desired/?$version=2',
      text: '{"led":{"on":true},"fan":"on","$version":2}',
    });
    expect(hub.replaceDesired('dev-1', { led: 1 })).toBe(3);
    expect(JSON.parse((await probe.nextPublish()).text)).toEqual({ led: 1, fan: null, $version: 3 });
    expect(() => hub.patchDesired('dev-1', { 'a.b': 1 })).toThrow(
      expect.objectContaining({ name: 'ServiceError', status: 400 }),
    );
    expect(() => hub.patchDesired('nobody', {})).toThrow(expect.objectContaining({ errorCode: 404001 }));
  });

  it('is not kept for those who are away', async () => {
    await leave(await ready({ [TWIN_ANSWERS]: 0, [DESIRED]: 0 }, false));
    hub.patchDesired('dev-1', { fan: 'off' });
    const probe = await open();
    await probe.connect(fields({ clean: false }));
    expect(await readTwin(probe)).toMatchObject({ desired: { fan: 'off', $version: 2 } });
  });
});

describe('telemetry', () => {
  it('is taken with its decoded property bag', async () => {
    const probe = await ready({});
    probe.publish(
      'devices/dev-1/messages/events/%24.mid=m%2F1%202&$.ct=application%2Fjson&p%20a=v%26%3D&bare',
      '{"t":1}',
      1,
      4,
    );
    expect(await probe.next()).toMatchObject({ cmd: 'puback', messageId: 4 });
    probe.publish('devices/dev-1/messages/events/', Buffer.from([0xff, 0x00]));
    probe.send({
      cmd: 'publish',
      topic: 'devices/dev-1/messages/events',
      payload: 'r',
      qos: 0,
      dup: false,
      retain: true,
    });
    await probe.settle();
    const [first, second, third] = hub.telemetry('dev-1').slice(-3);
    expect(first?.properties).toEqual({ '$.mid': 'm/1 2', '$.ct': 'application/json', 'p a': 'v&=', bare: '' });
    expect([...(second?.body ?? [])]).toEqual([0xff, 0x00]);
    expect(third?.properties).toEqual({ 'mqtt-retain': 'true' });
  });

  it('takes the will when the connection ends without goodbye, and only then', async () => {
    const will = { topic: 'devices/dev-1/messages/events/a=b', payload: 'gone' };
    const before = hub.telemetry('dev-1').length;
    const polite = await open();
    await polite.connect({ ...fields(), will });
    polite.send({ cmd: 'disconnect' });
    await polite.closed;
    const { connection } = await emulator.trace.waitFor({ event: 'disconnect' });
    await emulator.trace.waitFor({ event: 'close', connection });
    expect(hub.telemetry('dev-1')).toHaveLength(before);
    const rude = await open();
    await rude.connect({ ...fields(), will });
    await rude.close();
    await emulator.trace.waitFor({ event: 'telemetry' });
    expect(hub.telemetry('dev-1')).toHaveLength(before + 1);
    expect(hub.telemetry('dev-1').at(-1)?.properties).toEqual({ a: 'b', 'iothub-MessageType': 'Will' });
  });
});

describe('methods', () => {
  it('reach a listening device and bring its answer back', async () => {
    const probe = await ready({ [METHODS]: 0 });
    const called = hub.invokeMethod('dev-1', 'reboot', { in: 5 });
    const { topic, text, packet } = await probe.nextPublish();
    const requestId = /^\$iothub\/methods\/POST\/reboot\/\?\$rid=(.+)$/.exec(topic)?.[1];
    expect(text).toBe('{"in":5}');
    expect(packet.qos).toBe(0);
    probe.publish(`$iothub/methods/res/207/?$rid=${requestId}`, '{"ok":true}', 1);
    await expect(called).resolves.toEqual({ status: 207, payload: { ok: true } });
    expect(await probe.next()).toMatchObject({ cmd: 'puback' });
  });

  it.each(['0', '-1', '99', '1000', '2147483647', '-2147483648', '999999999999', '9007199254740991'])(
    'may be answered with any integer for a status: %s',
    async (status) => {
      const probe = await ready({ [METHODS]: 0 });
      const called = hub.invokeMethod('dev-1', 'reboot');
      const { topic } = await probe.nextPublish();
      probe.publish(`$iothub/methods/res/${status}/?${topic.split('?')[1]}`, 'null');
      await expect(called).resolves.toEqual({ status: Number(status), payload: null });
    },
  );

  it.each(['', '-', '1.5', '1e3', '+5', '9007199254740993', '99999999999999999999', '0x10'])(
    'end the connection, with a word in the log, when the status is no integer: %j',
    async (status) => {
      const probe = await ready({ [METHODS]: 0 });
      const called = hub.invokeMethod('dev-1', 'reboot', null, { timeoutMs: 5000 });
      const { topic } = await probe.nextPublish();
      const answer = `$iothub/methods/res/${status}/?${topic.split('?')[1]}`;
      probe.publish(answer, 'null');
      await probe.closed;
      expect(emulator.trace.entries({ event: 'violation' })[0]?.detail).toBe(`nothing is published at ${answer}`);
      clock.advance(5000);
      await expect(called).rejects.toMatchObject({ errorCode: 504101 });
    },
  );

  it('always carry a JSON body; an empty answer is null, a broken one an error', async () => {
    const probe = await ready({ [METHODS]: 0 });
    const answer = async (body: string): Promise<void> => {
      const { topic, text } = await probe.nextPublish();
      expect(text).toBe('null');
      probe.publish(`$iothub/methods/res/200/?${topic.split('?')[1]}`, body);
    };
    const empty = hub.invokeMethod('dev-1', 'a');
    await answer('');
    await expect(empty).resolves.toEqual({ status: 200, payload: null });
    const broken = hub.invokeMethod('dev-1', 'a');
    await answer('{');
    await expect(broken).rejects.toMatchObject({ status: 502 });
  });

  it('fail at once when nobody is there, and in time when nobody answers', async () => {
    await expect(hub.invokeMethod('dev-1', 'x')).rejects.toMatchObject({ name: 'ServiceError', errorCode: 404103 });
    await expect(hub.invokeMethod('nobody', 'x')).rejects.toMatchObject({ errorCode: 404001 });
    await expect(hub.invokeMethod('dev-1', 'a/b')).rejects.toMatchObject({ errorCode: 400004 });
    const probe = await ready({ [TWIN_ANSWERS]: 0 });
    await expect(hub.invokeMethod('dev-1', 'x')).rejects.toMatchObject({ errorCode: 404103 });
    await probe.subscribe({ [METHODS]: 0 });
    const called = hub.invokeMethod('dev-1', 'x', null, { timeoutMs: 5000 });
    called.catch(() => {});
    await probe.nextPublish();
    clock.advance(5000);
    await expect(called).rejects.toMatchObject({ errorCode: 504101 });
  });
});

describe('messages to the device', () => {
  it('come with their properties and are done with the PUBACK', async () => {
    const probe = await ready({ [MESSAGES]: 1 });
    hub.sendC2D('dev-1', {
      body: 'hello',
      messageId: 'm 1',
      ack: 'full',
      properties: { 'k&': 'v=', empty: '', bare: null },
    });
    const { topic, text, packet } = await probe.nextPublish();
    expect(topic).toBe(
      'devices/dev-1/messages/devicebound/%24.mid=m%201&%24.to=%2Fdevices%2Fdev-1%2Fmessages%2Fdevicebound&iothub-ack=full&k%26=v%3D&empty=&bare',
    );
    expect(text).toBe('hello');
    expect(packet).toMatchObject({ qos: 1, dup: false });
    expect(hub.queuedC2D('dev-1')).toHaveLength(1);
    probe.send({ cmd: 'puback', messageId: packet.messageId ?? 0 });
    await probe.settle();
    expect(hub.queuedC2D('dev-1')).toEqual([]);
  });

  it('wait for a device that is away, and come again until acknowledged', async () => {
    hub.sendC2D('dev-1', { body: 'first' });
    hub.sendC2D('dev-1', { body: 'second' });
    const probe = await ready({ [MESSAGES]: 1 }, false);
    const first = await probe.nextPublish();
    expect(first.text).toBe('first');
    expect((await probe.nextPublish()).text).toBe('second');
    probe.send({ cmd: 'puback', messageId: first.packet.messageId ?? 0 });
    await probe.settle();
    await probe.close();
    const again = await open();
    await again.connect(fields({ clean: false }));
    // No SUBSCRIBE: the session still has it.
    const second = await again.nextPublish();
    expect(second).toMatchObject({ text: 'second', packet: { dup: true, qos: 1 } });
    again.send({ cmd: 'puback', messageId: second.packet.messageId ?? 0 });
    await again.settle();
    expect(hub.queuedC2D('dev-1')).toEqual([]);
  });

  it('come again to the connection that takes over', async () => {
    const older = await ready({ [MESSAGES]: 1 }, false);
    hub.sendC2D('dev-1', { body: 'once more' });
    const { packet } = await older.nextPublish();
    const newer = await open();
    await newer.connect(fields({ clean: false }));
    await older.closed;
    expect(await newer.nextPublish()).toMatchObject({
      text: 'once more',
      packet: { dup: true, messageId: packet.messageId },
    });
  });

  it('come to the filter of the embedded C client, and once only to QoS 0', async () => {
    const probe = await ready({ 'devices/+/messages/devicebound/#': 0 });
    hub.sendC2D('dev-1', { body: Uint8Array.of(1, 2, 255) });
    const { packet } = await probe.nextPublish();
    expect(packet.qos).toBe(0);
    expect(packet.payload).toEqual(Buffer.from([1, 2, 255]));
    expect(hub.queuedC2D('dev-1')).toEqual([]);
  });

  it('are fifty at most, of 64 KB, and expire', async () => {
    expect(() => hub.sendC2D('dev-1', { body: 'x'.repeat(65_537) })).toThrow(expect.objectContaining({ status: 413 }));
    for (let index = 0; index < 50; index += 1) hub.sendC2D('dev-1', { body: 'x', timeToLiveMs: 1000 });
    expect(() => hub.sendC2D('dev-1', { body: 'x' })).toThrow(expect.objectContaining({ errorCode: 403004 }));
    clock.advance(1000);
    hub.sendC2D('dev-1', { body: 'fresh' });
    const probe = await ready({ [MESSAGES]: 1 });
    expect((await probe.nextPublish()).text).toBe('fresh');
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
    const probe = await ready({ [TWIN_ANSWERS]: 0 });
    emulator.faults.add({ at: 'hub.suback', action: { kind: 'pushDesired', patch: { a: 1 } }, times: 1 });
    await probe.subscribe({ [DESIRED]: 0 });
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
    const probe = await ready({ [DESIRED]: 0 });
    emulator.faults.add({ at: 'hub.desiredPush', action: { kind: 'silent' }, times: 1 });
    hub.patchDesired('dev-1', { a: 1 });
    hub.patchDesired('dev-1', { b: 2 });
    expect((await probe.nextPublish()).text).toBe('{"b":2,"$version":3}');
  });

  it('swallow acknowledgements, pings, messages and method calls', async () => {
    const probe = await ready({ [MESSAGES]: 1, [METHODS]: 0 });
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
