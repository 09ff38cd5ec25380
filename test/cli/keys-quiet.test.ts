import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { fakeIo } from './fake-io.js';
import { temporaryFolder } from './temporary-folder.js';

/** What a command tells on standard error that makes a store and its key file. */
async function notesOf(flags: readonly string[], env: Record<string, string> = {}): Promise<string[]> {
  const folder = temporaryFolder();
  const io = fakeIo({ env });
  const store = ['--key-store', join(folder, 'store'), '--key-store-key-file', join(folder, 'store.key')];
  expect(await main(['keys', 'make', '--key-name', 'a', '--kind', 'symmetric-key', ...store, ...flags], io)).toBe(0);
  return io.err().split('\n').slice(0, -1);
}

describe('the notes of keys', () => {
  it('are lines for people, or JSON, or not made, as the options say, in the environment, too', async () => {
    const told = [/^made the key file /, /^made the key store /, /^careful: /].map((each) =>
      expect.stringMatching(each),
    );
    expect(await notesOf([])).toEqual(told);
    for (const json of [await notesOf(['--json-log']), await notesOf([], { DPS_JSON_LOG: '1' })]) {
      expect(json.map((line) => JSON.parse(line))).toMatchObject([
        { line: 'key file made' },
        { line: 'key store made' },
        { line: expect.stringMatching(/^careful: /) },
      ]);
    }
    expect(await notesOf(['--quiet'])).toEqual([]);
    expect(await notesOf([], { DPS_QUIET: '1' })).toEqual([]);
  });
});
