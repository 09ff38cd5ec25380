/** The doctor against the emulator, and against what may be wrong with a device. */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { doctorCommand } from '../../src/cli/doctor.js';
import { main } from '../../src/cli/main.js';
import type { LiveNetworkOptions } from '../../src/doctor/live-network.js';
import type { Network } from '../../src/doctor/network-check.js';
import { type Emulator, issueCertificate, makeAuthority, startEmulator } from '../../src/emulator/index.js';
import { CancelledError, TransportError } from '../../src/errors.js';
import { systemClock } from '../../src/system-clock.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { startHttpProxy } from '../fakes/proxy-peer.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import { fileWith, temporaryFolder } from './temporary-folder.js';

/** Whatever this machine has. */
const NO_TPM = 'tpm2:/nowhere/tpmrm0';
const KEY = Buffer.alloc(32, 5).toString('base64');
let emulator: Emulator;

beforeAll(async () => {
  emulator = await startEmulator();
});

afterAll(() => emulator.close());

interface Report {
  readonly status: string;
  readonly exitStatus: number;
  readonly findings: readonly {
    readonly check: string;
    readonly verdict: string;
    readonly message: string;
    readonly fix?: string;
    readonly code?: string;
  }[];
}

interface Examined {
  readonly status: number;
  readonly io: FakeIo;
  readonly report: Report;
  readonly faults: string[];
}

async function examine(args: readonly string[], setup: FakeIoOptions = {}, clock = systemClock): Promise<Examined> {
  const io = fakeIo(setup);
  const commands = { doctor: { summary: '', load: async () => doctorCommand({ clock }) } };
  const status = await main(['doctor', ...args], io, commands);
  const report = JSON.parse(io.out()) as Report;
  expect(report.exitStatus).toBe(status);
  expect(report.status).toBe(status === 0 ? 'healthy' : 'failing');
  expect(io.out() + io.err()).not.toContain(KEY);
  expect(io.clock.pending).toBe(0);
  for (const { verdict, fix, code } of report.findings) {
    if (verdict === 'failed') expect([fix, code]).toEqual([expect.any(String), expect.stringMatching(/^ERR_DPS_/)]);
  }
  const faulty = report.findings.filter(({ verdict }) => verdict === 'failed');
  return { status, io, report, faults: faulty.map(({ check, code }) => `${check} ${code}`) };
}

/** Flags that lead to the emulator; later ones of the same name win. */
function flags(changes: Readonly<Record<string, string | undefined>> = {}): string[] {
  const all: Record<string, string | undefined> = {
    'id-scope': emulator.idScope,
    'registration-id': 'dev-1',
    'symmetric-key-file': fileWith(KEY),
    endpoint: emulator.endpoints.dps.mqtt,
    'ca-file': fileWith(emulator.caPem),
    ...changes,
  };
  return Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}=${value}`]));
}

async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : expect.fail('no port');
}

describe('dps-device doctor', () => {
  it('finds nothing wrong where nothing is, and registers nothing', async () => {
    const { status, io, report } = await examine(flags());
    expect(status).toBe(0);
    expect(report).toMatchObject({ endpoint: emulator.endpoints.dps.mqtt, transport: 'mqtt' });
    expect(report.findings.map(({ check, verdict }) => `${check} ${verdict}`)).toEqual([
      'clock ok',
      'proxy ok',
      'environment ok',
      'configuration ok',
      'identity ok',
      'permissions ok',
      'key ok',
      'registration-id ok',
      'authorities ok',
      'dns ok',
      'port ok',
      'tls ok',
      'service skipped',
    ]);
    expect(io.err().trim().split('\n')).toHaveLength(report.findings.length);
    expect(emulator.trace.entries({ device: 'dev-1' })).toEqual([]);
  });

  it('compares the clock with that of DPS over HTTPS', async () => {
    const https = { transport: 'https', endpoint: emulator.endpoints.dps.https };
    const { status, report } = await examine(flags(https));
    expect([status, report.findings.at(-2)]).toMatchObject([0, { check: 'server-clock', verdict: 'ok' }]);
    const hourBehind = { ...systemClock, wallMs: () => systemClock.wallMs() - 3_600_000 };
    const late = await examine(flags(https), {}, hourBehind);
    expect([late.status, late.faults]).toEqual([75, ['server-clock ERR_DPS_CLOCK_IMPLAUSIBLE']]);
  });

  it('is content with a certificate, and shows it to DPS', async () => {
    const authority = await makeAuthority({ commonName: 'Devices' });
    const leaf = await issueCertificate(authority, { commonName: 'dev-1', usage: 'client' });
    const files = {
      'symmetric-key-file': undefined,
      'cert-file': fileWith(leaf.chainPem, 0o644),
      'cert-key-file': fileWith(leaf.privateKeyPem),
    };
    expect((await examine(flags(files))).status).toBe(0);
    const stranger = await issueCertificate(authority, { commonName: 'dev-2', usage: 'client' });
    const mismatched = await examine(flags({ ...files, 'cert-key-file': fileWith(stranger.privateKeyPem) }));
    expect([mismatched.status, mismatched.faults]).toEqual([71, ['key-match ERR_DPS_HSM_KEY_MISMATCH']]);
    const ended = await issueCertificate(authority, {
      commonName: 'dev-1',
      usage: 'client',
      notAfterMs: Date.now() - 1_000,
    });
    const expired = await examine(
      flags({ ...files, 'cert-file': fileWith(ended.chainPem), 'cert-key-file': fileWith(ended.privateKeyPem) }),
    );
    expect([expired.status, expired.faults]).toEqual([71, ['expiry ERR_DPS_HSM_CERTIFICATE_EXPIRED']]);
  });

  it.each<[string, () => Promise<Record<string, string>>, number, string[]]>([
    [
      'a CA that is not the server’s',
      async () => ({ 'ca-file': fileWith((await makeAuthority({ commonName: 'Other' })).certificatePem) }),
      78,
      ['tls ERR_DPS_TLS_UNTRUSTED'],
    ],
    ['a CA file without a CA', async () => ({ 'ca-file': fileWith('x') }), 78, ['authorities ERR_DPS_CONFIG_FILE']],
    ['no CA file', async () => ({ 'ca-file': '/nowhere/ca.pem' }), 78, ['authorities ERR_DPS_CONFIG_FILE']],
    ['a closed port', async () => ({ endpoint: `127.0.0.1:${await closedPort()}` }), 69, ['port ERR_DPS_CONNECT']],
    [
      'a key for everybody',
      async () => ({ 'symmetric-key-file': fileWith(KEY, 0o644) }),
      71,
      ['permissions ERR_DPS_HSM_FILE_MODE'],
    ],
    ['no key', async () => ({ 'symmetric-key-file': fileWith('x') }), 71, ['key ERR_DPS_HSM_KEY_INVALID']],
    [
      'a payload that is no JSON',
      async () => ({ 'payload-file': fileWith('{') }),
      78,
      ['configuration ERR_DPS_CONFIG_FILE'],
    ],
    [
      'no place for the connection',
      async () => ({ 'write-connection': join(temporaryFolder(), 'none', 'file') }),
      78,
      ['configuration ERR_DPS_CONFIG_FILE'],
    ],
    [
      'a state folder that is a file',
      async () => ({ state: fileWith('x') }),
      78,
      ['configuration ERR_DPS_STORE_UNREADABLE'],
    ],
    [
      'several faults: the one that waiting does not mend',
      async () => ({ 'symmetric-key-file': fileWith(KEY, 0o644), endpoint: `127.0.0.1:${await closedPort()}` }),
      71,
      ['permissions ERR_DPS_HSM_FILE_MODE', 'port ERR_DPS_CONNECT'],
    ],
  ])('finds %s', async (_, changes, expected, faults) => {
    const examined = await examine(flags(await changes()));
    expect([examined.status, examined.faults]).toEqual([expected, faults]);
    expect(examined.io.err()).toContain('\nFAILED   ');
  });

  it('blames a clock that is not set, and no certificate', async () => {
    const examined = await examine(flags(), {}, new ManualClock(0));
    expect([examined.status, examined.faults]).toEqual([75, ['clock ERR_DPS_CLOCK_IMPLAUSIBLE']]);
  });

  it('looks at the network also where nothing says who the device is', async () => {
    const bare = { 'id-scope': undefined, 'registration-id': undefined, 'symmetric-key-file': undefined };
    const { status, faults, report } = await examine(flags(bare));
    expect([status, faults]).toEqual([64, ['configuration ERR_DPS_USAGE', 'identity ERR_DPS_USAGE']]);
    expect(report.findings.at(-2)).toMatchObject({ check: 'tls', verdict: 'ok' });
  });

  it('speaks of options as their user knows them', async () => {
    const ca = fileWith((await makeAuthority({ commonName: 'Other' })).certificatePem);
    const { report } = await examine(flags({ 'ca-file': ca }));
    expect(report.findings.at(-2)?.fix).toContain(`--ca-file ${ca} does not hold that CA`);
  });

  it('connects as the device would: with its certificate, its trust and its proxy', async () => {
    const leaf = await issueCertificate(await makeAuthority({ commonName: 'Devices' }), {
      commonName: 'dev-1',
      usage: 'client',
    });
    const ways: LiveNetworkOptions[] = [];
    const proxyFor = () => ({ kind: 'http', host: 'proxy.example', port: 3128, password: 'S3CRET' }) as const;
    const network = (options: LiveNetworkOptions): Network => {
      ways.push(options);
      return { resolve: async () => ['192.0.2.9'], connect: () => Promise.reject(new CancelledError({ state: 'x' })) };
    };
    const instruments = { clock: systemClock, network, proxyRule: () => proxyFor };
    const commands = { doctor: { summary: '', load: async () => doctorCommand(instruments) } };
    const io = fakeIo();
    const files = {
      'symmetric-key-file': undefined,
      'cert-file': fileWith(leaf.certificatePem),
      'cert-key-file': fileWith(leaf.privateKeyPem),
    };
    await main(['doctor', ...flags(files), '--connect-timeout', '7'], io, commands);
    const [way] = ways;
    expect(way).toMatchObject({ ca: emulator.caPem, connectTimeoutMs: 7_000, proxyFor });
    expect(way?.client?.certificateChainPem.trim()).toBe(leaf.certificatePem.trim());
    expect(io.err()).toContain('proxy           Connections go by the http proxy proxy.example:3128');
    expect(io.err()).not.toContain('S3CRET');
  });

  it('goes by the proxy of the options, with its password, and says what is wrong with it', async () => {
    const proxy = await startHttpProxy();
    const given = { proxy: `http://u@127.0.0.1:${proxy.port}`, 'proxy-password-file': fileWith('S3CRET\n') };
    const { status, io } = await examine(flags(given));
    expect([status, proxy.asked[0]]).toEqual([0, expect.stringContaining('Proxy-Authorization: Basic dTpTM0NSRVQ=')]);
    expect(io.err()).toContain(`Connections go by the http proxy 127.0.0.1:${proxy.port}`);
    const refusing = await startHttpProxy('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
    const refused = await examine(flags({ ...given, proxy: `http://u@127.0.0.1:${refusing.port}` }));
    expect([refused.status, refused.faults]).toEqual([78, ['proxy ERR_DPS_PROXY_AUTH']]);
    const { faults } = await examine(flags({ 'proxy-password-file': given['proxy-password-file'] }));
    expect(faults).toEqual(['proxy ERR_DPS_USAGE']);
    const open = await examine(flags({ ...given, 'proxy-password-file': fileWith('S3CRET', 0o644) }));
    expect(open.faults).toEqual(['proxy ERR_DPS_HSM_FILE_MODE']);
    for (const each of [io, refused.io, open.io]) expect(each.out() + each.err()).not.toContain('S3CRET');
  });

  it('looks where the transport would go: port 443 for WebSocket, 5671 for AMQP, HTTPS for a TPM', async () => {
    const asked: unknown[] = [];
    const network = (): Network => ({
      resolve: async () => ['192.0.2.9'],
      connect: (service) => {
        asked.push(service);
        const { host, port } = service;
        const code = 'ERR_DPS_CONNECT';
        const where = { phase: 'connect', peer: `${host}:${port}`, retryable: true } as const;
        return Promise.reject(new TransportError({ code, message: 'No connection.', ...where }));
      },
    });
    const commands = { doctor: { summary: '', load: async () => doctorCommand({ clock: systemClock, network }) } };
    for (const [args, transport] of [
      [['--transport', 'mqtt-ws'], 'mqtt-ws'],
      [['--transport', 'amqp'], 'amqp'],
      [['--transport', 'amqp-ws'], 'amqp-ws'],
      [['--tpm', NO_TPM], 'https'],
      [['--transport', 'auto'], 'auto'],
      [['--transport', 'amqp-ws,amqp'], 'amqp-ws,amqp'],
      [['--transport', 'auto', '--tpm', NO_TPM], 'auto'],
      [['--transport', 'mqtt,amqp,https'], 'mqtt,amqp,https'],
    ] as const) {
      const io = fakeIo();
      await main(['doctor', '--id-scope', '0ne1', '--proxy', 'none', ...args], io, commands);
      expect(JSON.parse(io.out())).toMatchObject({ transport });
    }
    const host = 'global.azure-devices-provisioning.net';
    const https = { transport: 'https', host, port: 443 };
    const mqtt = { transport: 'mqtt', host, port: 8883 };
    const amqp = { transport: 'amqp', host, port: 5671 };
    const inTurn = [...[mqtt, https], ...[https, amqp], ...[https, amqp]];
    expect(asked).toEqual([
      ...[https, mqtt],
      ...[amqp, https],
      ...[https, mqtt],
      ...[https, amqp],
      ...inTurn,
      mqtt,
      amqp,
      https,
    ]);
  });

  it('is content where the last of several transports comes through', async () => {
    const facts = { tlsVersion: 'TLSv1.3', subject: 's', authority: 'a', validToMs: 0, dateMs: undefined };
    const network = (): Network => ({
      resolve: async () => ['192.0.2.9'],
      connect: async ({ port, host }) => {
        if (port === 443) return facts;
        const where = { phase: 'connect', peer: `${host}:${port}`, retryable: true } as const;
        throw new TransportError({ code: 'ERR_DPS_CONNECT', message: 'No connection.', ...where });
      },
    });
    const commands = { doctor: { summary: '', load: async () => doctorCommand({ clock: systemClock, network }) } };
    const io = fakeIo();
    const args = flags({ endpoint: undefined, transport: 'mqtt,amqp,https', proxy: 'none' });
    expect([await main(['doctor', ...args], io, commands), JSON.parse(io.out()).status]).toEqual([0, 'healthy']);
  });

  it('tells machines in their way, and nobody when quiet', async () => {
    expect((await examine([...flags(), '--quiet'])).io.err()).toBe('');
    const { io, report } = await examine([...flags(), '--json-log']);
    const lines = io.err().trim().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toEqual(
      report.findings.map((finding) => ({ type: 'finding', ...finding })),
    );
  });

  it.each([
    ['SIGTERM', 143, (io: FakeIo) => io.send('SIGTERM')],
    ['its time limit', 75, (io: FakeIo) => io.clock.advance(3_000)],
  ])('ends at %s while the network keeps it waiting', async (_, expected, end) => {
    const io = fakeIo();
    const network = (): Network => ({
      resolve: (_host, signal) => {
        queueMicrotask(() => end(io));
        return new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
        });
      },
      connect: () => Promise.reject(new Error('not asked for')),
    });
    const commands = { doctor: { summary: '', load: async () => doctorCommand({ network }) } };
    expect(await main(['doctor', ...flags(), '--timeout', '3'], io, commands)).toBe(expected);
    expect([io.out(), io.clock.pending, io.listeners()]).toEqual(['', 0, 0]);
    expect(io.err()).toContain('looking at the network');
  });

  it('takes the secrets out of the environment', async () => {
    const env = { DPS_SYMMETRIC_KEY: KEY };
    const { status, io } = await examine(flags({ 'symmetric-key-file': undefined }), { env });
    expect([status, io.env]).toEqual([0, {}]);
  });
});
