/* Several transports in turn, over sockets: ports that refuse and ports that never answer, by a clock that is moved. */
import { on, once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { symmetricKeyHsm } from '../hsm/symmetric-key.js';
import type { Clock } from '../src/core/clock.js';
import type { HubTransport } from '../src/core/hub.js';
import type { DpsTransport } from '../src/core/transport.js';
import { type Emulator, startEmulator } from '../src/emulator/index.js';
import { type ProgressEvent, provision } from '../src/index.js';
import { dpsTransports, hubTransports } from '../src/named-transports.js';
import { ProgressLog } from '../src/progress-log.js';
import { provisionWith } from '../src/provision.js';
import type { ProvisionOptions } from '../src/provision-options.js';
import type { ProvisioningParts } from '../src/provisioning-parts.js';
import { systemClock } from '../src/system-clock.js';
import { benchCertificates } from './fakes/bench-certificates.js';
import { ManualClock } from './fakes/manual-clock.js';
import { makeKey } from './interop/emulator-bench.js';

const key = makeKey();
let emulator: Emulator;
beforeAll(async () => {
  emulator = await startEmulator({ retryAfterSeconds: 0 });
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey: key } } });
});
afterAll(() => emulator?.close());

type Choice = Pick<ProvisionOptions, 'transport' | 'hubTransport' | 'endpoint' | 'deadlineMs' | 'ca'>;

/** `onEvent` hears of each event before the next one is read. */
async function journey(choice: Choice, clock: Clock = systemClock, onEvent = async (_event: ProgressEvent) => {}) {
  const device = provision({
    idScope: emulator.idScope,
    ca: emulator.caPem,
    hsm: { kind: 'symmetricKey', registrationId: 'dev-1', key },
    clock,
    random: () => 0.5,
    ...choice,
  });
  const events: ProgressEvent[] = [];
  for await (const event of device.events) {
    events.push(event);
    await onEvent(event);
  }
  const error = await device.then(
    () => undefined,
    (reason: Error) => reason,
  );
  const moves = events.flatMap((event) => (event.type === 'next-transport' ? [event] : []));
  return { error, moves, device };
}

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** Nobody listens there any more. */
async function closedPort(): Promise<number> {
  const server = createServer();
  const port = await listening(server);
  server.close();
  await once(server, 'close');
  return port;
}

/** Takes connections and never says a word on them; `connected` settles with the next one that nobody has asked about. */
async function silentServer(): Promise<{ readonly port: number; readonly connected: () => Promise<unknown> }> {
  const server = createServer((socket) => {
    socket.on('error', () => {}).resume();
    onTestFinished(() => void socket.destroy());
  });
  const connections = on(server, 'connection');
  return { port: await listening(server), connected: () => connections.next() };
}

describe('several transports', () => {
  it('are all tried at a port that refuses, and all named', async () => {
    const port = await closedPort();
    // The pause before the next attempt does not fit into the deadline.
    const choice: Choice = { transport: 'auto', endpoint: `127.0.0.1:${port}`, deadlineMs: 10 };
    const { error, moves } = await journey(choice, new ManualClock());
    expect(moves).toMatchObject([
      { to: 'dps', after: 'mqtt', transport: 'mqtt-ws', code: 'ERR_DPS_CONNECT' },
      { to: 'dps', after: 'mqtt-ws', transport: 'https', code: 'ERR_DPS_CONNECT' },
    ]);
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECT', retryable: true });
    expect(error?.message).toMatch(/^No transport came through\. mqtt: No TCP .* mqtt-ws: No TCP .* https: No TCP /);
  });

  it('share the time of one where nobody answers', async () => {
    const clock = new ManualClock();
    const server = await silentServer();
    const nobodyAnswers = async ({ type }: ProgressEvent): Promise<void> => {
      if (type !== 'connecting' && type !== 'next-transport') return;
      await server.connected();
      clock.advance(20_000);
    };
    const choice: Choice = { transport: 'auto', endpoint: `127.0.0.1:${server.port}`, deadlineMs: 60_010 };
    const { error, moves } = await journey(choice, clock, nobodyAnswers);
    expect(moves.map(({ transport, code }) => [transport, code])).toEqual([
      ['mqtt-ws', 'ERR_DPS_CONNECT_TIMEOUT'],
      ['https', 'ERR_DPS_CONNECT_TIMEOUT'],
    ]);
    expect(clock.monotonicMs()).toBe(60_000);
    expect(error?.message.match(/within 20000 ms/g)).toHaveLength(3);
  });

  it('need not be loaded before their turn', async () => {
    const choice: Choice = { transport: ['https', 'amqp'], endpoint: emulator.endpoints.dps.https };
    const { device, moves } = await journey(choice);
    expect(moves).toEqual([]);
    await expect(device).resolves.toMatchObject({ transport: { dps: 'https', hub: 'mqtt' } });
  });

  it('are one each for DPS and the hub', async () => {
    const choice: Choice = { transport: ['mqtt-ws', 'https'], hubTransport: ['mqtt-ws', 'mqtt'] };
    const { device } = await journey({ ...choice, endpoint: emulator.endpoints.dps.https });
    await expect(device).resolves.toMatchObject({ transport: { dps: 'mqtt-ws', hub: 'mqtt-ws' } });
    await expect((await device).mqttOptions()).resolves.toMatchObject({ protocol: 'wss' });
  });
});

/** The same transport, at another place. */
function dpsAt(place: string, dps: DpsTransport): DpsTransport {
  return { name: dps.name, open: (parameters, signal) => dps.open({ ...parameters, endpoint: place }, signal) };
}

function hubAt(hostName: string, hub: HubTransport): HubTransport {
  return { ...hub, open: (parameters, signal) => hub.open({ ...parameters, hostName }, signal) };
}

describe('another protocol at the port', () => {
  it.each(['mqtt', 'amqp'] as const)('makes room for the next one when an HTTP server answers %s', async (name) => {
    const { server: own, authority } = await benchCertificates();
    const server = createTlsServer(own, (socket) => {
      socket.on('error', () => {}).once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    });
    const endpoint = `localhost:${await listening(server)}`;
    const { moves } = await journey({ transport: [name, 'https'], endpoint, ca: authority.certificatePem });
    const code = `ERR_DPS_PROTOCOL_${name.toUpperCase()}`;
    expect(moves).toMatchObject([{ to: 'dps', after: name, transport: 'https', code }]);
  });

  it.each(['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws'] as const)(
    'makes room for the next one when an SSH server answers %s',
    async (name) => {
      const server = createServer((socket) => {
        socket.on('error', () => {}).resume();
        socket.end('SSH-2.0-OpenSSH_9.2\r\n');
      });
      const endpoint = `127.0.0.1:${await listening(server)}`;
      const { error, moves } = await journey(
        { transport: [name, 'https'], endpoint, deadlineMs: 10 },
        new ManualClock(),
      );
      expect(moves).toMatchObject([{ to: 'dps', after: name, transport: 'https' }]);
      expect(error?.message).toMatch(new RegExp(`^No transport came through\\. ${name}: .* https: `));
    },
  );
});

describe('a transport that does not get through', () => {
  it.each(['refuses', 'is silent'])(
    'makes room for the next one, at DPS and at the hub, when its port %s',
    async (what) => {
      const clock = new ManualClock(Date.now());
      const silent = await silentServer();
      const port = what === 'refuses' ? await closedPort() : silent.port;
      const bounds = { connectTimeoutMs: 60_000, requestTimeoutMs: 30_000, tokenLifeSeconds: 3_600 };
      const settings = { clock, random: () => 0, ...bounds, userAgent: 'test', ca: emulator.caPem };
      const dps = await dpsTransports(['mqtt', 'https'], false, settings);
      const hub = hubTransports('auto', settings);
      const parts: ProvisioningParts = {
        ...settings,
        idScope: emulator.idScope,
        endpoint: emulator.endpoints.dps.https,
        hsm: await symmetricKeyHsm({ registrationId: 'dev-1', key }),
        dps: dpsAt(`127.0.0.1:${port}`, dps.first),
        otherDps: dps.others,
        hub: hubAt(`127.0.0.1:${port}`, hub.first),
        otherHubs: hub.others,
        deadlineMs: 300_000,
        hubTimeoutMs: 150_000,
      };
      const log = new ProgressLog();
      const device = provisionWith(parts, log);
      const moves: string[] = [];
      for await (const event of log) {
        if (event.type === 'next-transport') moves.push(`${event.to} ${event.transport} ${event.code}`);
        if (event.type === 'waiting') clock.advance(event.forMs);
        if (event.type !== 'connecting' || what === 'refuses') continue;
        await silent.connected();
        clock.advance(30_000);
      }
      const code = what === 'refuses' ? 'ERR_DPS_CONNECT' : 'ERR_DPS_CONNECT_TIMEOUT';
      expect(moves).toEqual([`dps https ${code}`, `hub mqtt-ws ${code}`]);
      await expect(device).resolves.toMatchObject({ transport: { dps: 'https', hub: 'mqtt-ws' } });
      expect(clock.pending).toBe(0);
    },
  );
});
