import { existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EXIT } from '../../src/cli/exit-codes.js';
import { keys, keysBench, succeed } from './keys-bench.js';

const MAKE = ['make', '--key-name', 'a', '--kind', 'symmetric-key'];

describe('a key file in the folder of its own key store', () => {
  it.each<[string, (folder: string, store: string) => string]>([
    ['by its plain path', (_, store) => join(store, 'k')],
    ['by way of ..', (folder, store) => `${folder}/other/../${basename(store)}/k`],
    [
      'through a link to the store',
      (folder, store) => {
        symlinkSync(store, join(folder, 'link'));
        return join(folder, 'link', 'k');
      },
    ],
    [
      'in a folder of that folder',
      (_, store) => {
        mkdirSync(join(store, 'sub'));
        return join(store, 'sub', 'k');
      },
    ],
  ])('is refused %s, and nothing is made', async (_, placeOf) => {
    const { folder, store, flags } = keysBench();
    mkdirSync(store, { mode: 0o700 });
    mkdirSync(join(folder, 'other'));
    const file = placeOf(folder, store);
    const made = await keys([...MAKE, '--key-store', store, '--key-store-key-file', file]);
    expect([made.status, made.io.err()]).toEqual([EXIT.usage, expect.stringContaining('--key-store-key-file')]);
    expect(existsSync(file)).toBe(false);
    await succeed([...MAKE, ...flags]);
    const sealed = await keys(['seal', ...flags, '--new-key-store-key-file', file]);
    expect([sealed.status, sealed.io.err()]).toEqual([EXIT.usage, expect.stringContaining('--new-key-store-key-file')]);
    expect(existsSync(file)).toBe(false);
    await succeed(['list', ...flags]);
  });

  it('is refused where there is neither store nor folder yet', async () => {
    const { folder, store } = keysBench();
    const { status, io } = await keys([...MAKE, '--key-store', store, '--key-store-key-file', join(store, 'k')]);
    expect([status, io.err()]).toEqual([EXIT.usage, expect.stringContaining('--key-store-key-file')]);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('is refused when it is there already, and is to seal the store from now on', async () => {
    const { store, flags } = keysBench();
    await succeed([...MAKE, ...flags]);
    writeFileSync(join(store, 'k'), Buffer.alloc(32, 1), { mode: 0o600 });
    const { status, io } = await keys(['seal', ...flags, '--new-key-store-key-file', join(store, 'k')]);
    expect([status, io.err()]).toEqual([EXIT.usage, expect.stringContaining('--new-key-store-key-file')]);
  });

  it('opens a store that was sealed with it', async () => {
    const { store, keyFile, flags } = keysBench();
    await succeed([...MAKE, ...flags]);
    renameSync(keyFile, join(store, 'k'));
    const inside = ['--key-store', store, '--key-store-key-file', join(store, 'k')];
    expect(await succeed(['list', ...inside])).toMatchObject({ verified: true });
    await succeed(['make', '--key-name', 'b', '--kind', 'symmetric-key', ...inside]);
  });

  it('is none when its folder only begins with the same letters', async () => {
    const { store } = keysBench();
    mkdirSync(`${store}.keys`);
    await succeed([...MAKE, '--key-store', store, '--key-store-key-file', `${store}.keys/k`]);
  });
});

describe('a key store that cannot be made', () => {
  it('leaves no key file behind, and notes none', async () => {
    const { folder, keyFile } = keysBench();
    const store = join(folder, 'missing', 'store');
    const { status, io } = await keys([...MAKE, '--key-store', store, '--key-store-key-file', keyFile]);
    expect(status).toBe(EXIT.configuration);
    expect(io.err()).not.toContain('made the');
    expect(readdirSync(folder)).toEqual([]);
  });

  it('leaves no folder behind when its key file cannot be made', async () => {
    const { folder, store } = keysBench();
    const { status, io } = await keys([...MAKE, '--key-store', store, '--key-store-key-file', join(folder, 'no', 'k')]);
    expect(status).toBe(EXIT.configuration);
    expect(io.err()).not.toContain('made the');
    expect(readdirSync(folder)).toEqual([]);
  });
});
