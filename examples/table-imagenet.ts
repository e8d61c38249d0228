// The paper's ImageNet table (sections 4.2 and 4.3): SimCNN for k = 1, 2, 3 and VGG-11 trained layer by layer, and both
// kinds of network trained end to end; single crop, top-1 and top-5, last layer and ensemble.
//
//   npm run example -- table-imagenet --data-dir DIR                  smoke scale: minutes on two cores
//   npm run example -- table-imagenet --scale paper --data-dir DIR    the full recipe; DIR holds train/ and val/

import { join } from 'node:path';
import { accuracyByDepthChart, overrideRecipe, type Recipe, type RunResult } from 'layerwise';
import { conditionsOf, experimentOptions, notesOf, recipeOf, resultOf } from './support/experiment.js';
import { writeShapesAsFiles } from './support/image-files.js';
import { measured, published, unchecked, withEnsemble, writeTable } from './support/table.js';

/** As published, single crop, in percent: top-1 and top-5, each with its ensemble where there is one. */
const ROWS = [
  {
    name: 'SimCNN k = 1',
    id: 'simcnn-k1',
    paper: {
      top1: published(58.1),
      ensembleTop1: published(59.3),
      top5: published(79.7),
      ensembleTop5: published(80.8),
    },
  },
  {
    name: 'SimCNN k = 2',
    id: 'simcnn-k2',
    paper: {
      top1: published(65.7),
      ensembleTop1: published(67.1),
      top5: published(86.3),
      ensembleTop5: published(87.0),
    },
  },
  {
    name: 'SimCNN k = 3',
    id: 'simcnn-k3',
    paper: {
      top1: published(69.7),
      ensembleTop1: published(71.6),
      top5: published(88.7),
      ensembleTop5: published(89.8),
    },
  },
  {
    name: 'SimCNN k = 3, last head of 512, end to end',
    id: 'simcnn-k3-end-to-end',
    paper: { top1: published(71.5), top5: published(90.1) },
  },
  {
    name: 'VGG-11, k = 3',
    id: 'vgg11-layerwise',
    paper: {
      top1: published(67.6),
      ensembleTop1: unchecked(70.1),
      top5: published(88.0),
      ensembleTop5: unchecked(89.2),
    },
  },
  {
    name: "VGG-11, end to end (paper: the authors' own run)",
    id: 'vgg11-end-to-end',
    paper: { top1: published(67.9), top5: published(88.0) },
  },
] as const;

/** Others in the same table of the paper: top-1, top-5. */
const OTHERS = { AlexNet: [56.5, 79.1], 'VGG-13': [69.9, 89.3], 'VGG-19': [72.9, 90.9], 'ResNet-152': [78.3, 94.1] };

/** Images of 64 x 64, narrow networks, few epochs, and rates that suit them. */
const SMOKE = {
  dataset: { imageSize: 64, testResize: 72, trainLimit: 800, testLimit: 300 },
  training: { epochs: 2, batchSize: 32, learningRate: 0.02, milestones: [1], decay: 0.2 },
  threads: 1,
};

function recipeFor(id: (typeof ROWS)[number]['id'], seed: number): Recipe {
  const isSmoke = options.scale === 'smoke';
  const preset = id === 'simcnn-k3-end-to-end' ? 'simcnn-k3' : id;
  const narrow = preset.startsWith('vgg') ? { width: 8 } : { width: 8, auxWidth: 16 };
  const recipe = recipeOf(preset, options, seed, isSmoke ? { ...SMOKE, model: narrow } : {});
  if (id !== 'simcnn-k3-end-to-end') return recipe;
  // Paper: the last head of 512 in place of 2048.
  return overrideRecipe(recipe, {
    model: { lastHead: { convolutions: 2, width: isSmoke ? 32 : 512 } },
    training: { schedule: 'end-to-end' },
  });
}

const given = experimentOptions({
  name: 'table-imagenet',
  description: 'the ImageNet table of the paper: SimCNN for k = 1, 2, 3 and VGG-11',
  datasets: ['imagenet'],
});
// The embedded images are written to files first: this table's pipeline reads files while it trains.
const options =
  given.dataset === 'shapes'
    ? {
        ...given,
        dataset: 'imagenet' as const,
        title: 'shapes (drawn by the program), as JPEG files',
        dataDir: await writeShapesAsFiles(join(given.out, 'images'), { train: 800, test: 300 }),
      }
    : given;

const figures = [];
const charts: Record<string, string> = {};
for (const { name, id, paper } of ROWS) {
  const results: RunResult[] = [];
  for (const seed of options.seeds) {
    const result = await resultOf(recipeFor(id, seed), join(options.out, `${id}-seed${seed}`));
    results.push(result);
  }
  const over = (figure: 'testTop1' | 'ensembleTop1' | 'testTop5' | 'ensembleTop5', layer = -1) =>
    measured(results.map(({ layers }) => layers.at(layer)![figure]));
  const here = {
    top1: over('testTop1'),
    ensembleTop1: over('ensembleTop1'),
    top5: over('testTop5'),
    ensembleTop5: over('ensembleTop5'),
  };
  const byLayer = results[0]!.layers.map(({ layer }, i) => ({
    layer,
    testTop1: over('testTop1', i)?.mean ?? null,
    ensembleTop1: over('ensembleTop1', i)?.mean ?? null,
  }));
  figures.push({ name, paper, here, byLayer });
  if (byLayer.length > 1) {
    charts[`${id}.svg`] = accuracyByDepthChart(byLayer, { width: 640, id, title: name, standalone: true });
  }
}

await writeTable(options.out, {
  title: 'ImageNet, single crop',
  conditions: await conditionsOf(options, [join(options.out, `vgg11-layerwise-seed${options.seeds[0]}`)]),
  columns: [
    'network',
    'paper: top-1 % (ensemble)',
    'here: top-1 % (ensemble)',
    'paper: top-5 % (ensemble)',
    'here: top-5 % (ensemble)',
  ],
  rows: [
    ...figures.map(({ name, paper, here }) => [
      name,
      withEnsemble(paper.top1, 'ensembleTop1' in paper ? paper.ensembleTop1 : null),
      withEnsemble(here.top1, here.ensembleTop1),
      withEnsemble(paper.top5, 'ensembleTop5' in paper ? paper.ensembleTop5 : null),
      withEnsemble(here.top5, here.ensembleTop5),
    ]),
    ...Object.entries(OTHERS).map(([name, [top1, top5]]) => [name, top1!.toFixed(1), '', top5!.toFixed(1), '']),
  ],
  notes: [
    ...notesOf({ ...options, dataset: given.dataset }),
    'Heads of other widths (512 and 1024) on the same SimCNN: the example table-last-head.',
  ],
  figures,
  charts,
});
