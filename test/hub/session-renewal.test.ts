import { describe, expect, it } from 'vitest';
import type { DesiredChange } from '../../src/core/twin.js';
import { TransportError } from '../../src/errors.js';
import { failureOf, HubBench } from '../fakes/hub-bench.js';
import { settle } from '../fakes/hub-broker.js';
import { fakeSymmetricKeyHsm } from '../fakes/hub-identity.js';

/** 80 percent of an hour; the bench draws no jitter. */
const RENEWAL_MS = 2_880_000;

const expiryOf = (password: string | undefined): number => Number(/&se=(\d+)$/.exec(password ?? '')?.[1]);

/** Minute by minute, as the session's watch goes, with time for promises in between. */
async function pass(bench: HubBench, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 60_000) {
    bench.clock.advance(Math.min(left, 60_000));
    await settle();
  }
}

describe('token renewal', () => {
  it('reconnects in time with a fresh token, subscribes everything again and reads the twin', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    session.onMethod('m', () => ({ status: 200 }));
    session.onMessage(() => {});
    await settle();
    bench.takeLog();
    await pass(bench, RENEWAL_MS - 1);
    expect(bench.takeLog()).toEqual([]);
    await pass(bench, 1);
    expect(bench.takeLog()).toEqual([
      'DISCONNECT',
      'CONNECT dev-1',
      'SUBSCRIBE $iothub/twin/res/# 0, $iothub/twin/PATCH/properties/desired/# 0, $iothub/methods/POST/# 0, devices/dev-1/messages/devicebound/# 1',
      'PUBLISH 0 $iothub/twin/GET/?$rid=r2',
    ]);
    const [first, second] = bench.broker.requests.map(({ password }) => expiryOf(password));
    expect(second).toBe(Number(first) + RENEWAL_MS / 1000);
    expect(await session.report({ a: 1 })).toBe(10);
    await session.close();
    expect(bench.clock.pending).toBe(0);
  });

  it('connects only when the old connection is closed: the hub would cut off the older of two', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    bench.broker.isClosing = false;
    await pass(bench, RENEWAL_MS);
    expect(bench.takeLog()).toEqual(['DISCONNECT']);
    bench.broker.finishClosing();
    await settle();
    expect(bench.takeLog()[0]).toBe('CONNECT dev-1');
    await session.close();
  });

  it('goes on for ever', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    await pass(bench, 3 * RENEWAL_MS);
    expect(bench.broker.requests).toHaveLength(4);
    await session.close();
  });

  it('spreads over 5 percent of the life', async () => {
    const bench = new HubBench({ random: () => 0.999_999 });
    const session = await bench.open();
    await pass(bench, 3_059_000);
    expect(bench.broker.requests).toHaveLength(1);
    await pass(bench, 1_000);
    expect(bench.broker.requests).toHaveLength(2);
    await session.close();
  });

  it('delivers what changed meanwhile, and nothing when nothing did', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const changes: DesiredChange[] = [];
    session.onDesiredChange((change) => changes.push(change));
    await pass(bench, RENEWAL_MS);
    expect(changes).toEqual([]);
    bench.broker.setDesired(6, { led: true });
    await pass(bench, RENEWAL_MS);
    expect(changes).toEqual([{ version: 6, patch: { led: true }, desired: { version: 6, properties: { led: true } } }]);
    bench.broker.push(7, { led: false });
    expect(changes.at(-1)?.version).toBe(7);
    await session.close();
  });

  it('lets requests finish first', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    await pass(bench, RENEWAL_MS - 1);
    bench.broker.isPubacking = false;
    bench.broker.lostPatches = 1;
    const sending = session.sendTelemetry({ body: 1 });
    const reporting = session.report({ a: 1 });
    bench.takeLog();
    await pass(bench, 1);
    expect(bench.takeLog()).toEqual([]);
    bench.broker.connection.puback();
    bench.broker.connection.deliver('$iothub/twin/res/204/?$rid=r2&$version=10');
    expect(await reporting).toBe(10);
    await sending;
    await settle();
    expect(bench.takeLog().slice(0, 2)).toEqual(['DISCONNECT', 'CONNECT dev-1']);
    await session.close();
  });

  it('does not wait for them longer than one may take, and fails them so that they can be repeated', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    await pass(bench, RENEWAL_MS - 10_000);
    bench.broker.isPubacking = false;
    await pass(bench, 9_999);
    const failure = failureOf(session.sendTelemetry({ body: 1 }));
    await pass(bench, 1);
    bench.clock.advance(29_999);
    expect(await failure).toMatchObject({ code: 'ERR_DPS_REQUEST_TIMEOUT', retryable: true });
    await settle();
    expect(bench.broker.connections).toHaveLength(2);
    await session.close();
  });

  it('lets new requests wait, and does them on the new connection', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.isAccepting = false;
    await pass(bench, RENEWAL_MS);
    bench.takeLog();
    const sending = session.sendTelemetry({ body: 1 });
    const reporting = session.report({ a: 1 });
    await settle();
    expect(bench.takeLog()).toEqual([]);
    bench.broker.accept();
    await sending;
    expect(await reporting).toBe(10);
    const log = bench.takeLog();
    expect([...log.slice(0, 2), ...log.slice(2).sort()]).toEqual([
      'SUBSCRIBE $iothub/twin/res/# 0, $iothub/twin/PATCH/properties/desired/# 0',
      'PUBLISH 0 $iothub/twin/GET/?$rid=r2',
      'PUBLISH 0 $iothub/twin/PATCH/properties/reported/?$rid=r3 {"a":1}',
      'PUBLISH 1 devices/dev-1/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8 1',
    ]);
    await session.close();
  });

  it('lets new requests wait no longer than they may take', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.isAccepting = false;
    await pass(bench, RENEWAL_MS);
    const sending = failureOf(session.sendTelemetry({ body: 1 }));
    const reporting = failureOf(session.report({ a: 1 }));
    bench.clock.advance(30_000);
    expect(await sending).toMatchObject({ code: 'ERR_DPS_REQUEST_TIMEOUT' });
    expect(await reporting).toMatchObject({ code: 'ERR_DPS_REQUEST_TIMEOUT' });
    bench.takeLog();
    bench.broker.accept();
    await settle();
    expect(bench.takeLog().filter((line) => !/^(SUBSCRIBE|PUBLISH 0 \$iothub\/twin\/GET)/.test(line))).toEqual([]);
    await session.close();
    expect(bench.clock.pending).toBe(0);
  });

  it('starts nothing new while requests finish, and reads the twin once for all that was lost', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.isPubacking = false;
    await pass(bench, RENEWAL_MS - 1);
    const sending = session.sendTelemetry({ body: 1 });
    await pass(bench, 1);
    bench.takeLog();
    const reporting = session.report({ a: 1 });
    bench.broker.push(9, {});
    bench.broker.setDesired(9, { a: 1 });
    await settle();
    expect(bench.takeLog()).toEqual([]);
    bench.broker.connection.puback();
    await sending;
    await reporting;
    expect(bench.takeLog()).toEqual([
      'DISCONNECT',
      'CONNECT dev-1',
      'SUBSCRIBE $iothub/twin/res/# 0, $iothub/twin/PATCH/properties/desired/# 0',
      'PUBLISH 0 $iothub/twin/GET/?$rid=r2',
      'PUBLISH 0 $iothub/twin/PATCH/properties/reported/?$rid=r3 {"a":1}',
    ]);
    expect(session.twin.desired).toEqual({ version: 9, properties: { a: 1 } });
    await session.close();
  });

  it('drops a read that the old connection put off', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    await pass(bench, RENEWAL_MS - 1);
    bench.broker.getErrors.push([429, '{}']);
    bench.broker.push(9, {});
    await settle();
    bench.broker.isAccepting = false;
    await pass(bench, 1);
    bench.clock.advance(20_000);
    bench.takeLog();
    bench.broker.accept();
    await settle();
    expect(bench.takeLog().filter((line) => line.includes('/GET/'))).toHaveLength(1);
    await session.close();
  });

  it('subscribes what was wanted while it reconnected', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.isAccepting = false;
    bench.broker.isSubacking = false;
    await pass(bench, RENEWAL_MS);
    session.onMethod('m', () => ({ status: 200 }));
    bench.broker.accept();
    await settle();
    session.onMessage(() => {});
    bench.broker.isSubacking = true;
    bench.broker.connection.suback();
    await settle();
    expect(bench.broker.connection.subscribed).toEqual([
      '$iothub/twin/res/#',
      '$iothub/twin/PATCH/properties/desired/#',
      '$iothub/methods/POST/#',
      'devices/dev-1/messages/devicebound/#',
    ]);
    await session.close();
  });

  it('waits for handlers, whose own requests still pass, and sends their answers before it leaves', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    let go: () => void = () => {};
    session.onMethod('m', async () => {
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      await session.sendTelemetry({ body: 1 });
      return { status: 200, payload: await session.report({ a: 1 }) };
    });
    await settle();
    bench.broker.connection.deliver('$iothub/methods/POST/m/?$rid=1', '');
    await pass(bench, RENEWAL_MS);
    bench.takeLog();
    go();
    await settle();
    expect(bench.takeLog().slice(0, 4)).toEqual([
      'PUBLISH 1 devices/dev-1/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8 1',
      'PUBLISH 0 $iothub/twin/PATCH/properties/reported/?$rid=r2 {"a":1}',
      'PUBLISH 0 $iothub/methods/res/200/?$rid=1 10',
      'DISCONNECT',
    ]);
    await session.close();
  });

  it('does not wait for ever for a handler that hangs', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    session.onMethod('m', () => new Promise(() => {}));
    session.onMessage(() => new Promise(() => {}));
    await settle();
    bench.broker.connection.deliver('$iothub/methods/POST/m/?$rid=1', '');
    bench.broker.connection.deliverAtLeastOnce('devices/dev-1/messages/devicebound/', 'x');
    await pass(bench, RENEWAL_MS + 30_000);
    expect(bench.broker.connections).toHaveLength(2);
    await session.close();
    expect(bench.clock.pending).toBe(0);
  });

  it('forgets messages that wait unacknowledged: the hub delivers them again', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.connection.deliverAtLeastOnce('devices/dev-1/messages/devicebound/', 'x');
    await pass(bench, RENEWAL_MS);
    bench.broker.connection.deliverAtLeastOnce('devices/dev-1/messages/devicebound/', 'x');
    const seen: number[] = [];
    session.onMessage(({ body }) => {
      seen.push(body.length);
    });
    await settle();
    expect(seen).toEqual([1]);
    expect(bench.takeLog().filter((line) => line.startsWith('PUBACK'))).toEqual(['PUBACK 1']);
    await session.close();
  });

  it('ignores what the old connection still says', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const [old] = bench.broker.connections;
    await pass(bench, RENEWAL_MS);
    old?.deliver('$iothub/twin/PATCH/properties/desired/?$version=5', '{"a":1,"$version":5}');
    expect(session.twin.desired.version).toBe(4);
    await session.close();
  });

  it('ends the session when the hub does not take it back', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const refusal = new TransportError({
      code: 'ERR_DPS_CONNACK_UNAUTHORIZED',
      message: 'no',
      phase: 'mqtt-connect',
      peer: 'x',
      retryable: false,
    });
    bench.broker.refusals.push(refusal);
    await pass(bench, RENEWAL_MS);
    expect(await session.closed).toBe(refusal);
    expect(await failureOf(session.report({}))).toMatchObject({ code: 'ERR_DPS_SESSION_CLOSED', cause: refusal });
    expect(bench.clock.pending).toBe(0);
  });

  it('keeps the connection while the HSM fails, and tries again', async () => {
    const hsm = fakeSymmetricKeyHsm();
    const bench = new HubBench({ hsm });
    const session = await bench.open();
    hsm.failures.push(new Error('busy'), new Error('busy'));
    await pass(bench, RENEWAL_MS + 60_000);
    expect(bench.strays).toHaveLength(2);
    expect(bench.strays[0]).toMatch(/^token renewal: .*busy/);
    expect(bench.broker.connections).toHaveLength(1);
    expect(await session.report({ a: 1 })).toBe(10);
    await pass(bench, 60_000);
    expect(bench.broker.connections).toHaveLength(2);
    await session.close();
  });

  it('ends the session when no new token could be made in the life of the old one', async () => {
    const hsm = fakeSymmetricKeyHsm();
    const bench = new HubBench({ hsm });
    const session = await bench.open();
    hsm.failures.push(...Array.from({ length: 100 }, () => new Error('gone')));
    await pass(bench, 3_540_000);
    expect(bench.broker.connection.isOver).toBe(false);
    await pass(bench, 120_000);
    expect(await session.closed).toMatchObject({ code: 'ERR_DPS_HSM_OPERATION' });
    expect(bench.clock.pending).toBe(0);
  });

  it.each<[string, (bench: HubBench) => void]>([
    ['while the HSM signs', () => {}],
    [
      'while it connects',
      (bench) => {
        bench.broker.isAccepting = false;
      },
    ],
    [
      'while it subscribes',
      (bench) => {
        bench.broker.isSubacking = false;
      },
    ],
    ['while requests finish', () => {}],
  ])('can be interrupted by close() %s', async (moment, arrange) => {
    const hsm = fakeSymmetricKeyHsm();
    const bench = new HubBench({ hsm });
    const session = await bench.open();
    arrange(bench);
    if (moment === 'while the HSM signs') hsm.sign = () => new Promise(() => {});
    if (moment === 'while requests finish') {
      session.onMethod('m', () => new Promise(() => {}));
      bench.broker.connection.deliver('$iothub/methods/POST/m/?$rid=1', '');
    }
    await pass(bench, RENEWAL_MS);
    await session.close();
    await settle();
    expect(bench.clock.pending).toBe(0);
    expect(bench.broker.connections.every(({ isOver, listeners }) => isOver && listeners === 0)).toBe(true);
    await pass(bench, RENEWAL_MS);
    expect(bench.broker.requests.length).toBeLessThanOrEqual(2);
  });
});

describe('a wall clock that is set', () => {
  it('forward makes a fresh token within a minute: the old one would run out early', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    await pass(bench, 600_000);
    bench.clock.stepWall(3_000_000);
    await pass(bench, 60_000);
    expect(bench.broker.requests).toHaveLength(2);
    const [first, second] = bench.broker.requests.map(({ password }) => expiryOf(password));
    expect(Number(second) - Number(first)).toBe(3_660);
    await pass(bench, RENEWAL_MS - 1);
    expect(bench.broker.requests).toHaveLength(2);
    await session.close();
  });

  it.each([
    ['a little forward', 20_000],
    ['back by a year', -31_536_000_000],
    ['to 1970', -Date.UTC(2026, 10, 21)],
    ['beyond 2106', 5_000_000_000_000],
  ])('%s changes nothing before the time', async (_name, stepMs) => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.clock.stepWall(stepMs);
    await pass(bench, RENEWAL_MS - 1);
    expect(bench.broker.requests).toHaveLength(1);
    expect(bench.broker.connection.isOver).toBe(false);
    expect(bench.strays).toEqual([]);
    await session.close();
  });
});
