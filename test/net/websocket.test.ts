import { EventEmitter } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { openWebSocket, type WebSocketOptions } from '../../src/net/websocket.js';
import { WebSocketStream } from '../../src/net/websocket-stream.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { rejectionOf } from '../fakes/failure-of.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { bytes } from '../fakes/mqtt-bytes.js';
import { startHttpProxy } from '../fakes/proxy-peer.js';
import { switchingProtocols, WebSocketWire } from '../fakes/websocket-wire.js';
import { startTlsPeer, type Wire } from '../fakes/wire-peer.js';

const never = new AbortController().signal;

/** A server by bytes, and a client for it. */
async function bench(script: (wire: Wire) => Promise<unknown>) {
  const { authority, server } = await benchCertificates();
  const clock = new ManualClock();
  const peer = await startTlsPeer(server, async (wire) => void (await script(wire)));
  const target = { host: 'localhost', port: peer.port, ca: authority.certificatePem, clock, subprotocol: 'mqtt' };
  const open = (signal: CancelSignal = never, more: Partial<WebSocketOptions> = {}) =>
    openWebSocket({ ...target, ...more }, signal);
  return { clock, peer, open };
}

/** The library's own server, for what its client does with a real one. */
async function startLibraryServer(): Promise<{ port: number; accepted: Promise<WebSocket> }> {
  const { server } = await benchCertificates();
  const https = createServer(server);
  const webSockets = new WebSocketServer({ server: https, handleProtocols: () => 'mqtt', perMessageDeflate: true });
  await new Promise<void>((resolve) => https.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const each of webSockets.clients) each.terminate();
    webSockets.close();
    await new Promise((resolve) => https.close(resolve));
  });
  const accepted = new Promise<WebSocket>((resolve) => webSockets.once('connection', resolve));
  return { port: (https.address() as AddressInfo).port, accepted };
}

describe('openWebSocket', () => {
  it('asks as Microsoft’s clients do, and leaves no timer', async () => {
    let head = '';
    const { clock, peer, open } = await bench(async (wire) => {
      head = await new WebSocketWire(wire).accept();
    });
    const stream = await open();
    expect(head).toMatch(/^GET \/\$iothub\/websocket HTTP\/1\.1\r\n/);
    expect(head).toMatch(new RegExp(`^Host: localhost:${peer.port}\r$`, 'm'));
    expect(head).toMatch(/^Sec-WebSocket-Protocol: mqtt\r$/m);
    expect(head).toMatch(/^Sec-WebSocket-Version: 13\r$/m);
    expect(head).not.toMatch(/^(origin|sec-websocket-extensions|authorization):/im);
    expect(clock.pending).toBe(0);
    stream.destroy();
    await (await peer.wire(0)).closed;
  });

  it('is a stream of bytes, whatever the messages are', async () => {
    const { peer, open } = await bench(async (wire) => {
      const webSocket = new WebSocketWire(wire);
      await webSocket.accept();
      expect(String(await webSocket.readBytes(6))).toBe('packet');
      // What was written in one go came as one message.
      expect(webSocket.messageSizes).toEqual([6]);
      // A fragment, a ping, and the rest; then two messages in one segment.
      await wire.write(bytes("02 03 'one' 89 01 'p' 80 03 'two' 82 01 '3' 82 00 82 01 '4'"));
    });
    const stream = await open();
    stream.cork();
    for (const field of ['p', 'ack', 'et']) stream.write(field);
    stream.uncork();
    let received = '';
    for await (const chunk of stream) {
      received += String(chunk);
      if (received === 'onetwo34') break;
    }
    expect(received).toBe('onetwo34');
    await (await peer.wire(0)).closed;
  });

  it('carries large messages both ways with a server of the library’s own', async () => {
    const { authority } = await benchCertificates();
    const { port, accepted } = await startLibraryServer();
    const way = {
      host: 'localhost',
      port,
      ca: authority.certificatePem,
      clock: new ManualClock(),
      subprotocol: 'mqtt',
    };
    const stream = await openWebSocket(way, never);
    const server = await accepted;
    server.on('message', (data) => server.send(data));
    stream.write(Buffer.alloc(1_000_000, 7));
    let received = 0;
    for await (const chunk of stream) {
      received += chunk.length;
      if (received >= 1_000_000) break;
    }
    expect(received).toBe(1_000_000);
  });

  it('takes a host that no URL can hold', async () => {
    let head = '';
    const { peer, open } = await bench(async (wire) => {
      head = await new WebSocketWire(wire).accept();
    });
    const lookup: WebSocketOptions['lookup'] = (_n, _o, done) => done(null, [{ address: '127.0.0.1', family: 4 }]);
    (await open(never, { host: '10.0.0.256', servername: 'localhost', lookup })).destroy();
    expect(head).toContain(`\r\nHost: 10.0.0.256:${peer.port}\r\n`);
  });

  it('goes by way of a proxy', async () => {
    const proxy = await startHttpProxy();
    const { peer, open } = await bench((wire) => new WebSocketWire(wire).accept());
    const stream = await open(never, { proxyFor: () => ({ kind: 'http', host: '127.0.0.1', port: proxy.port }) });
    expect(proxy.asked).toEqual([expect.stringContaining(`CONNECT localhost:${peer.port} `)]);
    stream.destroy();
  });

  it.each<[string, boolean, RegExp]>([
    ['200 OK', false, /HTTP status 200 instead of 101.*captive portal/],
    ['302 Found\r\nLocation: https://portal.example/', false, /HTTP status 302/],
    ['404 Not Found', false, /HTTP status 404/],
    ['503 Busy', true, /HTTP status 503.*Try again later/],
  ])('is refused with %s', async (status, retryable, words) => {
    const { clock, peer, open } = await bench(async (wire) => {
      await wire.readHttpRequest();
      await wire.write(`HTTP/1.1 ${status}\r\nContent-Length: 100000\r\n\r\n<html>`);
    });
    const error = await rejectionOf(open());
    expect(error).toMatchObject({ name: 'TransportError', code: 'ERR_DPS_WEBSOCKET_REFUSED', retryable });
    expect(error).toMatchObject({ phase: 'websocket', peer: `localhost:${peer.port}` });
    expect(error.message).toMatch(words);
    await (await peer.wire(0)).closed;
    expect(clock.pending).toBe(0);
  });

  it.each<[string, (head: string) => string]>([
    ['no subprotocol', (head) => switchingProtocols(head, undefined)],
    ['another subprotocol', (head) => switchingProtocols(head, 'AMQPWSB10')],
    ['another key', () => switchingProtocols('', 'mqtt')],
    ['another protocol', (head) => switchingProtocols(head, 'mqtt').replace('Upgrade: websocket', 'Upgrade: h2c')],
  ])('is refused with %s', async (_name, answer) => {
    const { peer, open } = await bench(async (wire) => wire.write(answer(await wire.readHttpRequest())));
    expect(await rejectionOf(open())).toMatchObject({ code: 'ERR_DPS_WEBSOCKET_REFUSED', retryable: false });
    await (await peer.wire(0)).closed;
  });

  it.each<[string, string, object]>([
    ['no HTTP', '\x20\x02\x00\x05', { name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_BODY' }],
    ['a head without end', `HTTP/1.1 101 X\r\nA: ${'x'.repeat(20_000)}`, { code: 'ERR_DPS_PROTOCOL_BODY' }],
    ['half a head, and goes', 'HTTP/1.1 101 Swi', { code: 'ERR_DPS_CONNECTION_LOST', phase: 'websocket' }],
    ['nothing, and goes', '', { code: 'ERR_DPS_CONNECTION_LOST', phase: 'websocket', retryable: true }],
  ])('fails typed when the server says %s', async (_name, answer, error) => {
    const { clock, peer, open } = await bench(async (wire) => {
      await wire.readHttpRequest();
      wire.end(Buffer.from(answer, 'latin1'));
    });
    expect(await rejectionOf(open())).toMatchObject(error);
    await (await peer.wire(0)).closed;
    expect(clock.pending).toBe(0);
  });

  it('is waited for no longer than allowed, and can be cancelled', async () => {
    let announce: () => void = () => {};
    const { clock, peer, open } = await bench(async (wire) => {
      await wire.readHttpRequest();
      await wire.write('HTTP/1.1 101 Switching');
      announce();
    });
    for (const how of ['time', 'cancel'] as const) {
      const reached = new Promise<void>((resolve) => {
        announce = resolve;
      });
      const caller = new AbortController();
      const failure = rejectionOf(open(caller.signal, { connectTimeoutMs: 5000 }));
      await reached;
      if (how === 'time') clock.advance(5000);
      else caller.abort('enough');
      const error = await failure;
      if (how === 'cancel') expect(error).toBe('enough');
      else expect(error).toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', phase: 'websocket' });
      expect(clock.pending).toBe(0);
      await (await peer.wire(how === 'time' ? 0 : 1)).closed;
    }
  });
});

describe('an installation without the WebSocket engine', () => {
  it('leaves no connection behind', async () => {
    vi.resetModules();
    vi.doMock('ws', () => {
      throw new Error('no such file');
    });
    onTestFinished(() => {
      vi.doUnmock('ws');
    });
    const { peer, open } = await bench(async () => {});
    expect(await rejectionOf(open())).toBeInstanceOf(Error);
    await (await peer.wire(0)).closed;
  });
});

describe('the end of a WebSocket', () => {
  it('says Close, and does not wait for the other one', async () => {
    const { peer, open } = await bench((wire) => new WebSocketWire(wire).accept());
    const stream = await open();
    await new Promise<void>((resolve) => stream.end('bye', resolve));
    const wire = await peer.wire(0);
    // FIN and opcode, mask bit and length, mask, payload; then the same of a Close.
    const [message, close] = [await wire.readBytes(2 + 4 + 3), await wire.readBytes(2)];
    expect([message.subarray(0, 2), close]).toEqual([bytes('82 83'), bytes('88 80')]);
    const closed = new Promise((resolve) => stream.once('close', resolve));
    stream.destroy();
    await closed;
    await wire.closed;
  });
});

describe('a WebSocketStream', () => {
  it('holds the peer back while nobody reads', () => {
    const calls: string[] = [];
    const webSocket = Object.assign(new EventEmitter(), {
      pause: () => calls.push('pause'),
      resume: () => calls.push('resume'),
    });
    const stream = new WebSocketStream(webSocket as unknown as WebSocket, {} as TLSSocket, 'hub:443');
    webSocket.emit('message', Buffer.alloc(10), true);
    expect(calls).toEqual([]);
    webSocket.emit('message', Buffer.alloc(stream.readableHighWaterMark), true);
    expect(calls).toEqual(['pause']);
    stream.read();
    expect(calls).toContain('resume');
  });
});

describe('a WebSocket that breaks', () => {
  it.each<[string, string, boolean]>([
    ['a masked frame', "82 81 00000000 'x'", true],
    ['a reserved bit', "c2 01 'x'", true],
    ['an opcode that there is not', "83 01 'x'", true],
    ['a text message', "81 01 'x'", true],
    ['a message of 3 MB', '82 7f 00000000 002dc6c0', true],
    ['an end without a word', '', false],
    ['a Close', '88 02 03e8', false],
  ])('ends its stream at %s, and its socket', async (_name, spelling, isBreach) => {
    const { peer, open } = await bench(async (wire) => {
      await new WebSocketWire(wire).accept();
      if (spelling === '') wire.cut();
      else await wire.write(bytes(spelling));
    });
    const stream = await open();
    stream.resume();
    const error = await new Promise<unknown>((resolve) => {
      stream.once('error', resolve).once('end', () => resolve(undefined));
    });
    if (isBreach) expect(error).toMatchObject({ name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_BODY' });
    else expect(error).toBeUndefined();
    stream.destroy();
    await (await peer.wire(0)).closed;
  });
});
