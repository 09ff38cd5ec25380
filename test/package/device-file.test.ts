import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installPackage, makeFolder, packPackage, removeFolder, run } from '../../tools/trial-ground.mjs';
import { startTrialService, type TrialService } from '../../tools/trial-service.mjs';
import { manifest } from './built-package.js';

/** The file as it is in the package, copied alone into an empty folder. */
const folder = makeFolder();
const device = join(folder, 'device');
const file = join(device, 'dps-device.mjs');
/** The whole command line: provisioning by every transport (AMQP is 105 kB of it) and identity, `run`, `doctor`, `keys`. */
const BUDGET_BYTES = 660_000;
let service: TrialService;

beforeAll(async () => {
  installPackage(join(folder, 'consumer'), packPackage(folder).path);
  mkdirSync(device);
  copyFileSync(join(folder, 'consumer/node_modules', manifest.name, 'dist/dps-device.mjs'), file);
  service = await startTrialService();
});
afterAll(async () => {
  await service?.close();
  removeFolder(folder);
});

describe('the device file', () => {
  it('is small, for a file that is parsed at each boot', () => {
    const { size } = statSync(file);
    console.log(`device file: ${Math.round(size / 100) / 10} kB (budget ${BUDGET_BYTES / 1000} kB)`);
    expect(readdirSync(device)).toEqual(['dps-device.mjs']);
    expect(size).toBeLessThan(BUDGET_BYTES);
  });

  it('provisions where there is nothing else', async () => {
    service.describeIn(device);
    const ended = await run(process.execPath, [file, 'provision', '--config', 'device.json'], { cwd: device });
    expect(ended.status, ended.stderr).toBe(0);
    expect(JSON.parse(ended.stdout)).toMatchObject({ deviceId: 'valve-7', twin: { desired: expect.anything() } });
  });

  it.each([
    ['amqp', 'amqp'],
    ['amqp-ws', 'https'],
    ['mqtt-ws', 'https'],
  ])('speaks %s there', async (transport, door) => {
    const { endpoints } = JSON.parse(readFileSync(join(device, 'service.json'), 'utf8')) as { endpoints: object };
    const endpoint = String(Object.entries(endpoints).find(([name]) => name === door)?.[1]);
    const way = ['--transport', transport, '--endpoint', endpoint];
    const ended = await run(process.execPath, [file, 'provision', '--config', 'device.json', ...way], { cwd: device });
    expect(ended.status, ended.stderr).toBe(0);
    expect(JSON.parse(ended.stdout)).toMatchObject({ deviceId: 'valve-7', transport: { dps: transport, hub: 'mqtt' } });
  });

  it('runs as a command, by a link too', async () => {
    const link = join(folder, 'dps-device');
    symlinkSync(file, link);
    for (const program of [file, link]) {
      expect(await run(program, ['--version'], { cwd: folder })).toMatchObject({
        status: 0,
        stdout: `${manifest.version}\n`,
      });
    }
  });

  it('remembers, looks and forgets there', async () => {
    const config = ['--config', 'device.json', '--state', 'state'];
    const call = (command: string) => run(process.execPath, [file, command, ...config], { cwd: device });
    expect(await call('doctor')).toMatchObject({ status: 0 });
    expect(await call('provision')).toMatchObject({ status: 0 });
    expect(JSON.parse((await call('status')).stdout)).toMatchObject({ status: 'stored', deviceId: 'valve-7' });
    expect(await call('forget')).toMatchObject({ status: 0 });
  });

  it.each([
    ['the emulator', ['emulator']],
    [
      'what makes certificates',
      'keys make --key-store store --key-store-key-file seal.key --key-name ca --kind ca'.split(' '),
    ],
  ])('says what to do where %s is not there', async (what, args) => {
    const ended = await run(process.execPath, [file, ...args, '--json-log'], { cwd: device });
    expect([ended.status, ended.stdout]).toEqual([78, '']);
    expect(JSON.parse(ended.stderr.trim().split('\n').at(-1) ?? '')).toMatchObject({
      code: 'ERR_DPS_CONFIG_UNSUPPORTED',
      message: expect.stringContaining(`${what} stayed there. Install dps-device where you need it`),
    });
  });
});
