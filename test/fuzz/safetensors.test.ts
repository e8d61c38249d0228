import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readSafetensors } from '../../lib/nn/index.js';
import { safetensors } from './safetensors.js';

it('a good one is read, so that the errors come from the damage', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'layerwise-fuzz-'));
  const counts: number[] = [];
  for (const seed of await safetensors.seeds()) {
    await writeFile(join(folder, 'x'), seed);
    const { tensors } = await readSafetensors(join(folder, 'x'));
    counts.push(tensors.size);
    for (const value of tensors.values()) value.dispose();
  }
  expect(counts).toEqual([13, 9, 2, 0]);
  await rm(folder, { recursive: true });
});
