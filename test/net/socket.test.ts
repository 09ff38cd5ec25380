import { generateKeyPairSync } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { issueCertificate, makeAuthority } from '../../src/emulator/pki.js';
import { ClockError, ConfigurationError, HsmError, TransportError } from '../../src/errors.js';
import { openTlsSocket, type TlsSocketOptions } from '../../src/net/socket.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { rejectionOf } from '../fakes/failure-of.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { startTcpPeer, startTlsPeer, unusedPort, type Wire } from '../fakes/wire-peer.js';

const never = new AbortController().signal;

async function listenOnly(_wire: Wire): Promise<void> {}

/** Which names clients ask for. */
function sniRecorder() {
  const names: string[] = [];
  const SNICallback = (name: string, done: (error: Error | null) => void): void => {
    names.push(name);
    done(null);
  };
  return { names, SNICallback };
}

async function bench(overrides: Partial<TlsSocketOptions> = {}) {
  const { authority, server } = await benchCertificates();
  const clock = new ManualClock();
  const options = { host: 'localhost', port: 0, ca: authority.certificatePem, clock, ...overrides };
  return { authority, server, clock, options };
}

describe('openTlsSocket', () => {
  it('connects, proves the server name and leaves no timer', async () => {
    const { server, clock, options } = await bench();
    const { names, SNICallback } = sniRecorder();
    const peer = await startTlsPeer({ ...server, SNICallback }, listenOnly);
    const socket = await openTlsSocket({ ...options, port: peer.port }, never);
    expect(socket.authorized).toBe(true);
    expect(names).toEqual(['localhost']);
    expect(clock.pending).toBe(0);
    const wire = await peer.wire(0);
    socket.destroy();
    await wire.closed;
  });

  it.each(['127.0.0.1', '::1'])('checks an address against the certificate and sends no SNI (%s)', async (host) => {
    const { server, options } = await bench();
    const peer = await startTlsPeer(server, listenOnly);
    const lookup: TlsSocketOptions['lookup'] = (_name, _options, done) =>
      done(null, [{ address: '127.0.0.1', family: 4 }]);
    // `::1` is reached by way of a name, for machines without IPv6: only the identity is of interest.
    const target = host === '::1' ? { host: 'bench.invalid', servername: '::1', lookup } : { host };
    const socket = await openTlsSocket({ ...options, ...target, port: peer.port }, never);
    expect(socket.authorized).toBe(true);
    expect(socket.getPeerCertificate().subjectaltname).toContain('127.0.0.1');
    socket.destroy();
  });

  it('asks for, and checks, `servername` instead of the host', async () => {
    const { authority, options } = await bench();
    const other = await issueCertificate(authority, {
      commonName: 'x',
      usage: 'server',
      dnsNames: ['global.azure-devices-provisioning.net'],
    });
    const { names, SNICallback } = sniRecorder();
    const peer = await startTlsPeer({ cert: other.chainPem, key: other.privateKeyPem, SNICallback }, listenOnly);
    const target = { ...options, port: peer.port };
    const socket = await openTlsSocket({ ...target, servername: 'global.azure-devices-provisioning.net.' }, never);
    expect(names).toEqual(['global.azure-devices-provisioning.net']);
    socket.destroy();

    const error = await rejectionOf(openTlsSocket({ ...target, servername: 'other.example' }, never));
    expect(error).toMatchObject({ code: 'ERR_DPS_TLS_UNTRUSTED', phase: 'tls', retryable: false });
    expect(error.message).toContain('other.example');
  });

  it('refuses a certificate for another name, and says which names it is for', async () => {
    const { authority, options } = await bench();
    const other = await issueCertificate(authority, { commonName: 'x', usage: 'server', dnsNames: ['other.example'] });
    const peer = await startTlsPeer({ cert: other.chainPem, key: other.privateKeyPem }, listenOnly);
    const error = await rejectionOf(openTlsSocket({ ...options, port: peer.port }, never));
    expect(error).toMatchObject({ code: 'ERR_DPS_TLS_UNTRUSTED', peer: `localhost:${peer.port}`, retryable: false });
    expect(error.message).toContain('other.example');
  });

  it('refuses an unknown root, and names the option', async () => {
    const { server, options } = await bench();
    const peer = await startTlsPeer(server, listenOnly);
    const stranger = await makeAuthority({ commonName: 'stranger' });
    const advice = [
      [undefined, "get that CA's certificate and give it with option ca."],
      [stranger.certificatePem, 'Option ca does not hold that CA'],
      [[stranger.certificatePem], 'Option ca does not hold that CA'],
    ] as const;
    for (const [ca, expected] of advice) {
      const error = await rejectionOf(openTlsSocket({ ...options, port: peer.port, ca }, never));
      expect(error).toBeInstanceOf(TransportError);
      expect(error).toMatchObject({ code: 'ERR_DPS_TLS_UNTRUSTED', retryable: false });
      expect(error.message).toContain(expected);
    }
  });

  it('is not talked out of verification by the environment', async () => {
    const { server, options } = await bench();
    const peer = await startTlsPeer(server, listenOnly);
    const { NODE_TLS_REJECT_UNAUTHORIZED: before } = process.env;
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
    try {
      const error = await rejectionOf(openTlsSocket({ ...options, port: peer.port, ca: undefined }, never));
      expect(error).toMatchObject({ code: 'ERR_DPS_TLS_UNTRUSTED' });
    } finally {
      if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
      else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
    }
  });

  it('blames the certificate for its dates by a plausible clock, the clock by an implausible one', async () => {
    const { authority, options } = await bench();
    const dayMs = 86_400_000;
    const validities = {
      CERT_HAS_EXPIRED: { notBeforeMs: Date.now() - 2 * dayMs, notAfterMs: Date.now() - dayMs },
      CERT_NOT_YET_VALID: { notBeforeMs: Date.now() + dayMs, notAfterMs: Date.now() + 2 * dayMs },
    };
    for (const [code, validity] of Object.entries(validities)) {
      const names = { commonName: 'localhost', dnsNames: ['localhost'] };
      const { chainPem, privateKeyPem } = await issueCertificate(authority, { ...names, usage: 'server', ...validity });
      const peer = await startTlsPeer({ cert: chainPem, key: privateKeyPem }, listenOnly);
      const target = { ...options, port: peer.port };
      const blamed = await rejectionOf(openTlsSocket(target, never));
      expect(blamed).toMatchObject({ code: 'ERR_DPS_TLS_UNTRUSTED', retryable: false });
      expect(blamed.message).toContain(code);
      const doubted = await rejectionOf(openTlsSocket({ ...target, clock: new ManualClock(1000) }, never));
      expect(doubted).toBeInstanceOf(ClockError);
      expect(doubted).toMatchObject({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE', retryable: true });
      expect(doubted.message).toContain('1970-01-01T00:00:01');
    }
  });

  it('presents the device certificate', async () => {
    const { server, authority, options } = await bench();
    const { device } = await benchCertificates();
    const peer = await startTlsPeer(
      { ...server, ca: authority.certificatePem, requestCert: true, rejectUnauthorized: true },
      (wire) => wire.write('in'),
    );
    const socket = await openTlsSocket({ ...options, port: peer.port, client: device }, never);
    const [greeting] = await new Promise<Buffer[]>((resolve) => socket.once('data', (...chunk) => resolve(chunk)));
    expect(String(greeting)).toBe('in');
    socket.destroy();
  });

  it.each([
    ['bad_certificate', 42],
    ['unsupported_certificate', 43],
    ['certificate_revoked', 44],
    ['certificate_expired', 45],
    ['certificate_unknown', 46],
    ['unknown_ca', 48],
    ['access_denied', 49],
  ])('knows an alert that refuses the device certificate (%s)', async (_name, description) => {
    const { options } = await bench();
    const { device } = await benchCertificates();
    // RFC 5246, section 7.2: a fatal alert in a record of its own.
    const peer = await startTcpPeer(async (wire) => {
      await wire.readBytes(1);
      await wire.write(Uint8Array.of(0x15, 0x03, 0x03, 0x00, 0x02, 0x02, description));
    });
    const error = await rejectionOf(openTlsSocket({ ...options, port: peer.port, client: device }, never));
    expect(error).toMatchObject({ code: 'ERR_DPS_TLS_CLIENT_REFUSED', phase: 'tls', retryable: false });
  });

  it('takes other alerts for a handshake that may work later', async () => {
    const { options } = await bench();
    const peer = await startTcpPeer(async (wire) => {
      await wire.readBytes(1);
      await wire.write(Uint8Array.of(0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 80));
    });
    const error = await rejectionOf(openTlsSocket({ ...options, port: peer.port }, never));
    expect(error).toMatchObject({ code: 'ERR_DPS_TLS_HANDSHAKE', phase: 'tls', retryable: true });
  });

  it('does not speak TLS 1.1', async () => {
    const { server, options } = await bench();
    const peer = await startTlsPeer(
      { ...server, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
      listenOnly,
    );
    const error = await rejectionOf(openTlsSocket({ ...options, port: peer.port }, never));
    expect(error).toMatchObject({ code: 'ERR_DPS_TLS_HANDSHAKE', phase: 'tls', retryable: true });
  });

  it('says so when the other side does not speak TLS at all', async () => {
    const { clock, options } = await bench();
    const peer = await startTcpPeer((wire) => wire.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
    const error = await rejectionOf(openTlsSocket({ ...options, port: peer.port }, never));
    expect(error).toMatchObject({ code: 'ERR_DPS_TLS_HANDSHAKE', phase: 'tls', retryable: true });
    expect(error.message).toContain('does not speak TLS');
    expect(clock.pending).toBe(0);
  });

  it.each(['end', 'cut'] as const)('reports a handshake that the other side breaks off (%s)', async (how) => {
    const { clock, options } = await bench();
    const peer = await startTcpPeer(async (wire) => {
      await wire.readBytes(1);
      wire[how]();
    });
    const error = await rejectionOf(openTlsSocket({ ...options, port: peer.port }, never));
    expect(error).toMatchObject({ code: 'ERR_DPS_TLS_HANDSHAKE', phase: 'tls', retryable: true });
    expect(clock.pending).toBe(0);
  });

  it('reports a port that nobody listens on', async () => {
    const { clock, options } = await bench();
    const port = await unusedPort();
    const error = await rejectionOf(openTlsSocket({ ...options, host: '127.0.0.1', port }, never));
    expect(error).toMatchObject({
      code: 'ERR_DPS_CONNECT',
      phase: 'connect',
      peer: `127.0.0.1:${port}`,
      retryable: true,
    });
    expect(error.message).toContain('ECONNREFUSED');
    expect(clock.pending).toBe(0);
  });

  it('names every address that was tried', async () => {
    const { options } = await bench();
    const port = await unusedPort();
    const lookup: TlsSocketOptions['lookup'] = (_name, _options, done) =>
      done(null, [
        { address: '127.0.0.1', family: 4 },
        { address: '::1', family: 6 },
      ]);
    const error = await rejectionOf(openTlsSocket({ ...options, port, lookup }, never));
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECT', phase: 'connect', retryable: true });
    expect(error.message).toContain(`127.0.0.1:${port}`);
    expect(error.message).toContain(`::1`);
  });

  it('moves on to the address that answers', async () => {
    const { server, options } = await bench();
    const peer = await startTlsPeer(server, listenOnly);
    const lookup: TlsSocketOptions['lookup'] = (_name, lookupOptions, done) => {
      expect(lookupOptions.all).toBe(true);
      done(null, [
        { address: '::1', family: 6 },
        { address: '127.0.0.1', family: 4 },
      ]);
    };
    const socket = await openTlsSocket({ ...options, port: peer.port, lookup }, never);
    expect(socket.authorized).toBe(true);
    socket.destroy();
  });

  it.each(['ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED'])('reports a name that cannot be looked up (%s)', async (code) => {
    const { clock, options } = await bench();
    const cause = Object.assign(new Error(`getaddrinfo ${code} localhost`), { code, syscall: 'getaddrinfo' });
    const error = await rejectionOf(
      openTlsSocket({ ...options, port: 8883, lookup: (_name, _options, done) => done(cause, []) }, never),
    );
    expect(error).toMatchObject({
      code: 'ERR_DPS_DNS',
      phase: 'resolve',
      peer: 'localhost:8883',
      retryable: true,
      cause,
    });
    expect(error.message).toContain(code);
    expect(clock.pending).toBe(0);
  });

  it('bounds name look-up and handshake alike, and says where time ran out', async () => {
    const { clock, options } = await bench();
    const looking = openTlsSocket({ ...options, port: 8883, lookup: () => {} }, never);
    const lookupFailure = rejectionOf(looking);
    clock.advance(59_999);
    expect(clock.pending).toBe(1);
    clock.advance(1);
    expect(await lookupFailure).toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', phase: 'resolve', retryable: true });

    const peer = await startTcpPeer(listenOnly);
    const target = { ...options, port: peer.port, connectTimeoutMs: 5000 };
    const handshakeFailure = rejectionOf(openTlsSocket(target, never));
    const wire = await peer.wire(0);
    await wire.readBytes(1);
    clock.advance(5000);
    const error = await handshakeFailure;
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', phase: 'tls', retryable: true });
    expect(error.message).toContain('5000 ms');
    await wire.closed;
    expect(clock.pending).toBe(0);
  });

  it('does not start when cancelled already', async () => {
    const { clock, options } = await bench();
    const reason = new Error('enough');
    let lookups = 0;
    const lookup = (): void => {
      lookups += 1;
    };
    const error = await rejectionOf(openTlsSocket({ ...options, port: 8883, lookup }, AbortSignal.abort(reason)));
    expect(error).toBe(reason);
    expect([lookups, clock.pending]).toEqual([0, 0]);
  });

  it('stops at once when cancelled during name look-up or handshake', async () => {
    const { clock, options } = await bench();
    const peer = await startTcpPeer(listenOnly);
    const during = async (target: TlsSocketOptions, begun: () => Promise<void>): Promise<void> => {
      const caller = new AbortController();
      const reason = new Error('enough');
      const failure = rejectionOf(openTlsSocket(target, caller.signal));
      await begun();
      caller.abort(reason);
      expect(await failure).toBe(reason);
      expect(clock.pending).toBe(0);
    };
    await during({ ...options, port: 8883, lookup: () => {} }, async () => {});
    await during({ ...options, port: peer.port }, async () => {
      await (await peer.wire(0)).readBytes(1);
    });
    await (await peer.wire(0)).closed;
  });

  it('names what is wrong with the device credential, without showing any of it', async () => {
    const { options } = await bench();
    const { device, server } = await benchCertificates();
    const peer = await startTcpPeer(listenOnly);
    const cipher = { format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'open sesame' } as const;
    const encrypted = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export(cipher).toString();
    const garbage = '-----BEGIN PRIVATE KEY-----\nc2VjcmV0LXNlY3JldA==\n-----END PRIVATE KEY-----\n';
    const cases = {
      ERR_DPS_HSM_KEY_INVALID: { ...device, privateKeyPem: garbage },
      ERR_DPS_HSM_KEY_MISMATCH: { ...device, privateKeyPem: server.key },
      ERR_DPS_HSM_CERTIFICATE_INVALID: { ...device, certificateChainPem: 'no certificate' },
      ERR_DPS_HSM_PASSPHRASE: { ...device, privateKeyPem: encrypted, passphrase: 'open barley' },
    };
    for (const [code, client] of Object.entries(cases)) {
      const error = await rejectionOf(openTlsSocket({ ...options, port: peer.port, client }, never));
      expect(error).toBeInstanceOf(HsmError);
      expect(error).toMatchObject({ code, retryable: false });
      const shown = inspect(error, { depth: 9 });
      for (const secret of ['c2VjcmV0', 'open barley', encrypted.split('\n')[1] ?? '?'])
        expect(shown).not.toContain(secret);
    }
    const { privateKeyPem } = { privateKeyPem: encrypted };
    const unopened = await rejectionOf(
      openTlsSocket({ ...options, port: peer.port, client: { ...device, privateKeyPem } }, never),
    );
    expect(unopened).toMatchObject({ code: 'ERR_DPS_HSM_PASSPHRASE' });
    expect(unopened.message).toContain('none was given');
  });

  it.each([[''], ['no certificate'], [[]]])('refuses a `ca` without a certificate (%j)', async (ca) => {
    const { options } = await bench();
    const peer = await startTcpPeer(listenOnly);
    const error = await rejectionOf(openTlsSocket({ ...options, port: peer.port, ca }, never));
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error).toMatchObject({ code: 'ERR_DPS_CONFIG_OPTION', option: 'ca' });
  });
});
