import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EXIT } from '../../src/cli/exit-codes.js';
import { encodeSlot } from '../../src/durable/slot.js';
import { slotOf } from '../hsm/key-store/store-bench.js';
import { keys, keysBench, succeed } from './keys-bench.js';

describe('keys list', () => {
  it('tells what is there; without a secret it says that nothing was verified', async () => {
    const { store, flags } = keysBench();
    await succeed(['make', '--key-name', 'a', '--kind', 'symmetric-key', ...flags]);
    await succeed(['make', '--key-name', 'b', '--kind', 'self-signed', '--registration-id', 'dev-1', ...flags]);
    const verified = await succeed(['list', ...flags]);
    expect(verified).toMatchObject({ keyStore: store, verified: true });
    expect(verified.entries.map(({ name }) => name)).toEqual(['a', 'b']);
    const labels = await succeed(['list', '--key-store', store]);
    expect(labels).toEqual({ ...verified, verified: false });
  });

  it('tells entries that cannot be used with what to do, lists the others, and ends in 78', async () => {
    const { store, flags } = keysBench();
    for (const name of ['a', 'b']) await succeed(['make', '--key-name', name, '--kind', 'symmetric-key', ...flags]);
    for (const slot of ['a', 'b']) writeFileSync(join(store, `entry-b.${slot}`), 'x');
    for (const opening of [flags, ['--key-store', store], [...flags, '--quiet']]) {
      const { status, io, result } = await keys(['list', ...opening]);
      expect(status).toBe(EXIT.configuration);
      expect(result.entries).toEqual([
        expect.objectContaining({ name: 'a', kind: 'symmetricKey' }),
        { name: 'b', problem: expect.stringContaining('entry-b.a is damaged') },
      ]);
      expect(io.err()).toMatch(/^b: .*entry-b\.a is damaged: .*back from a backup.*keys remove --key-name b\n$/);
    }
  });

  it('says once what to do about an entry that was edited', async () => {
    const { store, flags } = keysBench();
    for (const name of ['a', 'b']) await succeed(['make', '--key-name', name, '--kind', 'symmetric-key', ...flags]);
    const copied = slotOf(join(store, 'entry-a.a'), 'entry-a');
    for (const slot of ['a', 'b']) writeFileSync(join(store, `entry-b.${slot}`), encodeSlot('entry-b', copied));
    const { status, io } = await keys(['list', ...flags]);
    expect(status).toBe(EXIT.configuration);
    expect(io.err().match(/keys remove --key-name b/g)).toHaveLength(1);
  });

  it('says of an entry with one damaged copy that an older state may be in use, and what to do', async () => {
    const { store, flags } = keysBench();
    await succeed(['make', '--key-name', 'b', '--kind', 'symmetric-key', ...flags]);
    await succeed(['rotate', '--key-name', 'b', '--step', 'stage', ...flags]);
    const generationOf = (slot: string): number => slotOf(join(store, `entry-b.${slot}`), 'entry-b').generation;
    const newer = generationOf('a') > generationOf('b') ? 'a' : 'b';
    writeFileSync(join(store, `entry-b.${newer}`), 'x');
    const { status, io, result } = await keys(['list', ...flags]);
    expect([status, result.entries[0]?.staged]).toEqual([EXIT.ok, undefined]);
    expect(io.err()).toMatch(
      /^b: .*entry-b\.[ab] is damaged: .*an older state of the entry may be in use.*from a backup/,
    );
  });

  it.each([
    ['no store', () => undefined, EXIT.hsm, 'There is no key store in'],
    [
      'a folder that is open to others',
      (store: string) => mkdirSync(store, { mode: 0o755 }),
      EXIT.configuration,
      'chmod 700',
    ],
    ['a file', (store: string) => writeFileSync(store, ''), EXIT.configuration, 'is not a folder'],
  ])('of %s ends in an error with the fix', async (_, prepare, status, message) => {
    const { store } = keysBench();
    prepare(store);
    const ended = await keys(['list', '--key-store', store]);
    expect([ended.status, ended.io.err()]).toEqual([status, expect.stringContaining(message)]);
  });
});
