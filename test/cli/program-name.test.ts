import { describe, expect, it } from 'vitest';
import { programName } from '../../src/cli/program-name.js';

const NODE = '/usr/bin/node';

describe('programName', () => {
  it.each([
    ['a command in PATH', '/usr/local/bin/dps-device', '/home/me', {}, 'dps-device'],
    ['a command elsewhere', '/opt/dps/bin/dps-device', '/home/me', {}, '/opt/dps/bin/dps-device'],
    [
      'a command below the folder',
      '/home/me/node_modules/.bin/dps-device',
      '/home/me',
      {},
      'node_modules/.bin/dps-device',
    ],
    ['a command in the folder', '/home/me/dps-device', '/home/me', {}, './dps-device'],
    ['npx', '/home/me/node_modules/.bin/dps-device', '/home/me', { npm_command: 'exec' }, 'npx dps-device'],
    ['a file below the folder', '/home/me/dist/dps-device.mjs', '/home/me', {}, 'node dist/dps-device.mjs'],
    ['a file elsewhere', '/srv/dist/dps-device.mjs', '/home/me', {}, 'node /srv/dist/dps-device.mjs'],
    ['a file with a space', '/home/me/my app/main.js', '/home/me', {}, "node 'my app/main.js'"],
    ['a file where no folder is', '/srv/main.js', undefined, {}, 'node /srv/main.js'],
    ['the device file', '/home/me/dps-device.mjs', '/home/me', {}, 'node dps-device.mjs'],
    ['nothing', undefined, '/home/me', {}, 'dps-device'],
  ] as const)('%s', (_, script, workingDirectory, env, expected) => {
    const argv = script === undefined ? [NODE] : [NODE, script, 'emulator'];
    expect(programName({ argv, env: { PATH: '/usr/local/bin:/usr/bin', ...env }, workingDirectory })).toBe(expected);
  });
});
