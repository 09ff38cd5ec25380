import { Duplex } from 'node:stream';
import fc from 'fast-check';
import mqttPacket from 'mqtt-packet';
import { describe, expect, it, vi } from 'vitest';
import { isDpsError, ProtocolError } from '../../src/errors.js';
import { MAX_PACKET_BYTES, MAX_UNSENT_ACKNOWLEDGEMENTS, openMqtt } from '../../src/net/mqtt-engine.js';
import { rejectionOf } from '../fakes/failure-of.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { bytes } from '../fakes/mqtt-bytes.js';
import { bench, CONNACK, connectedBench, never, publishOf, roundTrip } from './mqtt-engine-bench.js';

describe('the end of a connection', () => {
  it.each(['end', 'cut'] as const)('rejects what is pending when the server goes (%s)', async (how) => {
    const { connection, wire, clock } = await connectedBench();
    const published = rejectionOf(connection.publish(publishOf('hi'), never));
    const subscribed = rejectionOf(connection.subscribe([{ topicFilter: 'a', qos: 1 }], never));
    await wire.readMqttPacket();
    wire[how]();
    const error = await connection.closed;
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', phase: 'established', retryable: true });
    expect(await published).toBe(error);
    expect(await subscribed).toBe(error);
    expect(await rejectionOf(connection.publish(publishOf('no'), never))).toBe(error);
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
    const pending = rejectionOf(connection.publish(publishOf('hi'), never));
    await Promise.all([connection.close(), connection.close()]);
    expect(await connection.closed).toBeUndefined();
    await wire.closed;
    expect(wire.unread.subarray(-2)).toEqual(bytes('e0 00'));
    expect(await pending).toMatchObject({ code: 'ERR_DPS_SESSION_CLOSED' });
    expect(await rejectionOf(connection.publish(publishOf('no'), never))).toMatchObject({
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
    await rejectionOf(refused.opening);
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
