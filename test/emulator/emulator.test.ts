import { rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { type Emulator, makeAuthority, startEmulator, type TraceEntry } from '../../src/emulator/index.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { makeFolder, open, start } from './emulator-bench.js';
import { askHttps } from './https-probe.js';
import { DEVICE_KEY, dpsToken, hubToken, OTHER_KEY } from './tokens.js';

const portOf = (address: string): number => Number(address.split(':').at(-1));

describe('without a configuration', () => {
  it('has one scope and one hub on free loopback ports, and takes enrollments', async () => {
    const emulator = await start();
    expect(emulator.idScope).toMatch(/^0ne[0-9A-F]{8}$/);
    const [hub] = emulator.endpoints.hubs;
    expect(hub).toEqual({
      name: 'hub-1',
      idScope: emulator.idScope,
      hostName: hub?.mqtt,
      mqtt: expect.stringMatching(/^localhost:\d+$/),
    });
    expect(emulator.endpoints.dps).toEqual({
      mqtt: expect.stringMatching(/^localhost:\d+$/),
      amqp: expect.stringMatching(/^localhost:\d+$/),
      https: expect.stringMatching(/^localhost:\d+$/),
    });
    expect(new Set([hub?.mqtt, ...Object.values(emulator.endpoints.dps)]).size).toBe(4);
    const { attestation } = emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: {} } });
    const key = attestation.symmetricKey.primaryKey;
    const token = dpsToken(emulator.idScope, 'dev-1', key, 4_000_000_000);
    const options = { headers: { Authorization: token } };
    const reply = await askHttps(
      emulator.endpoints.dps.https,
      emulator.caPem,
      'PUT',
      `/${emulator.idScope}/registrations/dev-1/register?api-version=2021-06-01`,
      options,
    );
    expect(reply.status).toBe(202);
    const assigned = emulator.registration('dev-1')?.assignedHub ?? '';
    const probe = await open(emulator, assigned);
    const answer = await probe.connect({
      clientId: 'dev-1',
      username: `${assigned}/dev-1/?api-version=2021-04-12`,
      password: hubToken(assigned, 'dev-1', key, 4_000_000_000),
    });
    expect(answer.returnCode).toBe(0);
    await probe.close();
  });

  it('answers at localhost, at 127.0.0.1 and at ::1 where there is one', async () => {
    const emulator = await start();
    const hasIpv6 = Object.values(networkInterfaces())
      .flat()
      .some((each) => each?.address === '::1');
    const hosts = ['localhost', '127.0.0.1', ...(hasIpv6 ? ['[::1]'] : [])];
    const ports = [emulator.endpoints.dps.mqtt, emulator.endpoints.hubs[0]?.mqtt ?? ''].map(portOf);
    for (const host of hosts) {
      for (const port of ports) await (await open(emulator, `${host}:${port}`)).close();
      const reply = await askHttps(`${host}:${portOf(emulator.endpoints.dps.https)}`, emulator.caPem, 'GET', '/');
      expect(reply.status).toBe(404);
    }
  });
});

describe('TLS', () => {
  const handshake = (emulator: Emulator, options: object): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const port = portOf(emulator.endpoints.dps.mqtt);
      const socket = connectTls({ host: '127.0.0.1', port, ca: emulator.caPem, ...options }, () => resolve(socket));
      socket.once('error', reject);
    });

  it('is 1.2, 1.3 if asked for, and nothing older', async () => {
    const usual = await start();
    const socket = await handshake(usual, {});
    expect(socket.getProtocol()).toBe('TLSv1.2');
    expect(socket.getCipher().name).toMatch(/^ECDHE-/);
    socket.destroy();
    await expect(handshake(usual, { minVersion: 'TLSv1.3' })).rejects.toThrow();
    await expect(handshake(usual, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1' })).rejects.toThrow();
    const modern = await start({ tls: { maxVersion: 'TLSv1.3' } });
    const second = await handshake(modern, {});
    expect(second.getProtocol()).toBe('TLSv1.3');
    second.destroy();
  });

  it('gives no session to resume: it would have lost the certificate chain', async () => {
    const emulator = await start();
    const first = await handshake(emulator, {});
    const session = first.getSession();
    expect(first.getTLSTicket()).toBeUndefined();
    first.destroy();
    const second = await handshake(emulator, { session });
    expect(second.isSessionReused()).toBe(false);
    second.destroy();
  });

  it('names what is configured, and may sign with a CA of yours', async () => {
    const authority = await makeAuthority({ commonName: 'Mine' });
    const emulator = await start({
      hubs: [{ name: 'a', hostName: 'hub.example.test:8883' }],
      tls: {
        certificateAuthority: { certificate: authority.certificatePem, privateKey: authority.privateKeyPem },
        names: ['dps.example.test', '192.0.2.7'],
      },
    });
    expect(emulator.caPem.trim()).toBe(authority.certificatePem.trim());
    for (const servername of ['hub.example.test', 'dps.example.test'])
      (await handshake(emulator, { servername })).destroy();
    await expect(handshake(emulator, { servername: 'elsewhere.test' })).rejects.toThrow(/altnames/);
  });

  it('does not mind a client that is no TLS client at all', async () => {
    const emulator = await start();
    const { connect } = await import('node:net');
    for (const address of [emulator.endpoints.dps.mqtt, emulator.endpoints.dps.https]) {
      await new Promise<void>((resolve) => {
        const socket = connect(portOf(address), '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\n\r\n'));
        socket.on('error', () => {});
        socket.once('close', () => resolve());
        socket.resume();
      });
    }
    expect(emulator.trace.count({ event: 'violation' })).toBe(2);
    await (await open(emulator, emulator.endpoints.dps.mqtt)).close();
  });
});

describe('ports', () => {
  const occupy = async (host: string): Promise<Server> => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    return server;
  };

  it('that are taken are named, and nothing is left open', async () => {
    const server = await occupy('127.0.0.1');
    const port = (server.address() as { port: number }).port;
    await expect(startEmulator({ hubs: [{ name: 'a' }, { name: 'b', port }] })).rejects.toMatchObject({
      name: 'ConfigurationError',
      option: 'hubs[1].port',
      message: expect.stringContaining(`port ${port} (EADDRINUSE)`),
    });
    await expect(startEmulator({ ports: { https: port } })).rejects.toMatchObject({ option: 'ports.https' });
    await new Promise((resolve) => server.close(resolve));
    const emulator = await start({ hubs: [{ name: 'a' }, { name: 'b', port }] });
    expect(emulator.endpoints.hubs[1]?.hostName).toBe(`localhost:${port}`);
  });

  it('are on one address only when a host is given', async () => {
    const emulator = await start({ host: '127.0.0.1' });
    await (await open(emulator, `127.0.0.1:${portOf(emulator.endpoints.dps.mqtt)}`)).close();
    await expect(startEmulator({ host: '192.0.2.1' })).rejects.toMatchObject({
      code: 'ERR_DPS_CONFIG_OPTION',
      option: 'host',
      message: expect.stringContaining('Give an address of this machine'),
    });
  });
});

describe('close', () => {
  it('ends every connection and timer, twice if asked', async () => {
    const clock = new ManualClock();
    const emulator = await start(
      { enrollments: [{ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey: DEVICE_KEY } } }] },
      { clock },
    );
    emulator.hub().addDevice({
      deviceId: 'dev-1',
      authentication: { type: 'sas', primaryKey: DEVICE_KEY, secondaryKey: OTHER_KEY },
    });
    const { hostName } = emulator.hub();
    const waiting = await open(emulator, emulator.endpoints.dps.mqtt);
    const live = await open(emulator, hostName);
    const expiry = Math.floor(clock.wallMs() / 1000) + 3600;
    await live.connect({
      clientId: 'dev-1',
      username: `${hostName}/dev-1/?api-version=2021-04-12`,
      password: hubToken(hostName, 'dev-1', DEVICE_KEY, expiry),
      keepalive: 60,
    });
    await live.subscribe({ '$iothub/methods/POST/#': 0, '$iothub/twin/res/#': 0 });
    emulator.faults.add({ at: 'hub.twinGet', action: { kind: 'wait', ms: 1000 } });
    live.publish('$iothub/twin/GET/?$rid=1', '');
    await emulator.trace.waitFor({ event: 'fault' });
    emulator.faults.add({ at: 'dps.register', action: { kind: 'wait', ms: 1000 } });
    const path = `/${emulator.idScope}/registrations/dev-1/register?api-version=2019-03-31`;
    const asked = askHttps(emulator.endpoints.dps.https, emulator.caPem, 'PUT', path);
    await emulator.trace.waitFor({ event: 'fault', protocol: 'https' });
    const called = emulator.hub().invokeMethod('dev-1', 'x');
    const awaited = emulator.trace.waitFor({ device: 'never' });
    const outcomes = Promise.allSettled([asked, called, awaited]);
    expect(clock.pending).toBeGreaterThan(0);
    await Promise.all([emulator.close(), emulator.close()]);
    await Promise.all([waiting.closed, live.closed]);
    expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(clock.pending).toBe(0);
    expect(emulator.trace.count({ event: 'close' })).toBe(2);
    await expect(open(emulator, hostName)).rejects.toThrow();
  });
});

describe('scopes and hubs', () => {
  it('are found by name', async () => {
    const emulator = await start({ scopes: [{ idScope: '0neA', hubs: [{ name: 'a' }] }, { idScope: '0neB' }] });
    expect(emulator.idScopes).toEqual(['0neA', '0neB']);
    expect(emulator.endpoints.hubs.map(({ name, idScope }) => `${idScope}/${name}`)).toEqual(['0neA/a', '0neB/hub-2']);
    expect(emulator.scope('0neB').idScope).toBe('0neB');
    expect(emulator.hub('hub-2').name).toBe('hub-2');
    expect(emulator.hub(emulator.endpoints.hubs[1]?.hostName).name).toBe('hub-2');
    expect(() => emulator.scope('0neC')).toThrow(/0neA, 0neB/);
    expect(() => emulator.hub('c')).toThrow(/a, hub-2/);
  });
});

describe('what is no configuration', () => {
  it.each([null, 5, 'text', true, [], () => ({})])('is refused as such: %j', async (config) => {
    await expect(startEmulator(config as never)).rejects.toMatchObject({
      name: 'ConfigurationError',
      code: 'ERR_DPS_CONFIG_OPTION',
      message: expect.stringMatching(/^the emulator's configuration must be an object, not (null|a \w+)\.$/),
    });
  });

  it.each([
    [null, 'options'],
    [[], 'options'],
    [{ clock: 5 }, 'options.clock'],
    [{ clock: { wallMs: () => 0 } }, 'options.clock.monotonicMs'],
    [{ random: 5 }, 'options.random'],
    [{ log: 'x' }, 'options.log'],
    [{ onTrace: {} }, 'options.onTrace'],
    [{ baseDirectory: 5 }, 'options.baseDirectory'],
    [{ logs: () => {} }, 'options.logs'],
  ])('goes for the options, too: %j', async (options, option) => {
    await expect(startEmulator({}, options as never)).rejects.toMatchObject({ name: 'ConfigurationError', option });
  });
});

describe('the log', () => {
  it('has a line for everything, and no line of a client’s making', async () => {
    const lines: string[] = [];
    const emulator = await start({}, { clock: new ManualClock(), log: (line) => lines.push(line) });
    const probe = await open(emulator, emulator.endpoints.dps.mqtt);
    await probe.connect({
      clientId: 'a\nb',
      username: '0ne00000000/registrations/a\nb\u001b[31m/api-version=2019-03-31',
    });
    await probe.closed;
    await emulator.trace.waitFor({ event: 'close' });
    expect(lines).toEqual([
      '00:00:00.000 dps mqtt #1 0ne00000000/a\\u{a}b\\u{1b}[31m connect (api-version 2019-03-31)',
      expect.stringContaining('refused 2'),
      '00:00:00.000 dps mqtt #1 0ne00000000/a\\u{a}b\\u{1b}[31m connack 2',
      expect.stringContaining('close'),
    ]);
  });

  it('leaves to onTrace what that is told', async () => {
    const lines: string[] = [];
    const told: TraceEntry[] = [];
    const options = { log: (line: string) => lines.push(line), onTrace: (entry: TraceEntry) => told.push(entry) };
    const folder = makeFolder();
    const emulator = await start({ stateFile: join(folder, 'state.json') }, options);
    rmSync(folder, { recursive: true });
    emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: {} } });
    const probe = await open(emulator, emulator.endpoints.dps.mqtt);
    await probe.connect({ clientId: 'a', username: '0ne00000000/registrations/a/api-version=2019-03-31' });
    await probe.close();
    await emulator.trace.waitFor({ event: 'close' });
    expect(told.map(({ event }) => event)).toEqual(expect.arrayContaining(['connect', 'connack', 'close']));
    expect(told).toEqual(emulator.trace.entries());
    await emulator.close();
    expect(lines).toEqual([expect.stringContaining('The state file could not be written')]);
  });

  it.each(['log', 'onTrace'])('may fail without harm (%s)', async (listener) => {
    const emulator = await start(
      {},
      {
        [listener]: () => {
          throw new Error('disk full');
        },
      },
    );
    const probe = await open(emulator, emulator.endpoints.dps.mqtt);
    expect(
      await probe.connect({ clientId: 'a', username: '0ne00000000/registrations/a/api-version=2019-03-31' }),
    ).toMatchObject({ returnCode: 0 });
    await probe.close();
  });
});
