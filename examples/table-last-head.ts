// A smaller last head (section 4.2): train SimCNN k = 3 to the end, then solve the last auxiliary problem again with a head
// of M~f channels in place of the one that has grown with the network.
//
//   npm run example -- table-last-head --data-dir DIR                                    smoke scale: minutes on two cores
//   npm run example -- table-last-head --scale paper --data-dir DIR                      ImageNet, the full recipe
//   npm run example -- table-last-head --scale paper --dataset cifar10 --data-dir DIR    CIFAR-10

import { join } from 'node:path';
import { overrideRecipe, type RunResult, SimCnn, TrainedRun } from 'layerwise';
import { conditionsOf, experimentOptions, notesOf, recipeOf, runOrResume } from './support/experiment.js';
import { measured, percent, published, withEnsemble, writeTable } from './support/table.js';

/** ImageNet, as published: top-1 (ensemble) and top-5 of the head that has grown, then of the smaller ones. */
const PAPER = [
  { width: null, top1: published(69.7), ensemble: published(71.6), top5: published(88.7) },
  { width: 1024, top1: published(69.2), top5: published(88.6) },
  { width: 512, top1: published(68.7), top5: published(88.5) },
];

const options = experimentOptions({
  name: 'table-last-head',
  description: "SimCNN k = 3 with a smaller last head: the paper's M~f",
  datasets: ['imagenet', 'cifar10'],
});

/** Narrow, few images and epochs, and rates that suit them. */
const SMOKE = {
  model: { width: 16, auxWidth: 32 },
  dataset: {
    trainLimit: 2000,
    testLimit: 1000,
    ...(options.dataset === 'imagenet' ? { imageSize: 64, testResize: 72 } : {}),
  },
  training: { epochs: 2, batchSize: 64, learningRate: 0.05, milestones: [1], decay: 0.2 },
};

/** The width of the head that grew with the network, and those in the paper's proportion to it: a half and a quarter. */
async function lastHeadWidth(runDirectory: string): Promise<number> {
  using run = await TrainedRun.open(runDirectory, { device: 'cpu' });
  if (!(run.network instanceof SimCnn)) throw new Error('a SimCNN is expected');
  return run.network.heads.at(-1)!.stateDict().get('conv0.weight')!.shape[0]!;
}

const outcomes: { width: number; factor: number; results: RunResult[] }[] = [];
for (const seed of options.seeds) {
  const recipe = recipeOf('simcnn-k3', options, seed, options.scale === 'smoke' ? SMOKE : {});
  const whole = await runOrResume(recipe, join(options.out, `whole-seed${seed}`));
  const grown = await lastHeadWidth(whole.runDirectory);
  for (const [i, factor] of [1, 2, 4].entries()) {
    const width = grown / factor;
    outcomes[i] ??= { width, factor, results: [] };
    if (factor === 1) {
      outcomes[i].results.push(whole.result);
      continue;
    }
    // All layers but the last are taken as they are; the last is trained anew with its smaller head.
    const smaller = overrideRecipe(recipe, { model: { lastHead: { convolutions: 2, width } } });
    const layers = whole.result.layers.length - 1;
    const directory = join(options.out, `head${width}-seed${seed}`);
    const { result } = await runOrResume(smaller, directory, { runDirectory: whole.runDirectory, layers });
    outcomes[i].results.push(result);
  }
}

const figures = outcomes.map(({ width, results }, i) => {
  const last = results.map(({ layers }) => layers.at(-1)!);
  return {
    width,
    parameters: last[0]!.parameters!.head,
    paper: options.dataset === 'imagenet' ? PAPER[i]! : null,
    here: {
      top1: measured(last.map(({ testTop1 }) => testTop1)),
      ensemble: measured(last.map(({ ensembleTop1 }) => ensembleTop1)),
      top5: measured(last.map(({ testTop5 }) => testTop5)),
    },
  };
});

await writeTable(options.out, {
  title: 'SimCNN k = 3 with a smaller last head',
  conditions: await conditionsOf(options, [join(options.out, `whole-seed${options.seeds[0]}`)]),
  columns: [
    'last head, M~f',
    "head's parameters",
    'paper (ImageNet, M~f): top-1 % (ensemble); top-5 %',
    'here: top-1 % (ensemble)',
    'here: top-5 %',
  ],
  rows: figures.map(({ width, parameters, here }, i) => {
    const paper = PAPER[i]!;
    return [
      `${width}${i === 0 ? ', grown with the network' : ''}`,
      parameters.toLocaleString('en'),
      `${paper.width ?? 2048}: ${withEnsemble(paper.top1, paper.ensemble)}; ${percent(paper.top5)}`,
      withEnsemble(here.top1, here.ensemble),
      percent(here.top5),
    ];
  }),
  notes: [
    ...notesOf(options),
    'All layers but the last are those of the first row; the last is trained anew with each head.',
  ],
  figures,
  charts: {},
});
