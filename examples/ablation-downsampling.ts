// Four ways to halve the resolution: the paper's invertible reordering (section 4.1), strided convolution, average and max
// pooling; SimCNN k = 3, everything else alike.
//
//   npm run example -- ablation-downsampling --data-dir DIR                  smoke scale: minutes on two cores
//   npm run example -- ablation-downsampling --scale paper --data-dir DIR    the full recipe on CIFAR-10

import { join } from 'node:path';
import { depthSeriesChart, type RunResult } from 'layerwise';
import { conditionsOf, experimentOptions, notesOf, recipeOf, resultOf } from './support/experiment.js';
import { measured, percent, withEnsemble, writeTable } from './support/table.js';

const VARIANTS = [
  { downsampling: 'invertible', name: "invertible, the paper's" },
  { downsampling: 'stride', name: 'stride 2' },
  { downsampling: 'average', name: 'average pooling' },
  { downsampling: 'max', name: 'max pooling' },
];

/** Narrow, few images and epochs, and rates that suit them. */
const SMOKE = {
  model: { width: 16, auxWidth: 16, layers: 3, downsampleAt: [1] },
  dataset: { trainLimit: 2000, testLimit: 1000 },
  training: { epochs: 3, batchSize: 64, learningRate: 0.05, milestones: [2], decay: 0.2 },
};

const options = experimentOptions({
  name: 'ablation-downsampling',
  description: 'SimCNN k = 3 with four ways to halve the resolution',
  datasets: ['cifar10'],
  paperSeeds: 3,
});

const figures = [];
for (const { downsampling, name } of VARIANTS) {
  const results: RunResult[] = [];
  for (const seed of options.seeds) {
    const recipe = recipeOf('simcnn-k3', options, seed, options.scale === 'smoke' ? SMOKE : {});
    if (recipe.model.name !== 'simcnn') throw new Error('a SimCNN is expected');
    const variant = { ...recipe, model: { ...recipe.model, downsampling: downsampling as 'invertible' } };
    const result = await resultOf(variant, join(options.out, `${downsampling}-seed${seed}`));
    results.push(result);
  }
  const byLayer = results[0]!.layers.map(({ layer }, i) => ({
    layer,
    top1: measured(results.map(({ layers }) => layers[i]!.testTop1)),
    ensemble: measured(results.map(({ layers }) => layers[i]!.ensembleTop1)),
  }));
  const parameters = results[0]!.layers.reduce((sum, one) => sum + one.parameters!.block, 0);
  figures.push({ downsampling, name, parameters, here: byLayer.at(-1)!, byLayer });
}

const series = figures.map(({ name, byLayer }) => ({
  name,
  points: byLayer.map(({ layer, top1 }) => ({ layer, value: top1!.mean, low: top1!.low, high: top1!.high })),
}));
await writeTable(options.out, {
  title: 'Ways to halve the resolution, SimCNN k = 3',
  conditions: await conditionsOf(options, [join(options.out, `invertible-seed${options.seeds[0]}`)]),
  columns: ['downsampling', "blocks' parameters", 'here: top-1 % (ensemble)', 'here, by layer: top-1 %'],
  rows: figures.map(({ name, parameters, here, byLayer }) => [
    name,
    parameters.toLocaleString('en'),
    withEnsemble(here.top1, here.ensemble),
    byLayer.map(({ top1 }) => percent(top1)).join(', '),
  ]),
  notes: [
    ...notesOf(options),
    'The invertible reordering gives the layer that follows four times the input channels, and so more parameters.',
  ],
  figures,
  charts: {
    'accuracy-by-depth.svg': depthSeriesChart([{ title: 'Top-1 after each layer', series }], {
      width: 720,
      id: 'downsampling',
      title: 'Ways to halve the resolution',
      standalone: true,
    }),
  },
});
