import { once } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import { SASL_HEADER } from '../fakes/amqp-bytes.js';

async function bench(): Promise<Emulator> {
  const emulator = await startEmulator();
  onTestFinished(() => emulator.close());
  return emulator;
}

/** The library's own client, which is not the server's counterpart in this project. */
async function open(emulator: Emulator, subprotocol: string, path = '/', at = emulator.endpoints.dps.https) {
  const webSocket = new WebSocket(`wss://${at}${path}`, subprotocol, { ca: emulator.caPem, perMessageDeflate: false });
  webSocket.on('error', () => {});
  onTestFinished(() => webSocket.terminate());
  await once(webSocket, 'open');
  return webSocket;
}

describe('a WebSocket of the emulator', () => {
  it.each([
    ['/$iothub/websocket', 'AMQPWSB10'],
    ['/$iothub/websocket?iothub-no-client-cert=true', 'AMQPWSB10'],
    ['/', 'amqpwsb10'],
    ['/mqtt', 'mqtt'],
    ['/$iothub/websocket', 'MQTT'],
  ])('is taken at %s for %s, in the client’s spelling', async (path, subprotocol) => {
    const emulator = await bench();
    for (const at of [emulator.endpoints.dps.https, emulator.hub().hostName]) {
      expect((await open(emulator, subprotocol, path, at)).protocol).toBe(subprotocol);
    }
  });

  it('carries AMQP in binary messages, cut anywhere', async () => {
    const webSocket = await open(await bench(), 'AMQPWSB10');
    for (const byte of SASL_HEADER) webSocket.send(Buffer.of(byte));
    const [data] = (await once(webSocket, 'message')) as [Buffer, boolean];
    expect(data).toEqual(SASL_HEADER);
  });

  it('carries MQTT', async () => {
    const emulator = await bench();
    const webSocket = await open(emulator, 'mqtt');
    // CONNECT of MQTT 3.1.1 without a user name.
    webSocket.send(Buffer.from('100d00044d51545404020000000161', 'hex'));
    const [data] = (await once(webSocket, 'message')) as [Buffer, boolean];
    expect(data).toEqual(Buffer.from('20020004', 'hex'));
  });

  it('answers a ping, takes a message in pieces, and closes when the client does', async () => {
    const emulator = await bench();
    const webSocket = await open(emulator, 'AMQPWSB10');
    webSocket.ping('are you there');
    const [pong] = (await once(webSocket, 'pong')) as [Buffer];
    expect(pong.toString()).toBe('are you there');
    webSocket.send(SASL_HEADER.subarray(0, 3), { fin: false });
    webSocket.send(SASL_HEADER.subarray(3), { fin: true });
    await once(webSocket, 'message');
    webSocket.close();
    await once(webSocket, 'close');
    await emulator.trace.waitFor({ protocol: 'amqp', event: 'close' });
  });

  it('ends for text', async () => {
    const emulator = await bench();
    const webSocket = await open(emulator, 'AMQPWSB10');
    webSocket.send('text');
    await once(webSocket, 'close');
    await emulator.trace.waitFor({ protocol: 'amqp', event: 'close' });
  });

  it('is refused for another protocol, or none', async () => {
    const emulator = await bench();
    await expect(open(emulator, 'chat')).rejects.toThrow('400');
    expect(emulator.trace.count({ event: 'violation' })).toBe(1);
  });
});
