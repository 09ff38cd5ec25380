import { describe, expect, it } from 'vitest';
import { bytes } from '../fakes/mqtt-bytes.js';
import { clock, emulator, FILTERS, fields, hub, leave, open, readTwin, ready } from './hub-mqtt-bench.js';

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
    await probe.subscribe({ [FILTERS.twinAnswers]: 0 });
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
    const probe = await ready({ [FILTERS.desired]: 0 });
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
    await leave(await ready({ [FILTERS.twinAnswers]: 0, [FILTERS.desired]: 0 }, false));
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
    const probe = await ready({ [FILTERS.methods]: 0 });
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
      const probe = await ready({ [FILTERS.methods]: 0 });
      const called = hub.invokeMethod('dev-1', 'reboot');
      const { topic } = await probe.nextPublish();
      probe.publish(`$iothub/methods/res/${status}/?${topic.split('?')[1]}`, 'null');
      await expect(called).resolves.toEqual({ status: Number(status), payload: null });
    },
  );

  it.each(['', '-', '1.5', '1e3', '+5', '9007199254740993', '99999999999999999999', '0x10'])(
    'end the connection, with a word in the log, when the status is no integer: %j',
    async (status) => {
      const probe = await ready({ [FILTERS.methods]: 0 });
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
    const probe = await ready({ [FILTERS.methods]: 0 });
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
    const probe = await ready({ [FILTERS.twinAnswers]: 0 });
    await expect(hub.invokeMethod('dev-1', 'x')).rejects.toMatchObject({ errorCode: 404103 });
    await probe.subscribe({ [FILTERS.methods]: 0 });
    const called = hub.invokeMethod('dev-1', 'x', null, { timeoutMs: 5000 });
    called.catch(() => {});
    await probe.nextPublish();
    clock.advance(5000);
    await expect(called).rejects.toMatchObject({ errorCode: 504101 });
  });
});

describe('messages to the device', () => {
  it('come with their properties and are done with the PUBACK', async () => {
    const probe = await ready({ [FILTERS.messages]: 1 });
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
    const probe = await ready({ [FILTERS.messages]: 1 }, false);
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
    const older = await ready({ [FILTERS.messages]: 1 }, false);
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
    const probe = await ready({ [FILTERS.messages]: 1 });
    expect((await probe.nextPublish()).text).toBe('fresh');
  });
});
