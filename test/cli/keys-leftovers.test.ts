import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { makeSelfSigned } from '../../src/emulator/pki.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { fakeIo } from './fake-io.js';
import { fileWith, temporaryFolder } from './temporary-folder.js';

interface Ended {
  readonly status: number;
  readonly folder: string;
  readonly out: string;
  readonly err: string;
}

/** A command of keys that may make a store and its key file in a folder where there is nothing. */
async function keys(args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
  const folder = temporaryFolder();
  const io = { ...fakeIo({ env }), clock: new ManualClock(Date.now()) };
  const [command = '', ...rest] = args;
  const store = ['--key-store', join(folder, 'store'), '--key-store-key-file', join(folder, 'store.key')];
  const status = await main(['keys', command, ...store, '--key-name', 'dev-1', ...rest], io);
  return { status, folder, out: io.out(), err: io.err() };
}

describe('a command of keys that cannot do its work', () => {
  it.each<[string, () => Promise<string[]>, number, RegExp]>([
    ['a device without issuer', async () => ['make', '--kind', 'device'], 64, /--issuer is missing/],
    ['an issuer in no store', async () => ['make', '--kind', 'device', '--issuer', 'ca'], 71, /There is no key store/],
    ['an authority by one in no store', async () => ['make', '--kind', 'ca', '--issuer', 'root'], 71, /no key store/],
    [
      'an option of another kind',
      async () => ['make', '--kind', 'csr', '--days', '3'],
      64,
      /--days does not go with --kind csr/,
    ],
    [
      'a certificate for a key in no store',
      async () => {
        const { certificatePem } = await makeSelfSigned({ commonName: 'dev-1' });
        return ['import', '--cert-file', fileWith(certificatePem, 0o644)];
      },
      71,
      /There is no key store/,
    ],
  ])('leaves neither store nor key file behind, and notes none: %s', async (_, argsOf, status, says) => {
    const ended = await keys(await argsOf());
    expect([ended.status, ended.out]).toEqual([status, '']);
    expect(ended.err).toMatch(says);
    expect(ended.err).not.toContain('made the key');
    expect(readdirSync(ended.folder)).toEqual([]);
  });

  it('takes no issuer from the environment for what has none', async () => {
    const ended = await keys(['make', '--kind', 'self-signed'], { DPS_ISSUER: 'ca' });
    expect([ended.status, ended.err]).toEqual([0, expect.stringContaining('made the key store')]);
    expect(existsSync(join(ended.folder, 'store'))).toBe(true);
  });
});
