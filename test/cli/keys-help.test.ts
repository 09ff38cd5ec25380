import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { fakeIo } from './fake-io.js';

describe('what to try after a mistake in a command of keys', () => {
  it.each([
    [['keys', 'make', '--nonsense'], 'keys make'],
    [['keys', 'make'], 'keys make'],
    [['keys', 'rotate', '--step', 'sideways'], 'keys rotate'],
    // Where the command of keys is what is wrong, the list of them helps.
    [['keys', 'mkae'], 'keys'],
    [['keys'], 'keys'],
    [['provision', '--nonsense'], 'provision'],
  ])('%j is the help of %s', async (args, command) => {
    const io = fakeIo();
    expect(await main(args, io)).toBe(64);
    expect(io.err()).toContain(`\nTry: dps-device ${command} --help\n`);
  });
});

describe('the help of keys', () => {
  it.each(['', 'make', 'import', 'list', 'derive', 'seal', 'rotate', 'remove'])(
    'fits into 100 columns (%s)',
    async (command) => {
      const io = fakeIo();
      expect(await main(['keys', ...(command === '' ? [] : [command]), '--help'], io)).toBe(0);
      const lines = io.out().split('\n');
      expect(lines.filter((line) => line.length > 100)).toEqual([]);
    },
  );

  it('of keys import says what the registration id of a certificate is', async () => {
    const io = fakeIo();
    await main(['keys', 'import', '--help'], io);
    expect(io.out()).toMatch(/--registration-id ID\n[^-]*common name/);
  });
});
