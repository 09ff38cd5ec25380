import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import type { DeviceRecord } from '../../src/core/record.js';
import { type FileRecordStoreOptions, fileRecordStore, readStoredRecord } from '../../src/state/file-store.js';
import { sampleRecord } from '../durable/sample-record.js';
import { failureOf } from '../fakes/failure-of.js';

const NEVER = new AbortController().signal;

describe('a record store', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'odd-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('names the folder that is in the way of its draft', async () => {
    const directory = join(folder, 'state');
    const store = fileRecordStore({ directory });
    await store.save(sampleRecord(1), NEVER);
    const draft = join(directory, 'device.new');
    mkdirSync(draft);
    for (const work of [() => store.save(sampleRecord(2), NEVER), () => store.forget(NEVER)]) {
      const error = await failureOf(work());
      expect(error).toMatchObject({ code: 'ERR_DPS_STORE_UNWRITABLE', path: draft });
      expect(error.message).toContain(`${draft} is not a regular file. Remove it`);
    }
    expect(await store.load(NEVER)).toMatchObject({ kind: 'record' });
    await store.close();
  });

  it('says of a link that leads nowhere that it is one', async () => {
    const directory = join(folder, 'link');
    symlinkSync(join(folder, 'nowhere'), directory);
    const error = await failureOf(fileRecordStore({ directory }).save(sampleRecord(1), NEVER));
    expect(error).toMatchObject({ code: 'ERR_DPS_STORE_UNWRITABLE', path: directory });
    expect(error.message).toContain('is a symbolic link to a folder that does not exist. Make that folder, or remove');
    expect(error.message).toContain(`rm ${directory}`);
    mkdirSync(join(folder, 'nowhere'), { mode: 0o700 });
    const store = fileRecordStore({ directory });
    await store.save(sampleRecord(1), NEVER);
    await store.close();
    expect(existsSync(join(folder, 'nowhere', 'device.a'))).toBe(true);
  });

  it.each(['loop', 'loop/below'])('says of the link to itself in %s that it is one', async (path) => {
    symlinkSync('loop', join(folder, 'loop'));
    const directory = join(folder, path);
    for (const work of [
      () => fileRecordStore({ directory }).save(sampleRecord(1), NEVER),
      () => readStoredRecord({ directory }),
    ]) {
      const error = await failureOf(work());
      expect(error).toMatchObject({ name: 'StoreError', path: directory });
      expect(error.message).toContain('is a symbolic link that leads back to itself (ELOOP)');
    }
  });

  it.each<[string, unknown, string, string]>([
    ['undefined', undefined, 'CONFIG_OPTION', 'takes one object, at least { directory }, not undefined'],
    ['null', null, 'CONFIG_OPTION', 'not null'],
    ['a text', '/var/lib/x', 'CONFIG_OPTION', 'not a text'],
    [
      'a slip',
      { directory: '/x', naem: 'x' },
      'CONFIG_UNKNOWN_OPTION',
      '"naem" is unknown to the record store. Did you mean name?',
    ],
    ['another name', { dir: '/x' }, 'CONFIG_UNKNOWN_OPTION', 'Known are directory, name.'],
  ])('refuses %s as its options', async (_, options, code, words) => {
    const given = options as FileRecordStoreOptions;
    const open = async (): Promise<unknown> => fileRecordStore(given);
    for (const error of [await failureOf(open()), await failureOf(readStoredRecord(given))]) {
      expect(error).toMatchObject({ name: 'ConfigurationError', code: `ERR_DPS_${code}` });
      expect(error.message).toContain(words);
    }
  });

  it('refuses what is no record or no signal, and leaves everything as it is', async () => {
    const directory = join(folder, 'state');
    const store = fileRecordStore({ directory });
    await store.save(sampleRecord(1), NEVER);
    for (const value of [null, undefined, 5, {}, { binding: {} }, { ...sampleRecord(2), twin: {} }]) {
      const error = await failureOf(store.save(value as unknown as DeviceRecord, NEVER));
      expect(error).toMatchObject({ name: 'ConfigurationError', option: 'record' });
    }
    for (const value of [{}, null, 5, { aborted: false, addEventListener: () => undefined }]) {
      const signal = value as unknown as CancelSignal;
      for (const work of [
        () => store.load(signal),
        () => store.save(sampleRecord(2), signal),
        () => store.forget(signal),
        () => readStoredRecord({ directory }, signal),
      ]) {
        expect(await failureOf(work())).toMatchObject({ name: 'ConfigurationError', option: 'signal' });
      }
    }
    expect(await store.load(NEVER)).toMatchObject({ record: sampleRecord(1) });
    await store.close();
    expect(readdirSync(directory)).toEqual(['device.a']);
  });
});
