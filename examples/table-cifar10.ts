// The paper's CIFAR-10 table (section 4.1): SimCNN for k = 1, 2, 3, trained layer by layer; the test accuracy of the last
// layer, and of the ensemble over layers.
//
//   npm run example -- table-cifar10 --data-dir DIR                  smoke scale: minutes on two cores
//   npm run example -- table-cifar10 --scale paper --data-dir DIR    the full recipe on CIFAR-10

import { join } from 'node:path';
import { accuracyByDepthChart, type RunResult } from 'layerwise';
import { conditionsOf, experimentOptions, notesOf, recipeOf, runOrResume } from './support/experiment.js';
import { measured, percent, published, withEnsemble, writeTable } from './support/table.js';

/** Last layer and ensemble, top-1 %, as published. */
const PAPER = [
  { k: 1, top1: published(88.3), ensemble: published(88.4) },
  { k: 2, top1: published(90.4), ensemble: published(90.7) },
  { k: 3, top1: published(91.7), ensemble: published(92.8) },
];

/** Others in the same table of the paper, top-1 %. */
const OTHERS = {
  BoostResNet: 82.1,
  ProvableNN: 73.4,
  'Mosca et al.': 81.6,
  AlexNet: 89,
  VGG: 92.5,
  'WRN-28-10': 96.0,
  scattering: 82.3,
  'unsupervised + SVM': 84.3,
};

/** Narrow, few images and epochs, and rates that suit them. */
const SMOKE = {
  model: { width: 32, auxWidth: 32 },
  dataset: { trainLimit: 3000, testLimit: 1000 },
  training: { epochs: 3, batchSize: 64, learningRate: 0.05, milestones: [2], decay: 0.2 },
};

const options = experimentOptions({
  name: 'table-cifar10',
  description: 'the CIFAR-10 table of the paper: SimCNN for k = 1, 2, 3',
  datasets: ['cifar10'],
});

const figures = [];
const charts: Record<string, string> = {};
for (const { k, ...paper } of PAPER) {
  const results: RunResult[] = [];
  for (const seed of options.seeds) {
    const recipe = recipeOf(`simcnn-k${k}`, options, seed, options.scale === 'smoke' ? SMOKE : {});
    const { result } = await runOrResume(recipe, join(options.out, `k${k}-seed${seed}`));
    results.push(result);
  }
  const byLayer = results[0]!.layers.map((_, layer) => ({
    layer,
    top1: measured(results.map(({ layers }) => layers[layer]!.testTop1)),
    ensemble: measured(results.map(({ layers }) => layers[layer]!.ensembleTop1)),
  }));
  figures.push({ k, paper, here: byLayer.at(-1)!, byLayer });
  const title = `SimCNN k = ${k}`;
  charts[`k${k}.svg`] = accuracyByDepthChart(
    byLayer.map(({ layer, top1, ensemble }) => ({ layer, testTop1: top1!.mean, ensembleTop1: ensemble!.mean })),
    { width: 640, id: `k${k}`, title, standalone: true },
  );
}

await writeTable(options.out, {
  title: 'SimCNN, trained layer by layer',
  conditions: await conditionsOf(options, join(options.out, `k3-seed${options.seeds[0]}`)),
  columns: ['network', 'paper: top-1 % (ensemble)', 'here: top-1 % (ensemble)', 'here, by layer: top-1 %'],
  rows: [
    ...figures.map(({ k, paper, here, byLayer }) => [
      `SimCNN k = ${k}`,
      withEnsemble(paper.top1, paper.ensemble),
      withEnsemble(here.top1, here.ensemble),
      byLayer.map(({ top1 }) => percent(top1)).join(', '),
    ]),
    ...Object.entries(OTHERS).map(([name, top1]) => [name, top1.toFixed(1), '', '']),
  ],
  notes: notesOf(options),
  figures,
  charts,
});
