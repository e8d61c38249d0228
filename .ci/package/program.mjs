// Trains in a worker thread and opens the run, as a program of a project does, and requires the same instance.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { overrideRecipe, presetRecipe, Tensor, TrainedRun, TrainingJob } from 'layerwise';

assert.equal(createRequire(import.meta.url)('layerwise').Tensor, Tensor);
const preset = presetRecipe('vgg11-layerwise', { dataset: 'shapes', onCuda: false });
const recipe = overrideRecipe(preset, { model: { width: 8 }, dataset: { trainLimit: 64, testLimit: 32 } });
const job = TrainingJob.train({ recipe: overrideRecipe(recipe, { training: { epochs: 1, milestones: [] } }) });
const { runDirectory } = await job.outcome;
const run = await TrainedRun.open(runDirectory);
console.log(`${process.version}: ${run.layers} layers, one instance`);
run.dispose();
