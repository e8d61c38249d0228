import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  // scripts/run.mjs starts Vitest through a link where it does not take the clone's path.
  resolve: { preserveSymlinks: true },
  test: {
    include: ['test/**/*.test.ts'],
    // LibTorch's threads spin while they wait, so that programs which share cores slow each other many times over: one
    // thread each, in as many files at a time as there are cores.
    env: { OMP_NUM_THREADS: '1' },
    pool: 'forks',
    maxWorkers: availableParallelism(),
    setupFiles: ['test/support/leak-check.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
