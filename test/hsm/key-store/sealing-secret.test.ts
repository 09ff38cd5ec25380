import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeKeyFile, readSealingSecret } from '../../../hsm/key-store/sealing-secret.js';
import { openKeyStore } from '../../../hsm/software-key-store.js';
import { failureOf } from '../../fakes/failure-of.js';
import { makeTestStore, scratchFolder } from './store-bench.js';

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

describe('a sealing key of the wrong length', () => {
  const tail = Buffer.from('\r\n');
  const key = Buffer.alloc(32, 7);

  it.each([
    ['a line end more', Buffer.concat([key, tail.subarray(1)]), 'ends in a line end'],
    ['a line end of Windows more', Buffer.concat([key, tail]), 'try its first 32 bytes'],
    ['a byte less', key.subarray(1), 'not the key of this key store, or was cut off'],
    ['as hexadecimal', Buffer.from(`${key.toString('hex')}\n`), 'or something has changed it'],
  ])('is never made anew where it is to open a store: with %s', async (_, content, words) => {
    const { options } = await makeTestStore();
    const file = join(scratchFolder(), 'store.key');
    writeFileSync(file, content, { mode: 0o600 });
    for (const create of [false, true]) {
      const error = await failureOf(openKeyStore({ ...options, create, sealingKey: { file } }));
      expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_PASSPHRASE' });
      expect(error.message).toContain(`${file} has ${content.length} bytes`);
      expect(error.message).toContain(words);
      expect(error.message).toContain('put the right one back from its copy');
      expect(error.message).not.toContain('urandom');
    }
  });

  it('may be made where a store is made, or sealed anew; not in the place of another', async () => {
    const { store } = await makeTestStore();
    const folder = scratchFolder();
    const file = join(folder, 'store.key');
    writeFileSync(file, key.subarray(1), { mode: 0o600 });
    const sealingKey = { file };
    const making = openKeyStore({ directory: join(folder, 'new'), create: true, sealingKey });
    for (const { message } of [await failureOf(making), await failureOf(store.seal({ sealingKey }))]) {
      expect(message).toContain('Make one under a new name: head -c 32 /dev/urandom > NEW-FILE');
    }
  });
});

describe('a passphrase', () => {
  it('loses one line end, and keeps its spaces', async () => {
    const file = join(scratchFolder(), 'passphrase');
    writeFileSync(file, ' correct horse \r\n', { mode: 0o600 });
    const secret = await readSealingSecret({ passphrase: { file } }, 'open', undefined);
    expect(Buffer.from(secret.bytes).toString()).toBe(' correct horse ');
    expect(secret.place).toBe(`the passphrase file ${file}`);
  });

  it('must be text', async () => {
    const file = join(scratchFolder(), 'passphrase');
    writeFileSync(file, Uint8Array.of(0xff, 0xfe, 0x80), { mode: 0o600 });
    const error = await failureOf(readSealingSecret({ passphrase: { file } }, 'open', undefined));
    expect(error.message).toContain('is not UTF-8 text');
  });

  it('in a credential needs a folder of credentials', async () => {
    const kept = process.env.CREDENTIALS_DIRECTORY;
    delete process.env.CREDENTIALS_DIRECTORY;
    try {
      const error = await failureOf(readSealingSecret({ passphrase: { credential: 'phrase' } }, 'open', undefined));
      expect(error).toMatchObject({ name: 'ConfigurationError', option: 'hsm.passphrase' });
      expect(error.message).toContain('CREDENTIALS_DIRECTORY is not set');
    } finally {
      if (kept !== undefined) process.env.CREDENTIALS_DIRECTORY = kept;
    }
  });
});
