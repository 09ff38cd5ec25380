import { chmodSync, constants, copyFileSync, mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { keyStoreHsm, listSealedEntries, openKeyStore } from '../../../hsm/software-key-store.js';
import { type DurableIo, nodeDurableIo } from '../../../src/durable/durable-io.js';
import { lockFile } from '../../../src/durable/file-lock.js';
import { encodeSlot } from '../../../src/durable/slot.js';
import { failureOf } from '../../fakes/failure-of.js';
import {
  certified,
  contentOf,
  dropSpare,
  makeTestStore,
  PASSPHRASE,
  scratchFolder,
  slotOf,
  symmetric,
} from './store-bench.js';

describe('files that are not as they should be', () => {
  it.each([
    ['a file', 'entry-a.a', 0o640, 'ERR_DPS_STORE_MODE', 'chmod 600'],
    ['the header', 'store.a', 0o604, 'ERR_DPS_STORE_MODE', 'chmod 600'],
    ['the folder', '', 0o755, 'ERR_DPS_STORE_MODE', 'chmod 700'],
  ])('%s with a mode for others is refused with the fix', async (_, name, mode, code, fix) => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    const path = join(options.directory, name);
    chmodSync(path, mode);
    const error = await failureOf(keyStoreHsm({ ...options, entry: 'a' }));
    expect(error).toMatchObject({ code });
    expect(error.message).toContain(`${fix} ${path.replace(/\/$/, '')}`);
    chmodSync(path, name === '' ? 0o700 : 0o600);
    await keyStoreHsm({ ...options, entry: 'a' });
  });

  it('a foreign owner is refused with the fix', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    const { uid } = statSync(options.directory);
    const io = { ...nodeDurableIo, userId: uid + 1 };
    const error = await failureOf(keyStoreHsm({ ...options, io, entry: 'a' }));
    expect(error).toMatchObject({ name: 'StoreError', code: 'ERR_DPS_STORE_OWNER' });
    expect(error.message).toContain(
      `${options.directory} belongs to user ${uid}, and this process runs as user ${uid + 1}.`,
    );
    expect(error.message).toContain(`chown ${uid + 1} ${options.directory}`);
    // One file alone, in a folder that is in order.
    const lyingIo = { ...nodeDurableIo, open: openAsOwnedBy(join(options.directory, 'entry-a.a'), uid + 1) };
    const one = await failureOf(keyStoreHsm({ ...options, io: lyingIo, entry: 'a' }));
    expect(one).toMatchObject({
      code: 'ERR_DPS_STORE_OWNER',
      message: expect.stringContaining('entry-a.a belongs to user'),
    });
  });

  it.each([
    ['ENOSPC', 'ERR_DPS_STORE_FULL', 'Free space'],
    ['EROFS', 'ERR_DPS_STORE_READ_ONLY', 'Mount it writable'],
  ])('a disk with %s says so, keeps what there is, and can be read', async (systemCode, code, fix) => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    await store.stage('a', symmetric('dev-1'));
    const before = contentOf(options.directory);
    const io: DurableIo = {
      ...nodeDurableIo,
      mkdir: async () => fail(systemCode),
      open: async (path, flags, mode) =>
        (flags & constants.O_CREAT) === 0 ? nodeDurableIo.open(path, flags, mode) : fail(systemCode),
    };
    const stuck = await openKeyStore({ ...options, io });
    for (const call of [
      () => stuck.add('b', symmetric('dev-1')),
      () => stuck.stage('a', symmetric('dev-1')),
      () => stuck.commit('a'),
      () => stuck.discard('a'),
      () => stuck.remove('a'),
      () => stuck.seal({ passphrase: PASSPHRASE }),
      () => openKeyStore({ ...options, directory: `${options.directory}-2`, io, create: true }),
    ]) {
      const error = await failureOf(call());
      expect(error).toMatchObject({ name: 'StoreError', code });
      expect(error.message).toContain(fix);
    }
    expect(contentOf(options.directory)).toEqual(before);
    expect((await keyStoreHsm({ ...options, io, entry: 'a' })).slots).toBe(2);
  });

  it('a store that somebody else is changing is locked, and can be read', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    const lock = await lockFile(join(options.directory, 'lock'));
    for (const call of [
      () => store.add('b', symmetric('dev-1')),
      () => store.stage('a', symmetric('dev-1')),
      () => store.remove('a'),
      () => store.seal({ passphrase: PASSPHRASE }),
    ]) {
      expect(await failureOf(call())).toMatchObject({ code: 'ERR_DPS_STORE_LOCKED', retryable: true });
    }
    await keyStoreHsm({ ...options, entry: 'a' });
    await lock.release();
    await store.remove('a');
  });

  it('swapped entry files are found out, also by whoever mends their checksums', async () => {
    const { store, options } = await makeTestStore();
    const { directory } = options;
    await store.add('a', symmetric('dev-1'));
    await store.add('b', symmetric('dev-2'));
    dropSpare(directory, 'a');
    copyFileSync(join(directory, 'entry-a.a'), join(directory, 'kept'));
    copyFileSync(join(directory, 'entry-b.a'), join(directory, 'entry-a.a'));
    const plain = await failureOf(store.hsm('a'));
    expect(plain).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_STORE_DAMAGED' });
    expect(plain.message).toContain('it was made under another name');
    writeFileSync(join(directory, 'entry-a.a'), encodeSlot('entry-a', slotOf(join(directory, 'entry-b.a'), 'entry-b')));
    const mended = await failureOf(store.hsm('a'));
    expect(mended).toMatchObject({ code: 'ERR_DPS_HSM_STORE_DAMAGED' });
    expect(mended.message).toContain('it was made for the entry "b"');
    expect(await store.list()).toMatchObject([{ name: 'a', problem: mended.message }, { name: 'b' }]);
    copyFileSync(join(directory, 'kept'), join(directory, 'entry-a.a'));
    await store.hsm('a');
  });

  it.each([
    ['its name', (label: Label) => ({ ...label, name: 'a' }), 'changed after it was sealed'],
    ['its registration id', (label: Label) => ({ ...label, registrationId: 'dev-9' }), 'changed after it was sealed'],
    ['its kind', (label: Label) => ({ ...label, kind: 'x509' }), 'changed after it was sealed'],
    [
      'the id of its key',
      (label: Label) => ({ ...label, current: { id: '0'.repeat(16), algorithm: 'x' } }),
      'changed after it was sealed',
    ],
    ['its generation', (label: Label) => ({ ...label, generation: 2 }), 'changed after it was sealed'],
    ['its store', (label: Label) => ({ ...label, store: '0'.repeat(32) }), 'belongs to another key store'],
    ['its type', (label: Label) => ({ ...label, type: 'x' }), 'is not that of an entry'],
    ['its format', (label: Label) => ({ ...label, format: 0 }), 'makes no sense'],
  ])('a label with %s changed does not open', async (what, change, message) => {
    const { store, options } = await makeTestStore();
    await store.add('b', symmetric('dev-1'));
    dropSpare(options.directory, 'b');
    const path = join(options.directory, 'entry-b.a');
    const slot = slotOf(path, 'entry-b');
    const [line = '', ...rest] = Buffer.from(slot.bytes).toString().split('\n');
    const text = [JSON.stringify(change(JSON.parse(line) as Label)), ...rest].join('\n');
    const name = what === 'its name' ? 'a' : 'b';
    const target = join(options.directory, `entry-${name}.a`);
    writeFileSync(target, encodeSlot(`entry-${name}`, { ...slot, bytes: Buffer.from(text) }), {
      mode: 0o600,
    });
    const error = await failureOf(store.hsm(name));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_STORE_DAMAGED' });
    expect(error.message).toContain(message);
  });

  it('an entry of a later format is left alone', async () => {
    const { store, options } = await makeTestStore();
    await store.add('b', symmetric('dev-1'));
    dropSpare(options.directory, 'b');
    const path = join(options.directory, 'entry-b.a');
    const slot = slotOf(path, 'entry-b');
    const bytes = Buffer.from(Buffer.from(slot.bytes).toString().replace('"format":1', '"format":2'));
    writeFileSync(path, encodeSlot('entry-b', { ...slot, bytes }));
    expect(await failureOf(store.hsm('b'))).toMatchObject({ code: 'ERR_DPS_STORE_NEWER_FORMAT' });
    for (const path of ['store.a', 'store.b'].map((file) => join(options.directory, file))) {
      const header = slotOf(path);
      const newer = Buffer.from(Buffer.from(header.bytes).toString().replace('"format":1', '"format":2'));
      writeFileSync(path, encodeSlot('store', { ...header, bytes: newer }));
    }
    expect(await failureOf(openKeyStore(options))).toMatchObject({ code: 'ERR_DPS_STORE_NEWER_FORMAT' });
  });

  it.each(['a', 'b'])('a new entry has its spare copy from the beginning: entry-a.%s truncated', async (letter) => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    truncateSync(join(options.directory, `entry-a.${letter}`), 200);
    expect((await keyStoreHsm({ ...options, entry: 'a' })).slots).toBe(1);
    expect(await store.list()).toMatchObject([{ name: 'a', warning: expect.stringContaining('is damaged') }]);
  });

  it('a truncated file gives way to the one before, which is told; without one it is damaged, and can be replaced', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    await store.stage('a', symmetric('dev-1'));
    const newest = join(options.directory, 'entry-a.a');
    truncateSync(newest, 200);
    const [entry] = await store.list();
    expect(entry).toMatchObject({
      name: 'a',
      staged: undefined,
      warning: expect.stringContaining('entry-a.a is damaged'),
    });
    truncateSync(join(options.directory, 'entry-a.b'), 0);
    for (const call of [
      () => store.hsm('a'),
      () => store.stage('a', symmetric('dev-1')),
      () => store.add('a', symmetric('dev-1')),
    ]) {
      const error = await failureOf(call());
      expect(error).toMatchObject({ code: 'ERR_DPS_HSM_STORE_DAMAGED' });
      expect(error.message).toContain('dps-device keys remove --key-name a');
    }
    expect(await store.list()).toMatchObject([{ name: 'a', problem: expect.stringContaining('is empty') }]);
    await store.remove('a');
    await store.add('a', symmetric('dev-1'));
  });

  it('a header that is gone is never made anew over entries, and a damaged one says what is lost', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    const { directory } = options;
    for (const letter of ['a', 'b']) truncateSync(join(directory, `store.${letter}`), 100);
    expect(await failureOf(openKeyStore({ ...options, create: true }))).toMatchObject({
      code: 'ERR_DPS_HSM_STORE_DAMAGED',
    });
    for (const letter of ['a', 'b']) rmSync(join(directory, `store.${letter}`));
    const error = await failureOf(openKeyStore({ ...options, create: true }));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_STORE_DAMAGED' });
    expect(error.message).toContain('Put the folder back from a backup');
    expect(await failureOf(store.add('b', symmetric('dev-1')))).toMatchObject({ code: 'ERR_DPS_HSM_STORE_DAMAGED' });
  });

  it('a folder that was replaced by another store is not written into', async () => {
    const { store, options } = await makeTestStore();
    rmSync(options.directory, { recursive: true });
    await openKeyStore({ ...options, create: true });
    expect((await failureOf(store.add('a', symmetric('dev-1')))).message).toContain('holds another key store');
  });

  it.each([
    ['too much memory', { log2N: 24 }],
    ['too little work', { log2N: 10 }],
    ['too many passes', { p: 1000 }],
    ['blocks of another size', { r: 1024 }],
    ['fractions', { log2N: 15.5 }],
    ['no numbers', { p: '3' }],
    ['no salt', { salt: '' }],
    ['another derivation', { kdf: 'argon2id' }],
    ['another kind', { kind: 'tpm' }],
  ])('a header that asks for %s is refused before anything is derived', async (_, change) => {
    const folder = scratchFolder();
    const directory = join(folder, 'store');
    await openKeyStore({ directory, create: true, passphrase: PASSPHRASE });
    for (const letter of ['a', 'b']) {
      const path = join(directory, `store.${letter}`);
      const slot = slotOf(path);
      const [line = '', ...rest] = Buffer.from(slot.bytes).toString().split('\n');
      const label = JSON.parse(line) as { sealing: object };
      const text = [JSON.stringify({ ...label, sealing: { ...label.sealing, ...change } }), ...rest].join('\n');
      writeFileSync(path, encodeSlot('store', { ...slot, bytes: Buffer.from(text) }));
    }
    expect(await failureOf(openKeyStore({ directory, passphrase: PASSPHRASE }))).toMatchObject({
      code: 'ERR_DPS_HSM_STORE_DAMAGED',
      message: expect.stringContaining('does not say in a way known here how it is sealed'),
    });
  });

  it('lists by labels without a secret', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    await store.add('b', await certified('dev-2'));
    expect(await listSealedEntries({ directory: options.directory })).toEqual(await store.list());
    const missing = join(options.directory, 'nowhere');
    expect(await failureOf(listSealedEntries({ directory: missing }))).toMatchObject({
      code: 'ERR_DPS_HSM_STORE_MISSING',
    });
  });

  it('leaves other files in the folder alone', async () => {
    const { store, options } = await makeTestStore();
    await store.add('x.a', symmetric('dev-1'));
    await store.add('x', symmetric('dev-1'));
    for (const name of ['entry-UPPER.a', 'README']) writeFileSync(join(options.directory, name), '', { mode: 0o600 });
    mkdirSync(join(options.directory, 'lost+found'));
    expect((await store.list()).map(({ name }) => name)).toEqual(['x', 'x.a']);
  });
});

function fail(code: string): never {
  throw Object.assign(new Error(`${code}: simulated`), { code });
}

/** The real files, but for one that seems to belong to somebody else. */
function openAsOwnedBy(path: string, userId: number): DurableIo['open'] {
  return async (opened, flags, mode) => {
    const file = await nodeDurableIo.open(opened, flags, mode);
    if (opened === path)
      Object.assign(file, { stat: async () => ({ kind: 'file', userId, mode: 0o600, sizeBytes: 1 }) });
    return file;
  };
}

interface Label {
  readonly name: string;
}
