// For Jest, whose files have a global object of their own and a `require` that takes no ES module.
const { overrideRecipe, presetRecipe, Sgd, scope, tensor, train, TrainingJob } = require('layerwise');

const recipe = overrideRecipe(presetRecipe('vgg11-layerwise', { dataset: 'shapes', onCuda: false }), {
  model: { width: 8 },
  dataset: { trainLimit: 64, testLimit: 32 },
  training: { epochs: 1, milestones: [] },
});

test('trains here', async () => {
  expect((await train({ recipe })).result.layers).toHaveLength(8);
});

test('trains in a worker thread', async () => {
  expect((await TrainingJob.train({ recipe }).outcome).result.layers).toHaveLength(8);
});

test('takes typed arrays, lists and maps of this context', () => {
  scope(() => {
    expect(tensor(Float32Array.of(1, 2), { shape: [2] }).toArray()).toEqual([1, 2]);
    expect(tensor([1, 2, 3, 4], { shape: [2, 2] }).shape).toEqual([2, 2]);
    const weight = tensor([1, 2], { dtype: 'float32' });
    weight.requiresGrad = true;
    const optimizer = new Sgd([weight], { learningRate: 0.1, momentum: 0.9 });
    const { tensors, isFirstStep } = optimizer.state;
    optimizer.restore({ tensors: new Map(tensors), isFirstStep });
  });
});
