import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import * as amqp from '../fakes/amqp-bytes.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { AmqpProbe } from './amqp-probe.js';
import { MqttProbe } from './mqtt-probe.js';
import { DEVICE_KEY, hubToken, OTHER_KEY } from './tokens.js';

const HOUR_MS = 3_600_000;
const ACCEPTED = 0x24;
const REJECTED = 0x25;
const RELEASED = 0x26;

let clock: ManualClock;
let emulator: Emulator;

beforeEach(async () => {
  clock = new ManualClock();
  emulator = await startEmulator({}, { clock });
  onTestFinished(() => emulator.close());
  const authentication = { type: 'sas', primaryKey: DEVICE_KEY, secondaryKey: OTHER_KEY } as const;
  emulator.hub().addDevice({ deviceId: 'dev-1', authentication }, { desired: { fan: 'on' } });
});

const hubName = (): string => emulator.hub().hostName;
const token = (expiresAtMs = clock.wallMs() + HOUR_MS): string =>
  hubToken(hubName(), 'dev-1', DEVICE_KEY, Math.floor(expiresAtMs / 1000));

/** A connection on the hub's own port, with the links to `$cbs` at handles 0 and 1. */
async function connect(address = hubName()): Promise<AmqpProbe> {
  const probe = await AmqpProbe.connect(emulator, address);
  await probe.attach('$cbs');
  return probe;
}

async function putToken(probe: AmqpProbe, id: number, sas: string, name?: string): Promise<number> {
  const resource = name ?? encodeURIComponent(`${hubName()}/devices/dev-1`);
  const properties = [amqp.text('operation'), amqp.text('put-token'), amqp.text('name'), amqp.text(resource)];
  const more = [amqp.text('type'), amqp.text('servicebus.windows.net:sastoken')];
  await probe.send(
    1,
    id,
    amqp.described(0x73, amqp.list(amqp.text(`m-${id}`), amqp.NULL, amqp.text('$cbs'), amqp.NULL, amqp.text('cbs'))),
    amqp.described(0x74, amqp.map(...properties, ...more)),
    amqp.described(0x77, amqp.text(sas)),
  );
  const { payload } = await probe.next(0x14);
  expect((amqp.sectionOf(payload, 0x73) as amqp.AmqpValue[])[5]).toBe(`m-${id}`);
  const [name0, status] = amqp.sectionOf(payload, 0x74) as amqp.AmqpValue[];
  expect(name0).toBe('status-code');
  return Number(status);
}

/** An admitted connection with a receiver (handle 2) from, and a sender (handle 3) to this node. */
async function attached(node: string): Promise<AmqpProbe> {
  const probe = await connect();
  expect(await putToken(probe, 0, token())).toBe(200);
  await probe.link(`/devices/dev-1/${node}`, 2, amqp.TRUE);
  await probe.link(`amqps://${hubName()}/devices/dev-1/${node}`, 3, amqp.FALSE);
  await probe.grant(2);
  return probe;
}

function annotationsOf({ payload }: amqp.Frame): amqp.AmqpValue[] {
  return amqp.sectionOf(payload, 0x72) as amqp.AmqpValue[];
}

describe('a hub over AMQP', () => {
  it('refuses a wrong token, another device’s name, and links without a token', async () => {
    const probe = await connect();
    expect(await putToken(probe, 0, hubToken(hubName(), 'dev-1', 'AAAA', 4_000_000_000))).toBe(401);
    expect(await putToken(probe, 1, token(), encodeURIComponent(`${hubName()}/devices/dev-2`))).toBe(401);
    await probe.link('/devices/dev-1/messages/events', 2, amqp.FALSE);
    const { fields } = await probe.next(0x16);
    expect(JSON.stringify(fields[2])).toContain('amqp:unauthorized-access');
    expect(emulator.trace.count({ event: 'refused' })).toBe(3);
  });

  it('has nothing at other addresses, and no modules', async () => {
    const probe = await attached('twin');
    await probe.link('/devices/dev-1/modules/m/twin', 4, amqp.FALSE);
    expect(JSON.stringify((await probe.next(0x16)).fields[2])).toContain('amqp:unauthorized-access');
    await probe.link('/somewhere', 5, amqp.FALSE);
    expect(JSON.stringify((await probe.next(0x16)).fields[2])).toContain('amqp:not-found');
  });

  it('answers the twin with status, version and correlation id', async () => {
    const probe = await attached('twin');
    const ask = (id: number, operation: string, body: string, resource?: string): Promise<void> => {
      const more = resource === undefined ? [] : [amqp.symbol('resource'), amqp.text(resource)];
      return probe.send(
        3,
        id,
        amqp.described(0x72, amqp.map(amqp.symbol('operation'), amqp.text(operation), ...more)),
        amqp.described(0x73, amqp.list(amqp.NULL, amqp.NULL, amqp.NULL, amqp.NULL, amqp.NULL, amqp.text(`t-${id}`))),
        amqp.described(0x75, amqp.binary(Buffer.from(body))),
      );
    };
    await ask(1, 'GET', ' ');
    const read = await probe.next(0x14);
    expect(annotationsOf(read)).toEqual(['status', 200]);
    expect((amqp.sectionOf(read.payload, 0x73) as amqp.AmqpValue[])[5]).toBe('t-1');
    const twin = { desired: { fan: 'on', $version: 1 }, reported: { $version: 1 } };
    expect(JSON.parse(String(amqp.sectionOf(read.payload, 0x75)))).toEqual(twin);
    await ask(2, 'PATCH', '{"fw":"1"}', '/properties/reported');
    expect(annotationsOf(await probe.next(0x14))).toEqual(['status', 200, 'version', 2]);
    await ask(3, 'PATCH', '{"a.b":1}', '/properties/reported');
    const refused = await probe.next(0x14);
    expect(annotationsOf(refused)).toEqual(['status', 400]);
    expect(JSON.parse(String(amqp.sectionOf(refused.payload, 0x75)))).toMatchObject({ errorCode: 400004 });
    await ask(4, 'GET', '', '/elsewhere/{}');
    await probe.next(0x14);
    await ask(5, 'PUT', ' ', '/notifications/twin/properties/desired');
    expect(annotationsOf(await probe.next(0x14))).toEqual(['status', 200]);
    emulator.hub().patchDesired('dev-1', { fan: 'off' });
    const push = await probe.next(0x14);
    expect(JSON.parse(String(amqp.sectionOf(push.payload, 0x75)))).toEqual({ fan: 'off', $version: 2 });
    await ask(6, 'DELETE', ' ', '/notifications/twin/properties/desired');
    await probe.next(0x14);
    emulator.hub().patchDesired('dev-1', { fan: 'on' });
    expect(emulator.trace.count({ event: 'desiredPush' })).toBe(1);
  });

  it('answers the twin as a fault says', async () => {
    emulator.faults.add({ at: 'hub.twinGet', action: { kind: 'respond', status: 429 }, when: { protocol: 'amqp' } });
    const probe = await attached('twin');
    await probe.send(
      3,
      1,
      amqp.described(0x72, amqp.map(amqp.symbol('operation'), amqp.text('GET'))),
      amqp.described(0x75, amqp.binary(Buffer.of())),
    );
    const answer = await probe.next(0x14);
    expect(annotationsOf(answer)).toEqual(['status', 429]);
    expect(JSON.parse(String(amqp.sectionOf(answer.payload, 0x75)))).toMatchObject({ errorCode: 429001 });
  });

  it('delivers messages until they are accepted or rejected: released ones come again', async () => {
    const hub = emulator.hub();
    const properties = { town: 'Köln', constructor: 'Weber', ['__proto__']: 'Urform' };
    hub.sendC2D('dev-1', { body: 'first', messageId: 'm-1', properties });
    const probe = await attached('messages/devicebound');
    const first = await probe.next(0x14);
    expect(String(amqp.sectionOf(first.payload, 0x75))).toBe('first');
    expect((amqp.sectionOf(first.payload, 0x73) as amqp.AmqpValue[]).slice(0, 3)).toEqual([
      'm-1',
      null,
      '/devices/dev-1/messages/devicebound',
    ]);
    expect(amqp.sectionOf(first.payload, 0x74)).toEqual(Object.entries(properties).flat());
    await probe.settle(Number(first.fields[1]), RELEASED);
    const again = await probe.next(0x14);
    expect(String(amqp.sectionOf(again.payload, 0x75))).toBe('first');
    await probe.settle(Number(again.fields[1]), ACCEPTED);
    const released = await emulator.trace.waitFor({ event: 'cloudToDeviceDone' });
    await emulator.trace.waitFor({ event: 'cloudToDeviceDone' }, released.sequence);
    hub.sendC2D('dev-1', { body: 'second' });
    const second = await probe.next(0x14);
    expect(hub.queuedC2D('dev-1')).toHaveLength(1);
    const before = emulator.trace.entries().at(-1)?.sequence ?? 0;
    await probe.settle(Number(second.fields[1]), REJECTED);
    await emulator.trace.waitFor({ event: 'cloudToDeviceDone' }, before);
    expect(hub.queuedC2D('dev-1')).toEqual([]);
  });

  it('gives a message up that is released ten times', async () => {
    emulator.hub().sendC2D('dev-1', { body: 'poison' });
    const probe = await attached('messages/devicebound');
    for (let time = 1; time <= 10; time += 1) {
      await probe.grant(2);
      await probe.settle(Number((await probe.next(0x14)).fields[1]), RELEASED);
    }
    let after = 0;
    for (let time = 1; time <= 10; time += 1) {
      after = (await emulator.trace.waitFor({ event: 'cloudToDeviceDone' }, after)).sequence;
    }
    expect(emulator.hub().queuedC2D('dev-1')).toEqual([]);
    expect(emulator.trace.count({ event: 'cloudToDevice' })).toBe(10);
  });

  it('drops a connection whose token ran out, and not one that renewed it', async () => {
    const probe = await attached('messages/events');
    const other = await putToken(probe, 1, token(clock.wallMs() + 2 * HOUR_MS));
    expect(other).toBe(200);
    clock.advance(HOUR_MS + 11 * 60_000);
    expect(emulator.trace.count({ event: 'close' })).toBe(0);
    clock.advance(HOUR_MS);
    await probe.closed;
  });

  it('takes the device over from MQTT on the same port, and the other way round', async () => {
    const open = async (): Promise<MqttProbe> => {
      const probe = await MqttProbe.open({ address: hubName(), caPem: emulator.caPem });
      const username = `${hubName()}/dev-1/?api-version=2021-04-12`;
      await probe.connect({ clientId: 'dev-1', username, password: token() });
      return probe;
    };
    const mqtt = await open();
    const amqp = await attached('messages/events');
    await mqtt.closed;
    await open();
    await amqp.closed;
    expect(emulator.trace.count({ event: 'violation' })).toBe(0);
  });

  it('is reached by way of the DPS listener, too', async () => {
    const probe = await connect(emulator.endpoints.dps.amqp);
    expect(await putToken(probe, 0, token())).toBe(200);
  });
});
