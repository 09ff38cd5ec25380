import { chmodSync, chownSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { AbFile } from '../../src/durable/ab-file.js';
import { type FileRecordStore, fileRecordStore } from '../../src/state/file-store.js';
import { folder, perform, type Row, run, stage, usual } from './bench.js';

/** Held open, as by another process. */
const stores: FileRecordStore[] = [];
const NEVER = new AbortController().signal;

afterAll(() => Promise.all(stores.map((store) => store.close())));

const ROWS: readonly Row[] = [
  {
    name: 'state folder for everybody',
    exit: 78,
    code: 'ERR_DPS_STORE_MODE',
    says: /chmod 700/,
    args: ({ enrolled, state }) => [...enrolled(), '--state', state((path) => chmodSync(path, 0o755))],
  },
  {
    name: 'state folder of another user',
    exit: 78,
    code: 'ERR_DPS_STORE_OWNER',
    says: /belongs to user .*chown/,
    args: ({ enrolled, state }) => [
      ...enrolled(),
      '--state',
      process.getuid?.() === 0 ? state((path) => chownSync(path, 65_534, 65_534)) : '/usr',
    ],
  },
  {
    name: 'file instead of a state folder',
    exit: 78,
    code: 'ERR_DPS_STORE_UNWRITABLE',
    says: /not a folder/,
    args: ({ enrolled, file }) => [...enrolled(), '--state', file('state', 'x')],
  },
  {
    name: 'state folder in a folder that is missing',
    exit: 78,
    code: 'ERR_DPS_STORE_UNWRITABLE',
    says: /mkdir -p/,
    args: ({ device, enrolled }) => [...enrolled(), '--state', join(folder, device, 'nowhere', 'state')],
  },
  {
    name: 'state folder that another process uses',
    exit: 75,
    code: 'ERR_DPS_STORE_LOCKED',
    says: new RegExp(`${process.pid}`),
    args: async ({ enrolled, state }) => {
      const directory = state();
      const store = fileRecordStore({ directory });
      stores.push(store);
      await store.load(NEVER);
      return [...enrolled(), '--state', directory];
    },
  },
  {
    name: 'record of a newer release',
    exit: 78,
    code: 'ERR_DPS_STORE_NEWER_FORMAT',
    says: /later release/,
    args: async ({ enrolled, state }) => {
      const directory = state();
      const file = new AbFile({ directory, name: 'device', maxBytes: 1_000 });
      await file.write(Buffer.from('{"format":2}'), NEVER);
      return [...enrolled(), '--state', directory];
    },
  },
  {
    name: 'key as the state folder',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    says: /not shown/,
    args: ({ enrolled }) => [...enrolled(), '--state', Buffer.alloc(48, 'k3Y').toString('base64')],
  },
  {
    name: 'no state folder at all',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    args: ({ enrolled }) => [...enrolled(), '--state='],
  },
];

describe.concurrent('the state folder', () => {
  it.each(ROWS.map((row) => [row.name, row] as const))('%s', (_, row) => perform(row));

  it('a damaged record is told, and the device registers anew', async () => {
    const { enrolled, state } = stage();
    const directory = state();
    const args = [...usual(), ...enrolled(), '--state', directory];
    expect(await run(args)).toMatchObject({ exit: 0 });
    for (const name of readdirSync(directory)) writeFileSync(join(directory, name), 'junk');
    const { exit, stdout, stderr } = await run(args);
    expect([exit, JSON.parse(stdout)], stderr).toEqual([0, expect.objectContaining({ source: 'registered' })]);
    expect(stderr).toMatch(/"type":"record".*damaged/);
    expect(JSON.parse((await run(args)).stdout)).toMatchObject({ source: 'stored' });
  });
});
