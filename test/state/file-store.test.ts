import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { registrationResultOf } from '../../src/core/registration-result.js';
import type { LoadedRecord } from '../../src/core/store.js';
import { AbFile } from '../../src/durable/ab-file.js';
import { type DurableIo, nodeDurableIo } from '../../src/durable/durable-io.js';
import { type FileRecordStore, fileRecordStore, readStoredRecord } from '../../src/state/file-store.js';
import { describeStoreContract } from '../contracts/store.js';
import { FakeProcesses } from '../durable/fake-processes.js';
import { sampleRecord } from '../durable/sample-record.js';
import { SimulatedDisk, systemError } from '../durable/simulated-disk.js';
import { bundle } from '../durable/system-call-tracer.js';

const NEVER = new AbortController().signal;

describeStoreContract('fileRecordStore', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'store-'));
  return {
    open: () => fileRecordStore({ directory: join(folder, 'state') }),
    dispose: async () => rmSync(folder, { recursive: true }),
  };
});

describeStoreContract('fileRecordStore on a disk in memory', async () => {
  const io = new SimulatedDisk('/var', '/var/lib');
  const processes = new FakeProcesses();
  return { open: () => fileRecordStore({ directory: '/var/lib/device', io, processes: processes.start() }) };
});

describe('fileRecordStore', () => {
  let folder: string;
  let directory: string;
  let store: FileRecordStore;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'store-'));
    directory = join(folder, 'state');
    store = fileRecordStore({ directory });
  });
  afterEach(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });
  const inFolder = (name: string): string => join(directory, name);
  const saveTwice = async (): Promise<void> => {
    for (const number of [1, 2]) await store.save(sampleRecord(number), NEVER);
  };

  it('keeps two files and a lock, for its owner alone', async () => {
    await saveTwice();
    expect(readdirSync(directory).sort()).toEqual(['device.a', 'device.b', 'device.lock']);
    for (const name of readdirSync(directory)) expect(statSync(inFolder(name)).mode & 0o777).toBe(0o600);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    await store.close();
    expect(readdirSync(directory).sort()).toEqual(['device.a', 'device.b']);
  });

  it.each(['a', 'b'])(
    'never leads back to a hub that the device was moved away from: device.%s damaged',
    async (letter) => {
      await store.save(sampleRecord(1), NEVER);
      await store.save({ ...sampleRecord(1), movedTo: 'other.azure-devices.net' }, NEVER);
      writeFileSync(inFolder(`device.${letter}`), 'x');
      const loaded = await readStoredRecord({ directory });
      expect(loaded).toMatchObject({ kind: 'record', record: { movedTo: 'other.azure-devices.net' } });
    },
  );

  it('keeps several devices apart in one folder', async () => {
    const other = fileRecordStore({ directory, name: 'other' });
    await store.save(sampleRecord(1), NEVER);
    await other.save(sampleRecord(2), NEVER);
    expect([numberOf(await store.load(NEVER)), numberOf(await other.load(NEVER))]).toEqual([1, 2]);
    await other.close();
  });

  it('writes no key, wherever DPS puts one', async () => {
    const assignment = registrationResultOf({
      assignedHub: 'hub.azure-devices.net',
      deviceId: 'dev-1',
      tpm: { authenticationKey: 'canary-tpm' },
      symmetricKey: { primaryKey: 'canary-key' },
      unknown: { secret: 'canary-unknown' },
    });
    await store.save({ ...sampleRecord(1), assignment }, NEVER);
    await store.save({ ...sampleRecord(2), assignment }, NEVER);
    for (const name of readdirSync(directory)) expect(readFileSync(inFolder(name), 'latin1')).not.toContain('canary');
  });

  it('is for one at a time, and may be looked at meanwhile', async () => {
    await store.save(sampleRecord(1), NEVER);
    const second = fileRecordStore({ directory });
    const calls = [() => second.load(NEVER), () => second.save(sampleRecord(2), NEVER), () => second.forget(NEVER)];
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: 'ERR_DPS_STORE_LOCKED' });
    expect(numberOf(await readStoredRecord({ directory }))).toBe(1);
    await store.close();
    expect(numberOf(await second.load(NEVER))).toBe(1);
    await second.close();
  });

  it('looks without leaving a trace', async () => {
    expect(await readStoredRecord({ directory })).toEqual({ kind: 'none' });
    expect(readdirSync(folder)).toEqual([]);
  });

  it('leaves the record of a later release as it is, unless it is told to forget', async () => {
    await new AbFile({ directory, name: 'device', maxBytes: 1000 }).write(Buffer.from('{"format":2,"new":{}}'));
    const newer = { code: 'ERR_DPS_STORE_NEWER_FORMAT', message: expect.stringContaining('has format 2') };
    await expect(store.load(NEVER)).rejects.toMatchObject(newer);
    await expect(store.save(sampleRecord(1), NEVER)).rejects.toMatchObject(newer);
    await expect(readStoredRecord({ directory })).rejects.toMatchObject(newer);
    expect(readFileSync(inFolder('device.a'), 'utf8')).toContain('{"format":2,"new":{}}');
    await store.forget(NEVER);
    await store.save(sampleRecord(1), NEVER);
    expect(numberOf(await store.load(NEVER))).toBe(1);
  });

  it('says what is wrong with a record that is none, and takes the next', async () => {
    await new AbFile({ directory, name: 'device', maxBytes: 1000 }).write(Buffer.from('{"format":1}'));
    const what = "The record's member binding should be an object, and there is nothing.";
    expect(await store.load(NEVER)).toEqual({ kind: 'damaged', what });
    await store.save(sampleRecord(1), NEVER);
    expect(numberOf(await store.load(NEVER))).toBe(1);
  });

  it.each<[string, () => void, number]>([
    ['swapped', () => swap(inFolder('device.a'), inFolder('device.b')), 2],
    ['the newer truncated', () => truncateSync(inFolder('device.b'), 300), 1],
    ['the newer emptied', () => truncateSync(inFolder('device.b'), 0), 1],
    ['the newer gone', () => rmSync(inFolder('device.b')), 1],
    ['the older gone', () => rmSync(inFolder('device.a')), 2],
    ['the older put over the newer', () => copyFileSync(inFolder('device.a'), inFolder('device.b')), 1],
    ['the newer full of zeros', () => writeFileSync(inFolder('device.b'), Buffer.alloc(4096)), 1],
  ])('finds a record with its files %s, and goes on', async (_, meddle, number) => {
    await saveTwice();
    meddle();
    expect(numberOf(await store.load(NEVER))).toBe(number);
    await store.save(sampleRecord(3), NEVER);
    expect(await store.load(NEVER)).not.toHaveProperty('damaged');
    expect(numberOf(await store.load(NEVER))).toBe(3);
  });

  it.each<[string, () => void, string, string]>([
    ['a slot that others may read', () => chmodSync(inFolder('device.a'), 0o644), 'MODE', 'chmod 600 '],
    ['a folder that others may enter', () => chmodSync(directory, 0o755), 'MODE', 'chmod 700 '],
    ['a link as slot', () => link(inFolder('device.b'), join(folder, 'elsewhere')), 'UNREADABLE', 'symbolic link'],
    ['a link to nothing as slot', () => link(inFolder('device.b'), '/nowhere'), 'UNREADABLE', 'symbolic link'],
    ['a pipe as slot', () => pipe(inFolder('device.a')), 'UNREADABLE', 'is not a regular file'],
    ['a folder as slot', () => folderAt(inFolder('device.a')), 'UNREADABLE', 'is not a regular file'],
    ['a device as slot', () => link(inFolder('device.a'), '/dev/zero'), 'UNREADABLE', 'symbolic link'],
  ])('refuses %s, and says how to mend it', async (_, meddle, code, words) => {
    await saveTwice();
    meddle();
    const refusal = { name: 'StoreError', code: `ERR_DPS_STORE_${code}`, message: expect.stringContaining(words) };
    await expect(store.load(NEVER)).rejects.toMatchObject(refusal);
    await expect(store.save(sampleRecord(3), NEVER)).rejects.toMatchObject(refusal);
    await expect(readStoredRecord({ directory })).rejects.toMatchObject(refusal);
    chmodSync(directory, 0o700);
  });

  it(`refuses what belongs to another user (${isRoot() ? 'given away' : 'seen as another user'})`, async () => {
    await saveTwice();
    await store.close();
    for (const path of [directory, inFolder('device.a'), inFolder('device.b')]) {
      const io = await seenByAnother(path);
      const foreign = {
        code: 'ERR_DPS_STORE_OWNER',
        message: expect.stringMatching(/belongs to user \d+.*chown \d+ /),
      };
      await expect(readStoredRecord({ directory, io })).rejects.toMatchObject(foreign);
      if (isRoot()) chownSync(path, 0, 0);
    }
  });

  it('takes a link to its folder, and any folder above', async () => {
    mkdirSync(join(folder, 'real'), { mode: 0o700 });
    symlinkSync(join(folder, 'real'), directory);
    await store.save(sampleRecord(1), NEVER);
    expect(numberOf(await store.load(NEVER))).toBe(1);
  });

  it.each([
    [{ directory: '' }, 'directory'],
    [{ directory: 'a\0b' }, 'directory'],
    [{ directory: '/x', name: '../y' }, 'name'],
    [{ directory: '/x', name: '' }, 'name'],
  ])('refuses the options %j', (options, option) => {
    expect(() => fileRecordStore(options)).toThrow(expect.objectContaining({ code: 'ERR_DPS_CONFIG_OPTION', option }));
  });

  it.each([
    ['ENOSPC', 'ERR_DPS_STORE_FULL'],
    ['EROFS', 'ERR_DPS_STORE_READ_ONLY'],
  ])('starts from its record on a disk that answers every write with %s', async (systemCode, code) => {
    const io = new SimulatedDisk('/var', '/var/lib');
    const options = { directory: '/var/lib/device', io, processes: new FakeProcesses().start() };
    const first = fileRecordStore(options);
    await first.save(sampleRecord(1), NEVER);
    await first.close();
    io.onCall = (call) => {
      if (/^(open .*\.new|write|link|rename)/.test(call)) throw systemError(systemCode);
    };
    const second = fileRecordStore(options);
    expect(numberOf(await second.load(NEVER))).toBe(1);
    await expect(second.save(sampleRecord(2), NEVER)).rejects.toMatchObject({ code });
    expect(numberOf(await second.load(NEVER))).toBe(1);
    // Forgetting makes room.
    await second.forget(NEVER);
    expect(await second.load(NEVER)).toEqual({ kind: 'none' });
  });

  // Where nobody may mount, the test above has shown the same on a disk in memory.
  const canMount = spawnSync('unshare', ['-m', 'true']).status === 0;
  if (canMount)
    describe('on a file system of its own', () => {
      let program: string;
      let tools: string;
      beforeAll(async () => {
        tools = mkdtempSync(join(tmpdir(), 'store-tools-'));
        program = join(tools, 'save-once.mjs');
        await bundle('save-once.ts', program);
      });
      afterAll(() => rmSync(tools, { recursive: true }));

      /** Runs shell commands where `directory` is a file system of 64 KiB; what the steps said, one after the other. */
      const inMount = (script: string): { done: boolean; code?: string; message?: string; found?: unknown }[] => {
        mkdirSync(directory);
        const mount = `mount -t tmpfs -o size=64k,mode=0700 tmpfs "$D"; step() { "$NODE" "$PROGRAM" "$D" "$@"; }`;
        const env = { ...process.env, D: directory, NODE: process.execPath, PROGRAM: program };
        const said = execFileSync('unshare', ['-m', 'sh', '-euc', `${mount}; ${script}`], { env, encoding: 'utf8' });
        return said
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as { done: boolean });
      };

      it('that is full, says so, keeps the record, and goes on when there is room', () => {
        const fill = 'head -c 1000000 /dev/zero > "$D/fill" 2>/dev/null || true';
        const said = inMount(`step save 1; ${fill}; step save 2; step load; rm "$D/fill"; step save 3; step load`);
        expect(said).toMatchObject([
          { done: true },
          { done: false, code: 'ERR_DPS_STORE_FULL', message: expect.stringContaining('Free space') },
          { done: true, found: 1 },
          { done: true },
          { done: true, found: 3 },
        ]);
      });

      it('that is read-only, says so, and still starts from the record', () => {
        const said = inMount('step save 1; mount -o remount,ro "$D"; step save 2; step load; step forget; step load');
        expect(said).toMatchObject([
          { done: true },
          { done: false, code: 'ERR_DPS_STORE_READ_ONLY', message: expect.stringContaining('mounted read-only') },
          { done: true, found: 1 },
          { done: false, code: 'ERR_DPS_STORE_READ_ONLY' },
          { done: true, found: 1 },
        ]);
      });
    });
});

function numberOf(loaded: LoadedRecord): number | string {
  return loaded.kind === 'record' ? loaded.record.twin.desired.version : loaded.kind;
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** Only root can give a file away; anybody else looks at it as if with other eyes. */
async function seenByAnother(path: string): Promise<DurableIo> {
  if (!isRoot())
    return Object.create(nodeDurableIo, { userId: { value: (process.geteuid?.() ?? 0) + 1 } }) as DurableIo;
  chownSync(path, 12345, 12345);
  return nodeDurableIo;
}

function swap(a: string, b: string): void {
  renameSync(a, `${a}.aside`);
  renameSync(b, a);
  renameSync(`${a}.aside`, b);
}

function link(path: string, target: string): void {
  if (target !== '/nowhere' && target !== '/dev/zero') copyFileSync(path, target);
  rmSync(path);
  symlinkSync(target, path);
}

function pipe(path: string): void {
  rmSync(path);
  execFileSync('mkfifo', ['-m', '600', path]);
}

function folderAt(path: string): void {
  rmSync(path);
  mkdirSync(path, { mode: 0o700 });
}
