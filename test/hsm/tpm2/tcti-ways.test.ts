import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SwtpmLink } from '../../../hsm/tpm2/links/swtpm.js';
import { systemClock } from '../../../src/system-clock.js';
import { signal, softwareHmac, TpmBench } from './tpm-bench.js';
import { startMssimPeer } from './tpm-peer.js';

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** Real TCTIs of an installed tpm2-tss, a device of its own process, and one swtpm behind them all. */
describe('a device goes the whole way through tpm2-tss', () => {
  let bench: TpmBench;
  let folder: string;
  let program: string;
  beforeAll(async () => {
    bench = await TpmBench.start({ tcp: true });
    // Where the program finds the package koffi.
    mkdirSync('node_modules/.cache', { recursive: true });
    folder = mkdtempSync('node_modules/.cache/dps-device-tcti-');
    program = join(folder, 'device.mjs');
    await build({
      entryPoints: [here('./tcti-process.ts')],
      outfile: program,
      bundle: true,
      platform: 'node',
      format: 'esm',
      external: ['koffi'],
      logLevel: 'error',
    });
  });
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await bench.stop();
  });

  async function expectWholeWay(
    name: string,
    kind: 'device' | 'file' = 'device',
    env: NodeJS.ProcessEnv = {},
  ): Promise<void> {
    const { stdout } = await promisify(execFile)(process.execPath, [program, name, kind], {
      env: { ...process.env, ...env },
    });
    const device = JSON.parse(stdout) as { registrationId: string; hubKey: string; signature: string };
    expect(device.signature).toBe(softwareHmac(Buffer.from(device.hubKey, 'hex'), new Uint8Array(3000)));
    const direct = await bench.device();
    expect(device.registrationId).toBe(await direct.registrationId(signal));
    expect(await bench.probe.leaks()).toEqual([]);
  }

  it('swtpm:', () => expectWholeWay(`swtpm:host=127.0.0.1,port=${bench.swtpm.port}`));

  it('mssim:', async () => {
    const inner = new SwtpmLink({ host: '127.0.0.1', port: bench.swtpm.port ?? 0 }, systemClock);
    const simulator = await startMssimPeer(async (command) => ({ response: await inner.transceive(command, 60_000) }));
    try {
      await expectWholeWay(`mssim:host=127.0.0.1,port=${simulator.port}`);
    } finally {
      await simulator.close();
    }
  });

  it('tabrmd:, with the resource manager’s daemon on a bus of its own', async () => {
    const bus = spawn('dbus-daemon', ['--session', '--nofork', '--print-address'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const env = { DBUS_SESSION_BUS_ADDRESS: (await firstLine(bus)).trim() };
    const daemon = await startResourceManager(`swtpm:host=127.0.0.1,port=${bench.swtpm.port}`, env);
    try {
      await expectWholeWay('tabrmd:bus_type=session', 'device', env);
    } finally {
      await stop(daemon);
      await stop(bus);
    }
  });

  it('device:, on a FUSE stand-in for the kernel’s device', async (context) => {
    const unix = await TpmBench.start();
    const devices = join(unix.swtpm.folder, 'dev');
    mkdirSync(devices);
    const server = spawn(process.execPath, [here('./fuse-device.mjs'), devices, unix.swtpm.socketPath]);
    try {
      await firstLine(server).catch((error: Error) => context.skip(`FUSE cannot be mounted here. ${error.message}`));
      const { stdout } = await promisify(execFile)(process.execPath, [program, `device:${devices}/tpmrm0`, 'file']);
      const device = JSON.parse(stdout) as { hubKey: string; signature: string };
      expect(device.signature).toBe(softwareHmac(Buffer.from(device.hubKey, 'hex'), new Uint8Array(3000)));
      expect(await unix.probe.leaks()).toEqual([]);
    } finally {
      spawnSync('umount', ['-l', devices]);
      await stop(server);
      await unix.stop();
    }
  });
});

/** Where Debian puts it, which is not in everybody's path. */
const RESOURCE_MANAGER = '/usr/sbin/tpm2-abrmd';

/** Ready when it has the name on the bus that its clients look for. */
async function startResourceManager(tcti: string, env: NodeJS.ProcessEnv): Promise<ChildProcess> {
  const arguments_ = ['--session', '--allow-root', `--tcti=${tcti}`];
  const daemon = spawn(RESOURCE_MANAGER, arguments_, { env: { ...process.env, ...env, TSS2_LOG: 'all+NONE' } });
  daemon.stderr?.resume();
  for (;;) {
    if (daemon.exitCode !== null) throw new Error(`tpm2-abrmd ended with ${daemon.exitCode}; npm run rig installs it`);
    const asked = spawnSync(
      'dbus-send',
      [
        '--session',
        '--print-reply',
        '--dest=org.freedesktop.DBus',
        '/',
        'org.freedesktop.DBus.NameHasOwner',
        'string:com.intel.tss2.Tabrmd',
      ],
      { env: { ...process.env, ...env }, encoding: 'utf8' },
    );
    if (asked.stdout?.includes('boolean true')) return daemon;
  }
}

/** Of what a process writes; fails when it ends before. */
async function firstLine(child: ChildProcess): Promise<string> {
  let problem = '';
  child.stderr?.on('data', (text: Buffer) => {
    problem += text.toString();
  });
  const line = child.stdout === null ? Promise.reject(new Error('It has no output.')) : once(child.stdout, 'data');
  const ended = once(child, 'exit').then(([code]) => Promise.reject(new Error(`It ended with ${code}: ${problem}`)));
  const [text] = (await Promise.race([line, ended])) as [Buffer];
  return text.toString();
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}
