/** The built command, as a boot script runs it. `npm run build` comes first. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type Emulator, type EmulatorConfig, startEmulator } from '../../src/emulator/index.js';
import { PACKAGE_VERSION } from '../../src/version.js';
import { type Ended, PROGRAM, startCommand as start } from './command-process.js';
import { temporaryFolder } from './temporary-folder.js';

/** An emulator with one device, and the flags that lead there. */
async function withDevice(config: EmulatorConfig = {}): Promise<{ emulator: Emulator; key: string; flags: string[] }> {
  const emulator = await startEmulator({ retryAfterSeconds: 1, ...config });
  onTestFinished(() => emulator.close());
  const key = Buffer.alloc(32, 5).toString('base64');
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey: key } } });
  const ca = join(temporaryFolder(), 'ca.pem');
  writeFileSync(ca, emulator.caPem);
  const flags = [
    '--id-scope',
    emulator.idScope,
    '--registration-id',
    'dev-1',
    '--endpoint',
    emulator.endpoints.dps.mqtt,
  ];
  return { emulator, key, flags: ['provision', ...flags, '--ca-file', ca] };
}

function namedPipe(): string {
  const path = join(temporaryFolder(), 'pipe');
  execFileSync('mkfifo', [path]);
  return path;
}

/** The writing end of a pipe, once somebody has opened the other. */
async function whenRead(path: string): Promise<number> {
  for (;;) {
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

describe('dps-device as a process', () => {
  it('prints its version and help', async () => {
    expect(await start(['--version']).ended).toMatchObject({ status: 0, out: `${PACKAGE_VERSION}\n`, err: '' });
    expect(await start(['--help']).ended).toMatchObject({ status: 0, err: '' });
  });

  it('runs through the link that a package manager makes', async () => {
    const link = join(temporaryFolder(), 'dps-device');
    symlinkSync(PROGRAM, link);
    expect(await start(['--version'], {}, [process.execPath, link]).ended).toMatchObject({
      status: 0,
      out: `${PACKAGE_VERSION}\n`,
    });
    expect(readFileSync(PROGRAM, 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
  });

  it('ends in 64 for a wrong command line and in 78 for a wrong configuration', async () => {
    expect(await start(['provison']).ended).toMatchObject({ status: 64, out: '' });
    expect(await start(['provision', '--key', 'S3CRET']).ended).toMatchObject({ status: 64, out: '' });
    expect(await start(['provision'], { DPS_TIMEOUT: 'x' }).ended).toMatchObject({ status: 78, out: '' });
  });

  it('provisions with a key from the environment, and ends by itself', async () => {
    const { key, flags } = await withDevice();
    const { status, out, err } = await start(flags, { DPS_SYMMETRIC_KEY: key }).ended;
    expect([status, err]).toEqual([0, expect.stringContaining('provisioned: dev-1 at ')]);
    expect(JSON.parse(out)).toMatchObject({
      status: 'provisioned',
      deviceId: 'dev-1',
      twin: { desired: { version: 1 } },
    });
    expect(out + err).not.toContain(key);
  });

  it('provisions with a key from standard input', async () => {
    const { key, flags } = await withDevice();
    const { child, ended } = start([...flags, '--symmetric-key-file', '-']);
    child.stdin.end(`${key}\n`);
    expect(await ended).toMatchObject({ status: 0 });
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('ends in order at %s', async (signal, expected) => {
    const { emulator, key, flags } = await withDevice({ retryAfterSeconds: 120 });
    const { child, ended, seen } = start([...flags, '--json-log'], { DPS_SYMMETRIC_KEY: key });
    await seen('"type":"waiting"');
    child.kill(signal);
    const { status, out, err } = await ended;
    expect([status, out]).toEqual([expected, '']);
    expect(err).toContain('"code":"ERR_DPS_CANCELLED"');
    expect(await emulator.trace.waitFor({ event: 'close' })).toMatchObject({ service: 'dps' });
  });

  it('ends when it is told to while it waits for standard input', async () => {
    const { child, ended } = start(['provision', '--config', '-', '--json-log']);
    // More than a pipe holds, less than is read: gone once the command is reading, signals in hand.
    await new Promise<unknown>((resolve) => child.stdin.write(' '.repeat(900_000), resolve));
    child.kill('SIGTERM');
    const { status, signal } = await ended;
    expect([status, signal]).toEqual([143, null]);
  });

  it('ends while it waits for a named pipe that nobody writes to', async () => {
    const pipe = namedPipe();
    const { child, ended } = start(['provision', '--config', pipe]);
    const writer = await whenRead(pipe);
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ status: 143, signal: null });
    closeSync(writer);
  });

  it('needs no reader of standard error, but one of the result', async () => {
    const { key, flags } = await withDevice();
    const quiet = start(flags, { DPS_SYMMETRIC_KEY: key });
    quiet.child.stderr.destroy();
    expect(await quiet.ended).toMatchObject({ status: 0, signal: null });
    const lost = start(flags, { DPS_SYMMETRIC_KEY: key });
    lost.child.stdout.destroy();
    expect(await lost.ended).toMatchObject({ status: 74, signal: null });
  });

  it('ends when it is told to while nobody reads the result', async () => {
    const { key, flags } = await withDevice();
    const pipe = openSync(namedPipe(), constants.O_RDWR | constants.O_NONBLOCK);
    onTestFinished(() => closeSync(pipe));
    expect(() => {
      for (;;) writeSync(pipe, Buffer.alloc(4096));
    }).toThrow('EAGAIN');
    const child = spawn(process.execPath, [PROGRAM, ...flags], {
      env: { DPS_SYMMETRIC_KEY: key },
      stdio: ['ignore', pipe, 'pipe'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let err = '';
    const stderr = child.stderr ?? expect.fail('There is no pipe');
    for await (const text of stderr.setEncoding('utf8') as AsyncIterable<string>) {
      err += text;
      if (text.includes('provisioned: dev-1')) child.kill('SIGTERM');
    }
    const [status] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
    expect([status, err]).toEqual([143, expect.stringContaining('waiting for a reader of standard output')]);
  });

  it('works where its working directory is gone', async () => {
    const script = 'mkdir "$1" && cd "$1" && rmdir "$1" && exec "$2" "$3" provision --config -';
    const folder = join(temporaryFolder(), 'gone');
    const child = spawn('sh', ['-c', script, 'sh', folder, process.execPath, PROGRAM]);
    child.stdin.end('{"idScope":"0ne00111111","certFile":"device.pem","certKeyFile":"device.key"}');
    let err = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      err += text;
    });
    const [status] = await once(child, 'close');
    expect([status, err]).toEqual([71, expect.stringContaining('The certificate file device.pem does not exist.')]);
  });

  it('emulates, for devices in other processes, until it is told to end', async () => {
    const folder = join(temporaryFolder(), 'demo');
    const emulator = start(['emulator', '--demo', folder]);
    await emulator.seen('a device to try');
    for (const name of ['x509.json', 'symmetric-key.json']) {
      expect(await start(['provision', '--config', join(folder, name)]).ended).toMatchObject({ status: 0 });
    }
    emulator.child.kill('SIGINT');
    const { status, out, err } = await emulator.ended;
    expect([status, err]).toEqual([0, expect.stringContaining('stopping: SIGINT')]);
    expect(JSON.parse(out)).toMatchObject({ ready: true, pid: emulator.child.pid });
  });
});

describe('a device that is remembered', () => {
  it('goes straight to its hub the next time, without a packet to DPS', async () => {
    const { emulator, key, flags } = await withDevice();
    const state = join(temporaryFolder(), 'state');
    const provision = async (...more: string[]): Promise<Ended> =>
      start([...flags, '--state', state, ...more], { DPS_SYMMETRIC_KEY: key }).ended;
    const first = await provision();
    expect([first.status, JSON.parse(first.out)]).toEqual([0, expect.objectContaining({ source: 'registered' })]);
    const shown = await start(['status', '--state', state]).ended;
    expect(JSON.parse(shown.out)).toMatchObject({ status: 'stored', deviceId: 'dev-1' });

    const packetsToDps = (): number => emulator.trace.entries().filter(({ service }) => service === 'dps').length;
    expect(packetsToDps()).toBeGreaterThan(0);
    emulator.trace.clear();
    const second = await provision();
    expect([second.status, JSON.parse(second.out)]).toEqual([0, expect.objectContaining({ source: 'stored' })]);
    expect(packetsToDps()).toBe(0);

    const asked = await provision('--reprovision');
    expect([asked.status, JSON.parse(asked.out)]).toEqual([0, expect.objectContaining({ source: 'registered' })]);
    expect(await start(['forget', '--state', state]).ended).toMatchObject({ status: 0, out: '' });
    expect(JSON.parse((await start(['status', '--state', state]).ended).out)).toMatchObject({ status: 'none' });
    expect(JSON.parse((await provision()).out)).toMatchObject({ source: 'registered' });
  });
});

describe('dps-device run as a process', () => {
  it('keeps the device at its hub, goes to DPS at SIGHUP, and ends in 0 at SIGTERM', async () => {
    const { emulator, key, flags } = await withDevice();
    const state = join(temporaryFolder(), 'state');
    const [, ...options] = flags;
    const { child, ended, seen, told } = start(['run', ...options, '--state', state], { DPS_SYMMETRIC_KEY: key });
    await told('"type":"provisioned"');
    emulator.hub().patchDesired('dev-1', { interval: 9 });
    await told('"type":"desired"');

    const lockedOut = [['forget'], flags, ['run', ...options]];
    for (const [command = '', ...args] of lockedOut) {
      const other = await start([command, ...args, '--state', state], { DPS_SYMMETRIC_KEY: key }).ended;
      expect([other.status, other.out, other.err]).toEqual([75, '', expect.stringContaining(`${child.pid}`)]);
    }
    expect(JSON.parse((await start(['status', '--state', state]).ended).out)).toMatchObject({ status: 'stored' });

    child.kill('SIGHUP');
    await seen('back to DPS, somebody asked for it: SIGHUP');
    await seen('provisioned: dev-1 at ', 2);
    child.kill('SIGTERM');
    const { status, signal, out, err } = await ended;
    expect([status, signal]).toEqual([0, null]);
    expect(
      out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual([
      expect.objectContaining({ type: 'provisioned', source: 'registered', twin: expect.anything() }),
      { type: 'desired', version: 2, patch: { interval: 9 }, desired: { version: 2, properties: { interval: 9 } } },
    ]);
    expect(out + err).not.toContain(key);
  });

  it('ends in what the device has to be mended by', async () => {
    const { key, flags } = await withDevice();
    const [, ...options] = flags;
    const stateIsFile = await start(['run', ...options, '--state', PROGRAM], { DPS_SYMMETRIC_KEY: key }).ended;
    expect(stateIsFile).toMatchObject({ status: 78, out: '' });
    expect(await start(['run', ...options], { DPS_SYMMETRIC_KEY: 'c2VjcmV0' }).ended).toMatchObject({ status: 71 });
  });

  it('ends in 74 when nobody takes its lines any more', async () => {
    const { emulator, key, flags } = await withDevice();
    const [, ...options] = flags;
    const { child, ended, told } = start(['run', ...options], { DPS_SYMMETRIC_KEY: key });
    await told('"type":"provisioned"');
    child.stdout.destroy();
    emulator.hub().patchDesired('dev-1', { interval: 9 });
    const { status, err } = await ended;
    expect([status, err]).toEqual([74, expect.stringContaining('error ERR_DPS_OUTPUT')]);
  });

  it('is not ended by SIGHUP, and ends as interrupted, while it still reads its configuration', async () => {
    const { child, ended } = start(['run', '--config', '-', '--json-log']);
    await new Promise<unknown>((resolve) => child.stdin.write(' '.repeat(900_000), resolve));
    child.kill('SIGHUP');
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ status: 143, signal: null, out: '' });
  });
});
