// Compression while training (section 4.4): after each layer of SimCNN k = 3 is trained, half of its filters are removed by
// Molchanov et al.'s first-order criterion and its head is fine-tuned, before the next layer grows on what is left. Beside
// it, a network that has the small shape from the start, trained end to end.
//
//   npm run example -- compression --data-dir DIR                  smoke scale: minutes on two cores
//   npm run example -- compression --scale paper --data-dir DIR    the full recipe on CIFAR-10

import { existsSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type CompressionOutcome, compressRun, overrideRecipe, type Recipe, type RunResult } from 'layerwise';
import { conditionsOf, experimentOptions, notesOf, recipeOf, runOrResume } from './support/experiment.js';
import { measured, percent, published, writeTable } from './support/table.js';

/** As published, top-1 %: compressed while training, and the network of the same shape trained end to end. */
const PAPER = { compressed: published(87.6), endToEnd: published(87.5) };

const LAYERS = 3;

const options = experimentOptions({
  name: 'compression',
  description: 'filters removed after each layer is trained, SimCNN k = 3',
  datasets: ['cifar10'],
});
const isSmoke = options.scale === 'smoke';
/** Filters of a layer while it trains, and after it. */
const [FULL, KEPT] = isSmoke ? [16, 8] : [128, 64];
/** Epochs of a head's fine-tuning, and of the network that is trained end to end, whose rate drops every 25 in the paper. */
const [TUNING_EPOCHS, END_TO_END_EPOCHS, DROPS] = isSmoke ? [1, 6, [3, 5]] : [20, 120, [25, 50, 75, 100]];
const SMOKE = {
  dataset: { trainLimit: 2000, testLimit: 1000 },
  training: { epochs: 3, batchSize: 64, learningRate: 0.05, milestones: [2], decay: 0.2 },
};

/** Of so many layers, those below the last compressed, the last with `width` filters; no downsampling, so no doubling. */
function recipeFor(seed: number, layers: number, width: number): Recipe {
  return recipeOf('simcnn-k3', options, seed, {
    ...(isSmoke ? SMOKE : {}),
    model: {
      layers,
      width: FULL,
      auxWidth: FULL,
      downsampleAt: [],
      widths: [...Array(layers - 1).fill(KEPT), width],
      // The last layer's head is as narrow as what is left.
      lastHead: layers === LAYERS ? { convolutions: 2, width: KEPT } : null,
    },
  });
}

async function compressOrRead(runDirectory: string, out: string): Promise<CompressionOutcome> {
  const file = join(out, 'compression.json');
  if (existsSync(join(out, 'report.html'))) return JSON.parse(readFileSync(file, 'utf8'));
  await rm(out, { recursive: true, force: true });
  return compressRun({ runDirectory, filters: KEPT, out, device: options.device });
}

interface Stage {
  readonly layer: number;
  readonly trained: number;
  readonly compressed: number;
  readonly tuned: number;
}

const top1Of = ({ layers }: RunResult): number => layers.at(-1)!.testTop1!;

async function compressWhileTraining(seed: number): Promise<Stage[]> {
  const stages: Stage[] = [];
  let before: string | null = null;
  for (let layer = 0; layer < LAYERS; layer++) {
    const directory = (step: string): string => join(options.out, `seed${seed}-layer${layer + 1}-${step}`);
    const grow = recipeFor(seed, layer + 1, FULL);
    const trained = await runOrResume(
      grow,
      directory('trained'),
      before === null ? undefined : { runDirectory: before },
    );
    const compressed = await compressOrRead(trained.runDirectory, directory('compressed'));
    const tune = overrideRecipe(recipeFor(seed, layer + 1, KEPT), {
      training: {
        epochs: TUNING_EPOCHS,
        // The rate that the layer's training ended with.
        learningRate: rateAtTheEnd(grow),
        milestones: [],
      },
    });
    const tuned = await runOrResume(tune, directory('tuned'), {
      runDirectory: compressed.runDirectory,
      head: 'taken',
    });
    console.log(
      `layer ${layer + 1}: ${compressed.before.top1.toFixed(2)} % with ${FULL} filters, ` +
        `${compressed.after.top1.toFixed(2)} % with ${KEPT}, ${top1Of(tuned.result).toFixed(2)} % with its head fine-tuned`,
    );
    stages.push({
      layer,
      trained: compressed.before.top1,
      compressed: compressed.after.top1,
      tuned: top1Of(tuned.result),
    });
    before = tuned.runDirectory;
  }
  return stages;
}

const rateAtTheEnd = ({ training }: Recipe): number =>
  training.learningRate * training.decay ** training.milestones.filter((epoch) => epoch < training.epochs).length;

const runs: { seed: number; stages: Stage[]; endToEnd: number }[] = [];
for (const seed of options.seeds) {
  const stages = await compressWhileTraining(seed);
  const small = overrideRecipe(recipeFor(seed, LAYERS, KEPT), {
    model: { auxWidth: KEPT },
    training: { schedule: 'end-to-end', epochs: END_TO_END_EPOCHS, milestones: DROPS },
  });
  const { result } = await runOrResume(small, join(options.out, `seed${seed}-end-to-end`));
  runs.push({ seed, stages, endToEnd: top1Of(result) });
}

const ofStages = (layer: number, step: 'trained' | 'compressed' | 'tuned') =>
  measured(runs.map(({ stages }) => stages[layer]![step]));
const compressed = ofStages(LAYERS - 1, 'tuned');
const endToEnd = measured(runs.map((run) => run.endToEnd));
await writeTable(options.out, {
  title: `Compression while training: ${FULL} filters a layer, ${KEPT} kept`,
  conditions: await conditionsOf(options, [join(options.out, `seed${options.seeds[0]}-end-to-end`)]),
  columns: ['network', 'paper: top-1 %', 'here: top-1 %', `here, with ${FULL} filters`, 'here, filters removed'],
  rows: [
    ...Array.from({ length: LAYERS }, (_, layer) => [
      `layer ${layer + 1} compressed, head fine-tuned`,
      layer === LAYERS - 1 ? percent(PAPER.compressed) : '',
      percent(ofStages(layer, 'tuned')),
      percent(ofStages(layer, 'trained')),
      percent(ofStages(layer, 'compressed')),
    ]),
    [`${LAYERS + 2} layers of ${KEPT}, end to end`, percent(PAPER.endToEnd), percent(endToEnd), '', ''],
  ],
  notes: [
    ...notesOf(options),
    `Neither network halves the resolution, so every layer has ${KEPT} filters: three layers and the two convolutions of the last head.`,
  ],
  figures: { paper: PAPER, here: { compressed, endToEnd }, runs },
  charts: {},
});
