import { createSecretKey, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openEntry, readEntryLabel, sealEntry } from '../../../hsm/key-store/entry.js';
import { newEntry } from '../../../hsm/key-store/entry-change.js';
import { openBox, readBox, sealBox } from '../../../hsm/key-store/sealed-box.js';
import { makeStoreKey, openHeader, readHeader, sealHeader } from '../../../hsm/key-store/store-header.js';
import { isDpsError } from '../../../src/errors.js';
import { certified, symmetric } from './store-bench.js';

const STORE_ID = 'ab'.repeat(16);
const PLACE = { path: '/keys/entry-a', storeId: STORE_ID, name: 'a' };
const dataKey = createSecretKey(randomBytes(32));

/** One to four bytes changed, put in or taken out. */
const edits = fc.array(
  fc.record({ at: fc.nat(), byte: fc.nat(255), what: fc.constantFrom('set', 'insert', 'drop', 'cut') }),
  { minLength: 1, maxLength: 4 },
);

type Edits = readonly { readonly at: number; readonly byte: number; readonly what: string }[];

function edit(file: Uint8Array, changes: Edits): Uint8Array {
  let bytes = [...file];
  for (const { at, byte, what } of changes) {
    const place = at % (bytes.length + 1);
    if (what === 'set') bytes[Math.min(place, Math.max(0, bytes.length - 1))] = byte;
    if (what === 'insert') bytes.splice(place, 0, byte);
    if (what === 'drop') bytes.splice(place, 1);
    if (what === 'cut') bytes = bytes.slice(0, place);
  }
  return Uint8Array.from(bytes);
}

/** What comes of it, or the code of a typed error. */
async function settled<T>(work: () => T | Promise<T>): Promise<T | string> {
  try {
    return await work();
  } catch (error) {
    if (isDpsError(error)) return error.code;
    throw error;
  }
}

describe('a file that somebody has edited', () => {
  it('is opened as an entry only with the very label and content that were sealed', async () => {
    for (const material of [symmetric('dev-1'), await certified('dev-1')]) {
      const entry = { ...newEntry('a', material), generation: 1 };
      const file = sealEntry(STORE_ID, dataKey, entry);
      await fc.assert(
        fc.asyncProperty(edits, async (changes) => {
          const edited = edit(file, changes);
          const opened = await settled(() => openEntry(dataKey, edited, PLACE));
          await settled(() => readEntryLabel(edited, PLACE));
          if (typeof opened !== 'string') {
            expect(opened.currentKey.equals(entry.currentKey)).toBe(true);
            expect(opened.registrationId).toBe('dev-1');
          }
        }),
        { numRuns: 300 },
      );
    }
  });

  it('is opened as a header only with the very data key that was sealed', async () => {
    const made = makeStoreKey();
    const secret = { kind: 'key' as const, bytes: new Uint8Array(32).fill(7), place: 'a test' };
    const file = await sealHeader(made, secret, undefined);
    await fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        const opened = await settled(async () => {
          const header = readHeader(edit(file, changes), '/keys/store');
          return openHeader(header, secret, '/keys', undefined);
        });
        if (typeof opened !== 'string') expect(opened.equals(made.dataKey)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe('a sealed box', () => {
  it('gives back what was sealed, whatever that is, under the same key only', () => {
    const other = createSecretKey(randomBytes(32));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.string({ unit: 'binary' }), (secret, name) => {
        const box = readBox(sealBox(dataKey, { name }, secret));
        if (box === undefined) throw new Error('no box');
        expect(box.label).toEqual({ name });
        expect(openBox(dataKey, box)).toEqual(Buffer.from(secret));
        expect(openBox(other, box)).toBeUndefined();
      }),
    );
  });

  it('never looks the same twice', () => {
    const [one, two] = [1, 2].map(() => Buffer.from(sealBox(dataKey, { a: 1 }, new Uint8Array(16))).toString());
    expect(one).not.toBe(two);
  });
});
