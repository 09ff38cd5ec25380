import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { main } from '../../src/cli/main.js';
import { PROVISION_SPEC } from '../../src/cli/provision-spec.js';
import { PACKAGE_VERSION } from '../../src/version.js';
import { type FakeIo, fakeIo } from './fake-io.js';

const COMMANDS = ['provision', 'run', 'status', 'forget', 'identity', 'doctor', 'keys', 'emulator'];

async function run(...args: string[]): Promise<{ status: number; io: FakeIo }> {
  const io = fakeIo();
  return { status: await main(args, io), io };
}

describe('help and version', () => {
  it.each([[['--help']], [['-h']]])('%j names the commands that exist, and the exit statuses', async (args) => {
    const { status, io } = await run(...args);
    expect(status).toBe(0);
    const commands = /Commands:\n((?: {2}.*\n)+)/.exec(io.out())?.[1] ?? '';
    expect(commands.split('\n').map((line) => line.trim().split(' ')[0])).toEqual([...COMMANDS, '']);
    for (const number of [64, 65, 69, 70, 71, 74, 75, 76, 77, 78, 130, 143])
      expect(io.out()).toContain(`\n  ${`${number}`.padStart(3)}  `);
    expect(io.err()).toBe('');
  });

  it.each([[['provision', '--help']], [['provision', '--id-scope', 'x', '-h']]])(
    '%j tells every option',
    async (args) => {
      const { status, io } = await run(...args);
      expect(status).toBe(0);
      for (const { name } of PROVISION_SPEC.options) expect(io.out()).toContain(`\n  --${name}`);
      expect(io.out()).toContain('DPS_SYMMETRIC_KEY');
      expect(io.out()).toContain('dps-symmetric-key');
      expect(
        Math.max(
          ...io
            .out()
            .split('\n')
            .map((line) => line.length),
        ),
      ).toBeLessThanOrEqual(100);
    },
  );

  it('prints the version', async () => {
    const { status, io } = await run('--version');
    expect([status, io.out()]).toEqual([0, `${PACKAGE_VERSION}\n`]);
  });
});

describe('what to try', () => {
  it('is said in the form that the program was started in', async () => {
    const io = fakeIo();
    await main(['provision', '--nonsense'], io, undefined, 'node dist/main.js');
    expect(io.err()).toContain('\nTry: node dist/main.js provision --help\n');
  });
});

describe('what is not a command', () => {
  it.each([
    [[], `Say what to do: dps-device <command>, which is one of ${COMMANDS.join(', ')}.`],
    [['provison'], 'There is no command "provison". Did you mean provision?'],
    [['xyzzy'], `There is no command "xyzzy". Commands are ${COMMANDS.join(', ')}.`],
    [['constructor'], `There is no command "constructor". Commands are ${COMMANDS.join(', ')}.`],
    [['--hlep'], 'There is no flag --hlep before a command. Did you mean --help?'],
    [['--key=S3CRET'], 'There is no flag --key before a command. The command comes first'],
    [['-pS3CRET'], 'There is no flag -p before a command.'],
    [['provison', '--help'], 'There is no command "provison". Did you mean provision?'],
  ])('%j ends in 64 with nothing on standard output', async (args, message) => {
    const { status, io } = await run(...args);
    expect(status).toBe(64);
    expect(io.out()).toBe('');
    expect(io.err()).toContain(`error: ${message}`);
    expect(io.err()).toContain('\nTry: dps-device --help\n');
    expect(io.err()).not.toContain('S3CRET');
    expect(io.listeners()).toBe(0);
  });
});

describe('where files can no longer be opened', () => {
  it('says so in a line, though the report cannot be loaded either', async () => {
    const shortage = Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' });
    vi.resetModules();
    vi.doMock('../../src/cli/failure-report.js', () => {
      throw shortage;
    });
    onTestFinished(() => void vi.doUnmock('../../src/cli/failure-report.js'));
    const { main: freshMain } = await import('../../src/cli/main.js');
    const io = fakeIo();
    expect(await freshMain(['try'], io, { try: { summary: '', load: () => Promise.reject(shortage) } })).toBe(75);
    expect(io.err()).toMatch(/^error: this process may not open more files\. .* \(exit status 75\)\n$/);
  });
});
