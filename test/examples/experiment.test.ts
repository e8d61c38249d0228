// Runs of an experiment that are there already.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { overrideRecipe, presetRecipe } from 'layerwise';
import { afterAll, expect, it, vi } from 'vitest';
import { resultOf, runOrResume } from '../../examples/support/experiment.js';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-experiment-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const recipe = overrideRecipe(presetRecipe('simcnn-k1', { dataset: 'shapes', onCuda: false }), {
  model: { width: 4, layers: 1, downsampleAt: [] },
  dataset: { trainLimit: 32, testLimit: 16 },
  training: { epochs: 1, batchSize: 16, milestones: [] },
  device: 'cpu',
});

it('gives the figures of a finished run from its records, and refuses those of another recipe', async () => {
  const printed = vi.spyOn(console, 'log').mockImplementation(() => {});
  try {
    const directory = join(folder, 'one');
    const result = await resultOf(recipe, directory);
    expect(printed).toHaveBeenCalledTimes(1);
    rmSync(join(directory, 'model.safetensors'));
    expect(await resultOf(recipe, directory)).toEqual(result);
    expect(printed).toHaveBeenCalledTimes(1);
    // What needs the weights says that they are missing.
    await expect(runOrResume(recipe, directory)).rejects.toThrow('not found, but the run has finished');
    const others = {
      seed: { seed: 2 },
      training: { training: { epochs: 2 } },
      model: { model: { width: 5 } },
      dataset: { dataset: { testLimit: 15 } },
    };
    for (const [name, values] of Object.entries(others)) {
      await expect(resultOf(overrideRecipe(recipe, values), directory)).rejects.toThrow(
        `${directory}: expected a run of this experiment's recipe, got one that differs in ${name}`,
      );
    }
  } finally {
    printed.mockRestore();
  }
});
