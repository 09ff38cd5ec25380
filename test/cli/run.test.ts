import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { runCommand } from '../../src/cli/run.js';
import type { DesiredChange } from '../../src/core/twin.js';
import { HsmError } from '../../src/errors.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import { DEVICE_KEY } from './fake-provision.js';
import { type FakeRun, fakeRun } from './fake-run.js';
import { fileWith } from './temporary-folder.js';

const KEY_FLAGS = ['--id-scope', '0ne1', '--registration-id', 'dev-1', '--symmetric-key-file', 'dev.key'];
const CHANGE: DesiredChange = {
  version: 5,
  patch: { interval: 7 },
  desired: { version: 5, properties: { interval: 7 } },
};

interface Scene {
  readonly io: FakeIo;
  readonly life: FakeRun;
  readonly status: Promise<number>;
  /** The lines of standard output, read. */
  readonly lines: () => Record<string, unknown>[];
}

function start(args: readonly string[] = KEY_FLAGS, setup: FakeIoOptions = {}, loaded = Promise.resolve()): Scene {
  const io = fakeIo(setup);
  const life = fakeRun();
  const commands = { run: { summary: '', load: async () => runCommand(() => loaded.then(() => life.run)) } };
  const status = main(['run', ...args], io, commands);
  const lines = (): Record<string, unknown>[] =>
    io
      .out()
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  return { io, life, status, lines };
}

/** When it has come so far. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

async function arrived(args: readonly string[] = KEY_FLAGS, setup: FakeIoOptions = {}): Promise<Scene> {
  const scene = start(args, setup);
  await until(() => scene.life.calls.length === 1);
  scene.life.arrive();
  await until(() => scene.io.out() !== '');
  return scene;
}

describe('dps-device run', () => {
  it('prints a line when the device is provisioned and at each change, and ends in 0 when it is told to', async () => {
    const { io, life, status, lines } = await arrived();
    life.change(CHANGE);
    io.send('SIGTERM');
    expect(await status).toBe(0);
    expect(lines()).toEqual([
      expect.objectContaining({
        type: 'provisioned',
        status: 'provisioned',
        deviceId: 'device-1',
        source: 'registered',
      }),
      { type: 'desired', ...CHANGE },
    ]);
    expect(lines()[0]).not.toHaveProperty('connectionFile');
    expect(io.out() + io.err()).not.toContain(DEVICE_KEY);
    expect([io.listeners(), io.hangUps(), io.clock.pending]).toEqual([0, 0, 0]);
  });

  it('hands its options to run()', async () => {
    const { io, life, status } = start([
      ...KEY_FLAGS,
      ...['--state', '/var/lib/device', '--reprovision', '--start-spread', '2.5', '--timeout', '90'],
      ...['--transport', 'mqtt-ws', '--hub-transport', 'mqtt-ws', '--proxy', 'none'],
      ...['--reprovision-method', 'reprovision', '--reprovision-property', 'scope'],
    ]);
    await until(() => life.calls.length === 1);
    io.send('SIGTERM');
    await status;
    expect(life.calls).toEqual([
      {
        idScope: '0ne1',
        hsm: { kind: 'symmetricKey', registrationId: 'dev-1', key: { file: 'dev.key' } },
        transport: 'mqtt-ws',
        hubTransport: 'mqtt-ws',
        proxy: 'none',
        state: '/var/lib/device',
        reprovision: true,
        startSpreadMs: 2_500,
        deadlineMs: 90_000,
        reprovisionOn: { method: 'reprovision', desiredProperty: 'scope' },
        onStrayError: expect.any(Function),
        signal: expect.any(AbortSignal),
      },
    ]);
  });

  it('shares its configuration with provision', async () => {
    const config = fileWith(JSON.stringify({ reprovisionMethod: 'back', writeConnection: 'connection' }));
    const { life } = await arrived([...KEY_FLAGS, '--config', config], { env: { DPS_WRITE_CONNECTION: 'x' } });
    expect(life.calls[0]?.reprovisionOn).toEqual({ method: 'back' });
  });

  it('sends the device to DPS at SIGHUP, also at one that comes before the start', async () => {
    let load: () => void = () => undefined;
    const { io, life, status } = start(
      KEY_FLAGS,
      {},
      new Promise((resolve) => {
        load = resolve;
      }),
    );
    await until(() => io.hangUps() === 1);
    io.hangUp();
    load();
    await until(() => life.calls.length === 1);
    expect(life.reprovisionedBy).toEqual(['SIGHUP']);
    life.arrive();
    io.hangUp();
    expect(life.reprovisionedBy).toEqual(['SIGHUP', 'SIGHUP']);
    io.send('SIGINT');
    expect([await status, io.hangUps()]).toEqual([0, 0]);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('is no success when %s comes before the device is provisioned', async (signal, expected) => {
    const { io, life, status } = start();
    await until(() => life.calls.length === 1);
    io.send(signal);
    expect([await status, io.out()]).toEqual([expected, '']);
    expect(io.err()).toContain('error ERR_DPS_CANCELLED: Cancelled while provisioning the device.');
  });

  it.each([
    ['before the device is provisioned', start, 0],
    ['later', arrived, 1],
  ] as const)('ends as what ended it, %s', async (_, begin, lineCount) => {
    const { io, life, status, lines } = await begin();
    await until(() => life.calls.length === 1);
    const code = 'ERR_DPS_HSM_CERTIFICATE_EXPIRED';
    life.end(new HsmError({ code, operation: 'tls credential', message: 'The certificate expired yesterday.' }));
    expect([await status, lines().length]).toEqual([71, lineCount]);
    expect(io.err()).toContain(`error ${code}: The certificate expired yesterday.`);
    expect(io.err()).toContain('  identity:       symmetric key from --symmetric-key-file dev.key');
  });

  it('starts nothing with a wrong command line', async () => {
    for (const [args, expected] of [
      [['--write-connection', 'x'], 64],
      [['--start-spread', '90000'], 64],
      [['--config', fileWith('{"startSpread":-1}')], 78],
      [['--reprovision-method', ''], 64],
    ] as const) {
      const { io, life, status } = start([...KEY_FLAGS, ...args]);
      expect([await status, life.calls.length, io.hangUps()], args.join(' ')).toEqual([expected, 0, 0]);
    }
  });

  it('tells of stray errors in its log', async () => {
    const { io, life, status } = await arrived([...KEY_FLAGS, '--json-log']);
    life.calls[0]?.onStrayError?.(new Error('it broke'), 'listener');
    io.send('SIGTERM');
    await status;
    const event = { type: 'stray-error', origin: 'listener', message: expect.stringContaining('it broke') };
    expect(
      io
        .err()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toContainEqual(event);
  });
});

describe('without a reader, dps-device run', () => {
  it('ends in 74 when the reader has ended', async () => {
    const stdoutFailure = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
    const { io, status } = await arrived(KEY_FLAGS, { stdoutFailure });
    expect(await status).toBe(74);
    expect(io.err()).toContain('error ERR_DPS_OUTPUT: Nobody took the result');
  });

  it('ends in 74 when the reader has stopped reading', async () => {
    const { io, life, status, lines } = await arrived(KEY_FLAGS, { stuck: ['stdout'] });
    const text = 'x'.repeat(300_000);
    for (let version = 5; version < 10; version += 1) {
      life.change({ ...CHANGE, version, patch: { text } });
    }
    io.send('SIGTERM');
    io.clock.advance(2_000);
    expect(await status).toBe(74);
    expect(lines()).toHaveLength(1 + 4);
    expect(io.err()).toContain('error ERR_DPS_OUTPUT: Nobody reads standard output');
  });

  it('ends as interrupted when the last lines were not taken in the grace', async () => {
    const { io, status } = await arrived(KEY_FLAGS, { stuck: ['stdout'] });
    io.send('SIGTERM');
    await until(() => io.clock.pending === 1);
    io.clock.advance(2_000);
    expect(await status).toBe(143);
    expect(io.err()).toContain('waiting for a reader of standard output');
  });
});
