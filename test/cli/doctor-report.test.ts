import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { fakeIo } from './fake-io.js';
import { fileWith, temporaryFolder } from './temporary-folder.js';

const SECRET = 'bXktdmVyeS1zZWNyZXQta2V5LW9mLTMyLWJ5dGVzISE=';

async function doctor(...args: string[]): Promise<{ status: number; report: unknown; err: string }> {
  const io = fakeIo();
  const status = await main(['doctor', ...args], io);
  expect(io.out() + io.err()).not.toContain(SECRET);
  return { status, report: JSON.parse(io.out()), err: io.err() };
}

describe('the report of doctor where the options cannot be read', () => {
  it.each<[string, () => string[], number, string, RegExp]>([
    ['an unknown flag', () => ['--id-scop', 'x'], 64, 'ERR_DPS_USAGE', /Did you mean --id-scope\?/],
    ['a value that is none', () => ['--transport', 'pigeon'], 64, 'ERR_DPS_USAGE', /transport/],
    ['a secret as a flag', () => [`--symmetric-key=${SECRET}`], 64, 'ERR_DPS_USAGE', /--symmetric-key/],
    [
      'a configuration that is not there',
      () => ['--config', join(temporaryFolder(), 'c.json')],
      78,
      'ERR_DPS_CONFIG_FILE',
      /c\.json/,
    ],
    [
      'a configuration that is no JSON',
      () => ['--config', fileWith('{"idScope": ')],
      78,
      'ERR_DPS_CONFIG_FILE',
      /JSON/,
    ],
    [
      'an unknown key in it',
      () => ['--config', fileWith('{"idScop":"x"}')],
      78,
      'ERR_DPS_CONFIG_UNKNOWN_OPTION',
      /idScop/,
    ],
  ])('is JSON on standard output, too: %s', async (_, argsOf, status, code, says) => {
    const args = argsOf();
    for (const more of [[], ['--json-log']]) {
      const told = await doctor(...args, ...more);
      expect(told.status).toBe(status);
      expect(told.report).toEqual({
        status: 'failing',
        exitStatus: status,
        checkedAt: expect.stringMatching(/^\d{4}-/),
        findings: [
          {
            check: 'configuration',
            verdict: 'failed',
            message: expect.any(String),
            fix: expect.any(String),
            code,
          },
        ],
      });
      expect(JSON.stringify(told.report)).toMatch(says);
      expect(told.err).toContain(
        code === 'ERR_DPS_USAGE' && more.length === 0 ? '\nTry: dps-device doctor --help\n' : code,
      );
    }
  });

  it('is no more than a report: where nobody takes it, the status and the words are those of the fault', async () => {
    const stdoutFailure = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
    const io = fakeIo({ stdoutFailure });
    expect(await main(['doctor', '--id-scop', 'x'], io)).toBe(64);
    expect(io.err()).toMatch(/Did you mean --id-scope\?/);
  });
});

describe('doctor that is interrupted while it reads its options', () => {
  it('has nothing to report', async () => {
    const io = fakeIo({ isStdinSilent: true });
    const running = main(['doctor', '--config', '-'], io);
    await expect.poll(() => io.listeners(), { timeout: 30_000 }).toBeGreaterThan(0);
    io.send('SIGINT');
    expect([await running, io.out()]).toEqual([130, '']);
  });
});

describe('the report of doctor', () => {
  it('says what was not looked at, and how to', async () => {
    const { report, err } = await doctor('--endpoint', '127.0.0.1:1', '--timeout', '20');
    expect(report).toMatchObject({
      findings: expect.arrayContaining([
        {
          check: 'service',
          verdict: 'skipped',
          message:
            'DPS was not asked whether it knows this device and accepts its identity, nor was a hub looked at: that takes a registration, dps-device provision.',
        },
      ]),
    });
    expect(err).toContain('skipped  service         DPS was not asked');
  });
});
