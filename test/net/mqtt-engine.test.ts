import { connect as connectTcp } from 'node:net';
import { Duplex } from 'node:stream';
import fc from 'fast-check';
import mqttPacket from 'mqtt-packet';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { ConfigurationError, isDpsError, ProtocolError, TransportError } from '../../src/errors.js';
import {
  MAX_PACKET_BYTES,
  MAX_UNSENT_ACKNOWLEDGEMENTS,
  type MqttConnection,
  type MqttDelivery,
  type MqttOpenOptions,
  openMqtt,
} from '../../src/net/mqtt-engine.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { bytes } from '../fakes/mqtt-bytes.js';
import { startTcpPeer, type Wire } from '../fakes/wire-peer.js';

const never = new AbortController().signal;

const CONNACK = bytes('20 02 00 00');

async function failureOf(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => {
      throw new Error('it succeeded');
    },
    (error: Error) => error,
  );
}

interface Bench {
  readonly clock: ManualClock;
  readonly messages: MqttDelivery[];
  readonly wire: Wire;
  readonly opening: Promise<MqttConnection>;
}

/** A client on its way to a server that has done nothing yet. */
async function bench(overrides: Partial<MqttOpenOptions> = {}, signal: CancelSignal = never): Promise<Bench> {
  const clock = new ManualClock();
  const messages: MqttDelivery[] = [];
  const peer = await startTcpPeer(async () => {});
  const socket = connectTcp({ port: peer.port, host: '127.0.0.1' });
  onTestFinished(() => {
    socket.destroy();
  });
  await new Promise((resolve) => socket.once('connect', resolve));
  const opening = openMqtt(
    {
      socket,
      peer: 'broker:8883',
      clientId: 'dev-1',
      username: 'u',
      clean: true,
      keepaliveSeconds: 180,
      clock,
      onMessage: (delivery) => messages.push(delivery),
      ...overrides,
    },
    signal,
  );
  opening.catch(() => {});
  return { clock, messages, wire: await peer.wire(0), opening };
}

/** The same, accepted. */
async function connectedBench(overrides: Partial<MqttOpenOptions> = {}) {
  const started = await bench(overrides);
  await started.wire.readMqttPacket();
  await started.wire.write(CONNACK);
  return { ...started, connection: await started.opening };
}

const publishOf = (text: string, qos: 0 | 1 = 1) => ({ topic: 't', payload: Buffer.from(text), qos });

/** Settles after what has been read from sockets so far has been handled. */
async function roundTrip(connection: MqttConnection, wire: Wire): Promise<void> {
  const done = connection.publish(publishOf('sync'), never);
  const packet = await wire.readMqttPacket();
  await wire.write(Uint8Array.of(0x40, 0x02, packet.at(5) ?? 0, packet.at(6) ?? 0));
  await done;
}

describe('openMqtt', () => {
  it('sends CONNECT with user name and password, clean', async () => {
    const { wire, opening, clock } = await bench({ password: 'secret' });
    expect(await wire.readMqttPacket()).toEqual(
      bytes("10 1c 0004 'MQTT' 04 c2 00b4 0005 'dev-1' 0001 'u' 0006 'secret'"),
    );
    await wire.write(CONNACK);
    const connection = await opening;
    expect(connection.sessionPresent).toBe(false);
    expect(connection.peer).toBe('broker:8883');
    // Only the keep-alive is ordered; the bound on CONNACK is gone.
    expect(clock.pending).toBe(1);
  });

  it('sends CONNECT without password, for the session before', async () => {
    const { wire, opening, clock } = await bench({ clean: false, keepaliveSeconds: 0 });
    expect(await wire.readMqttPacket()).toEqual(bytes("10 14 0004 'MQTT' 04 80 0000 0005 'dev-1' 0001 'u'"));
    await wire.write(bytes('20 02 01 00'));
    expect((await opening).sessionPresent).toBe(true);
    expect(clock.pending).toBe(0);
  });

  it('reads a server that sends one byte at a time', async () => {
    const { wire, opening, messages } = await bench();
    wire.isBytewise = true;
    await wire.write(CONNACK);
    const connection = await opening;
    await wire.write(bytes("30 05 0001 't' 'hi'"));
    await wire.readMqttPacket();
    await roundTrip(connection, wire);
    expect(messages).toEqual([{ topic: 't', payload: new Uint8Array(bytes("'hi'")) }]);
  });

  it.each([
    [1, 'ERR_DPS_CONNACK_PROTOCOL', false],
    [2, 'ERR_DPS_CONNACK_UNAUTHORIZED', false],
    [3, 'ERR_DPS_CONNACK_UNAVAILABLE', true],
    [4, 'ERR_DPS_CONNACK_UNAUTHORIZED', false],
    [5, 'ERR_DPS_CONNACK_UNAUTHORIZED', false],
    [6, 'ERR_DPS_CONNACK_PROTOCOL', false],
    [255, 'ERR_DPS_CONNACK_PROTOCOL', false],
  ])('reports CONNACK %i as %s', async (returnCode, code, retryable) => {
    const { wire, opening, clock } = await bench({ describeRefusal: (refused) => `Cause ${refused}.` });
    await wire.write(Uint8Array.of(0x20, 0x02, 0x00, returnCode));
    const error = await failureOf(opening);
    expect(error).toBeInstanceOf(TransportError);
    expect(error).toMatchObject({ code, retryable, phase: 'mqtt-connect', peer: 'broker:8883' });
    expect(error.message).toContain(`return code ${returnCode} `);
    expect(error.message).toContain(`Cause ${returnCode}.`);
    await wire.closed;
    expect(clock.pending).toBe(0);
  });

  it('gives up a server that does not answer', async () => {
    const { wire, opening, clock } = await bench({ connackTimeoutMs: 5000 });
    clock.advance(4999);
    expect(clock.pending).toBe(1);
    clock.advance(1);
    const error = await failureOf(opening);
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', phase: 'mqtt-connect', retryable: true });
    await wire.closed;
    expect(clock.pending).toBe(0);
  });

  it.each(['end', 'cut'] as const)('reports a server that goes before it answers (%s)', async (how) => {
    const { wire, opening, clock } = await bench();
    await wire.readMqttPacket();
    wire[how]();
    const error = await failureOf(opening);
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', phase: 'mqtt-connect', retryable: true });
    await wire.closed;
    expect(clock.pending).toBe(0);
  });

  it.each([
    ['an HTTP server', "'HTTP/1.1 400 Bad Request'"],
    ['a packet before CONNACK', "30 05 0001 't' 'hi'"],
    ['a CONNACK cut short', '20 00'],
    ['a packet of a client', 'c0 00'],
    ['a packet type that does not exist', '00 00'],
    ['a length that does not end', '20 ff ff ff ff'],
    ['reserved CONNACK flags', '20 02 02 00'],
  ])('reports %s', async (_what, spelling) => {
    const { wire, opening, clock } = await bench();
    await wire.write(bytes(spelling));
    const error = await failureOf(opening);
    expect(error).toBeInstanceOf(ProtocolError);
    expect(error).toMatchObject({ code: 'ERR_DPS_PROTOCOL_MQTT', retryable: false });
    await wire.closed;
    expect(clock.pending).toBe(0);
  });

  it('does not begin when cancelled already, and stops at once when cancelled', async () => {
    const early = await bench({}, AbortSignal.abort('enough'));
    expect(await failureOf(early.opening)).toBe('enough');
    await early.wire.closed;
    expect(early.wire.unread).toHaveLength(0);

    const caller = new AbortController();
    const late = await bench({}, caller.signal);
    await late.wire.readMqttPacket();
    caller.abort('enough');
    expect(await failureOf(late.opening)).toBe('enough');
    await late.wire.closed;
    expect([early.clock.pending, late.clock.pending]).toEqual([0, 0]);
  });

  it('reports a socket that is dead already', async () => {
    const socket = new Duplex({ read() {}, write() {} });
    socket.on('error', () => {});
    socket.destroy(Object.assign(new Error('unknown ca'), { code: 'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA' }));
    await new Promise((resolve) => socket.once('close', resolve));
    const { opening, clock } = await bench({ socket });
    expect(await failureOf(opening)).toMatchObject({ code: 'ERR_DPS_TLS_CLIENT_REFUSED', phase: 'mqtt-connect' });
    expect(clock.pending).toBe(0);
  });

  it('keeps the number cache of the very mqtt-packet that MQTT.js uses off', async () => {
    await connectedBench();
    expect(mqttPacket.writeToStream.cacheNumbers).toBe(false);
  });
});

describe('subscribe', () => {
  const filters = [
    { topicFilter: 'a/#', qos: 0 },
    { topicFilter: 'b', qos: 1 },
  ] as const;

  it('sends one SUBSCRIBE for all filters and settles at SUBACK', async () => {
    const { connection, wire } = await connectedBench();
    const subscribed = connection.subscribe(filters, never);
    expect(await wire.readMqttPacket()).toEqual(bytes("82 0c 0001 0003 'a/#' 00 0001 'b' 01"));
    await wire.write(bytes('90 04 0001 00 00'));
    await subscribed;
  });

  it('reports refused filters by name, and the connection goes on', async () => {
    const { connection, wire } = await connectedBench();
    const subscribed = connection.subscribe(filters, never);
    await wire.readMqttPacket();
    await wire.write(bytes('90 04 0001 00 80'));
    const error = await failureOf(subscribed);
    expect(error).toBeInstanceOf(ProtocolError);
    expect(error).toMatchObject({ code: 'ERR_DPS_PROTOCOL_MQTT' });
    expect(error.message).toContain('subscription to b.');
    await roundTrip(connection, wire);
  });

  it.each([
    ['too few results', '90 03 0001 00'],
    ['a result that does not exist', '90 04 0001 00 03'],
    ['a PUBACK instead', '40 02 0001'],
  ])('ends the connection on a SUBACK with %s', async (_what, spelling) => {
    const { connection, wire } = await connectedBench();
    const subscribed = connection.subscribe(filters, never);
    await wire.readMqttPacket();
    await wire.write(bytes(spelling));
    const error = await failureOf(subscribed);
    expect(error).toBeInstanceOf(ProtocolError);
    expect(error).toMatchObject({ code: 'ERR_DPS_PROTOCOL_MQTT' });
    expect(await connection.closed).toBe(error);
  });
});

describe('publish', () => {
  it('settles at PUBACK for QoS 1, when written for QoS 0', async () => {
    const { connection, wire } = await connectedBench();
    const acknowledged = connection.publish(publishOf('hi'), never);
    expect(await wire.readMqttPacket()).toEqual(bytes("32 07 0001 't' 0001 'hi'"));
    await wire.write(bytes('40 02 0001'));
    await acknowledged;
    await connection.publish(publishOf('ho', 0), never);
    expect(await wire.readMqttPacket()).toEqual(bytes("30 05 0001 't' 'ho'"));
  });

  it('sends at once, while a SUBACK and another PUBACK are still awaited', async () => {
    const { connection, wire } = await connectedBench();
    const subscribed = connection.subscribe([{ topicFilter: 'a', qos: 1 }], never);
    const first = connection.publish(publishOf('1'), never);
    const second = connection.publish(publishOf('2'), never);
    expect(await wire.readBytes(8 + 8 + 8)).toEqual(
      bytes("82 06 0001 0001 'a' 01  32 06 0001 't' 0002 '1'  32 06 0001 't' 0003 '2'"),
    );
    await wire.write(bytes('40 02 0003 40 02 0002 90 03 0001 01'));
    await Promise.all([second, first, subscribed]);
  });

  it('rejects at once when cancelled, and a late PUBACK does no harm', async () => {
    const { connection, wire } = await connectedBench();
    const caller = new AbortController();
    const published = connection.publish(publishOf('hi'), caller.signal);
    const subscribed = connection.subscribe([{ topicFilter: 'a', qos: 1 }], caller.signal);
    await wire.readMqttPacket();
    await wire.readMqttPacket();
    caller.abort('enough');
    expect(await failureOf(published)).toBe('enough');
    expect(await failureOf(subscribed)).toBe('enough');
    await wire.write(bytes('40 02 0001 90 03 0002 01'));
    await roundTrip(connection, wire);
    expect(await failureOf(connection.publish(publishOf('no'), caller.signal))).toBe('enough');
  });
});

describe('a wildcard out of place', () => {
  it.each(['devices/a#b/#', '#/a', 'a/b+', '+a/b', '##'])('is not subscribed to (%s)', async (topicFilter) => {
    const { connection, wire } = await connectedBench();
    const error = await failureOf(connection.subscribe([{ topicFilter, qos: 1 }], never));
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error.message).toContain(topicFilter);
    await roundTrip(connection, wire);
  });

  it.each(['devices/a#b', 'a/+'])('is not published to (%s)', async (topic) => {
    const { connection, wire } = await connectedBench();
    const error = await failureOf(connection.publish({ ...publishOf('x'), topic }, never));
    expect(error).toBeInstanceOf(ConfigurationError);
    await roundTrip(connection, wire);
  });

  it('is one only out of place', async () => {
    const { connection, wire } = await connectedBench();
    const filters = ['#', '+', '+/a/+', '$iothub/twin/res/#'].map((topicFilter) => ({ topicFilter, qos: 0 as const }));
    const subscribed = connection.subscribe(filters, never);
    await wire.readMqttPacket();
    await wire.write(bytes('90 06 0001 00 00 00 00'));
    await subscribed;
  });
});

describe('deliveries', () => {
  it('are acknowledged when asked, in any order, once, and hold nothing up', async () => {
    const { connection, wire, messages } = await connectedBench();
    await wire.write(bytes("32 06 0001 't' 0007 'a'  32 06 0001 't' abcd 'b'  30 04 0001 't' 'c'"));
    await roundTrip(connection, wire);
    expect(messages.map(({ payload }) => String.fromCharCode(...payload))).toEqual(['a', 'b', 'c']);
    expect(messages[2]).not.toHaveProperty('acknowledge');
    expect(wire.unread).toHaveLength(0);
    messages[1]?.acknowledge?.();
    messages[0]?.acknowledge?.();
    messages[1]?.acknowledge?.();
    expect(await wire.readBytes(8)).toEqual(bytes('40 02 abcd 40 02 0007'));
    await roundTrip(connection, wire);
    expect(wire.unread).toHaveLength(0);
  });

  it('carry plain bytes and UTF-8 topics', async () => {
    const { connection, wire, messages } = await connectedBench();
    await wire.write(bytes("30 06 0003 'ä' '+' 00".replace("'ä'", 'c3 a4')));
    await roundTrip(connection, wire);
    expect(messages[0]).toEqual({ topic: 'ä+', payload: Uint8Array.of(0) });
    expect(Object.getPrototypeOf(messages[0]?.payload)).toBe(Uint8Array.prototype);
  });

  it('cannot be acknowledged after the end', async () => {
    const { connection, wire, messages } = await connectedBench();
    await wire.write(bytes("32 06 0001 't' 0007 'a'"));
    await roundTrip(connection, wire);
    await connection.close();
    messages[0]?.acknowledge?.();
    await wire.closed;
    expect(wire.unread).toEqual(bytes('e0 00'));
  });

  it('end the connection when the listener throws', async () => {
    const thrown = new Error('cannot read this');
    const { connection, wire } = await connectedBench({
      onMessage: () => {
        throw thrown;
      },
    });
    await wire.write(bytes("32 06 0001 't' 0007 'a'"));
    expect(await connection.closed).toBe(thrown);
    await wire.closed;
    expect(wire.unread).toHaveLength(0);
  });
});

describe('the end of a connection', () => {
  it.each(['end', 'cut'] as const)('rejects what is pending when the server goes (%s)', async (how) => {
    const { connection, wire, clock } = await connectedBench();
    const published = failureOf(connection.publish(publishOf('hi'), never));
    const subscribed = failureOf(connection.subscribe([{ topicFilter: 'a', qos: 1 }], never));
    await wire.readMqttPacket();
    wire[how]();
    const error = await connection.closed;
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', phase: 'established', retryable: true });
    expect(await published).toBe(error);
    expect(await subscribed).toBe(error);
    expect(await failureOf(connection.publish(publishOf('no'), never))).toBe(error);
    expect(clock.pending).toBe(0);
    await connection.close();
  });

  it('delivers what came before the end first, even when both come at once', async () => {
    const socket = new Duplex({ read() {}, write: (_data, _encoding, done) => done() });
    const { opening, messages } = await bench({ socket });
    socket.push(CONNACK);
    const connection = await opening;
    socket.push(bytes("30 04 0001 't' 'a'  30 04 0001 't' 'b'  30 04 0001 't' 'c'"));
    socket.push(null);
    expect(await connection.closed).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST' });
    expect(messages).toHaveLength(3);
  });

  it.each([
    ['a message at QoS 2', "34 06 0001 't' 0007 'a'"],
    ['a second CONNACK', '20 02 00 00'],
    ['a packet of a client', '82 06 0001 0001 61 01'],
    ['a packet of MQTT 5', 'f0 00'],
    ['a message without a whole topic', '30 03 00ff 74'],
  ])('comes with %s', async (_what, spelling) => {
    const { connection, wire, messages } = await connectedBench();
    await wire.write(bytes(spelling));
    const error = await connection.closed;
    expect(error).toBeInstanceOf(ProtocolError);
    expect(error).toMatchObject({ code: 'ERR_DPS_PROTOCOL_MQTT' });
    expect(messages).toEqual([]);
    await wire.closed;
  });

  it('says DISCONNECT, rejects what is pending and leaves nothing', async () => {
    const { connection, wire, clock } = await connectedBench();
    const pending = failureOf(connection.publish(publishOf('hi'), never));
    await Promise.all([connection.close(), connection.close()]);
    expect(await connection.closed).toBeUndefined();
    await wire.closed;
    expect(wire.unread.subarray(-2)).toEqual(bytes('e0 00'));
    expect(await pending).toMatchObject({ code: 'ERR_DPS_SESSION_CLOSED' });
    expect(await failureOf(connection.publish(publishOf('no'), never))).toMatchObject({
      code: 'ERR_DPS_SESSION_CLOSED',
    });
    expect(clock.pending).toBe(0);
    await connection.close();
  });

  it('takes the timers of MQTT.js with it', async () => {
    const set = vi.spyOn(globalThis, 'setTimeout');
    const cleared = vi.spyOn(globalThis, 'clearTimeout');
    const refused = await bench();
    await refused.wire.write(bytes('20 02 00 05'));
    await failureOf(refused.opening);
    await refused.wire.closed;
    const accepted = await connectedBench();
    await accepted.connection.close();
    const long = set.mock.results.filter((_result, index) => Number(set.mock.calls[index]?.[1]) > 1000);
    expect(long).toHaveLength(2);
    const clearedTimers = cleared.mock.calls.map(([timer]) => timer);
    for (const { value } of long) expect(clearedTimers).toContain(value);
    vi.restoreAllMocks();
  });

  it('does not wait for ever on a peer that takes nothing', async () => {
    const socket = new Duplex({ read() {}, write() {} });
    const { clock, opening } = await bench({ socket });
    socket.push(CONNACK);
    const connection = await opening;
    const closing = connection.close();
    clock.advance(1000);
    await closing;
    expect(socket.destroyed).toBe(true);
    expect(clock.pending).toBe(0);
  });
});

describe('a peer without measure', () => {
  /** A QoS 0 message of `bodyBytes`, header and topic not counted. */
  const messageOf = (bodyBytes: number): Buffer =>
    mqttPacket.generate({
      cmd: 'publish',
      topic: 't',
      payload: Buffer.alloc(bodyBytes),
      qos: 0,
      dup: false,
      retain: false,
    });

  it('is heard no further when it announces more than a MiB', async () => {
    const { connection, wire, messages } = await connectedBench();
    // 200 MB, of which the first byte never comes: what it announced is enough.
    await wire.write(bytes("30 04 0001 't' 'a'  30 80 84 af 5f"));
    const error = await connection.closed;
    expect(error).toBeInstanceOf(ProtocolError);
    expect(error).toMatchObject({
      code: 'ERR_DPS_PROTOCOL_MQTT',
      got: `a packet of more than ${MAX_PACKET_BYTES} bytes`,
    });
    expect(messages).toHaveLength(1);
    await wire.closed;
  });

  it('is heard to the end with the largest packet, and with many large ones in one chunk', async () => {
    const socket = new Duplex({ read() {}, write: (_data, _encoding, done) => done() });
    const { opening, messages } = await bench({ socket });
    socket.push(CONNACK);
    const connection = await opening;
    socket.push(Buffer.concat([messageOf(MAX_PACKET_BYTES - 3), ...Array(8).fill(messageOf(256 * 1024))]));
    const half = messageOf(300_000);
    socket.push(half.subarray(0, 150_000));
    socket.push(Buffer.concat([half.subarray(150_000), messageOf(1_000_000)]));
    socket.push(null);
    expect(await connection.closed).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST' });
    const sizes = messages.map(({ payload }) => payload.length);
    expect(sizes).toEqual([MAX_PACKET_BYTES - 3, ...Array(8).fill(256 * 1024), 300_000, 1_000_000]);
  });

  it('is given up when it sends and reads no acknowledgements', async () => {
    // Takes CONNECT, and then nothing more: its window is closed.
    let writes = 0;
    const write: ConstructorParameters<typeof Duplex>[0] = {
      read() {},
      write: (_data, _encoding, done) => {
        writes += 1;
        if (writes === 1) done();
      },
    };
    const socket = new Duplex(write);
    const { opening } = await bench({ socket, onMessage: ({ acknowledge }) => acknowledge?.() });
    socket.push(CONNACK);
    const connection = await opening;
    const batch = Buffer.concat(Array(1000).fill(bytes("32 06 0001 't' 0007 'a'")));
    for (let sent = 0; sent <= MAX_UNSENT_ACKNOWLEDGEMENTS; sent += 1000) socket.push(batch);
    const error = await connection.closed;
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', retryable: true });
    expect(error?.message).toContain('reads no acknowledgements');
  });

  it('is not blamed for what the device itself has waiting to be sent', async () => {
    let release: () => void = () => {};
    const written: Buffer[] = [];
    const write = (data: Buffer, _encoding: unknown, done: () => void): void => {
      written.push(data);
      if (data.length > 100_000) release = done;
      else done();
    };
    const socket = new Duplex({ read() {}, write });
    const { opening, messages } = await bench({ socket });
    socket.push(CONNACK);
    const connection = await opening;
    const sending = connection.publish({ topic: 't', payload: Buffer.alloc(1_000_000), qos: 0 }, never);
    socket.push(bytes("32 06 0001 't' 0007 'a'"));
    await new Promise(setImmediate);
    messages[0]?.acknowledge?.();
    release();
    await sending;
    await connection.close();
    expect(Buffer.concat(written).subarray(-6)).toEqual(bytes('40 02 0007  e0 00'));
  });
});

describe('keep-alive', () => {
  it('pings a quiet connection, and gives it up when there is no answer', async () => {
    const { connection, wire, clock } = await connectedBench({ keepaliveSeconds: 10 });
    clock.advance(10_000);
    expect(await wire.readMqttPacket()).toEqual(bytes('c0 00'));
    await wire.write(bytes('d0 00'));
    await roundTrip(connection, wire);
    clock.advance(10_000);
    expect(await wire.readMqttPacket()).toEqual(bytes('c0 00'));
    clock.advance(5000);
    const error = await connection.closed;
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', phase: 'established', retryable: true });
    expect(error?.message).toContain('keep-alive');
    await wire.closed;
    expect(clock.pending).toBe(0);
  });
});

describe('whatever a broker sends', () => {
  it('ends in a typed error at worst', async () => {
    const chunk = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.constantFrom(CONNACK, bytes('40 02 0001'), bytes('90 03 0001 01'), bytes("32 06 0001 't' 0007 'a'")),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(chunk, { maxLength: 6 }), async (chunks) => {
        const clock = new ManualClock();
        const socket = new Duplex({ read() {}, write: (_data, _encoding, done) => done() });
        const settings = { socket, peer: 'p', clientId: 'c', username: 'u', clean: true, keepaliveSeconds: 0, clock };
        const opening = openMqtt({ ...settings, onMessage: ({ acknowledge }) => acknowledge?.() }, never);
        socket.push(CONNACK);
        const connection = await opening;
        const subscribed = connection.subscribe([{ topicFilter: 'a', qos: 1 }], never).catch((error) => error);
        const published = connection.publish(publishOf('x'), never).catch((error) => error);
        for (const data of chunks) if (!socket.destroyed) socket.push(data);
        if (!socket.destroyed) socket.push(null);
        const outcomes = await Promise.all([connection.closed, subscribed, published]);
        for (const outcome of outcomes) expect(outcome === undefined || isDpsError(outcome)).toBe(true);
        expect(outcomes[0]).toBeDefined();
        expect(clock.pending).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});
