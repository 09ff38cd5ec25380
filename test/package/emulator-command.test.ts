import { describe, expect, it } from 'vitest';
import { run } from '../../tools/trial-ground.mjs';
import { ROOT } from './built-package.js';

const EMULATOR = ['dist/dps-device.mjs', 'emulator'];

// Its command is a file of its own beside the command line's, with classes of errors of its own.
describe('the built emulator command', () => {
  it.each([
    ['--dmo', ['--dmo']],
    ['--mqtt-port abc', ['--mqtt-port', 'abc']],
    ['extra', ['extra']],
  ])('says what is wrong with %s, and where help is', async (_, args) => {
    const ended = await run(process.execPath, [...EMULATOR, ...args], { cwd: ROOT });
    expect([ended.status, ended.stdout]).toEqual([64, '']);
    expect(ended.stderr).toMatch(/^error: .*\nTry: .* emulator --help\n$/);
  });

  it('knows a wrong configuration from a fault of its own', async () => {
    const ended = await run(process.execPath, [...EMULATOR, '--config', 'package.json'], { cwd: ROOT });
    expect([ended.status, ended.stdout]).toEqual([78, '']);
    expect(ended.stderr).toMatch(/^error ERR_DPS_CONFIG_UNKNOWN_OPTION: /);
  });

  it('knows a standard output that is full', async () => {
    const command = 'exec "$0" "$@" > /dev/full';
    const ended = await run('/bin/sh', ['-c', command, process.execPath, ...EMULATOR], { cwd: ROOT });
    expect(ended.status).toBe(74);
    expect(ended.stderr).toMatch(/^error ERR_DPS_OUTPUT: /m);
  });
});
