import { describe, expect, it } from 'vitest';
import type { DesiredChange, JsonObject } from '../../src/core/twin.js';
import { CancelledError } from '../../src/errors.js';
import { CountingAbort, failureOf, HubBench } from '../fakes/hub-bench.js';
import { settle } from '../fakes/hub-broker.js';

describe('desired properties', () => {
  it('arrive as changes, in order and once', async () => {
    const bench = new HubBench();
    bench.broker.setDesired(4, { fan: 3 });
    const session = await bench.open();
    const changes: DesiredChange[] = [];
    session.onDesiredChange((change) => changes.push(change));
    bench.broker.push(5, { led: { on: true } });
    bench.broker.push(5, { led: { on: false } });
    bench.broker.push(6, { fan: null });
    expect(changes).toEqual([
      {
        version: 5,
        patch: { led: { on: true } },
        desired: { version: 5, properties: { fan: 3, led: { on: true } } },
      },
      { version: 6, patch: { fan: null }, desired: { version: 6, properties: { led: { on: true } } } },
    ]);
    expect(session.twin.desired).toEqual({ version: 6, properties: { led: { on: true } } });
    await session.close();
  });

  it('are read again after a gap', async () => {
    const bench = new HubBench();
    bench.broker.setDesired(4, { a: 1 });
    const session = await bench.open();
    const changes: DesiredChange[] = [];
    session.onDesiredChange((change) => changes.push(change));
    bench.takeLog();
    bench.broker.setDesired(7, { b: 2 });
    bench.broker.connection.deliver('$iothub/twin/PATCH/properties/desired/?$version=7', '{"b":2,"$version":7}');
    await settle();
    expect(bench.takeLog()).toEqual(['PUBLISH 0 $iothub/twin/GET/?$rid=r2']);
    expect(changes).toEqual([{ version: 7, patch: { a: null, b: 2 }, desired: { version: 7, properties: { b: 2 } } }]);
    await session.close();
  });

  it.each([
    ['a body', '$iothub/twin/PATCH/properties/desired/?$version=5', '{"a":'],
    ['versions that disagree', '$iothub/twin/PATCH/properties/desired/?$version=5', '{"$version":6}'],
    ['a topic', '$iothub/twin/PATCH/properties/desired/?$version=five', '{"$version":5}'],
  ])('are read again after %s that cannot be read', async (_name, topic, body) => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.setDesired(5, { a: 1 });
    bench.broker.connection.deliver(topic, body);
    await settle();
    expect(session.twin.desired).toEqual({ version: 5, properties: { a: 1 } });
    expect(bench.strays).toEqual([expect.stringMatching(/^delivery: The hub /)]);
    await session.close();
  });

  it('are asked for again, ever more slowly, while the hub throttles', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    bench.broker.getErrors.push([429, '{}'], [503, 'not JSON']);
    bench.broker.push(9, {});
    await settle();
    expect(bench.takeLog()).toEqual(['PUBLISH 0 $iothub/twin/GET/?$rid=r2']);
    bench.clock.advance(10_999);
    await settle();
    expect(bench.takeLog()).toEqual([]);
    bench.clock.advance(1);
    await settle();
    expect(bench.takeLog()).toEqual(['PUBLISH 0 $iothub/twin/GET/?$rid=r3']);
    bench.clock.advance(11_000);
    await settle();
    expect(bench.takeLog()).toEqual(['PUBLISH 0 $iothub/twin/GET/?$rid=r4']);
    await session.close();
    expect(bench.clock.pending).toBe(0);
  });

  it.each([
    ['is refused', [[404, '{"errorCode":404001}']], 'ERR_DPS_SERVICE_NOT_FOUND'],
    ['brings no twin', [[200, '[]']], 'ERR_DPS_PROTOCOL_TWIN'],
    ['has an unknown status', [[100, '']], 'ERR_DPS_PROTOCOL_STATUS'],
  ] as const)('end the session when a later read %s', async (_name, errors, code) => {
    const bench = new HubBench();
    const session = await bench.open();
    for (const [status, body] of errors) bench.broker.getErrors.push([status, body]);
    bench.broker.push(9, {});
    expect(await session.closed).toMatchObject({ code });
    expect(bench.clock.pending).toBe(0);
  });

  it('survive listeners that fail, and tell of them', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const seen: string[] = [];
    session.onDesiredChange(() => {
      throw new Error('sync');
    });
    session.onDesiredChange((async () => {
      throw new Error('async');
    }) as () => void);
    const stop = session.onDesiredChange(() => {
      seen.push('third');
      stop();
    });
    session.onDesiredChange(() => seen.push('fourth'));
    bench.broker.push(5, { n: 5 });
    bench.broker.push(6, { n: 6 });
    await settle();
    expect(seen).toEqual(['third', 'fourth', 'fourth']);
    expect(bench.strays.sort()).toEqual([
      'desired listener: async',
      'desired listener: async',
      'desired listener: sync',
      'desired listener: sync',
    ]);
    await session.close();
  });

  it('reach a listener that is added by another one from the next change on', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const seen: number[] = [];
    const stop = session.onDesiredChange(() => {
      stop();
      session.onDesiredChange(({ version }) => seen.push(version));
    });
    bench.broker.push(5, { n: 5 });
    bench.broker.push(6, { n: 6 });
    expect(seen).toEqual([6]);
    await session.close();
  });

  it('leave no timer when the session is closed while the hub throttles', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.getErrors.push([429, '{}']);
    bench.broker.push(9, { n: 9 });
    await settle();
    await session.close();
    expect(bench.clock.pending).toBe(0);
  });

  it('reach the same function twice when it was given twice, and not after its removal', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    let calls = 0;
    const listener = (): void => {
      calls += 1;
    };
    const stop = session.onDesiredChange(listener);
    session.onDesiredChange(listener);
    bench.broker.push(5, { n: 5 });
    expect(calls).toBe(2);
    stop();
    stop();
    bench.broker.push(6, { n: 6 });
    expect(calls).toBe(3);
    await session.close();
  });
});

describe('a hub whose twin lags behind its pushes', () => {
  it('is asked at once twice, then ever more slowly', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const isAsked = (): boolean => bench.takeLog().some((line) => line.includes('twin/GET'));
    bench.takeLog();
    const pushFar = async (): Promise<boolean> => {
      bench.broker.connection.deliver('$iothub/twin/PATCH/properties/desired/?$version=90', '{"$version":90}');
      await settle();
      return isAsked();
    };
    expect([await pushFar(), await pushFar(), await pushFar()]).toEqual([true, true, false]);
    bench.clock.advance(10_999);
    await settle();
    expect([isAsked(), await pushFar()]).toEqual([false, false]);
    bench.clock.advance(1);
    await settle();
    expect(isAsked()).toBe(true);
    await session.close();
    expect(bench.clock.pending).toBe(0);
  });

  it('leaves no timer when a listener closes the session in the midst of it', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const far = (version: number): void =>
      bench.broker.connection.deliver('$iothub/twin/PATCH/properties/desired/?$version=90', `{"$version":${version}}`);
    for (let round = 0; round < 2; round += 1) {
      far(90);
      await settle();
    }
    bench.broker.lostGets = 1;
    far(90);
    bench.clock.advance(11_000);
    far(90);
    session.onDesiredChange(() => void session.close());
    bench.broker.setDesired(5, { a: 1 });
    bench.broker.answerGet(bench.broker.connection, 'r4');
    await settle();
    expect(await session.closed).toBeUndefined();
    expect(bench.clock.pending).toBe(0);
  });
});

describe('an answer that cannot be read', () => {
  it.each([
    '$iothub/twin/res/',
    '$iothub/twin/res/2xx/?$rid=r2',
    '$iothub/twin/res/204/',
    '$iothub/twin/res/204/?$rid=',
  ])('fails the report that waits (%s)', async (topic) => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.lostPatches = 1;
    const report = failureOf(session.report({ a: 1 }));
    await settle();
    bench.broker.connection.deliver(topic, '{}');
    expect(await report).toMatchObject({ name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_TOPIC' });
    expect(bench.strays).toEqual([]);
    expect(await session.report({ a: 2 })).toBe(10);
    await session.close();
  });

  it('fails the opening that waits for the twin', async () => {
    const bench = new HubBench();
    bench.broker.lostGets = 1;
    const opening = failureOf(bench.open());
    await settle();
    bench.broker.connection.deliver('$iothub/twin/res/abc/?$rid=r1', '{}');
    expect(await opening).toMatchObject({ code: 'ERR_DPS_PROTOCOL_TOPIC' });
    expect(bench.clock.pending).toBe(0);
  });
});

describe('stray answers', () => {
  it('are ignored: unknown, late, malformed', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.connection.deliver('$iothub/twin/res/200/?$rid=r99', '{}');
    bench.broker.connection.deliver('$iothub/twin/res/500/?$rid=r1', 'late');
    bench.broker.connection.deliver('$iothub/twin/res/', 'x');
    bench.broker.connection.deliver('$iothub/something/new', 'x');
    await settle();
    expect(session.twin.desired.version).toBe(4);
    expect(bench.strays).toEqual([expect.stringMatching(/^delivery: .*topic/)]);
    await session.close();
  });
});

describe('report', () => {
  it('merges, and returns the new version', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    expect(await session.report({ fw: '1.2.0', net: { ip: 'x', mac: 'y' } })).toBe(10);
    expect(await session.report({ net: { ip: null } })).toBe(11);
    expect(bench.takeLog()).toEqual([
      'PUBLISH 0 $iothub/twin/PATCH/properties/reported/?$rid=r2 {"fw":"1.2.0","net":{"ip":"x","mac":"y"}}',
      'PUBLISH 0 $iothub/twin/PATCH/properties/reported/?$rid=r3 {"net":{"ip":null}}',
    ]);
    expect(session.twin.reported).toEqual({ version: 11, properties: { fw: '1.2.0', net: { mac: 'y' } } });
    await session.close();
  });

  it('sends one patch at a time, in order', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    bench.broker.lostPatches = 1;
    const [first, second] = [session.report({ n: 1 }), session.report({ n: 2 })];
    await settle();
    expect(bench.takeLog()).toEqual(['PUBLISH 0 $iothub/twin/PATCH/properties/reported/?$rid=r2 {"n":1}']);
    bench.broker.reportedVersion = 10;
    bench.broker.connection.deliver('$iothub/twin/res/204/?$rid=r2&$version=10');
    expect(await first).toBe(10);
    expect(await second).toBe(11);
    expect(bench.takeLog()).toEqual(['PUBLISH 0 $iothub/twin/PATCH/properties/reported/?$rid=r3 {"n":2}']);
    await session.close();
  });

  it('sends what the patch was when report was called', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const patch: { n: number } = { n: 1 };
    const reporting = session.report(patch);
    patch.n = 2;
    await reporting;
    expect(session.twin.reported.properties).toEqual({ n: 1 });
    await session.close();
  });

  it('fails typed when the hub refuses, and goes on with the next', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.patchErrors.push([400, '{"errorCode":400004,"trackingId":"t-2","message":"bad"}'], [500, '<html>']);
    expect(await failureOf(session.report({ a: 1 }))).toMatchObject({
      code: 'ERR_DPS_SERVICE_BAD_REQUEST',
      errorCode: 400004,
      trackingId: 't-2',
      retryable: false,
    });
    expect(await failureOf(session.report({ a: 1 }))).toMatchObject({ code: 'ERR_DPS_SERVICE_UNAVAILABLE' });
    expect(session.twin.reported).toEqual({ version: 9, properties: {} });
    expect(await session.report({ a: 1 })).toBe(10);
    await session.close();
  });

  it('fails typed when success comes without a version', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.patchErrors.push([204, '']);
    expect(await failureOf(session.report({ a: 1 }))).toMatchObject({ code: 'ERR_DPS_PROTOCOL_TOPIC' });
    await session.close();
  });

  it('fails in time when there is no answer, and goes on with the next', async () => {
    const bench = new HubBench({ requestTimeoutMs: 500 });
    const session = await bench.open();
    bench.broker.lostPatches = 1;
    const failure = failureOf(session.report({ a: 1 }));
    const next = session.report({ b: 1 });
    await settle();
    bench.clock.advance(500);
    expect(await failure).toMatchObject({ code: 'ERR_DPS_REQUEST_TIMEOUT', retryable: true });
    expect(await next).toBe(10);
    await session.close();
  });

  it.each<[string, unknown, string]>([
    ['a $ key', { a: { $version: 1 } }, 'reported.a.$version'],
    ['a value JSON does not know', { a: { b: undefined } }, 'reported.a.b'],
    ['no plain object', new Date(0), 'reported'],
  ])('refuses %s before it is sent', async (_name, patch, path) => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    expect(await failureOf(session.report(patch as JsonObject))).toMatchObject({
      code: 'ERR_DPS_CONFIG_OPTION',
      option: path,
      message: expect.stringContaining(path),
    });
    expect(bench.takeLog()).toEqual([]);
    await session.close();
  });

  it('can be cancelled while it waits its turn: then it is never sent', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.lostPatches = 1;
    const abort = new CountingAbort();
    const first = failureOf(session.report({ n: 1 }));
    const second = failureOf(session.report({ n: 2 }, abort.signal));
    const third = session.report({ n: 3 });
    bench.takeLog();
    abort.abort();
    expect(await second).toBeInstanceOf(CancelledError);
    expect(abort.listeners).toBe(0);
    bench.clock.advance(30_000);
    await first;
    expect(await third).toBe(10);
    expect(bench.takeLog()).toEqual(['PUBLISH 0 $iothub/twin/PATCH/properties/reported/?$rid=r3 {"n":3}']);
    await session.close();
  });

  it('can be cancelled after it was sent: its answer still counts, and the next waits for it', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.lostPatches = 1;
    const abort = new CountingAbort();
    const first = failureOf(session.report({ n: 1 }, abort.signal));
    const second = session.report({ m: 2 });
    abort.abort();
    expect(await first).toBeInstanceOf(CancelledError);
    bench.takeLog();
    await settle();
    expect(bench.takeLog()).toEqual([]);
    bench.broker.reportedVersion = 10;
    bench.broker.connection.deliver('$iothub/twin/res/204/?$rid=r2&$version=10');
    expect(await second).toBe(11);
    expect(session.twin.reported).toEqual({ version: 11, properties: { n: 1, m: 2 } });
    await session.close();
  });

  it('can be cancelled before it began', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    expect(await failureOf(session.report({ a: 1 }, AbortSignal.abort()))).toBeInstanceOf(CancelledError);
    expect(bench.takeLog()).toEqual([]);
    await session.close();
  });

  it('leaves the read of a gap in front of it', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.lostPatches = 1;
    const first = session.report({ n: 1 });
    const second = session.report({ n: 2 });
    bench.takeLog();
    bench.broker.push(9, {});
    bench.broker.setDesired(9, {});
    bench.broker.reportedVersion = 10;
    bench.broker.connection.deliver('$iothub/twin/res/204/?$rid=r2&$version=10');
    await Promise.all([first, second]);
    expect(bench.takeLog()).toEqual([
      'PUBLISH 0 $iothub/twin/GET/?$rid=r3',
      'PUBLISH 0 $iothub/twin/PATCH/properties/reported/?$rid=r4 {"n":2}',
    ]);
    await session.close();
  });
});
