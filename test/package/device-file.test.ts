import { copyFileSync, mkdirSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installPackage, makeFolder, packPackage, removeFolder, run } from '../../tools/trial-ground.mjs';
import { startTrialService, type TrialService } from '../../tools/trial-service.mjs';
import { manifest } from './built-package.js';

/** The file as it is in the package, copied alone into an empty folder. */
const folder = makeFolder();
const device = join(folder, 'device');
const file = join(device, 'dps-device.mjs');
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
    console.log(`device file: ${Math.round(size / 100) / 10} kB (budget 450 kB)`);
    expect(readdirSync(device)).toEqual(['dps-device.mjs']);
    expect(size).toBeLessThan(450_000);
  });

  it('provisions where there is nothing else', async () => {
    service.describeIn(device);
    const ended = await run(process.execPath, [file, 'provision', '--config', 'device.json'], { cwd: device });
    expect(ended.status, ended.stderr).toBe(0);
    expect(JSON.parse(ended.stdout)).toMatchObject({ deviceId: 'valve-7', twin: { desired: expect.anything() } });
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

  it('says that it has no emulator', async () => {
    const help = await run(file, ['--help'], { cwd: folder });
    expect(help.stdout).toContain('provision ');
    expect(help.stdout).not.toContain('emulator');
    expect(await run(file, ['emulator'], { cwd: folder })).toMatchObject({
      status: 64,
      stdout: '',
      stderr: expect.stringContaining('There is no command "emulator". Commands are provision.'),
    });
  });
});
