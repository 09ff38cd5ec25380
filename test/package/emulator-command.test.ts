import { describe, expect, it } from 'vitest';
import { run } from '../../tools/trial-ground.mjs';
import { ROOT } from './built-package.js';

// Its command is a file of its own beside the command line's, with classes of errors of its own.
describe('the built emulator command', () => {
  it.each([['--dmo'], ['--mqtt-port', 'abc'], ['extra']])(
    'says what is wrong with %s %s, and where help is',
    async (...args) => {
      const ended = await run(process.execPath, ['dist/dps-device.mjs', 'emulator', ...args], { cwd: ROOT });
      expect([ended.status, ended.stdout]).toEqual([64, '']);
      expect(ended.stderr).toMatch(/^error: .*\nTry: .* emulator --help\n$/);
    },
  );
});
