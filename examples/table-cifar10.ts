// The paper's CIFAR-10 table (section 4.1): SimCNN for k = 1, 2, 3, trained layer by layer; the test accuracy of the last
// layer, and of the ensemble over layers.
//
//   npm run example -- table-cifar10                                       smoke scale, on `shapes`
//   npm run example -- table-cifar10 --scale paper --data-dir DIR          the full recipe on CIFAR-10

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { accuracyByDepthChart, buildInfo, overrideRecipe, presetRecipe, type Recipe } from 'layerwise';
import { accuracy, type ExperimentOptions, experimentOptions, runOrResume, writeTable } from './support/experiment.js';

/** Last layer and ensemble, top-1 %, as published. */
const PAPER: Readonly<Record<number, { top1: number; ensemble: number }>> = {
  1: { top1: 88.3, ensemble: 88.4 },
  2: { top1: 90.4, ensemble: 90.7 },
  3: { top1: 91.7, ensemble: 92.8 },
};

/** Others in the same table of the paper, top-1 %. */
const OTHERS = {
  BoostResNet: 82.1,
  ProvableNN: 73.4,
  Mosca: 81.6,
  AlexNet: 89,
  VGG: 92.5,
  'WRN-28-10': 96.0,
  Scattering: 82.3,
};

function recipeFor(k: number, options: ExperimentOptions): Recipe {
  const preset = presetRecipe(`simcnn-k${k}`, { dataset: options.dataset, onCuda: buildInfo().cudaAvailable });
  const chosen = overrideRecipe(preset, {
    dataset: { dataDir: options.dataDir },
    seed: options.seed,
    device: options.device,
  });
  if (options.scale === 'paper') return chosen;
  // Narrow, few images and epochs, and rates that suit them.
  return overrideRecipe(chosen, {
    model: { width: 32, auxWidth: 32 },
    dataset: { trainLimit: 5000, testLimit: 1000 },
    training: { epochs: 4, batchSize: 64, learningRate: 0.05, milestones: [2, 3], decay: 0.2 },
  });
}

const options = experimentOptions('table-cifar10', 'the CIFAR-10 table of the paper');
const started = new Date().toISOString().slice(0, 10);
const runs = [];
for (const k of [1, 2, 3]) {
  const recipe = recipeFor(k, options);
  const { result, runDirectory } = await runOrResume(recipe, join(options.out, `k${k}`));
  const chart = accuracyByDepthChart(result.layers, {
    width: 640,
    id: `k${k}`,
    title: `SimCNN k = ${k}`,
    standalone: true,
  });
  await writeFile(join(options.out, `k${k}.svg`), chart);
  runs.push({ k, runDirectory, layers: result.layers, seconds: result.seconds });
}

const info = buildInfo();
const dataset = options.dataset === 'cifar10' ? 'CIFAR-10' : 'shapes (not CIFAR-10: not to be compared with the paper)';
const markdown = await writeTable(
  options.out,
  {
    title: 'SimCNN, trained layer by layer',
    conditions: {
      'data set': dataset,
      scale: options.scale,
      seed: String(options.seed),
      device: options.device === 'auto' ? (info.cudaAvailable ? 'cuda:0' : 'cpu') : options.device,
      versions: `LibTorch ${info.libtorchLoaded || info.libtorchBuilt}, Node ${process.version}`,
      date: started,
    },
    columns: ['network', 'paper: top-1 % (ensemble)', 'here: top-1 % (ensemble)', 'here, by layer: top-1 %'],
    rows: [
      ...runs.map(({ k, layers }) => [
        `SimCNN k = ${k}`,
        accuracy(PAPER[k]!.top1, PAPER[k]!.ensemble),
        accuracy(layers.at(-1)?.testTop1, layers.at(-1)?.ensembleTop1),
        layers.map(({ testTop1 }) => testTop1?.toFixed(1) ?? '-').join(', '),
      ]),
      ...Object.entries(OTHERS).map(([name, top1]) => [name, top1.toFixed(1), '', '']),
    ],
    notes: [
      options.scale === 'smoke'
        ? 'Smoke scale: a narrow network, few images, few epochs; it shows that everything works.'
        : '',
      'Reported is the last epoch, not the best.',
    ].filter((note) => note !== ''),
  },
  { options, runs },
);
console.log(`\n${markdown}`);
