// As program.mjs, from CommonJS.
const assert = require('node:assert/strict');
const { overrideRecipe, presetRecipe, Tensor, train } = require('layerwise');

async function main() {
  assert.equal((await import('layerwise')).Tensor, Tensor);
  const preset = presetRecipe('vgg11-layerwise', { dataset: 'shapes', onCuda: false });
  const { result } = await train({
    recipe: overrideRecipe(preset, {
      model: { width: 8 },
      dataset: { trainLimit: 64, testLimit: 32 },
      training: { epochs: 1, milestones: [] },
    }),
  });
  console.log(`${process.version}: ${result.layers.length} layers, one instance`);
}

main();
