import { Duplex } from 'node:stream';
import mqttPacket from 'mqtt-packet';
import { describe, expect, it } from 'vitest';
import { ConfigurationError, ProtocolError, TransportError } from '../../src/errors.js';
import { rejectionOf } from '../fakes/failure-of.js';
import { bytes } from '../fakes/mqtt-bytes.js';
import { bench, CONNACK, connectedBench, never, publishOf, roundTrip } from './mqtt-engine-bench.js';

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
    const error = await rejectionOf(opening);
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
    const error = await rejectionOf(opening);
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', phase: 'mqtt-connect', retryable: true });
    await wire.closed;
    expect(clock.pending).toBe(0);
  });

  it.each(['end', 'cut'] as const)('reports a server that goes before it answers (%s)', async (how) => {
    const { wire, opening, clock } = await bench();
    await wire.readMqttPacket();
    wire[how]();
    const error = await rejectionOf(opening);
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
    const error = await rejectionOf(opening);
    expect(error).toBeInstanceOf(ProtocolError);
    expect(error).toMatchObject({ code: 'ERR_DPS_PROTOCOL_MQTT', retryable: false });
    await wire.closed;
    expect(clock.pending).toBe(0);
  });

  it('does not begin when cancelled already, and stops at once when cancelled', async () => {
    const early = await bench({}, AbortSignal.abort('enough'));
    expect(await rejectionOf(early.opening)).toBe('enough');
    await early.wire.closed;
    expect(early.wire.unread).toHaveLength(0);

    const caller = new AbortController();
    const late = await bench({}, caller.signal);
    await late.wire.readMqttPacket();
    caller.abort('enough');
    expect(await rejectionOf(late.opening)).toBe('enough');
    await late.wire.closed;
    expect([early.clock.pending, late.clock.pending]).toEqual([0, 0]);
  });

  it('reports a socket that is dead already', async () => {
    const socket = new Duplex({ read() {}, write() {} });
    socket.on('error', () => {});
    socket.destroy(Object.assign(new Error('unknown ca'), { code: 'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA' }));
    await new Promise((resolve) => socket.once('close', resolve));
    const { opening, clock } = await bench({ socket });
    expect(await rejectionOf(opening)).toMatchObject({ code: 'ERR_DPS_TLS_CLIENT_REFUSED', phase: 'mqtt-connect' });
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
    const error = await rejectionOf(subscribed);
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
    const error = await rejectionOf(subscribed);
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
    expect(await rejectionOf(published)).toBe('enough');
    expect(await rejectionOf(subscribed)).toBe('enough');
    await wire.write(bytes('40 02 0001 90 03 0002 01'));
    await roundTrip(connection, wire);
    expect(await rejectionOf(connection.publish(publishOf('no'), caller.signal))).toBe('enough');
  });
});

describe('a wildcard out of place', () => {
  it.each(['devices/a#b/#', '#/a', 'a/b+', '+a/b', '##'])('is not subscribed to (%s)', async (topicFilter) => {
    const { connection, wire } = await connectedBench();
    const error = await rejectionOf(connection.subscribe([{ topicFilter, qos: 1 }], never));
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error.message).toContain(topicFilter);
    await roundTrip(connection, wire);
  });

  it.each(['devices/a#b', 'a/+'])('is not published to (%s)', async (topic) => {
    const { connection, wire } = await connectedBench();
    const error = await rejectionOf(connection.publish({ ...publishOf('x'), topic }, never));
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
