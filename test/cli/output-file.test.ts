import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
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
});
