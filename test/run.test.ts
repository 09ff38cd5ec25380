import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { DeviceRecord } from '../src/core/record.js';
import { StoreError, TransportError } from '../src/errors.js';
import { isDpsError, run } from '../src/index.js';
import { FakeHubSession, twinOf } from './fakes/fake-hub-session.js';
import { assignedTo, expectNothingLeft, LOST, never, RunWorld, turns, watchUnhandled } from './fakes/run-world.js';

const REFUSED = new TransportError({
  code: 'ERR_DPS_CONNACK_UNAUTHORIZED',
  message: 'refused',
  phase: 'connect',
  peer: 'hub.example:8883',
  retryable: false,
});

/** A record for the world's configuration. */
function recordWith(desired: object, version = 1): DeviceRecord {
  return {
    binding: {
      endpoint: 'dps.example',
      idScope: '0ne00111111',
      registrationId: 'dev-1',
      attestation: 'symmetricKey',
    },
    assignment: { registrationId: 'dev-1', assignedHub: 'hub.example', deviceId: 'dev-1', status: 'assigned', raw: {} },
    slot: 0,
    dpsTransport: 'fake',
    hubTransport: 'fake',
    twin: twinOf(version, desired as never),
  };
}

describe('a running device', () => {
  it('registers, is ready at the hub, and lives there', async () => {
    const world = new RunWorld();
    world.twin = twinOf(4, { led: true });
    const running = world.start();
    await world.untilOnline();
    const device = await running.ready;
    expect(device).toMatchObject({
      assignedHub: 'hub.example',
      deviceId: 'dev-1',
      source: 'registered',
      twin: world.twin,
    });
    expect(await device.connectionString()).toBe('HostName=hub.example;DeviceId=dev-1');
    await running.session.sendTelemetry({ body: new Uint8Array([0x61]) });
    expect(world.session.taken).toEqual(['telemetry a']);
    expect(world.store.saved).toMatchObject([{ assignment: { assignedHub: 'hub.example' }, twin: world.twin }]);
    await running.close();
    expect(await running.closed).toBeUndefined();
    expect(await running.session.closed).toBeUndefined();
    expectNothingLeft(world);
  });

  it('goes straight to the hub of its record', async () => {
    const world = new RunWorld();
    world.store.loaded = { kind: 'record', record: recordWith({}) };
    const running = world.start();
    await world.untilOnline();
    expect(world.journal).toEqual(['hub.example']);
    expect(await running.ready).toMatchObject({ source: 'stored' });
    await running.close();
    expectNothingLeft(world);
  });

  it('comes back after every loss with one handle, and with what waited', async () => {
    const world = new RunWorld();
    const running = world.start();
    const { session } = running;
    const changes: unknown[] = [];
    session.onDesiredChange(({ patch }) => void changes.push(patch));
    session.onMethod('blink', () => ({ status: 200 }));
    await world.untilOnline();
    for (let round = 0; round < 5; round += 1) {
      world.twin = twinOf(world.twin.desired.version + 2, { round });
      world.session.lose(LOST);
      await turns();
      const sent = session.sendTelemetry({ body: new Uint8Array([0x61]) });
      world.hubFailures.push(LOST);
      await world.untilOnline();
      await sent;
      expect(world.session.taken).toEqual(['telemetry a']);
      expect(await world.session.call('blink')).toEqual({ status: 200 });
    }
    expect(changes).toEqual([0, 1, 2, 3, 4].map((round) => ({ round })));
    expect(running.session).toBe(session);
    expect(world.journal.filter((entry) => entry === 'dps')).toEqual(['dps']);
    await running.close();
    expectNothingLeft(world);
  });

  it('follows a moved device to its new hub, by way of one more try and DPS', async () => {
    const world = new RunWorld();
    world.store.loaded = { kind: 'record', record: recordWith({}) };
    const running = world.start();
    await world.untilOnline();
    world.forgetEvents();
    world.assignedHub = 'other.example';
    world.hubFailures.push(REFUSED);
    world.session.lose(REFUSED);
    await world.untilOnline();
    expect(world.told()).toEqual([
      'offline ERR_DPS_CONNACK_UNAUTHORIZED',
      'waiting refused 5000',
      'connecting hub',
      'reprovisioning refused ERR_DPS_CONNACK_UNAUTHORIZED',
      'started',
      'connecting dps',
      'connected dps',
      'registering',
      'assigned',
      'connecting hub',
      'connected hub',
      'twin',
      'provisioned registered',
    ]);
    expect(running.session.hostName).toBe('other.example');
    expect(world.store.saved.at(-1)?.assignment.assignedHub).toBe('other.example');
    await running.close();
    expectNothingLeft(world);
  });

  it('saves what it knows of the twin, seldom, and once more at its end', async () => {
    const world = new RunWorld();
    const running = world.start();
    await world.untilOnline();
    world.session.change({ a: 1 });
    world.session.change({ a: 2 });
    expect(world.store.saved).toHaveLength(1);
    await world.until(() => world.store.saved.length === 2);
    expect(world.store.saved[1]?.twin.desired.properties).toEqual({ a: 2 });
    world.session.change({ a: 3 });
    await running.close();
    expect(world.store.saved[2]?.twin.desired.properties).toEqual({ a: 3 });
    expectNothingLeft(world);
  });

  it.each([
    [new StoreError({ code: 'ERR_DPS_STORE_FULL', message: 'full', operation: 'write', path: 'x' }), 'full'],
    [new Error('no such table'), 'save() of the object given as state failed: no such table'],
    ['gone', 'save() of the object given as state failed: gone'],
  ])('lives on when its record cannot be saved, and says so: %s', async (thrown, detail) => {
    const world = new RunWorld();
    world.store.saving = thrown as Error;
    const running = world.start();
    await world.untilOnline();
    await turns();
    expect(world.events.at(-1)).toEqual({ type: 'record', outcome: 'unsaved', detail });
    await running.session.sendTelemetry({ body: 1 });
    await running.close();
    expect(await running.closed).toBeUndefined();
    expectNothingLeft(world);
  });
});

describe('reprovisioning', () => {
  const asked = (by: string): string => `reprovisioning asked ${by}`;

  it('by the application goes to DPS from the hub, and stays with what DPS says', async () => {
    const world = new RunWorld();
    const running = world.start();
    await world.untilOnline();
    world.assignedHub = 'other.example';
    running.reprovision('the operator');
    await world.untilOnline(2);
    expect(world.told()).toContain(asked('the operator'));
    expect(world.journal).toEqual(['dps', 'hub.example', 'dps', 'other.example']);
    expect(world.open).toBe(1);
    await running.close();
    expectNothingLeft(world);
  });

  it.each([
    ['before there are keys', 0],
    ['while the record is read', 10],
  ])('that is asked for %s is not forgotten', async (_, count) => {
    const world = new RunWorld();
    const record = { kind: 'record', record: recordWith({}) } as const;
    let give = (): void => {};
    const given = new Promise<typeof record>((resolve) => {
      give = () => resolve(record);
    });
    world.store.load = () => given;
    const running = world.start();
    await turns(count);
    running.reprovision();
    await turns();
    give();
    await world.untilOnline();
    expect(world.journal).toEqual(['dps', 'hub.example']);
    await running.close();
  });

  it('by a direct method answers first', async () => {
    const world = new RunWorld();
    const running = world.start({ triggers: { method: 'reprovision' } });
    await world.untilOnline();
    const { session } = world;
    expect(await session.call('reprovision')).toEqual({ status: 202 });
    world.clock.advance(500);
    expect(await session.call('reprovision')).toEqual({ status: 202 });
    world.clock.advance(499);
    await turns();
    expect(world.journal).toEqual(['dps', 'hub.example']);
    // Whoever calls again and again does not put it off.
    expect(await session.call('reprovision')).toEqual({ status: 202 });
    world.clock.advance(1);
    await world.untilOnline(2);
    await turns();
    world.clock.advance(5_000);
    await turns();
    expect(world.journal).toEqual(['dps', 'hub.example', 'dps', 'hub.example']);
    expect(world.told()).toContain(asked('direct method reprovision'));
    // Called once more, it goes once more.
    expect(await world.session.call('reprovision')).toEqual({ status: 202 });
    world.clock.advance(1_000);
    await world.untilOnline(3);
    expect(world.journal.filter((entry) => entry === 'dps')).toHaveLength(3);
    await running.close();
    expectNothingLeft(world);
  });

  it('by a method whose name the application has taken is refused in words', async () => {
    const world = new RunWorld();
    const running = world.start({ triggers: { method: 'reprovision' } });
    running.session.onMethod('reprovision', () => ({ status: 200 }));
    expect(await running.closed).toMatchObject({
      code: 'ERR_DPS_CONFIG_OPTION',
      message: expect.stringContaining('"reprovision" has a handler already'),
    });
    expectNothingLeft(world);
  });

  it('by a desired property happens once for each new value, and not for its removal', async () => {
    const world = new RunWorld();
    const running = world.start({ triggers: { desiredProperty: 'again' } });
    await world.untilOnline();
    world.session.change({ other: 1 });
    await turns();
    expect(world.sessions).toHaveLength(1);
    world.session.change({ again: 1 });
    world.twin = world.session.twin;
    await world.untilOnline(2);
    expect(world.told()).toContain(asked('desired property again'));
    world.session.change({ again: null });
    await turns();
    expect(world.sessions).toHaveLength(2);
    expect(world.journal.filter((entry) => entry === 'dps')).toHaveLength(2);
    await running.close();
    expectNothingLeft(world);
  });

  it('by a desired property that was set while there was no connection', async () => {
    const world = new RunWorld();
    const running = world.start({ triggers: { desiredProperty: 'again' } });
    await world.untilOnline();
    world.twin = twinOf(5, { again: 'now' });
    world.session.lose(LOST);
    await world.untilOnline(3);
    expect(world.journal).toEqual(['dps', 'hub.example', 'hub.example', 'dps', 'hub.example']);
    await running.close();
  });

  it.each([
    ['set', { again: 1 }, { again: 2 }, ['hub.example', 'dps', 'hub.example']],
    ['set for the first time', {}, { again: 2 }, ['hub.example', 'dps', 'hub.example']],
    ['left alone', { again: 1 }, { again: 1, other: 2 }, ['hub.example']],
    ['removed', { again: 1 }, {}, ['hub.example']],
  ])('by a desired property that was %s while the device was off, as the record tells', async (_, was, is, journal) => {
    const world = new RunWorld();
    world.store.loaded = { kind: 'record', record: recordWith(was) };
    world.twin = twinOf(2, is as never);
    const running = world.start({ triggers: { desiredProperty: 'again' } });
    await world.untilOnline(journal.filter((entry) => entry === 'hub.example').length);
    await turns();
    expect(world.journal).toEqual(journal);
    await running.close();
    expect(world.store.saved.at(-1)?.twin.desired.properties).toEqual(is);
  });
});

describe('events', () => {
  it('are told to every reader from the first on, and end with the life', async () => {
    const world = new RunWorld();
    const running = world.start();
    await world.untilOnline();
    const late: string[] = [];
    const reading = (async () => {
      for await (const { type } of running.events) late.push(type);
    })();
    await running.close();
    await reading;
    expect(late[0]).toBe('record');
    expect(late.at(-1)).toBe('ended');
    await turns();
    expect(world.events.map(({ type }) => type)).toEqual(late);
  });
});

describe('run()', () => {
  const own = { kind: 'symmetricKey', registrationId: async () => 'dev-1', sign: async () => new Uint8Array(32) };

  it('throws nothing: what is wrong with its options is in its promises', async () => {
    const unhandled = watchUnhandled();
    for (const options of [undefined, null, 5, [], {}, { idScope: 'x', hsm: own, signal: {} }, { hms: own }]) {
      const running = run(options as never);
      const error = await running.closed;
      expect(isDpsError(error), inspect(options)).toBe(true);
      expect(error).toMatchObject({ name: 'ConfigurationError' });
      await expect(running.ready).rejects.toBe(error);
      expect(await running.session.closed).toBe(error);
      await running.close();
    }
    await turns();
    expect(unhandled).toEqual([]);
  });

  it('takes options from wherever the object has them', async () => {
    const hung = { ...own, registrationId: (signal: AbortSignal) => never(signal) };
    const running = run(Object.create({ idScope: 'x', hsm: hung }) as never);
    await turns();
    await running.close();
    expect(await running.closed).toBeUndefined();
  });

  it('hands stray errors of sessions to onStrayError', async () => {
    const world = new RunWorld();
    const strays: unknown[] = [];
    const session = new FakeHubSession();
    world.newSession = () => session;
    const hubTransport = { name: 'own', open: async () => session, connectionInfo: () => ({}) };
    const transport = {
      name: 'own',
      open: async () => ({ exchange: async () => assignedTo('hub.example'), close: async () => {} }),
    };
    const running = run({
      idScope: '0ne00111111',
      hsm: own,
      transport,
      hubTransport,
      onStrayError: (error: unknown, origin: string) => void strays.push([origin, error]),
    } as never);
    await running.ready;
    const bug = new Error('oops');
    running.session.onDesiredChange(() => {
      throw bug;
    });
    session.change({ a: 1 });
    await turns();
    expect(strays).toEqual([['desired listener', bug]]);
    await running.close();
  });
});
