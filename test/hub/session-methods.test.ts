import { describe, expect, it } from 'vitest';
import type { MethodResponse } from '../../src/core/hub.js';
import type { JsonValue } from '../../src/core/twin.js';
import { MAX_RUNNING_METHODS } from '../../src/hub/method-router.js';
import { HubBench } from '../fakes/hub-bench.js';
import { settle } from '../fakes/hub-broker.js';

describe('direct methods', () => {
  async function answerTo(
    handler: (payload: JsonValue) => MethodResponse | Promise<MethodResponse>,
    body: string,
  ): Promise<{ readonly answers: string[]; readonly strays: readonly string[] }> {
    const bench = new HubBench();
    const session = await bench.open();
    session.onMethod('reboot', handler);
    await settle();
    bench.takeLog();
    bench.broker.connection.deliver('$iothub/methods/POST/reboot/?$rid=7', body);
    await settle();
    const answers = bench.takeLog();
    await session.close();
    return { answers, strays: bench.strays };
  }

  it('are subscribed with the first handler, and answered', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    session.onMethod('reboot', (payload) => ({ status: 200, payload: { got: payload } }));
    session.onMethod('sleep', async () => ({ status: 202 }));
    await settle();
    expect(bench.takeLog()).toEqual(['SUBSCRIBE $iothub/methods/POST/# 0']);
    bench.broker.connection.deliver('$iothub/methods/POST/reboot/?$rid=1', '{"in":5}');
    bench.broker.connection.deliver('$iothub/methods/POST/sleep/?$rid=2', '');
    await settle();
    expect(bench.takeLog().sort()).toEqual([
      'PUBLISH 0 $iothub/methods/res/200/?$rid=1 {"got":{"in":5}}',
      'PUBLISH 0 $iothub/methods/res/202/?$rid=2 null',
    ]);
    await session.close();
  });

  it('get null for an empty payload', async () => {
    const { answers } = await answerTo((payload) => ({ status: 200, payload: [payload] }), '');
    expect(answers).toEqual(['PUBLISH 0 $iothub/methods/res/200/?$rid=7 [null]']);
  });

  it('without a handler are answered 501', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const stop = session.onMethod('gone', () => ({ status: 200 }));
    stop();
    await settle();
    bench.takeLog();
    for (const name of ['gone', 'never', 'constructor', '__proto__']) {
      bench.broker.connection.deliver(`$iothub/methods/POST/${name}/?$rid=${name}`, '{}');
    }
    await settle();
    expect(bench.takeLog()).toEqual(
      ['gone', 'never', 'constructor', '__proto__'].map(
        (name) =>
          `PUBLISH 0 $iothub/methods/res/501/?$rid=${name} {"message":"The device has no handler for this method."}`,
      ),
    );
    await session.close();
  });

  it.each(['{', 'text', '{"a":1}x'])(
    'with the payload %s are answered 400 without calling the handler',
    async (body) => {
      let calls = 0;
      const { answers } = await answerTo(() => {
        calls += 1;
        return { status: 200 };
      }, body);
      expect(answers).toEqual([
        'PUBLISH 0 $iothub/methods/res/400/?$rid=7 {"message":"The payload of the method is not JSON."}',
      ]);
      expect(calls).toBe(0);
    },
  );

  it.each<[string, () => MethodResponse | Promise<MethodResponse>, RegExp]>([
    [
      'throws',
      () => {
        throw new Error('secret path /etc/shadow');
      },
      /secret path/,
    ],
    [
      'rejects',
      async () => {
        throw new Error('secret path /etc/shadow');
      },
      /secret path/,
    ],
    [
      'returns nothing',
      () => undefined as unknown as MethodResponse,
      /of the method "reboot" must return an object such as \{ status: 200, .*, not undefined\.$/,
    ],
    ['returns a text', () => 'ok' as unknown as MethodResponse, /must return an object .*, not a text\.$/],
    ['returns a status that is none', () => ({ status: 1.5 }), /must return an integer as status, .*, not 1\.5\.$/],
    ['returns a status as text', () => ({ status: '1' as never }), /an integer as status, .*, not a text\.$/],
    [
      'returns what JSON does not know',
      () => ({ status: 200, payload: (() => 1) as unknown as JsonValue }),
      /must return a JSON value as payload, not a function\.$/,
    ],
    ['returns a bigint', () => ({ status: 200, payload: 1n as unknown as JsonValue }), /BigInt/],
    ['returns too much', () => ({ status: 200, payload: 'x'.repeat(128 * 1024) }), /131074 bytes; the hub takes/],
  ])('whose handler %s are answered 500, without its inside', async (_name, handler, says) => {
    const { answers, strays } = await answerTo(handler, '{}');
    expect(answers).toEqual([
      'PUBLISH 0 $iothub/methods/res/500/?$rid=7 {"message":"The handler of this method failed."}',
    ]);
    expect(strays).toHaveLength(1);
    expect(strays[0]).toMatch(/^method handler: /);
    expect(strays[0]).toMatch(says);
  });

  it('have one handler per name, and give the name back once', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const stop = session.onMethod('m', () => ({ status: 201 }));
    expect(() => session.onMethod('m', () => ({ status: 202 }))).toThrow(/"m" has a handler already/);
    stop();
    session.onMethod('m', () => ({ status: 203 }));
    stop();
    await settle();
    bench.takeLog();
    bench.broker.connection.deliver('$iothub/methods/POST/m/?$rid=1', '');
    await settle();
    expect(bench.takeLog()).toEqual(['PUBLISH 0 $iothub/methods/res/203/?$rid=1 null']);
    await session.close();
  });

  it('are left unanswered beyond a hundred at a time', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const finish: (() => void)[] = [];
    session.onMethod('slow', () => new Promise((resolve) => finish.push(() => resolve({ status: 200 }))));
    await settle();
    bench.takeLog();
    const ask = (id: number): void => bench.broker.connection.deliver(`$iothub/methods/POST/slow/?$rid=${id}`, '');
    for (let id = 0; id < MAX_RUNNING_METHODS + 2; id += 1) ask(id);
    await settle();
    expect(finish).toHaveLength(MAX_RUNNING_METHODS);
    expect(bench.strays).toEqual(Array(2).fill(expect.stringMatching(/^delivery: .*left unanswered: 100 others/)));
    for (const each of finish.splice(0)) each();
    await settle();
    expect(bench.takeLog()).toHaveLength(MAX_RUNNING_METHODS);
    ask(999);
    await settle();
    expect(finish).toHaveLength(1);
    await session.close();
  });

  it('that are still running when the session is closed end in silence', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    let finish: () => void = () => {};
    session.onMethod(
      'slow',
      () =>
        new Promise((resolve) => {
          finish = () => resolve({ status: 200 });
        }),
    );
    await settle();
    bench.broker.connection.deliver('$iothub/methods/POST/slow/?$rid=1', '');
    await session.close();
    bench.takeLog();
    finish();
    await settle();
    expect(bench.takeLog()).toEqual([]);
    expect(bench.strays).toEqual([]);
  });
});
