import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeKeyFile, readSealingSecret } from '../../../hsm/key-store/sealing-secret.js';
import { failureOf } from '../../fakes/failure-of.js';
import { scratchFolder } from './store-bench.js';

describe('a key file', () => {
  it('is made of 32 random bytes for its owner alone, and never over anything', async () => {
    const folder = scratchFolder();
    const [first, second] = [join(folder, 'one.key'), join(folder, 'two.key')];
    expect(await makeKeyFile(first)).toBe(true);
    expect(await makeKeyFile(second)).toBe(true);
    const bytes = readFileSync(first);
    expect(bytes).toHaveLength(32);
    expect(bytes.equals(readFileSync(second))).toBe(false);
    expect(lstatSync(first).mode & 0o777).toBe(0o600);
    expect(await makeKeyFile(first)).toBe(false);
    expect(readFileSync(first).equals(bytes)).toBe(true);
    const link = join(folder, 'link.key');
    symlinkSync(join(folder, 'nowhere'), link);
    expect(await makeKeyFile(link)).toBe(false);
    mkdirSync(join(folder, 'folder.key'));
    expect(await makeKeyFile(join(folder, 'folder.key'))).toBe(false);
    expect(readdirSync(folder).sort()).toEqual(['folder.key', 'link.key', 'one.key', 'two.key']);
  });

  it('that cannot be made says why', async () => {
    const error = await failureOf(makeKeyFile(join(scratchFolder(), 'nowhere', 'one.key')));
    expect(error).toMatchObject({ name: 'StoreError' });
    expect(error.message).toContain('mkdir -p');
    expect(await failureOf(makeKeyFile('x', AbortSignal.abort()))).toMatchObject({ code: 'ERR_DPS_CANCELLED' });
  });
});

describe('a passphrase', () => {
  it('loses one line end, and keeps its spaces', async () => {
    const file = join(scratchFolder(), 'passphrase');
    writeFileSync(file, ' correct horse \r\n', { mode: 0o600 });
    const secret = await readSealingSecret({ passphrase: { file } }, undefined);
    expect(Buffer.from(secret.bytes).toString()).toBe(' correct horse ');
    expect(secret.place).toBe(`the passphrase file ${file}`);
  });

  it('must be text', async () => {
    const file = join(scratchFolder(), 'passphrase');
    writeFileSync(file, Uint8Array.of(0xff, 0xfe, 0x80), { mode: 0o600 });
    const error = await failureOf(readSealingSecret({ passphrase: { file } }, undefined));
    expect(error.message).toContain('is not UTF-8 text');
  });

  it('in a credential needs a folder of credentials', async () => {
    const kept = process.env.CREDENTIALS_DIRECTORY;
    delete process.env.CREDENTIALS_DIRECTORY;
    try {
      const error = await failureOf(readSealingSecret({ passphrase: { credential: 'phrase' } }, undefined));
      expect(error).toMatchObject({ name: 'ConfigurationError', option: 'hsm.passphrase' });
      expect(error.message).toContain('CREDENTIALS_DIRECTORY is not set');
    } finally {
      if (kept !== undefined) process.env.CREDENTIALS_DIRECTORY = kept;
    }
  });
});
