import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openKeyStore } from '../../../hsm/software-key-store.js';
import { decodeSlot, encodeSlot, SLOT_FORMAT } from '../../../src/durable/slot.js';
import { makeTestStore, symmetric } from './store-bench.js';

/** Both copies of an A/B file as a later release would have written them: their content, or the files themselves. */
function makeNewer(directory: string, name: string, what: 'content' | 'slot'): void {
  for (const letter of ['a', 'b']) {
    const path = join(directory, `${name}.${letter}`);
    let file: Uint8Array;
    try {
      file = readFileSync(path);
    } catch {
      continue;
    }
    const decoded = decodeSlot(name, file);
    if (decoded.kind !== 'slot') throw new Error(decoded.what);
    const { slot } = decoded;
    const bytes = Buffer.from(Buffer.from(slot.bytes).toString().replace('"format":1', '"format":2'));
    const newer = what === 'content' ? { ...slot, bytes } : { ...slot, format: SLOT_FORMAT + 1 };
    writeFileSync(path, encodeSlot(name, newer));
  }
}

describe('a key store of a later release', () => {
  it.each(['content', 'slot'] as const)('is told as one, and never to be forgotten: header, %s', async (what) => {
    const { options } = await makeTestStore();
    makeNewer(options.directory, 'store', what);
    const error = await openKeyStore(options).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'ERR_DPS_STORE_NEWER_FORMAT',
      message: expect.stringContaining('or put the folder of the key store back from a backup made by this one.'),
    });
    expect(String(error)).not.toContain('forgotten');
  });

  it.each(['content', 'slot'] as const)('is told as one, and never to be forgotten: entry, %s', async (what) => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    makeNewer(options.directory, 'entry-a', what);
    const error = await store.hsm('a').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'ERR_DPS_STORE_NEWER_FORMAT',
      message: expect.stringContaining('or put the folder of the key store back from a backup made by this one.'),
    });
    expect(String(error)).not.toContain('forgotten');
  });
});
