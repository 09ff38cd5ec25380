import { describe, expect, it } from 'vitest';
import { bytes } from '../fakes/mqtt-bytes.js';
import {
  ask,
  clock,
  EXPIRY,
  emulator,
  FILTER,
  leaf,
  OTHER_SCOPE,
  open,
  REGISTER,
  ready,
  SCOPE,
  stranger,
  userName,
  withKey,
} from './dps-mqtt-bench.js';
import type { MqttProbe, ProbeOptions } from './mqtt-probe.js';
import { DEVICE_KEY, dpsToken, GROUP_KEY, hmacBase64 } from './tokens.js';

const statusTopic = (requestId: string, operationId: unknown): string =>
  `$dps/registrations/GET/iotdps-get-operationstatus/?$rid=${requestId}&operationId=${operationId}`;

describe('the whole exchange, byte by byte', () => {
  it('answers as the recorded service does', async () => {
    const probe = await open();
    const user = userName();
    const token = dpsToken(SCOPE, 'dev-1', DEVICE_KEY, EXPIRY);
    const text = (value: string): Buffer =>
      Buffer.concat([Buffer.from([value.length >> 8, value.length & 0xff]), Buffer.from(value)]);
    const body = Buffer.concat([bytes("00 04 'MQTT' 04 c2 00 b4"), text('dev-1'), text(user), text(token)]);
    probe.send(Buffer.concat([bytes('10'), Buffer.from([(body.length & 0x7f) | 0x80, body.length >> 7]), body]));
    await probe.next();
    expect(Buffer.concat(probe.received.splice(0))).toEqual(bytes('20 02 00 00'));

    // SUBSCRIBE, packet id 1, QoS 1.
    probe.send(bytes("82 1d 00 01 00 18 '$dps/registrations/res/#' 01"));
    await probe.next();
    expect(Buffer.concat(probe.received.splice(0))).toEqual(bytes('90 03 00 01 01'));

    // PUBLISH QoS 1, packet id 2.
    probe.send(
      bytes("32 4c 00 2e '$dps/registrations/PUT/iotdps-register/?$rid=1' 00 02" + ` '{"registrationId":"dev-1"}'`),
    );
    expect(await probe.next()).toMatchObject({ cmd: 'puback', messageId: 2 });
    const reply = await probe.nextPublish();
    expect(reply.topic).toBe('$dps/registrations/res/202/?$rid=1&retry-after=3');
    expect(reply.packet).toMatchObject({ qos: 1, dup: false, retain: false, messageId: expect.any(Number) });
    const received = Buffer.concat(probe.received.splice(0));
    expect(received.subarray(0, 4)).toEqual(bytes('40 02 00 02'));
    expect(received[4]).toBe(0x32);
    const { operationId } = JSON.parse(reply.text);

    probe.publish(statusTopic('2', operationId), ' ', 1, 3);
    expect(await probe.next()).toMatchObject({ cmd: 'puback', messageId: 3 });
    const result = await probe.nextPublish();
    expect(result.topic).toBe('$dps/registrations/res/200/?$rid=2');
    expect(JSON.parse(result.text)).toMatchObject({
      operationId,
      status: 'assigned',
      registrationState: { registrationId: 'dev-1', assignedHub: 'hub-a.test', deviceId: 'dev-1', status: 'assigned' },
    });
    expect(emulator.registration('dev-1')).toMatchObject({ status: 'assigned' });

    // UNSUBSCRIBE, packet id 4.
    probe.received.length = 0;
    probe.send(bytes("a2 1c 00 04 00 18 '$dps/registrations/res/#'"));
    await probe.next();
    expect(Buffer.concat(probe.received)).toEqual(bytes('b0 02 00 04'));
    probe.send(bytes('e0 00'));
    await probe.closed;
  });
});

describe('CONNECT', () => {
  it.each([
    ['an unknown scope', { ...withKey('dev-1', DEVICE_KEY, '0ne99999999') }, 3],
    ['another client id', { ...withKey(), clientId: 'dev-2' }, 2],
    ['no api-version', { ...withKey(), username: `${SCOPE}/registrations/dev-1/ClientVersion=x` }, 4],
    ['no query at all', { ...withKey(), username: `${SCOPE}/registrations/dev-1` }, 4],
    ['a user name of no kind', { ...withKey(), username: 'dev-1' }, 4],
    ['no user name', { clientId: 'dev-1', username: '' }, 4],
  ])('is refused for %s', async (_what, fields, code) => {
    const probe = await open();
    expect(await probe.connect(fields)).toMatchObject({ returnCode: code, sessionPresent: false });
    await probe.closed;
  });

  it('is refused in another version of MQTT', async () => {
    for (const spelling of [
      "10 13 00 06 'MQIsdp' 03 02 00 3c 00 05 'dev-1'",
      "10 12 00 04 'MQTT' 05 02 00 3c 00 00 05 'dev-1'",
    ]) {
      const probe = await open();
      probe.send(bytes(spelling));
      expect(await probe.next()).toMatchObject({ cmd: 'connack', returnCode: 1 });
      await probe.closed;
    }
  });

  it('never finds a session, also without the clean flag', async () => {
    for (let round = 0; round < 2; round += 1) {
      const probe = await open();
      expect(await probe.connect({ ...withKey(), clean: false })).toMatchObject({
        returnCode: 0,
        sessionPresent: false,
      });
      await probe.subscribe({ [FILTER]: 1 });
      await probe.close();
    }
  });

  it('lets the newer of two connections with one registration id win', async () => {
    const older = await ready();
    const newer = await ready();
    await older.closed;
    await newer.settle();
  });

  it('takes keep-alive 0 for ever, and others one and a half times', async () => {
    const patient = await ready(withKey());
    const hasty = await ready({ ...withKey('off-1'), keepalive: 60 } as never);
    clock.advance(89_999);
    await hasty.settle();
    clock.advance(89_999);
    await hasty.settle();
    clock.advance(90_000);
    await hasty.closed;
    await patient.settle();
  });
});

describe('authentication', () => {
  it('is lazy: a wrong key gets CONNACK 0 and its 401 with the register', async () => {
    const probe = await ready(withKey('dev-1', GROUP_KEY));
    const { topic, json } = await ask(probe, `${REGISTER}1`);
    expect(topic).toBe('$dps/registrations/res/401/?$rid=1');
    expect(json).toEqual({
      errorCode: 401002,
      trackingId: expect.any(String),
      message: 'Unauthorized',
      timestampUtc: expect.stringMatching(/\.\d{7}Z$/),
    });
    expect(emulator.trace.entries({ event: 'refused' })).toMatchObject([
      { detail: 'the SAS token is signed with another key' },
    ]);
  });

  it('judges a token’s expiry when the connection was made', async () => {
    const probe = await ready({
      ...withKey(),
      password: dpsToken(SCOPE, 'dev-1', DEVICE_KEY, Math.floor(clock.wallMs() / 1000)),
    });
    clock.advance(3_600_000);
    expect((await ask(probe, `${REGISTER}1`)).topic).toContain('/res/202/');
    const late = await ready({
      ...withKey(),
      password: dpsToken(SCOPE, 'dev-1', DEVICE_KEY, Math.floor(clock.wallMs() / 1000) - 301),
    });
    expect((await ask(late, `${REGISTER}1`)).topic).toContain('/res/401/');
  });

  it('takes a certificate chain from the handshake', async () => {
    const fields = { clientId: 'x-1', username: userName('x-1') };
    const probe = await ready(fields as never, { cert: leaf.chainPem, key: leaf.privateKeyPem });
    const { json } = await ask(probe, `${REGISTER}1`, '{"registrationId":"x-1"}');
    const result = await ask(probe, statusTopic('2', json.operationId));
    expect(result.json).toMatchObject({ registrationState: { x509: { enrollmentGroupId: 'certs' }, deviceId: 'x-1' } });
    const [identity] = emulator
      .hub()
      .devices()
      .filter(({ deviceId }) => deviceId === 'x-1');
    expect(identity?.authentication).toMatchObject({
      type: 'selfSigned',
      primaryThumbprint: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
  });

  it.each<[string, () => Partial<ProbeOptions>, string]>([
    ['an unknown CA', () => ({ cert: stranger.chainPem, key: stranger.privateKeyPem }), 'CA certificate not found'],
    [
      'a missing intermediate',
      () => ({ cert: leaf.certificatePem, key: leaf.privateKeyPem }),
      'CA certificate not found',
    ],
    ['no certificate', () => ({}), 'Unauthorized'],
  ])('answers 401 for %s', async (_what, options, message) => {
    const probe = await ready({ clientId: 'x-1', username: userName('x-1') } as never, options());
    const { topic, json } = await ask(probe, `${REGISTER}1`);
    expect(topic).toBe('$dps/registrations/res/401/?$rid=1');
    expect(json).toMatchObject({ errorCode: 401002, message });
  });

  it('keeps the scopes apart', async () => {
    const probe = await ready(withKey('dev-1', DEVICE_KEY, OTHER_SCOPE));
    expect((await ask(probe, `${REGISTER}1`)).topic).toContain('/res/401/');
    expect(emulator.scope(OTHER_SCOPE).registrations()).toEqual([]);
  });

  it('says disabled after an ordinary 202', async () => {
    const probe = await ready(withKey('off-1'));
    const { topic, json } = await ask(probe, `${REGISTER}1`);
    expect(topic).toBe('$dps/registrations/res/202/?$rid=1&retry-after=3');
    const result = await ask(probe, statusTopic('2', json.operationId));
    expect(result.topic).toBe('$dps/registrations/res/200/?$rid=2');
    expect(result.json).toMatchObject({
      status: 'disabled',
      registrationState: { registrationId: 'off-1', status: 'disabled' },
    });
  });
});

describe('topics', () => {
  it('grants QoS 1 at most, and refuses other filters', async () => {
    const probe = await open();
    await probe.connect(withKey());
    expect(await probe.subscribe({ [FILTER]: 2 })).toEqual([1]);
    expect(await probe.subscribe({ [FILTER]: 0, '#': 1, '$iothub/twin/res/#': 0 })).toEqual([0, 0x80, 0x80]);
  });

  it('answers a QoS 0 subscriber with QoS 0', async () => {
    const probe = await ready(withKey(), {}, 0);
    probe.publish(`${REGISTER}1`, '', 1, 9);
    expect(await probe.next()).toMatchObject({ cmd: 'puback', messageId: 9 });
    expect((await probe.nextPublish()).packet).toMatchObject({ qos: 0 });
  });

  it('returns $rid byte for byte, first, whatever the order and the encoding', async () => {
    const probe = await ready();
    for (const requestId of ['94358a63-e2c6-4c8c-adfc-74c5e7e2486d', '%7Babc%7D', '0']) {
      expect((await ask(probe, REGISTER + requestId)).topic).toBe(
        `$dps/registrations/res/202/?$rid=${requestId}&retry-after=3`,
      );
    }
    const { json } = await ask(probe, `${REGISTER}1`);
    const swapped = `$dps/registrations/GET/iotdps-get-operationstatus/?operationId=${encodeURIComponent(String(json.operationId)).replaceAll('.', '%2E')}&%24rid=abc`;
    expect((await ask(probe, swapped)).topic).toBe('$dps/registrations/res/200/?$rid=abc');
  });

  it('answers 404 for an unknown operation', async () => {
    const { topic, json } = await ask(await ready(), statusTopic('1', '5.0000000000000000.nonsense'));
    expect(topic).toBe('$dps/registrations/res/404/?$rid=1');
    expect(json).toMatchObject({ errorCode: 404201 });
  });

  it('answers nobody who did not subscribe', async () => {
    const probe = await open();
    await probe.connect(withKey());
    probe.publish(`${REGISTER}1`, '');
    await probe.settle();
    expect(emulator.trace.entries({ event: 'reply' })).toMatchObject([
      { status: 202, detail: 'nobody subscribed to it' },
    ]);
  });

  it.each([
    ['an unknown topic', (probe: MqttProbe) => probe.publish('devices/dev-1/messages/events/', 'x')],
    ['a register without $rid', (probe: MqttProbe) => probe.publish('$dps/registrations/PUT/iotdps-register/', '')],
    ['a publish of QoS 2', (probe: MqttProbe) => probe.publish(`${REGISTER}1`, '', 2)],
    ['a second CONNECT', (probe: MqttProbe) => void probe.connect(withKey()).catch(() => {})],
    ['a packet that only a server sends', (probe: MqttProbe) => probe.send(bytes('20 02 00 00'))],
    ['garbage', (probe: MqttProbe) => probe.send(Buffer.from('GET / HTTP/1.1\r\n\r\n'))],
    [
      'a packet announced too large',
      (probe: MqttProbe) => probe.send(Buffer.concat([bytes('30 ff ff ff 7f'), Buffer.alloc(400_000)])),
    ],
  ])('closes on %s', async (_what, misbehave) => {
    const probe = await ready();
    misbehave(probe);
    await probe.closed;
    expect((await emulator.trace.waitFor({ event: 'violation' })).detail).toBeTruthy();
  });

  it('closes when the CONNECT does not come, or something else does', async () => {
    const silent = await open();
    const confused = await open();
    confused.send(bytes('c0 00'));
    await confused.closed;
    clock.advance(30_000);
    await silent.closed;
  });
});

describe('the trace', () => {
  it('tells what happened and no secret', async () => {
    const key = hmacBase64(GROUP_KEY, 'member-1');
    const probe = await ready(withKey('member-1', key));
    const { json } = await ask(probe, `${REGISTER}1`, '{"payload":{"secret":"hush"}}');
    await ask(probe, statusTopic('2', json.operationId));
    expect(
      emulator.trace.entries({ device: 'member-1' }).map(({ event, status }) => `${event} ${status ?? ''}`.trim()),
    ).toEqual(['connect', 'connack 0', 'subscribe', 'register', 'reply 202', 'status', 'reply 200']);
    expect(emulator.trace.count({ service: 'dps', event: 'register' })).toBe(1);
    const all = JSON.stringify(emulator.trace.entries());
    for (const secret of [key, 'hush', 'SharedAccessSignature', 'sig=']) expect(all).not.toContain(secret);
  });
});
