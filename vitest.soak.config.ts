import { defineConfig } from 'vitest/config';

/** Full counts, printed: `npm run build && npx vitest run --config vitest.soak.config.ts`. */
export default defineConfig({
  test: {
    include: ['test/soak/**/*.soak.ts'],
    pool: 'forks',
    execArgv: ['--expose-gc'],
    // One after the other: memory is measured.
    fileParallelism: false,
    disableConsoleIntercept: true,
    testTimeout: 24 * 60 * 60 * 1000,
    hookTimeout: 120_000,
  },
});
