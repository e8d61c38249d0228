// The paper's CIFAR-10 table (section 4.1): SimCNN for k = 1, 2, 3, trained layer by layer; the test accuracy of the last
// layer, and of the ensemble over layers. At the reduced scale also VGG-11, layer by layer and end to end.
//
//   npm run example -- table-cifar10 --data-dir DIR                    smoke scale: minutes on two cores
//   npm run example -- table-cifar10 --scale reduced --data-dir DIR    all images, narrower, 12 epochs: hours on two cores
//   npm run example -- table-cifar10 --scale paper --data-dir DIR      the full recipe on CIFAR-10

import { join } from 'node:path';
import { accuracyByDepthChart, canRehearse, overrideRecipe, planRecipe, type Recipe, type RunResult } from 'layerwise';
import { conditionsOf, experimentOptions, notesOf, recipeOf, resultOf } from './support/experiment.js';
import { measured, type Published, percent, published, withEnsemble, writeTable } from './support/table.js';

interface TableNetwork {
  readonly name: string;
  readonly title: string;
  readonly preset: string;
  /** Last layer and ensemble, top-1 %, as published. */
  readonly paper: { readonly top1: Published; readonly ensemble: Published } | null;
  /** The layers that SimCNN's auxiliary problems have. */
  readonly k?: number;
}

const SIMCNN: readonly TableNetwork[] = [
  { k: 1, paper: { top1: published(88.3), ensemble: published(88.4) } },
  { k: 2, paper: { top1: published(90.4), ensemble: published(90.7) } },
  { k: 3, paper: { top1: published(91.7), ensemble: published(92.8) } },
].map((row) => ({ ...row, name: `k${row.k}`, title: `SimCNN k = ${row.k}`, preset: `simcnn-k${row.k}` }));

const VGG11: readonly TableNetwork[] = [
  { name: 'vgg11', title: 'VGG-11, layer by layer', preset: 'vgg11-layerwise', paper: null },
  { name: 'vgg11-end-to-end', title: 'VGG-11, end to end', preset: 'vgg11-end-to-end', paper: null },
];

const networksOf = (scale: string): readonly TableNetwork[] => (scale === 'reduced' ? [...SIMCNN, ...VGG11] : SIMCNN);

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

/** The paper's drops, at 15, 30 and 45 of 50 epochs, in 12. */
const REDUCED_TRAINING = { epochs: 12, milestones: [4, 7, 11] };
const REDUCED = { simcnn: { width: 64, auxWidth: 64 }, vgg11: { width: 32 } };

const options = experimentOptions({
  name: 'table-cifar10',
  description: 'the CIFAR-10 table of the paper: SimCNN for k = 1, 2, 3; at the reduced scale also VGG-11',
  datasets: ['cifar10'],
  hasReduced: true,
  networks: (scale) => networksOf(scale).map(({ name }) => name),
});

function scaled({ preset, k }: TableNetwork, seed: number): Recipe {
  const recipe = recipeOf(preset, options, seed);
  if (options.scale === 'smoke') return overrideRecipe(recipe, SMOKE);
  if (options.scale === 'paper') return recipe;
  return overrideRecipe(recipe, {
    model: k === undefined ? REDUCED.vgg11 : REDUCED.simcnn,
    training: REDUCED_TRAINING,
  });
}

const figures = [];
const charts: Record<string, string> = {};
const runs: string[] = [];
for (const network of networksOf(options.scale).filter(({ name }) => options.networks.includes(name))) {
  const { name, title, paper, k } = network;
  const results: RunResult[] = [];
  for (const seed of options.seeds) {
    const run = join(options.out, `${name}-seed${seed}`);
    results.push(await resultOf(scaled(network, seed), run));
    runs.push(run);
  }
  const byLayer = results[0]!.layers.map(({ layer }, i) => ({
    layer,
    top1: measured(results.map(({ layers }) => layers[i]!.testTop1)),
    ensemble: measured(results.map(({ layers }) => layers[i]!.ensembleTop1)),
  }));
  const recipe = scaled(network, options.seeds[0]!);
  const plan = canRehearse() ? (await planRecipe({ recipe, measured: false })).plan : null;
  figures.push({
    ...{ name, title, paper, here: byLayer.at(-1)!, byLayer },
    ...(k === undefined ? {} : { k }),
    seconds: measured(results.map(({ seconds }) => seconds)),
    operations: plan?.operations ?? null,
  });
  charts[`${name}.svg`] = accuracyByDepthChart(
    byLayer.map(({ layer, top1, ensemble }) => ({
      layer,
      testTop1: top1!.mean,
      ...(ensemble === null ? {} : { ensembleTop1: ensemble.mean }),
    })),
    { width: 640, id: name, title, standalone: true },
  );
}

await writeTable(options.out, {
  title:
    options.scale === 'reduced'
      ? 'CIFAR-10: networks trained layer by layer, and end to end'
      : 'SimCNN, trained layer by layer',
  conditions: await conditionsOf(options, runs),
  columns: [
    'network',
    'paper: top-1 % (ensemble)',
    'here: top-1 % (ensemble)',
    'here, by layer: top-1 %',
    'here: minutes',
    'here: TFLOP',
  ],
  rows: [
    ...figures.map(({ title, paper, here, byLayer, seconds, operations }) => [
      title,
      paper === null ? '' : withEnsemble(paper.top1, paper.ensemble),
      withEnsemble(here.top1, here.ensemble),
      byLayer.map(({ top1 }) => percent(top1)).join(', '),
      ((seconds?.mean ?? Number.NaN) / 60).toFixed(1),
      operations === null ? '-' : (operations / 1e12).toFixed(1),
    ]),
    ...Object.entries(OTHERS).map(([name, top1]) => [name, top1.toFixed(1), '', '', '', '']),
  ],
  notes: [...notesOf(options), 'Minutes are those of training and tests, whatever ran beside them.'],
  figures,
  charts,
});
