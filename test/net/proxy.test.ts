import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import type { ProxyAddress } from '../../src/net/proxy-choice.js';
import { openTlsSocket, type TlsSocketOptions } from '../../src/net/socket.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { rejectionOf } from '../fakes/failure-of.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { startHttpProxy, startSocksProxy } from '../fakes/proxy-peer.js';
import { startTcpPeer, startTlsPeer, unusedPort, type Wire } from '../fakes/wire-peer.js';

const never = new AbortController().signal;
const KNOWN = { username: 'u', password: 'top-secret' };

/** A TLS server that answers `ping` with `pong`, and a way to it. */
async function bench() {
  const { authority, server } = await benchCertificates();
  const clock = new ManualClock();
  const peer = await startTlsPeer(server, async (wire) => {
    await wire.readBytes(4);
    await wire.write('pong');
  });
  const open = (proxy: ProxyAddress, signal: CancelSignal = never, more: Partial<TlsSocketOptions> = {}) =>
    openTlsSocket(
      { host: 'localhost', port: peer.port, ca: authority.certificatePem, clock, proxyFor: () => proxy, ...more },
      signal,
    );
  return { clock, peer, open };
}

describe('TLS by way of a proxy', () => {
  it.each(['http', 'http with a password', 'socks5', 'socks5 with a password'])('%s', async (name) => {
    const { clock, peer, open } = await bench();
    const isHttp = name.startsWith('http');
    const isSecret = name.includes('password');
    const proxy = await (isHttp ? startHttpProxy() : startSocksProxy(isSecret ? KNOWN : {}));
    const kind = isHttp ? 'http' : 'socks5';
    const socket = await open({ kind, host: '127.0.0.1', port: proxy.port, ...(isSecret ? KNOWN : {}) });
    expect(socket.authorized).toBe(true);
    expect(proxy.asked.at(-1)).toContain(`localhost:${peer.port}`);
    expect(clock.pending).toBe(0);
    const answer = new Promise((resolve) => socket.once('data', resolve));
    socket.write('ping');
    expect(String(await answer)).toBe('pong');
    socket.destroy();
    await (await peer.wire(0)).closed;
  });

  it('is not taken where the rule names none', async () => {
    const { peer, open } = await bench();
    const targets: unknown[] = [];
    const proxyFor = (target: unknown): undefined => {
      targets.push(target);
      return undefined;
    };
    const socket = await open({ kind: 'http', host: 'x', port: 1 }, never, { proxyFor });
    expect(targets).toEqual([{ host: 'localhost', port: peer.port }]);
    socket.destroy();
  });

  it('checks the name of the server, not of the proxy', async () => {
    const { open } = await bench();
    const proxy = await startHttpProxy();
    const address = { kind: 'http', host: '127.0.0.1', port: proxy.port } as const;
    const error = await rejectionOf(open(address, never, { servername: 'other.example' }));
    expect(error).toMatchObject({ code: 'ERR_DPS_TLS_UNTRUSTED', phase: 'tls' });
    expect(error.message).not.toContain(String(proxy.port));
  });
});

describe('a way that does not open', () => {
  it.each<[string, string, RegExp]>([
    ['HTTP/1.1 407 Authenticate\r\n\r\n', 'ERR_DPS_PROXY_AUTH', /HTTP status 407.*Check the user name and password/],
    ['HTTP/1.1 403 Forbidden\r\n\r\n', 'ERR_DPS_PROXY_REFUSED', /HTTP status 403/],
    ['HTTP/1.1 502 Bad Gateway\r\n\r\n', 'ERR_DPS_PROXY_REFUSED', /HTTP status 502/],
    ['SSH-2.0-OpenSSH\r\n', 'ERR_DPS_PROXY_PROTOCOL', /no HTTP\/1\.1 status line/],
    ['HTTP/1.1 204 OK\r\n\r\n\x15\x03\x03', 'ERR_DPS_PROXY_PROTOCOL', /more than its answer/],
  ])('fails typed for %j, without the password, and leaves nothing', async (answer, code, words) => {
    const { clock, open } = await bench();
    // Whole, because what comes in pieces after the head is TLS's business.
    const proxy = await startTcpPeer(async (wire) => {
      await wire.readHttpRequest();
      await wire.write(Buffer.from(answer, 'latin1'));
    });
    const error = await rejectionOf(open({ kind: 'http', host: '127.0.0.1', port: proxy.port, ...KNOWN }));
    expect(error).toMatchObject({ name: 'TransportError', code, phase: 'proxy', peer: `127.0.0.1:${proxy.port}` });
    expect(error.message).toMatch(words);
    expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/top-secret|dTp0b3Atc2VjcmV0/);
    await (await proxy.wire(0)).closed;
    expect(clock.pending).toBe(0);
  });

  it.each([
    ['with another password', { ...KNOWN, password: 'other' }, 'ERR_DPS_PROXY_AUTH'],
    ['without a password', {}, 'ERR_DPS_PROXY_AUTH'],
  ])('fails typed with SOCKS5 %s', async (_name, credentials, code) => {
    const { open } = await bench();
    const proxy = await startSocksProxy(KNOWN);
    const error = await rejectionOf(open({ kind: 'socks5', host: '127.0.0.1', port: proxy.port, ...credentials }));
    expect(error).toMatchObject({ code, phase: 'proxy' });
    expect(inspect(error)).not.toMatch(/top-secret/);
  });

  it('names the proxy where it cannot be reached, and whom it is for', async () => {
    const { clock, peer, open } = await bench();
    const target = `localhost:${peer.port}`;
    const port = await unusedPort();
    const refused = await rejectionOf(open({ kind: 'http', host: '127.0.0.1', port }));
    expect(refused).toMatchObject({ code: 'ERR_DPS_CONNECT', phase: 'connect', peer: `127.0.0.1:${port}` });
    expect(refused.message).toContain(`It is the proxy on the way to ${target}.`);

    const lookup: TlsSocketOptions['lookup'] = (_name, _options, done) =>
      done(Object.assign(new Error('no'), { code: 'ENOTFOUND' }), []);
    const unknown = await rejectionOf(open({ kind: 'http', host: 'proxy.invalid', port }, never, { lookup }));
    expect(unknown).toMatchObject({ code: 'ERR_DPS_DNS', peer: `proxy.invalid:${port}` });
    expect(unknown.message).toContain(`It is the proxy on the way to ${target}.`);

    const gone = await startTcpPeer(async (wire) => {
      await wire.readHttpRequest();
      wire.end('HTTP/1.1 200');
    });
    const lost = await rejectionOf(open({ kind: 'http', host: '127.0.0.1', port: gone.port }));
    expect(lost).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', phase: 'proxy', retryable: true });
    expect(lost.message).toContain('before this proxy opened the way');
    expect(clock.pending).toBe(0);
  });

  it.each<[string, (wire: Wire) => Promise<unknown>]>([
    ['before it says anything', (wire) => wire.readHttpRequest()],
    ['in the midst of its head', (wire) => wire.readHttpRequest().then(() => wire.write('HTTP/1.1 200 OK\r\nA:'))],
  ])('is waited for no longer than allowed, and can be cancelled, %s', async (_name, play) => {
    const { clock, open } = await bench();
    let announce: () => void = () => {};
    const proxy = await startTcpPeer(async (wire) => {
      await play(wire);
      announce();
    });
    const address = { kind: 'http', host: '127.0.0.1', port: proxy.port } as const;
    for (const how of ['time', 'cancel']) {
      const reached = new Promise<void>((resolve) => {
        announce = resolve;
      });
      const caller = new AbortController();
      const failure = rejectionOf(open(address, caller.signal, { connectTimeoutMs: 5000 }));
      await reached;
      if (how === 'time') clock.advance(5000);
      else caller.abort('enough');
      const error = await failure;
      if (how === 'cancel') expect(error).toBe('enough');
      else expect(error).toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', phase: 'proxy' });
      expect(clock.pending).toBe(0);
      await (await proxy.wire(how === 'time' ? 0 : 1)).closed;
    }
  });
});
