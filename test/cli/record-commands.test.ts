import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { main } from '../../src/cli/main.js';
import type { DeviceRecord } from '../../src/core/record.js';
import { AbFile } from '../../src/durable/ab-file.js';
import { type FileRecordStore, fileRecordStore } from '../../src/state/file-store.js';
import { sampleRecord } from '../durable/sample-record.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import { fileWith, temporaryFolder } from './temporary-folder.js';

const NEVER = new AbortController().signal;

interface Ended {
  readonly status: number;
  readonly io: FakeIo;
}

async function call(command: 'status' | 'forget', args: readonly string[], setup: FakeIoOptions = {}): Promise<Ended> {
  const io = fakeIo(setup);
  const status = await main([command, ...args], io);
  expect([io.listeners(), io.clock.pending]).toEqual([0, 0]);
  return { status, io };
}

/** A store that still holds its lock, with these records saved one after the other. */
async function storeWith(...records: readonly DeviceRecord[]): Promise<{ directory: string; store: FileRecordStore }> {
  const directory = join(temporaryFolder(), 'state');
  const store = fileRecordStore({ directory });
  onTestFinished(() => store.close());
  for (const record of records) await store.save(record, NEVER);
  return { directory, store };
}

async function folderWith(...records: readonly DeviceRecord[]): Promise<string> {
  const { directory, store } = await storeWith(...records);
  await store.close();
  return directory;
}

async function statusOf(directory: string): Promise<Record<string, unknown>> {
  const { status, io } = await call('status', ['--state', directory]);
  expect(status, io.err()).toBe(0);
  return JSON.parse(io.out());
}

/** As a later release would leave it. */
async function age(directory: string): Promise<void> {
  const file = new AbFile({ directory, name: 'device', maxBytes: 1_000 });
  await file.read(NEVER);
  await file.write(Buffer.from('{"format":2}'), NEVER);
}

function spoil(directory: string, names: readonly string[] = readdirSync(directory)): void {
  for (const name of names)
    writeFileSync(join(directory, name), readFileSync(join(directory, name)).fill(0x20, 40, 60));
}

describe('dps-device status', () => {
  it('shows what is remembered', async () => {
    const record = { ...sampleRecord(3), acceptedAtWallMs: Date.UTC(2026, 4, 1), movedTo: 'hub-4.azure-devices.net' };
    const directory = await folderWith(record);
    expect(await statusOf(directory)).toEqual({
      status: 'stored',
      endpoint: 'global.azure-devices-provisioning.net',
      idScope: '0ne00111111',
      registrationId: 'dev-1',
      attestation: 'symmetricKey',
      assignedHub: 'hub-3.azure-devices.net',
      deviceId: 'dev-1',
      substatus: 'initialAssignment',
      movedTo: 'hub-4.azure-devices.net',
      slot: 0,
      transport: { dps: 'mqtt', hub: 'mqtt' },
      acceptedAt: '2026-05-01T00:00:00.000Z',
      twin: { desired: { version: 3, properties: { filler: '' } }, reported: { version: 3, properties: {} } },
      state: directory,
    });
  });

  it('looks while another process uses the folder, and changes nothing', async () => {
    const { directory } = await storeWith(sampleRecord(1));
    const before = readdirSync(directory);
    expect(await statusOf(directory)).toMatchObject({ status: 'stored' });
    expect(readdirSync(directory)).toEqual(before);
  });

  it('says that there is nothing, and makes no folder', async () => {
    const directory = join(temporaryFolder(), 'none');
    expect(await statusOf(directory)).toEqual({ status: 'none', state: directory });
    expect(existsSync(directory)).toBe(false);
  });

  it('says what is damaged, with the other copy where there is one', async () => {
    const directory = await folderWith(sampleRecord(1), sampleRecord(2));
    const [first = '', ...rest] = readdirSync(directory);
    spoil(directory, [first]);
    expect(await statusOf(directory)).toMatchObject({ status: 'stored', damaged: expect.stringContaining(first) });
    spoil(directory, rest);
    expect(await statusOf(directory)).toEqual({ status: 'damaged', what: expect.any(String), state: directory });
  });

  it('takes the options of the other commands, and uses its own', async () => {
    const directory = await folderWith(sampleRecord(1));
    const config = fileWith(JSON.stringify({ idScope: '0ne1', certFile: 'nowhere.pem', reprovisionMethod: 'back' }));
    const env = { DPS_STATE: directory, DPS_SYMMETRIC_KEY: 'S3CRET', DPS_PROXY_PASSWORD: 'S3CRET' };
    const { status, io } = await call('status', ['--config', config], { env });
    expect([status, JSON.parse(io.out()).status]).toEqual([0, 'stored']);
    expect(Object.keys(io.env)).toEqual(['DPS_STATE']);
  });

  it('takes a folder of the configuration as beside it', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'device.json'), '{"state":"state"}');
    const { io } = await call('status', ['--config', join(folder, 'device.json')]);
    expect(JSON.parse(io.out())).toEqual({ status: 'none', state: join(folder, 'state') });
  });

  it('needs a reader', async () => {
    const stdoutFailure = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
    expect((await call('status', ['--state', temporaryFolder()], { stdoutFailure })).status).toBe(74);
  });
});

describe('dps-device forget', () => {
  it('removes a record, also a damaged one and one of a newer release', async () => {
    const changes: readonly ((directory: string) => unknown)[] = [() => undefined, (each) => spoil(each), age];
    for (const change of changes) {
      const directory = await folderWith(sampleRecord(1), sampleRecord(2));
      await change(directory);
      const { status, io } = await call('forget', ['--state', directory]);
      expect([status, io.out(), io.err()]).toEqual([0, '', `forgotten; the next start asks DPS: ${directory}\n`]);
      expect(await statusOf(directory)).toEqual({ status: 'none', state: directory });
    }
  });

  it('can be called where there is nothing, and makes no folder', async () => {
    const directory = join(temporaryFolder(), 'none');
    const { status, io } = await call('forget', ['--state', directory]);
    expect([status, io.err()]).toEqual([0, `nothing is remembered: there is no folder ${directory}\n`]);
    expect(existsSync(directory)).toBe(false);
  });

  it('says that there was nothing to forget, once and again', async () => {
    const directory = await folderWith(sampleRecord(1));
    const first = await call('forget', ['--state', directory]);
    expect(first.io.err()).toBe(`forgotten; the next start asks DPS: ${directory}\n`);
    const again = await call('forget', ['--state', directory]);
    expect([again.status, again.io.err()]).toEqual([0, `nothing was remembered: ${directory}\n`]);
  });

  it('ends in 75 while the folder is in use, and leaves the record', async () => {
    const { directory } = await storeWith(sampleRecord(1));
    const { status, io } = await call('forget', ['--state', directory]);
    expect([status, io.err()]).toEqual([75, expect.stringContaining('error ERR_DPS_STORE_LOCKED')]);
    expect(await statusOf(directory)).toMatchObject({ status: 'stored' });
  });

  it('tells machines in their way', async () => {
    const directory = await folderWith(sampleRecord(1));
    const { io } = await call('forget', ['--state', directory, '--json-log']);
    expect(JSON.parse(io.err())).toEqual({ type: 'forgotten', state: directory });
  });
});

describe.each(['status', 'forget'] as const)('dps-device %s refuses', (command) => {
  it.each<[string, () => Promise<string[]>, number, string]>([
    ['no folder', async () => [], 64, '--state is missing'],
    ['no folder in a configuration', async () => ['--config', fileWith('{}')], 78, '--state is missing'],
    ['an empty name', async () => ['--state', ''], 64, '--state: it is empty'],
    ['a file', async () => ['--state', fileWith('x')], 78, 'is not a folder'],
    ['a folder for everybody', async () => ['--state', await openFolder()], 78, 'chmod 700'],
    ['what is no word', async () => ['--stat', '/var/lib/device'], 64, 'Did you mean --state?'],
    ['a key', async () => ['--state', Buffer.alloc(48, 'k3Y').toString('base64')], 64, 'not shown: it may be a secret'],
  ])('%s', async (_, args, expected, said) => {
    const { status, io } = await call(command, await args());
    expect([status, io.out(), io.err()]).toEqual([expected, '', expect.stringContaining(said)]);
  });
});

it('dps-device status refuses a record of a newer release', async () => {
  const directory = await folderWith(sampleRecord(1), sampleRecord(2));
  await age(directory);
  const { status, io } = await call('status', ['--state', directory]);
  expect([status, io.err()]).toEqual([78, expect.stringContaining('error ERR_DPS_STORE_NEWER_FORMAT')]);
});

async function openFolder(): Promise<string> {
  const folder = join(temporaryFolder(), 'open');
  mkdirSync(folder);
  chmodSync(folder, 0o755);
  return folder;
}
