import { copyFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { makeFolder, removeFolder, run } from '../../tools/trial-ground.mjs';
import { ROOT } from './built-package.js';

const folder = makeFolder();
copyFileSync(join(ROOT, 'dist/dps-device.mjs'), join(folder, 'dps-device.mjs'));
afterAll(() => removeFolder(folder));

describe('keys in the device file, which has nothing to make certificates with', () => {
  it.each(['ca', 'self-signed'])('keys make --kind %s leaves nothing behind', async (kind) => {
    const args = `keys make --key-store store --key-store-key-file seal.key --key-name k --kind ${kind}`.split(' ');
    const ended = await run(process.execPath, ['dps-device.mjs', ...args], { cwd: folder });
    expect([ended.status, ended.stdout]).toEqual([78, '']);
    expect(ended.stderr).toContain('what makes certificates stayed there. Install dps-device where you need it');
    expect(ended.stderr).not.toContain('made the key');
    expect(readdirSync(folder)).toEqual(['dps-device.mjs']);
  });
});
