import { describe, expect, it } from 'vitest';
import { checkSymmetricKey } from '../../src/doctor/key-check.js';
import { fileWith } from '../cli/temporary-folder.js';

const KEY = Buffer.alloc(32, 5).toString('base64');
const { signal } = new AbortController();

async function verdicts(options: Parameters<typeof checkSymmetricKey>[0]): Promise<(readonly [string, string])[]> {
  const findings = await checkSymmetricKey(options, signal);
  expect(JSON.stringify(findings)).not.toContain(KEY);
  for (const { verdict, fix } of findings) if (verdict === 'failed') expect(fix).toBeTruthy();
  return findings.map(({ check, verdict }) => [check, verdict] as const);
}

describe('checkSymmetricKey', () => {
  it('is content with a key in a file of its own', async () => {
    expect(await verdicts({ registrationId: 'dev-1', key: { file: fileWith(`${KEY}\n`) } })).toEqual([
      ['permissions', 'ok'],
      ['key', 'ok'],
      ['registration-id', 'ok'],
    ]);
    const both = await checkSymmetricKey({ registrationId: 'dev-1', groupKey: KEY, secondaryGroupKey: KEY }, signal);
    expect(both[0]?.message).toBe('2 symmetric keys, of a form that the service takes.');
  });

  it('looks into a file whose mode is wrong all the same', async () => {
    expect(await verdicts({ registrationId: 'dev-1', key: { file: fileWith('no key', 0o644) } })).toEqual([
      ['permissions', 'failed'],
      ['key', 'failed'],
    ]);
    expect(await verdicts({ registrationId: 'dev-1', key: { file: fileWith(KEY, 0o644) } })).toEqual([
      ['permissions', 'failed'],
      ['key', 'ok'],
      ['registration-id', 'ok'],
    ]);
  });

  it('skips a key that cannot be read', async () => {
    expect(await verdicts({ registrationId: 'dev-1', key: { file: '/nowhere/dev.key' } })).toEqual([
      ['permissions', 'failed'],
      ['key', 'skipped'],
    ]);
  });

  it('judges the registration id', async () => {
    expect(await verdicts({ registrationId: 'dev 1', key: KEY })).toEqual([['registration-id', 'failed']]);
  });
});
