import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { fakeIo } from './fake-io.js';
import { temporaryFolder } from './temporary-folder.js';

async function keys(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ status: number; err: string }> {
  const io = fakeIo({ env });
  return { status: await main(['keys', ...args], io), err: io.err() };
}

describe('keys seal', () => {
  it('takes no systemd credential for what is to seal the store from now on: it is what opens it', async () => {
    const folder = temporaryFolder();
    const [store, keyFile, credentials] = ['store', 'store.key', 'credentials'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    const made = await keys([
      ...['make', '--key-name', 'a', '--kind', 'symmetric-key'],
      ...['--key-store', store, '--key-store-key-file', keyFile],
    ]);
    expect(made.status).toBe(0);
    mkdirSync(credentials);
    writeFileSync(join(credentials, 'dps-key-store-key'), readFileSync(keyFile), { mode: 0o600 });
    const sealed = await keys(['seal', '--key-store', store], { CREDENTIALS_DIRECTORY: credentials });
    expect(sealed.status).toBe(64);
    expect(sealed.err).toContain(
      'Nothing says how the key store is to be sealed from now on: give --new-key-store-key-file or --new-key-store-passphrase-file.',
    );
  });
});
