import { describe, expect, it } from 'vitest';
import type { CloudToDeviceMessage, HubSession, TelemetryMessage } from '../../src/core/hub.js';
import type { JsonValue } from '../../src/core/twin.js';
import { CancelledError, ProtocolError } from '../../src/errors.js';
import { CountingAbort, failureOf, HubBench } from '../fakes/hub-bench.js';
import { settle } from '../fakes/hub-broker.js';

const C2D = 'devices/dev-1/messages/devicebound/';
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** What is handed over by mistake, or by a program without types. */
const wrongly = (session: HubSession): Record<string, (...args: unknown[]) => unknown> => session as never;

describe('a session given what it cannot use', () => {
  const SAMPLE = '{ body: { temperature: 21.5 } }';

  it.each<[string, unknown, string, RegExp | string]>([
    ['nothing', undefined, 'message', `sendTelemetry() takes a message such as ${SAMPLE}, not undefined.`],
    ['null', null, 'message', /not null\.$/],
    ['a text', 'x', 'message', /not a text\.$/],
    ['bytes', new Uint8Array(1), 'message', /not bytes\.$/],
    ['a list', [{ body: 1 }], 'message', /not a list\.$/],
    ['no body', {}, 'body', `The telemetry message has no body. Give one, such as ${SAMPLE}.`],
    ['a function as body', { body: () => 1 }, 'body', /its body: JSON cannot carry a function\.$/],
    [
      'a number as id',
      { body: 1, messageId: 7 },
      'messageId',
      'The messageId of a telemetry message must be a text, not a number.',
    ],
    ['a text as properties', { body: 1, properties: 'x' }, 'properties', /must be an object, not a text\.$/],
    [
      'a number among the properties',
      { body: 1, properties: { unit: 'C', room: 7 } },
      'properties',
      'The telemetry property "room" must be a text, not a number.',
    ],
  ])('as telemetry (%s) names the argument, and sends nothing', async (_name, message, option, expected) => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    const error = await failureOf(Promise.resolve(wrongly(session).sendTelemetry?.(message)));
    expect(error).toMatchObject({ name: 'ConfigurationError', code: 'ERR_DPS_CONFIG_OPTION', option });
    if (typeof expected === 'string') expect(error.message).toBe(expected);
    else expect(error.message).toMatch(expected);
    expect(bench.takeLog()).toEqual([]);
    await session.close();
  });

  it.each([
    ['bdy', 'A telemetry message has no member "bdy". Did you mean body?'],
    ['contenttype', 'A telemetry message has no member "contenttype". Did you mean contentType?'],
    [
      'severity',
      'A telemetry message has no member "severity". Known are body, messageId, correlationId, contentType, contentEncoding, creationTimeUtc, component, properties.',
    ],
  ])('names the nearest member of a message (%s)', async (option, message) => {
    const session = await new HubBench().open();
    expect(await failureOf(session.sendTelemetry({ body: 1, [option]: 1 }))).toMatchObject({
      code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
      option,
      message,
    });
    await session.close();
  });

  it.each<[string, unknown[], string, string]>([
    ['onDesiredChange', [], 'listener', 'onDesiredChange() needs a function as listener, not undefined.'],
    ['onMessage', [{}], 'listener', 'onMessage() needs a function as listener, not an object.'],
    ['onMethod', ['reboot'], 'handler', 'onMethod() needs a function as handler, not undefined.'],
    [
      'onMethod',
      [() => ({ status: 200 })],
      'name',
      'onMethod() needs the name of a direct method as a text, not a function.',
    ],
    [
      'onMethod',
      ['', () => ({ status: 200 })],
      'name',
      'onMethod() needs the name of a direct method as a text, not an empty one.',
    ],
    [
      'onMethod',
      ['a\0b', () => ({ status: 200 })],
      'name',
      'onMethod() needs the name of a direct method as a text, not one with control characters.',
    ],
    [
      'onMethod',
      ['m'.repeat(1_025), () => ({ status: 200 })],
      'name',
      'onMethod() needs the name of a direct method as a text, not one of 1025 characters.',
    ],
  ])('%s() with %j refuses it and listens to nothing', async (method, args, option, message) => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    const refusal = expect.objectContaining({ code: 'ERR_DPS_CONFIG_OPTION', option, message });
    expect(() => wrongly(session)[method]?.(...args)).toThrow(refusal);
    await settle();
    expect(bench.takeLog()).toEqual([]);
    await session.close();
  });

  it.each([
    [undefined, 'undefined'],
    ['x', 'a text'],
    [[1], 'a list'],
  ])('reports nothing for %j', async (patch, kind) => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    expect(await failureOf(Promise.resolve(wrongly(session).report?.(patch)))).toMatchObject({
      code: 'ERR_DPS_CONFIG_OPTION',
      option: 'patch',
      message: `report() takes an object of properties such as { firmware: '1.2.0' }, not ${kind}.`,
    });
    expect(bench.takeLog()).toEqual([]);
    await session.close();
  });
});

describe('telemetry', () => {
  it('goes as JSON with the marks for body routing', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    await session.sendTelemetry({ body: { t: 21.5 }, messageId: 'm1', properties: { room: 'a b' } });
    expect(bench.takeLog()).toEqual([
      'PUBLISH 1 devices/dev-1/messages/events/%24.mid=m1&%24.ct=application%2Fjson&%24.ce=utf-8&room=a%20b {"t":21.5}',
    ]);
    await session.close();
  });

  it('goes as bytes without any, and with the caller’s own', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    await session.sendTelemetry({ body: new TextEncoder().encode('raw') });
    await session.sendTelemetry({ body: 'text', contentType: 'application/json;v=1' });
    expect(bench.takeLog()).toEqual([
      'PUBLISH 1 devices/dev-1/messages/events/ raw',
      'PUBLISH 1 devices/dev-1/messages/events/%24.ct=application%2Fjson%3Bv%3D1&%24.ce=utf-8 "text"',
    ]);
    await session.close();
  });

  it('is on the wire when sendTelemetry returns, and done at PUBACK', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    bench.broker.isPubacking = false;
    let isDone = false;
    const sending = session.sendTelemetry({ body: 1 }).then(() => {
      isDone = true;
    });
    expect(bench.takeLog()).toHaveLength(1);
    await settle();
    expect(isDone).toBe(false);
    bench.broker.connection.puback();
    await sending;
    await session.close();
  });

  it('fails in time without PUBACK, and at once when cancelled', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.isPubacking = false;
    const abort = new CountingAbort();
    const silent = failureOf(session.sendTelemetry({ body: 1 }));
    const cancelled = failureOf(session.sendTelemetry({ body: 2 }, abort.signal));
    abort.abort();
    expect(await cancelled).toBeInstanceOf(CancelledError);
    bench.clock.advance(30_000);
    expect(await silent).toMatchObject({ code: 'ERR_DPS_REQUEST_TIMEOUT' });
    expect([abort.listeners, bench.broker.connection.listeners]).toEqual([0, 0]);
    await session.close();
  });

  it.each<[string, TelemetryMessage, string]>([
    ['too large a body', { body: new Uint8Array(256 * 1024 + 1) }, 'body'],
    ['a body JSON does not know', { body: undefined as unknown as JsonValue }, 'body'],
    ['a bigint', { body: 1n as unknown as JsonValue }, 'body'],
    ['a property of the hub', { body: 1, properties: { '$.to': 'x' } }, 'properties'],
  ])('refuses %s before it is sent', async (_name, message, option) => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    expect(await failureOf(session.sendTelemetry(message))).toMatchObject({ code: 'ERR_DPS_CONFIG_OPTION', option });
    expect(bench.takeLog()).toEqual([]);
    await session.close();
  });
});

describe('cloud-to-device messages', () => {
  it('are subscribed with the first listener only', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    session.onMessage(() => {});
    session.onMessage(() => {});
    await settle();
    expect(bench.takeLog()).toEqual([`SUBSCRIBE ${C2D}# 1`]);
    await session.close();
  });

  it('arrive whole, and are completed when the listener has settled', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const got: CloudToDeviceMessage[] = [];
    let finish: () => void = () => {};
    session.onMessage((message) => {
      got.push(message);
      return new Promise<void>((resolve) => {
        finish = resolve;
      });
    });
    await settle();
    bench.takeLog();
    bench.broker.connection.deliverAtLeastOnce(
      `${C2D}%24.mid=m1&%24.to=%2Fdevices%2Fdev-1%2Fmessages%2Fdevicebound&color=red&flag`,
      'hello',
    );
    await settle();
    expect(got).toHaveLength(1);
    expect(text(got[0]?.body ?? new Uint8Array(0))).toBe('hello');
    expect(got[0]).toMatchObject({
      messageId: 'm1',
      correlationId: undefined,
      contentType: undefined,
      contentEncoding: undefined,
      properties: { color: 'red', flag: null },
    });
    expect(bench.takeLog()).toEqual([]);
    finish();
    await settle();
    expect(bench.takeLog()).toEqual(['PUBACK 1']);
    await session.close();
  });

  it('come one at a time, in order, also with a slow listener', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const seen: string[] = [];
    const finishers: (() => void)[] = [];
    session.onMessage(({ body }) => {
      seen.push(text(body));
      return new Promise<void>((resolve) => finishers.push(resolve));
    });
    for (const name of ['a', 'b', 'c']) bench.broker.connection.deliverAtLeastOnce(C2D, name);
    await settle();
    expect(seen).toEqual(['a']);
    bench.takeLog();
    for (const expected of [
      ['a', 'b'],
      ['a', 'b', 'c'],
      ['a', 'b', 'c'],
    ]) {
      finishers.shift()?.();
      await settle();
      expect(seen).toEqual(expected);
    }
    expect(bench.takeLog()).toEqual(['PUBACK 1', 'PUBACK 2', 'PUBACK 3']);
    await session.close();
  });

  it('stay with the hub when a listener fails, and the next one comes', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const seen: string[] = [];
    session.onMessage(({ body }) => {
      seen.push(text(body));
    });
    session.onMessage(async ({ body }) => {
      if (text(body) === 'bad') throw new Error('rejected');
    });
    session.onMessage(({ body }) => {
      if (text(body) === 'worse') throw new Error('thrown');
    });
    await settle();
    bench.takeLog();
    for (const name of ['bad', 'worse', 'good']) bench.broker.connection.deliverAtLeastOnce(C2D, name);
    await settle();
    expect(seen).toEqual(['bad', 'worse', 'good']);
    expect(bench.takeLog()).toEqual(['PUBACK 3']);
    expect(bench.strays).toEqual(['message listener: rejected', 'message listener: thrown']);
    await session.close();
  });

  it('of an earlier subscription wait unacknowledged for the first listener', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    for (let n = 0; n < 51; n += 1) bench.broker.connection.deliverAtLeastOnce(C2D, String(n));
    await settle();
    bench.takeLog();
    const seen: string[] = [];
    session.onMessage(({ body }) => {
      seen.push(text(body));
    });
    session.onMessage(({ body }) => {
      seen.push(text(body));
    });
    await settle();
    expect(seen.slice(0, 4)).toEqual(['0', '0', '1', '1']);
    expect(seen).toHaveLength(100);
    expect(bench.takeLog().filter((line) => line.startsWith('PUBACK'))).toHaveLength(50);
    await session.close();
  });

  it('wait again when the last listener has gone', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const stop = session.onMessage(() => {});
    await settle();
    stop();
    bench.takeLog();
    bench.broker.connection.deliverAtLeastOnce(C2D, 'x');
    await settle();
    expect(bench.takeLog()).toEqual([]);
    await session.close();
  });

  it('that cannot be read are left to the hub, and told of', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    session.onMessage(() => {});
    await settle();
    bench.takeLog();
    bench.broker.connection.deliverAtLeastOnce(`${C2D}a=%ff`, 'x');
    await settle();
    expect(bench.takeLog()).toEqual([]);
    expect(bench.strays).toEqual([expect.stringMatching(/^delivery: .*percent-encoded/)]);
    await session.close();
  });

  it('end the session when their subscription is refused: nobody would ever be called', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.isSubacking = false;
    session.onMessage(() => {});
    const refusal = new ProtocolError({ code: 'ERR_DPS_PROTOCOL_MQTT', message: 'no', expected: 'a', got: 'b' });
    bench.broker.connection.refuseSubscription(refusal);
    expect(await session.closed).toBe(refusal);
  });

  it('are refused for a device id that is no topic', async () => {
    const bench = new HubBench();
    const parameters = { ...bench.parameters, deviceId: 'a+b' };
    const session = await bench.transport.open(parameters, new AbortController().signal);
    expect(() => session.onMessage(() => {})).toThrow(/a\+b/);
    expect(await failureOf(session.sendTelemetry({ body: 1 }))).toMatchObject({ code: 'ERR_DPS_CONFIG_UNSUPPORTED' });
    await session.close();
  });

  it('of other filters at QoS 1 are acknowledged at once', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    bench.broker.connection.deliverAtLeastOnce('$iothub/twin/PATCH/properties/desired/?$version=5', '{"$version":5}');
    bench.broker.connection.deliverAtLeastOnce('$iothub/something/new', 'x');
    bench.broker.connection.deliverAtLeastOnce('$iothub/twin/res/bad', 'x');
    expect(bench.takeLog()).toEqual(['PUBACK 1', 'PUBACK 2', 'PUBACK 3']);
    await session.close();
  });
});
