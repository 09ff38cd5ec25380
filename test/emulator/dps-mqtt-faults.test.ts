import { describe, expect, it } from 'vitest';
import { ask, clock, emulator, FILTER, open, REGISTER, ready, withKey } from './dps-mqtt-bench.js';

describe('fault switches', () => {
  it('override retry-after, or leave it out', async () => {
    const probe = await ready();
    for (const value of ['0', 'Fri, 20 Nov 2026 12:00:00 GMT', '86400000', '-1']) {
      emulator.faults.add({ at: 'dps.register', action: { kind: 'retryAfter', value }, times: 1 });
      expect((await ask(probe, `${REGISTER}1`)).topic).toBe(`$dps/registrations/res/202/?$rid=1&retry-after=${value}`);
    }
    emulator.faults.add({ at: 'dps.register', action: { kind: 'retryAfter', value: null }, times: 1 });
    expect((await ask(probe, `${REGISTER}1`)).topic).toBe('$dps/registrations/res/202/?$rid=1');
  });

  it('answer with a status and body of their own', async () => {
    const probe = await ready();
    emulator.faults.add({ at: 'dps.register', action: { kind: 'respond', status: 429, retryAfter: '7' }, times: 1 });
    const throttled = await ask(probe, `${REGISTER}1`);
    expect(throttled.topic).toBe('$dps/registrations/res/429/?$rid=1&retry-after=7');
    expect(throttled.json).toMatchObject({ errorCode: 429001 });
    emulator.faults.add({
      at: 'dps.register',
      action: { kind: 'respond', status: 502, text: '<html>Bad gateway</html>' },
      times: 1,
    });
    probe.publish(`${REGISTER}1`, '');
    expect(await probe.nextPublish()).toMatchObject({
      topic: '$dps/registrations/res/502/?$rid=1',
      text: '<html>Bad gateway</html>',
    });
    emulator.faults.add({
      at: 'dps.register',
      action: { kind: 'respond', base64: '//79', topic: '$dps/registrations/res/what' },
      times: 1,
    });
    probe.publish(`${REGISTER}1`, '');
    const odd = await probe.nextPublish();
    expect(odd.topic).toBe('$dps/registrations/res/what');
    expect(odd.packet.payload).toEqual(Buffer.from([0xff, 0xfe, 0xfd]));
  });

  it('bend the operation', async () => {
    const probe = await ready();
    emulator.faults.add({
      at: 'dps.register',
      action: [{ kind: 'assignImmediately' }, { kind: 'payload', payload: { grüße: '漢' } }],
      times: 1,
    });
    const { topic, json } = await ask(probe, `${REGISTER}1`);
    expect(topic).toBe('$dps/registrations/res/200/?$rid=1');
    expect(json).toMatchObject({ status: 'assigned', registrationState: { payload: { grüße: '漢' } } });
  });

  it('stop answering', async () => {
    const silent = await open();
    emulator.faults.add({ at: 'dps.connack', action: { kind: 'silent' }, times: 1 });
    silent.send({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: true,
      keepalive: 0,
      ...withKey(),
      password: Buffer.from(withKey().password),
    });
    await emulator.trace.waitFor({ event: 'fault' });
    expect(silent.received).toEqual([]);

    emulator.trace.clear();
    const probe = await ready();
    emulator.faults.add({ at: 'dps.register', action: { kind: 'silent' }, times: 1 });
    emulator.faults.add({ at: 'dps.puback', action: { kind: 'silent' }, times: 1 });
    probe.publish(`${REGISTER}1`, '', 1);
    await probe.settle();
    expect(emulator.trace.count({ event: 'register' })).toBe(1);
    expect(emulator.trace.count({ event: 'reply' })).toBe(0);
  });

  it('cut the connection, before the answer or after it', async () => {
    const probe = await ready();
    emulator.faults.add({ at: 'dps.register', action: { kind: 'cut' }, times: 1 });
    probe.publish(`${REGISTER}1`, '');
    await probe.closed;
    emulator.faults.add({ at: 'dps.connack', action: { kind: 'cut', when: 'after' }, times: 1 });
    const second = await open();
    expect(await second.connect(withKey())).toMatchObject({ returnCode: 0 });
    await second.closed;
  });

  it('force a CONNACK or a SUBACK', async () => {
    emulator.faults.add({ at: 'dps.connack', action: { kind: 'connack', code: 5 }, times: 1 });
    expect(await (await open()).connect(withKey())).toMatchObject({ returnCode: 5 });
    emulator.faults.add({ at: 'dps.suback', action: { kind: 'suback', code: 0x80 }, times: 1 });
    const probe = await open();
    await probe.connect(withKey());
    expect(await probe.subscribe({ [FILTER]: 1 })).toEqual([0x80]);
  });

  it('send raw bytes', async () => {
    const probe = await ready();
    emulator.faults.add({
      at: 'dps.register',
      action: { kind: 'raw', base64: Buffer.from([0xd0, 0x00]).toString('base64') },
      times: 1,
    });
    probe.publish(`${REGISTER}1`, '');
    expect(await probe.next()).toMatchObject({ cmd: 'pingresp' });
  });

  it('hold everything up for a time, in order', async () => {
    const probe = await ready();
    emulator.faults.add({ at: 'dps.register', action: { kind: 'wait', ms: 60_000 }, times: 1 });
    probe.publish(`${REGISTER}1`, '');
    probe.publish(`${REGISTER}2`, '');
    probe.send({ cmd: 'pingreq' });
    await emulator.trace.waitFor({ event: 'fault' });
    expect(emulator.trace.count({ event: 'reply' })).toBe(0);
    clock.advance(60_000);
    expect((await probe.nextPublish()).topic).toContain('$rid=1&');
    expect((await probe.nextPublish()).topic).toContain('$rid=2&');
    expect(await probe.next()).toMatchObject({ cmd: 'pingresp' });
  });
});
