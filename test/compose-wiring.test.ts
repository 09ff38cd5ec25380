/** That what `provision()` and `run()` are given arrives where it is needed, and that what they open is closed. */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { DpsRequest, DpsTransport } from '../src/core/transport.js';
import { ServiceError } from '../src/errors.js';
import { type HsmDescription, type ProvisionOptions, provision, type RunOptions, run } from '../src/index.js';
import type { ProxyRule } from '../src/net/proxy-choice.js';
import { systemClock } from '../src/system-clock.js';
import { FakeHubSession } from './fakes/fake-hub-session.js';
import { ManualClock } from './fakes/manual-clock.js';
import { assignedTo } from './fakes/run-world.js';
import { certified, makeTestStore } from './hsm/key-store/store-bench.js';

interface Given {
  readonly proxyFor?: ProxyRule;
  readonly [option: string]: unknown;
}

/** What the transports were made with, and what DPS was asked. */
const made = vi.hoisted(() => ({
  dps: {} as unknown,
  hub: {} as unknown,
  requests: [] as DpsRequest[],
  failure: undefined as Error | undefined,
}));

vi.mock('../src/mqtt-parts.js', () => ({
  mqttDpsTransport: (options: unknown): DpsTransport => {
    made.dps = options;
    return {
      name: 'mqtt',
      open: async () => ({
        exchange: async (request: DpsRequest) => {
          made.requests.push(request);
          if (made.failure !== undefined) throw made.failure;
          return assignedTo('hub.example');
        },
        close: async () => {},
      }),
    };
  },
  mqttHubTransport: (options: unknown) => {
    made.hub = options;
    return { name: 'mqtt', open: async () => new FakeHubSession(), connectionInfo: () => ({}) };
  },
}));

const OPTIONS: ProvisionOptions = {
  idScope: '0ne00111111',
  hsm: { kind: 'symmetricKey', registrationId: 'dev-1', key: Buffer.alloc(32, 7).toString('base64') },
  proxy: 'none',
};
const HUB = { host: 'hub.example', port: 8883 };

beforeEach(() => {
  made.requests.length = 0;
  made.failure = undefined;
});

function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), 'compose-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

describe('options of provision() and run()', () => {
  it('reach both transports', async () => {
    const options: RunOptions = {
      ...OPTIONS,
      ca: '-----BEGIN CERTIFICATE-----',
      clock: { ...systemClock },
      connectTimeoutMs: 1_001,
      requestTimeoutMs: 1_002,
      tokenLifeSeconds: 1_003,
      modelId: 'dtmi:com:example:Thermostat;1',
      onStrayError: () => {},
    };
    const running = run(options);
    await running.ready;
    await running.close();
    const { ca, connectTimeoutMs, requestTimeoutMs, tokenLifeSeconds, modelId, onStrayError } = options;
    const userAgent = expect.stringMatching(/^dps-device\/\d/);
    expect(made.dps).toMatchObject({ ca, connectTimeoutMs, userAgent });
    expect(made.hub).toMatchObject({
      ca,
      connectTimeoutMs,
      requestTimeoutMs,
      tokenLifeSeconds,
      modelId,
      onStrayError,
      userAgent,
    });
  });

  it('the proxy reaches both, given or from the environment', async () => {
    const proxiesOf = (): unknown[] => [made.dps, made.hub].map((given) => (given as Given).proxyFor?.(HUB));
    const address = { kind: 'http', host: 'proxy.example', port: 3128 };
    await provision({ ...OPTIONS, proxy: 'http://proxy.example:3128' });
    expect(proxiesOf()).toEqual([address, address]);
    vi.stubEnv('https_proxy', 'http://proxy.example:3128');
    onTestFinished(() => void vi.unstubAllEnvs());
    await provision(OPTIONS);
    expect(proxiesOf()).toEqual([undefined, undefined]);
    const { proxy: _, ...rest } = OPTIONS;
    await provision(rest);
    expect(proxiesOf()).toEqual([address, address]);
  });

  it('the payload reaches DPS', async () => {
    await provision({ ...OPTIONS, payload: { floor: 3 } });
    const [request] = made.requests;
    expect(request?.kind === 'register' && JSON.parse(Buffer.from(request.body).toString())).toMatchObject({
      payload: { floor: 3 },
    });
  });

  it('what was asked for at the start is asked for: DPS in spite of the record, and a wait before the first packet', async () => {
    const state = join(scratch(), 'state');
    const asked = async (more: Partial<ProvisionOptions>): Promise<number> => {
      made.requests.length = 0;
      await provision({ ...OPTIONS, state, ...more });
      return made.requests.length;
    };
    expect([await asked({}), await asked({}), await asked({ reprovision: true })]).toEqual([1, 0, 1]);
    const waiting = provision({ ...OPTIONS, startSpreadMs: 20, random: () => 0.5 });
    const waits: unknown[] = [];
    for await (const event of waiting.events) if (event.type === 'waiting') waits.push(event);
    expect(waits).toEqual([{ type: 'waiting', forMs: 10, reason: 'spread' }]);
  });
});

describe('the folder of the record', () => {
  it('is given back, however a journey ends', async () => {
    const state = join(scratch(), 'state');
    await provision({ ...OPTIONS, state });
    expect(readdirSync(state)).toEqual(['device.a']);
    made.failure = new ServiceError({
      code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
      message: 'no',
      service: 'dps',
      status: 401,
    });
    await expect(provision({ ...OPTIONS, state, reprovision: true })).rejects.toThrow('no');
    expect(readdirSync(state)).toEqual(['device.a']);
  });

  it('is held by a run until it is closed', async () => {
    const state = join(scratch(), 'state');
    const running = run({ ...OPTIONS, state });
    await running.ready;
    expect(readdirSync(state)).toContain('device.lock');
    await expect(provision({ ...OPTIONS, state })).rejects.toMatchObject({ code: 'ERR_DPS_STORE_LOCKED' });
    await running.close();
    expect(readdirSync(state)).not.toContain('device.lock');
  });
});

describe('identities by description', () => {
  const later = { ...systemClock, wallMs: () => Date.now() + 20 * 365 * 86_400_000 };

  it('are dated by the clock that was given', async () => {
    const { store, options } = await makeTestStore();
    const material = await certified('dev-1');
    await store.add('dev-1', material);
    const { key, certificates } = material as Extract<typeof material, { kind: 'x509' }>;
    const folder = scratch();
    const [certificate, keyFile] = [join(folder, 'device.pem'), join(folder, 'device.key')];
    writeFileSync(certificate, String(certificates[0]));
    writeFileSync(keyFile, key.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    const x509 = { kind: 'x509', certificate, key: keyFile } as const;
    const keyStore = { kind: 'keyStore', ...options, entry: 'dev-1' } as const;
    for (const hsm of [keyStore, x509]) {
      await expect(provision({ ...OPTIONS, hsm })).resolves.toMatchObject({ deviceId: 'dev-1' });
      await expect(provision({ ...OPTIONS, hsm, clock: later })).rejects.toMatchObject({
        code: 'ERR_DPS_HSM_CERTIFICATE_EXPIRED',
      });
    }
  });

  it.each<[string, (file: string) => Promise<HsmDescription>]>([
    ['symmetricKey', async (file) => ({ kind: 'symmetricKey', registrationId: 'dev-1', key: { file } })],
    ['x509', async (file) => ({ kind: 'x509', certificate: file, key: file })],
    [
      'keyStore',
      async (file) => ({
        kind: 'keyStore',
        directory: (await makeTestStore()).options.directory,
        passphrase: { file },
        entry: 'a',
      }),
    ],
  ])('%s: a pipe that nobody writes to is let go of when the journey is cancelled', async (_, describeHsm) => {
    const pipe = join(scratch(), 'pipe');
    expect(spawnSync('mkfifo', ['-m', '600', pipe]).status).toBe(0);
    const hsm = await describeHsm(pipe);
    const abort = new AbortController();
    const journey = provision({ ...OPTIONS, hsm, signal: abort.signal });
    const failing = expect(journey).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    // Can be opened for writing as soon as, and no longer than, somebody reads.
    const write = (): number => openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
    const writer = await vi.waitFor(write, { timeout: 30_000 });
    onTestFinished(() => closeSync(writer));
    abort.abort();
    await failing;
    await expect.poll(() => tryWrite(writer), { timeout: 30_000 }).toBe('EPIPE');
  });

  it('are read within the deadline, by the clock that was given', async () => {
    const pipe = join(scratch(), 'pipe');
    expect(spawnSync('mkfifo', ['-m', '600', pipe]).status).toBe(0);
    const clock = new ManualClock(Date.now());
    const hsm = { kind: 'symmetricKey', registrationId: 'dev-1', key: { file: pipe } } as const;
    const failing = expect(provision({ ...OPTIONS, hsm, clock, deadlineMs: 5_000 })).rejects.toMatchObject({
      code: 'ERR_DPS_DEADLINE',
    });
    await expect.poll(() => clock.pending, { timeout: 30_000 }).toBe(1);
    clock.advance(5_000);
    await failing;
  });
});

function tryWrite(writer: number): string | undefined {
  try {
    writeSync(writer, 'x');
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}
