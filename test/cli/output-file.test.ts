import { spawnSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { writeFileWhole } from '../../src/cli/output-file.js';
import { ConfigurationError } from '../../src/errors.js';
import { temporaryFolder } from './temporary-folder.js';

vi.mock('node:fs/promises', async (original) => {
  const module = await original<typeof import('node:fs/promises')>();
  return { ...module, rename: vi.fn(module.rename) };
});

describe('writeFileWhole', () => {
  it('puts the text in place with the mode, and leaves nothing beside it', async () => {
    const path = join(temporaryFolder(), 'file');
    await writeFileWhole({ path, option: '--x' }, 'text\n', 0o600);
    expect(readFileSync(path, 'utf8')).toBe('text\n');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(path, '..'))).toEqual(['file']);
  });

  it('leaves the file as it was when it cannot be replaced, and no draft', async () => {
    const path = join(temporaryFolder(), 'file');
    writeFileSync(path, 'old');
    chmodSync(path, 0o640);
    vi.mocked(rename).mockRejectedValueOnce(Object.assign(new Error('no'), { code: 'EIO' }));
    const error = await writeFileWhole({ path, option: '--x' }, 'new', 0o600).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ConfigurationError);
    expect((error as ConfigurationError).message).toBe(`--x: ${path} cannot be written: it is not accessible (EIO).`);
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(readdirSync(join(path, '..'))).toEqual(['file']);
  });

  it('takes any name that the file system takes', async () => {
    const path = join(temporaryFolder(), 'n'.repeat(255));
    await writeFileWhole({ path, option: '--x' }, 'text', 0o600);
    expect(readFileSync(path, 'utf8')).toBe('text');
  });

  it('is for its owner whatever the umask is, and for others as it lets them', async () => {
    const folder = temporaryFolder();
    const before = process.umask(0o777);
    onTestFinished(() => void process.umask(before));
    for (const [name, umask, mode, expected] of [
      ['a', 0o777, 0o600, 0o600],
      ['b', 0o077, 0o644, 0o600],
      ['c', 0o022, 0o644, 0o644],
    ] as const) {
      process.umask(umask);
      await writeFileWhole({ path: join(folder, name), option: '--x' }, 'text', mode);
      expect([name, statSync(join(folder, name)).mode & 0o777]).toEqual([name, expected]);
    }
  });

  it('removes what a process that was killed left of the same file, and nothing else', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'file');
    let draft = '';
    vi.mocked(rename).mockImplementationOnce(async (from) => {
      draft = basename(String(from));
    });
    await writeFileWhole({ path, option: '--x' }, 'left', 0o600);
    expect(readdirSync(folder)).toEqual([draft]);
    const [, , pid, random] = draft.split('.');
    expect(pid).toBe(String(process.pid));
    const { pid: ended } = spawnSync('true');
    const killed = draft.replace(`.${pid}.`, `.${ended}.`);
    const old = draft.replace(`.${random}`, '.000000000000');
    const other = killed.replace(/draft-.{4}/, 'draft-0000');
    for (const name of [killed, old, other]) writeFileSync(join(folder, name), 'key');
    utimesSync(join(folder, old), 1, 1);
    await writeFileWhole({ path, option: '--x' }, 'text', 0o600);
    // One of a process that is running stays: it may be at work.
    expect(readdirSync(folder).sort()).toEqual([draft, other, 'file'].sort());
  });
});
