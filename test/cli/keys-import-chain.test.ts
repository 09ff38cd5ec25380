import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { issueCertificate, makeAuthority } from '../../src/emulator/pki.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { fakeIo } from './fake-io.js';
import { fileWith, temporaryFolder } from './temporary-folder.js';

describe('keys import', () => {
  it('takes the intermediates of --chain-file, with a key and for one that is there', async () => {
    const authority = await makeAuthority({ commonName: 'Factory' });
    const leaf = await issueCertificate(authority, { commonName: 'dev-1', usage: 'client' });
    const folder = temporaryFolder();
    const store = ['--key-store', join(folder, 'store'), '--key-store-key-file', join(folder, 'store.key')];
    const certificate = ['--cert-file', fileWith(leaf.certificatePem, 0o644)];
    const chain = ['--chain-file', fileWith(authority.certificatePem, 0o644)];
    const key = ['--cert-key-file', fileWith(leaf.privateKeyPem)];
    const chainLength = async (name: string, args: readonly string[]): Promise<unknown> => {
      const io = { ...fakeIo(), clock: new ManualClock(Date.now()) };
      expect([await main(['keys', 'import', '--key-name', name, ...store, ...args], io), io.err()]).toEqual([
        0,
        expect.not.stringContaining('error'),
      ]);
      return JSON.parse(io.out()).entry.current.certificate.chainLength;
    };
    expect(await chainLength('a', [...certificate, ...key])).toBe(1);
    expect(await chainLength('a', [...certificate, ...chain])).toBe(2);
    expect(await chainLength('b', [...certificate, ...key, ...chain])).toBe(2);
  });
});
