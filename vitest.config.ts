import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // LibTorch's threads spin while they wait: two test files that train at once would slow each other tenfold.
    fileParallelism: false,
    pool: 'forks',
    setupFiles: ['test/support/leak-check.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
