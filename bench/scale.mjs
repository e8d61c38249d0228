// The tables of docs/scale.md: what a step of each layer sends, and how well 8, 64 and 512 GPUs share it, by arithmetic from the plans of the
// presets; and, of a file that bench/scale-run.mjs has written, what the same arithmetic says of processes of one machine, beside what came.
import { readFileSync } from 'node:fs';
import {
  disposeNetwork,
  layerwiseStages,
  localProblems,
  rehearseModules,
  trainedModules,
  trainedParameters,
} from '../dist/models/index.js';
import { BatchNorm1d, BatchNorm2d, modulesIn } from '../dist/nn/index.js';
import { buildNetwork, buildStages } from '../dist/recipe/build.js';
import { overrideRecipe, presetRecipe } from '../dist/recipe/index.js';
import { noGrad, onDevice, scope, zeros } from '../dist/tensor/index.js';
import { planRun } from '../dist/training/plan.js';
import { markdown } from './markdown.mjs';
import { stepOperations } from './operations.mjs';
import {
  allReduceSeconds,
  efficiency,
  FEW_IMAGES,
  linkOf,
  localStepSeconds,
  messagesOf,
  pipelineTime,
  ringSeconds,
  stepTime,
  total,
} from './scale-model.mjs';

/** @import { Module } from '../dist/nn/index.js' */
/** @import { Recipe } from '../dist/recipe/index.js' */
/** @import { Network, Stage } from '../dist/models/index.js' */
/** @import { Measured } from './scale-run.mjs' */
/** @import { Cluster, Gpu, Work } from './scale-model.mjs' */

const IMAGENET = { trainCount: 1_281_167, testCount: 50_000 };
const CLASSES = 1000;
const SHAPES_CLASSES = 10;
/** Of what leaves a stage: the network computes in bfloat16. */
const ACTIVATION_BYTES = 2;
/** Of batch norm's statistics: float64. */
const STATISTIC_BYTES = 8;

/**
 * NVIDIA's H100 SXM, of its data sheet: 989 TFLOP/s of dense bf16 products, of which 40 % are taken to be reached, as in bench/input.mjs;
 * 3.35 TB/s of memory, of which 80 %. The host's time is that of bench/RESULTS.md, 0.71 ms for
 * the 13 tensors of a layer of SimCNN k = 3.
 */
const H100 = /** @type {Gpu} */ ({ operations: 0.4 * 989e12, memory: 0.8 * 3.35e12, host: 55e-6 });

/** Of the bandwidth in a data sheet, what is taken to be reached. */
const REACHED = 0.8;
/** @param {number} gigabits a second @param {number} cards of a node */
const cards = (gigabits, cards) => ({ bandwidth: (REACHED * cards * gigabits * 1e9) / 8, latency: 14e-6 });
const NVLINK = { bandwidth: REACHED * 450e9, latency: 3.4e-6 };
/** @type {Record<'Ethernet' | 'InfiniBand', Cluster>} */
const CLUSTERS = {
  Ethernet: { perNode: 8, inside: NVLINK, between: cards(100, 1) },
  InfiniBand: { perNode: 8, inside: NVLINK, between: cards(400, 8) },
};

const PRESETS = [
  { preset: 'vgg11-layerwise', title: 'VGG-11' },
  { preset: 'simcnn-k3', title: 'SimCNN k = 3' },
];

/**
 * A stage, or one of those that train at once. `activations`: bytes an image of its output, and of what the fixed modules that open
 * the next one make of it.
 * @typedef {Work & { layer: number, block: number, head: number, gradientBytes: number, activations: { output: number, opened: number } }} Figures
 */

/**
 * @param {string} preset
 * @param {{ schedule?: Recipe['training']['schedule'], blocks?: number | null }} [changes]
 */
export function imagenetRecipe(preset, { schedule, blocks = null } = {}) {
  const recipe = presetRecipe(preset, {
    ...{ dataset: 'imagenet', onCuda: true },
    ...(schedule === undefined ? {} : { schedule }),
  });
  return overrideRecipe(recipe, { dataset: IMAGENET, training: { blocks } });
}

/**
 * What is asked of each stage of a recipe, or of each layer where all are trained at once.
 * @param {Recipe} recipe with the counts of its images
 * @param {number} classes
 * @returns {Figures[]}
 */
export function figuresOf(recipe, classes) {
  const budget = { device: 0, host: 0, disk: 0 };
  const { layers } = planRun({ recipe, classes, device: 'cpu', precision: 'bf16', budget, imagesInMemory: false });
  const network = onDevice('meta', () => buildNetwork(recipe, classes, 'meta'));
  try {
    const problems = buildStages(recipe, network).flatMap((stage) => [...localProblems(stage)]);
    return problems.map((problem, i) => {
      const { layer, parameters, multiplyAdds, outputShape } = layers[i];
      // One that trains at once with others has no frozen modules of its own.
      const stage = /** @type {Stage} */ ({ frozen: [], ...problem });
      const gradients = trainedParameters(stage).map(({ byteLength }) => byteLength);
      return {
        ...{ layer, ...parameters, gradients, gradientBytes: total(gradients) },
        operations: stepOperations(multiplyAdds),
        channels: channelsOf(trainedModules(stage)),
        activations: { output: bytesOf(outputShape), opened: bytesOf(openedShape(network, i + 1) ?? outputShape) },
      };
    });
  } finally {
    disposeNetwork(network);
  }
}

/** @param {readonly number[]} shape of one image */
const bytesOf = (shape) => ACTIVATION_BYTES * shape.reduce((product, size) => product * size, 1);

/**
 * What the fixed modules that open a layer give; null where there is no such layer.
 * @param {Network} network on meta
 * @param {number} layer
 */
function openedShape(network, layer) {
  const stage = layerwiseStages(network)[layer];
  if (stage === undefined) return null;
  return scope(() => {
    const image = zeros([1, ...network.inputShape], { device: 'meta' });
    return noGrad(() => rehearseModules(stage.frozen, image).output.shape.slice(1));
  });
}

/**
 * Of each batch norm among modules.
 * @param {readonly Module[]} modules
 */
const channelsOf = (modules) =>
  modules
    .flatMap(modulesIn)
    .flatMap((one) => (one instanceof BatchNorm1d || one instanceof BatchNorm2d ? [one.runningMean.numel] : []));

/**
 * All of them at once on the same GPUs.
 * @param {readonly Figures[]} stages
 * @returns {Work}
 */
const together = (stages) => ({
  operations: total(stages.map(({ operations }) => operations)),
  gradients: stages.flatMap(({ gradients }) => gradients),
  channels: stages.flatMap(({ channels }) => channels),
});

/** @param {number} value */
const digits = (value) => {
  const shown = value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
  return Number(shown) >= 1000 ? Number(shown).toLocaleString('en-US') : shown;
};
/** @param {number} value */
const whole = (value) => Math.round(value).toLocaleString('en-US');
/** @param {number} value */
const percent = (value) => (value < 0.0995 ? (100 * value).toFixed(1) : (100 * value).toFixed(0));
/** @param {{ alone: number, overlapped: number }} times @param {(seconds: number) => string} shown */
const both = ({ alone, overlapped }, shown) => `${shown(alone)} / ${shown(overlapped)}`;

/** @param {string} preset */
function stagesOf(preset) {
  const layers = figuresOf(imagenetRecipe(preset), CLASSES);
  const [endToEnd] = figuresOf(imagenetRecipe(preset, { schedule: 'end-to-end' }), CLASSES);
  return { layers, endToEnd };
}

/** @param {string} preset @param {number} blocks */
function blocksOf(preset, blocks) {
  const all = figuresOf(imagenetRecipe(preset, { schedule: 'simultaneous' }), CLASSES);
  if (blocks === all.length) return all;
  return figuresOf(imagenetRecipe(preset, { schedule: 'simultaneous', blocks }), CLASSES);
}

/** @param {string} preset */
export function bytesTable(preset) {
  const { layers, endToEnd } = stagesOf(preset);
  const row = (/** @type {string} */ name, /** @type {Omit<Figures, 'layer' | 'operations'>} */ figures) => {
    const { block, head, gradients, gradientBytes, channels, activations } = figures;
    const statistics = total(channels.map((count) => STATISTIC_BYTES * (1 + 4 * count)));
    const isLast = name === String(layers.length) || figures === endToEnd;
    return [
      ...[name, whole(block), whole(head), digits(gradientBytes / 1e6)],
      ...[percent(gradientBytes / endToEnd.gradientBytes), String(messagesOf(gradients).length)],
      digits(statistics / 1e3),
      isLast ? '-' : `${digits(activations.output / 1e6)} / ${digits(activations.opened / 1e6)}`,
    ];
  };
  const sum = {
    ...together(layers),
    block: total(layers.map(({ block }) => block)),
    head: total(layers.map(({ head }) => head)),
    gradientBytes: total(layers.map(({ gradientBytes }) => gradientBytes)),
  };
  const sums = [
    ...['all layers', whole(sum.block), whole(sum.head), digits(sum.gradientBytes / 1e6)],
    ...[
      percent(sum.gradientBytes / endToEnd.gradientBytes),
      String(total(layers.map(({ gradients }) => messagesOf(gradients).length))),
    ],
    ...[digits(total(sum.channels.map((count) => STATISTIC_BYTES * (1 + 4 * count))) / 1e3), '-'],
  ];
  return markdown(
    ['layer', 'block', 'head', 'MB a step', '% of end to end', 'messages', 'kB, batch norm', 'MB passed on'],
    [...layers.map((one) => row(String(one.layer + 1), one)), sums, row('end to end', endToEnd)],
  );
}

/** GPUs and what connects their nodes: one node needs no network. */
const PLACES = /** @type {const} */ ([
  { gpus: 8, network: 'InfiniBand', title: '8' },
  { gpus: 64, network: 'Ethernet', title: '64 Ethernet' },
  { gpus: 64, network: 'InfiniBand', title: '64 InfiniBand' },
  { gpus: 512, network: 'Ethernet', title: '512 Ethernet' },
  { gpus: 512, network: 'InfiniBand', title: '512 InfiniBand' },
]);

/**
 * What a table compares with one GPU: stages that each train for as many steps, one after another.
 * @param {readonly Work[]} works
 * @param {(gpus: number) => number} batchOf
 * @param {{ gpus: number, network: 'Ethernet' | 'InfiniBand' }} place
 */
function oneAfterAnother(works, batchOf, { gpus, network }) {
  const batch = batchOf(gpus);
  if (batch < gpus) return null;
  const times = works.map((work) => stepTime(work, { batch, gpus, gpu: H100, cluster: CLUSTERS[network] }));
  return { alone: total(times.map(({ alone }) => alone)), overlapped: total(times.map((time) => time.overlapped)) };
}

/**
 * Efficiency of each layer, without overlap / with perfect overlap, per cent.
 * @param {string} preset
 * @param {(gpus: number) => number} batchOf images of a step of so many GPUs
 */
export function efficiencyTable(preset, batchOf) {
  const { layers, endToEnd } = stagesOf(preset);
  const row = (/** @type {string} */ name, /** @type {readonly Work[]} */ works) => {
    const one = oneAfterAnother(works, batchOf, { gpus: 1, network: 'InfiniBand' });
    const seconds = /** @type {NonNullable<typeof one>} */ (one).alone;
    const cells = PLACES.map((place) => {
      const times = oneAfterAnother(works, batchOf, place);
      // The same images for all GPUs together take one GPU as many steps as there are times its batch.
      const work = (seconds * batchOf(place.gpus)) / batchOf(1);
      return times === null ? '-' : both(times, (several) => percent(efficiency(work, several, place.gpus)));
    });
    return [name, digits(total(works.map(({ operations }) => operations)) / 1e9), digits(seconds * 1e3), ...cells];
  };
  return markdown(
    ['layer', 'GFLOP an image', 'ms on 1', ...PLACES.map(({ title }) => title)],
    [
      ...layers.map((one) => row(String(one.layer + 1), [one])),
      row('all, in turn', layers),
      row('end to end', [endToEnd]),
    ],
  );
}

const GROUPINGS = [2, 4, 8];

/**
 * Images a second that go through the training of all layers, without overlap / with perfect overlap: end to end; layer by layer; all
 * layers at once on every GPU; and all at once where each of some blocks has GPUs of its own.
 * @param {string} preset
 * @param {(gpus: number) => number} batchOf images of a step of so many GPUs
 */
export function rateTable(preset, batchOf) {
  const { layers, endToEnd } = stagesOf(preset);
  const rate = (/** @type {number} */ batch) => (/** @type {number} */ seconds) => whole(batch / seconds);
  const one = (/** @type {readonly Work[]} */ works) => {
    const times = oneAfterAnother(works, batchOf, { gpus: 1, network: 'InfiniBand' });
    return times === null ? '-' : rate(batchOf(1))(times.alone);
  };
  const shared = (/** @type {string} */ name, /** @type {readonly Work[]} */ works) => {
    const cells = PLACES.map((place) => {
      const times = oneAfterAnother(works, batchOf, place);
      return times === null ? '-' : both(times, rate(batchOf(place.gpus)));
    });
    return [name, one(works), ...cells];
  };
  const pipelined = (/** @type {number} */ blocks) => {
    const figures = blocksOf(preset, blocks);
    const stages = figures.map(({ activations: { output, opened }, ...work }) => ({
      ...work,
      activations: Math.min(output, opened),
    }));
    const cells = PLACES.map(({ gpus, network }) => {
      const batch = batchOf(gpus);
      return both(pipelineTime(stages, { batch, gpus, gpu: H100, cluster: CLUSTERS[network] }), rate(batch));
    });
    return [`at once, ${blocks} groups of GPUs`, one([together(figures)]), ...cells];
  };
  return markdown(
    ['images a second', '1', ...PLACES.map(({ title }) => title)],
    [
      shared('end to end', [endToEnd]),
      shared('layer by layer', layers),
      shared('at once, all on every GPU', [together(blocksOf(preset, layers.length))]),
      ...GROUPINGS.map(pipelined),
    ],
  );
}

/** Images of a step: the recipe's, whatever the number of GPUs; or so many of each. */
const fixed = (/** @type {string} */ preset) => () => imagenetRecipe(preset).training.batchSize;
const ofEach = (/** @type {number} */ images) => (/** @type {number} */ gpus) => images * gpus;

/** Milliseconds of an all-reduce, by one ring over all GPUs / by rings within and between the nodes. */
function allReduceTable() {
  const sizes = [0.1e6, 25 * 2 ** 20, 504e6];
  const rows = PLACES.map(({ gpus, network, title }) => {
    const cluster = CLUSTERS[network];
    const link = gpus > cluster.perNode ? cluster.between : cluster.inside;
    const cells = sizes.map((bytes) => {
      const [ring, rings] = [ringSeconds(bytes, gpus, link), allReduceSeconds(bytes, gpus, cluster)];
      return `${digits(ring * 1e3)} / ${digits(rings * 1e3)}`;
    });
    return [title, ...cells];
  });
  return markdown(['GPUs', ...sizes.map((bytes) => `${digits(bytes / 1e6)} MB`)], rows);
}

/**
 * The tables of docs/scale.md, each under its name.
 * @returns {{ name: string, table: string }[]}
 */
export function scaleTables() {
  const tables = PRESETS.flatMap(({ preset, title }) => {
    const batch = fixed(preset)();
    return [
      { name: `${title}: bytes a step`, table: bytesTable(preset) },
      { name: `${title}: efficiency, batch of ${batch}, %`, table: efficiencyTable(preset, fixed(preset)) },
      {
        name: `${title}: efficiency, ${FEW_IMAGES} images a GPU, %`,
        table: efficiencyTable(preset, ofEach(FEW_IMAGES)),
      },
      { name: `${title}: efficiency, ${batch} images a GPU, %`, table: efficiencyTable(preset, ofEach(batch)) },
      { name: `${title}: images a second, batch of ${batch}`, table: rateTable(preset, fixed(preset)) },
      { name: `${title}: images a second, ${FEW_IMAGES} images a GPU`, table: rateTable(preset, ofEach(FEW_IMAGES)) },
    ];
  });
  return [
    { name: 'An all-reduce, ms, by one ring / by rings within and between nodes', table: allReduceTable() },
    ...tables,
  ];
}

/**
 * All-reduces of local processes as they were measured, and by the latency and bandwidth of the smallest and the largest of them.
 * @param {Measured} measured
 */
function measuredAllReduces({ allReduce }) {
  const ranks = Object.keys(allReduce);
  const links = ranks.map((count) => linkOf(allReduce[count], Number(count)));
  const rows = allReduce[ranks[0]].map(({ bytes }, i) => [
    whole(bytes / 1024),
    ...ranks.flatMap((count, n) => {
      const { seconds } = allReduce[count][i];
      return [digits(seconds * 1e3), digits(ringSeconds(bytes, Number(count), links[n]) * 1e3)];
    }),
  ]);
  const header = ranks.flatMap((count) => [`${count}, measured`, `${count}, by the ring`]);
  const told = links.map(
    ({ bandwidth, latency }, n) =>
      `${ranks[n]} processes: ${digits(latency * 1e6)} us, ${digits(bandwidth / 1e9)} GB/s`,
  );
  return { table: markdown(['KiB', ...header], rows), told };
}

/**
 * Images a second of each layer by processes of this machine together: predicted by the time of one alone, which takes turns with the others;
 * by its time beside others; and measured.
 * @param {Measured} measured
 * @param {Measured['networks'][number]} network
 */
export function measuredTable({ allReduce, processors, batch }, { preset, width, alone, beside, together }) {
  const recipe = presetRecipe(preset, { dataset: 'shapes', onCuda: false });
  const dataset = { trainCount: batch, testCount: batch };
  const layers = figuresOf(overrideRecipe(recipe, { model: { width }, dataset }), SHAPES_CLASSES);
  const several = Object.keys(together);
  const rows = layers.map(({ layer, gradients, gradientBytes }) => {
    const cells = several.flatMap((count) => {
      const processes = Number(count);
      const link = linkOf(allReduce[count], processes);
      const share = batch / processes;
      const local = { gradients, processes, link };
      const inTurns = localStepSeconds({ ...local, computeSeconds: share / alone[count][layer], processors });
      const atOnce = localStepSeconds({
        ...local,
        computeSeconds: share / beside[count][layer],
        processors: processes,
      });
      const came = together[count][layer];
      const ratio = (/** @type {number} */ seconds) => (batch / seconds / came).toFixed(2);
      return [whole(batch / inTurns), whole(batch / atOnce), whole(came), `${ratio(inTurns)} / ${ratio(atOnce)}`];
    });
    return [String(layer + 1), digits(gradientBytes / 1e6), whole(alone[1][layer]), ...cells];
  });
  const header = several.flatMap((count) => [`${count}: by turns`, 'beside', 'measured', 'ratios']);
  return markdown(['layer', 'MB a step', '1', ...header], rows);
}

/**
 * @param {{ measured: string | undefined, results: object[] }} options `measured`: a file of bench/scale-run.mjs
 */
export function benchScale({ measured: file, results }) {
  const tables = scaleTables();
  results.push(...tables.map(({ name, table }) => ({ name: `scale: ${name}`, table })));
  for (const { name, table } of tables) console.log(`${name}\n\n${table}\n`);
  if (file === undefined) return;
  const measured = /** @type {Measured} */ (JSON.parse(readFileSync(file, 'utf8')));
  const { machine, date, libtorch, node, processors, hostSeconds } = measured;
  console.log(`measured: ${machine}, ${processors} processors, LibTorch ${libtorch}, Node ${node}, ${date}`);
  const { table, told } = measuredAllReduces(measured);
  console.log(`an all-reduce of local processes, ms; ${told.join('; ')}\n\n${table}\n`);
  for (const network of measured.networks) {
    console.log(`${network.name}, width ${network.width}, images a second\n\n${measuredTable(measured, network)}\n`);
  }
  console.log(`a step with hardly anything to compute, ms: ${hostSeconds.map((one) => digits(one * 1e3)).join(', ')}`);
}
