import { createServer, type Server } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { liveNetwork } from '../../src/doctor/live-network.js';
import type { Service } from '../../src/doctor/network-check.js';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import { ManualClock } from '../fakes/manual-clock.js';

let emulator: Emulator;
let mute: Server;

beforeAll(async () => {
  emulator = await startEmulator();
  mute = createServer((socket) => socket.on('error', () => undefined));
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
});

afterAll(async () => {
  mute.close();
  await emulator.close();
});

function serviceAt(transport: 'mqtt' | 'https', endpoint: string = emulator.endpoints.dps[transport]): Service {
  const [host = '', port = ''] = endpoint.split(':');
  return { transport, host, port: Number(port) };
}

function networkWith(clock: ManualClock): ReturnType<typeof liveNetwork> {
  const trust = { ca: emulator.caPem, client: undefined, proxyFor: undefined };
  return liveNetwork({ ...trust, clock, connectTimeoutMs: 10_000 });
}

describe('liveNetwork', () => {
  const { signal } = new AbortController();

  it('tells the addresses of a name', async () => {
    const clock = new ManualClock();
    const addresses = await networkWith(clock).resolve('localhost', signal);
    expect(addresses.every((address) => /^127\.|^::1$/.test(address))).toBe(true);
    expect(await networkWith(clock).resolve('192.0.2.1', signal)).toEqual(['192.0.2.1']);
    expect(clock.pending).toBe(0);
  });

  it('says of a name that is not found whether it is that of a proxy', async () => {
    const clock = new ManualClock();
    const network = networkWith(clock);
    const wordsOn = (...more: [] | [string]): Promise<string> =>
      network.resolve('no name', signal, ...more).then(String, (error: Error) => error.message);
    expect(await wordsOn()).not.toContain('proxy');
    expect(await wordsOn('dps.example:8883')).toMatch(
      /^The name no name could not be looked up .* It is the proxy on the way to dps\.example:8883\.$/,
    );
    expect(clock.pending).toBe(0);
  });

  it('tells whom the server is trusted by, and over HTTPS what time it has', async () => {
    const clock = new ManualClock();
    const facts = await networkWith(clock).connect(serviceAt('mqtt'), signal);
    expect(facts).toMatchObject({ subject: 'localhost', tlsVersion: expect.stringMatching(/^TLSv1\.[23]$/) });
    expect(facts.authority).not.toBe('localhost');
    expect(facts.validToMs).toBeGreaterThan(Date.UTC(2026, 0, 1));
    expect(facts.dateMs).toBeUndefined();
    const dated = await networkWith(clock).connect(serviceAt('https'), signal);
    expect(dated.dateMs).toBeGreaterThan(Date.UTC(2026, 0, 1));
    expect(clock.pending).toBe(0);
  });

  it('tells whom a server is trusted by that closes as soon as it is asked', async () => {
    const clock = new ManualClock();
    const { port } = serviceAt('mqtt');
    const facts = await networkWith(clock).connect(serviceAt('https', `localhost:${port}`), signal);
    expect(facts).toMatchObject({ subject: 'localhost', dateMs: undefined });
    expect(clock.pending).toBe(0);
  });

  it('gives up on a server that says nothing', async () => {
    const clock = new ManualClock();
    const address = mute.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const connecting = networkWith(clock).connect(serviceAt('mqtt', `127.0.0.1:${port}`), signal);
    clock.advance(10_000);
    await expect(connecting).rejects.toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT' });
    expect(clock.pending).toBe(0);
  });

  it('ends with its signal', async () => {
    const clock = new ManualClock();
    const controller = new AbortController();
    const connecting = networkWith(clock).connect(serviceAt('https'), controller.signal);
    controller.abort(new Error('stop'));
    await expect(connecting).rejects.toThrow('stop');
    expect(clock.pending).toBe(0);
  });
});
