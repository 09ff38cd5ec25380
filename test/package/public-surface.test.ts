import { describe, expect, it } from 'vitest';
import { doors } from './built-package.js';
import { publicSurface } from './public-surface.js';

const surfaces = doors.flatMap(({ name, types, commonJsTypes }) => [
  { name, file: types },
  ...(commonJsTypes === undefined ? [] : [{ name: `${name} for CommonJS`, file: commonJsTypes }]),
]);

/** After a change that is meant: `npm run build && npx vitest run test/package/public-surface.test.ts -u`. */
describe('the public types', () => {
  it('are read from every door', () => {
    expect(surfaces.length).toBeGreaterThanOrEqual(7);
    const front = publicSurface('src/index.d.ts');
    // A member of a type that only another type leads to.
    expect(front).toContain('\n// src/core/twin.d.ts\n');
    expect(front).toContain('readonly desired: TwinSection;');
    expect(front).not.toContain('/**');
  });

  it.each(surfaces)('of $name are as they were', async ({ name, file }) => {
    const snapshot = name.replace('./', '').replace(/^\./, 'index').replaceAll(/[ /]/g, '-');
    await expect(publicSurface(file.replace('dist/', ''))).toMatchFileSnapshot(`public-surface/${snapshot}.txt`);
  });
});
