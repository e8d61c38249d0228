// After every test the live tensors and their bytes must be where they were before it: library code leaks nothing.
// Files that never load the addon are not made to load it.
import { afterEach, beforeEach } from 'vitest';

const files =
  /\/test\/(scripts|cli|e2e|service|data\/(?!augmentation|batches|streamed-images|prefetch-pass)|evaluation\/report)/;

interface Counts {
  liveTensors: number;
  liveGenerators: number;
  cpuBytes: number;
  cudaBytes: number;
  externalBytes: number;
}

let before: Counts | null = null;

async function counts(): Promise<Counts> {
  const { memoryStats } = await import('../../lib/tensor/index.js');
  return { ...memoryStats() };
}

beforeEach(async ({ task }) => {
  before = files.test(task.file.filepath) ? null : await counts();
});

afterEach(async () => {
  if (before === null) return;
  const after = await counts();
  if (JSON.stringify(after) !== JSON.stringify(before)) {
    throw new Error(`the test leaked: before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`);
  }
});
