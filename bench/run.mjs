// npm run bench [-- --cases dispatch,load,service,soak,clients,step,epoch,memory,share,predictor,images,shards,input,distributed,scale] [--networks simcnn-k3@32,vgg11@32,vgg11@224] [--layers 1,2]
//                  [--rounds N] [--minutes N] [--photographs DIR] [--measured FILE] [--device cpu|cuda] [--cuda-graph] [--threads N] [--json FILE]
//
// Each case measures this project and a PyTorch reference (reference/, the same LibTorch release) alternately, in one call,
// and prints the medians, the range of the middle half, and the median of the ratios of neighbouring measurements. Beside the
// times of steps and epochs stands how near this project comes to the rate of a large matrix product.
import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { resolvePrecision } from '../dist/recipe/precision.js';
import { buildInfo, getThreads, setThreads } from '../dist/tensor/index.js';
import { benchClients } from './clients.mjs';
import { benchDistributed } from './distributed.mjs';
import { whileSampling } from './gpu-busy.mjs';
import { benchImages } from './images.mjs';
import { benchInput } from './input.mjs';
import { benchLoad } from './load.mjs';
import { measures } from './ours.mjs';
import { benchPredictor } from './predictor.mjs';
import { Reference } from './python.mjs';
import { benchScale } from './scale.mjs';
import { benchService } from './service.mjs';
import { benchShards } from './shards.mjs';
import { benchSoak } from './soak.mjs';
import { pairedRatio, summarize, verdictOf } from './statistics.mjs';

/** @import { Device } from '../dist/tensor/index.js' */
/** @import { DispatchRequest, EpochRequest, LayerRequest } from './ours.mjs' */
/** @import { Bar, Range } from './statistics.mjs' */

const CASES = [
  'dispatch',
  'load',
  'service',
  'soak',
  'clients',
  'step',
  'epoch',
  'memory',
  'share',
  'predictor',
  'images',
  'shards',
  'input',
  'distributed',
  'scale',
];

const { values: flags } = parseArgs({
  options: {
    cases: { type: 'string', default: CASES.join(',') },
    networks: { type: 'string', default: 'simcnn-k3@32,vgg11@32,vgg11@224' },
    layers: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    // Of clients.
    minutes: { type: 'string', default: '2' },
    // Of images, shards and input: a folder of JPEG files for each class.
    photographs: { type: 'string' },
    // Of scale: what bench/scale-run.mjs has written.
    measured: { type: 'string' },
    device: { type: 'string', default: 'cpu' },
    'cuda-graph': { type: 'boolean', default: false },
    threads: { type: 'string' },
    json: { type: 'string' },
  },
});
const cases = flags.cases.split(',');
const unknown = cases.find((name) => !CASES.includes(name));
if (unknown !== undefined) {
  console.error(`bench: --cases: expected some of ${CASES.join(', ')}, got ${unknown}`);
  process.exit(2);
}
const rounds = Number(flags.rounds);
if (flags.device !== 'cpu' && flags.device !== 'cuda') {
  console.error(`bench: --device: expected cpu or cuda, got ${flags.device}`);
  process.exit(2);
}
/**
 * PyTorch waits for its first GPU, and counts the memory of that one.
 * @type {Device}
 */
const device = flags.device === 'cuda' ? 'cuda:0' : 'cpu';
if (flags.threads !== undefined) setThreads(Number(flags.threads));
const threads = getThreads();
const precision = resolvePrecision('auto', device);

const onCpu = device === 'cpu';
/**
 * Batches: 128 as in the paper's CIFAR recipe; fewer images at 224, where a step is long. An epoch has five images to train
 * with for one to test with, as in CIFAR-10, and on a GPU as many as CIFAR-10.
 */
const CIFAR10 = { batch: 128, epoch: onCpu ? { train: 1280, test: 256 } : { train: 50_000, test: 10_000 } };
/**
 * @typedef {Pick<LayerRequest, 'network' | 'size' | 'batch'>
 *   & { layers: number, epoch: Pick<EpochRequest, 'train' | 'test'> }} Case
 * @type {Record<string, Case>}
 */
const NETWORKS = {
  'simcnn-k3@32': { network: 'simcnn-k3', size: 32, ...CIFAR10, layers: 4 },
  'vgg11@32': { network: 'vgg11', size: 32, ...CIFAR10, layers: 8 },
  'vgg11@224': {
    ...{ network: 'vgg11', size: 224, layers: 8, batch: onCpu ? 8 : 64 },
    epoch: onCpu ? { train: 40, test: 8 } : { train: 3200, test: 640 },
  },
};
const networks = flags.networks.split(',');
const unknownNetwork = networks.find((name) => !Object.hasOwn(NETWORKS, name));
if (unknownNetwork !== undefined) {
  console.error(`bench: --networks: expected some of ${Object.keys(NETWORKS).join(', ')}, got ${unknownNetwork}`);
  process.exit(2);
}

const python = process.env.LAYERWISE_BENCH_PYTHON || 'python3';
const WITHOUT_REFERENCE = ['service', 'soak', 'clients', 'share', 'images', 'shards', 'input', 'distributed', 'scale'];
const started = cases.every((name) => WITHOUT_REFERENCE.includes(name))
  ? null
  : await Reference.start(python, threads).catch((error) => {
      console.error(`bench: ${error.message}`);
      process.exit(1);
    });
/** There wherever a case wants it. */
const reference = /** @type {Reference} */ (started?.reference);
const info = buildInfo();
console.log(
  `${cpus()[0].model}, ${threads} threads, ${device}, ${precision}; LibTorch ${info.libtorchLoaded || info.libtorchBuilt}, ` +
    `Node ${process.version}; ${started === null ? '' : `PyTorch ${started.versions.torch}, Python ${started.versions.python}; `}` +
    new Date().toISOString().slice(0, 10),
);

/**
 * What --json keeps.
 * @type {object[]}
 */
const results = [];
/** @type {(Range & Bar & { name: string, verdict: string })[]} */
const bars = [];
/**
 * What is to be reached, on two cores of a CPU or on one GPU: at most, or at least, so much. A value that was measured in
 * rounds comes as its summary: its median decides, where the middle half of the rounds lies on the same side.
 * @param {string} name
 * @param {number | Range} measured
 * @param {Bar} wanted
 */
const bar = (name, measured, wanted) => {
  const value = typeof measured === 'number' ? { median: measured, low: measured, high: measured } : measured;
  bars.push({ name, ...value, ...wanted, verdict: verdictOf(value, wanted) });
};
const EPOCH_BARS = onCpu ? { published: 0.4, tuned: 0.95 } : { published: 0.33, tuned: 0.8 };
/** @param {number} value */
const digits = (value) => (value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(2) : value.toFixed(4));
/**
 * @param {Range} range
 * @param {string} unit
 */
const shown = ({ median, low, high }, unit) => `${digits(median)} ${unit} [${digits(low)}, ${digits(high)}]`;

/**
 * Measures each side `count` times, in turn; of each round the median of so many slices. Prints a line for each reference.
 * @param {string} name
 * @param {string} unit
 * @param {() => Promise<number>} ours
 * @param {Record<string, () => Promise<number>>} references
 * @param {{ count?: number, slices?: number }} [options]
 */
async function compare(name, unit, ours, references, { count = rounds, slices = 1 } = {}) {
  const sides = { ours, ...references };
  const values = emptyLists(Object.keys(sides));
  for (let round = 0; round < count; round++) {
    const measured = emptyLists(Object.keys(sides));
    for (let slice = 0; slice < slices; slice++) {
      for (const [key, measure] of Object.entries(sides)) measured[key].push(await measure());
    }
    for (const key of Object.keys(sides)) values[key].push(summarize(measured[key]).median);
  }
  const own = summarize(values.ours);
  for (const key of Object.keys(references)) {
    const theirs = summarize(values[key]);
    const ratio = pairedRatio(values.ours, values[key]);
    results.push({ name, unit, reference: key, ours: own, theirs, ratio });
    console.log(
      `${name.padEnd(34)} ${shown(own, unit).padEnd(34)} ${key.padEnd(9)} ${shown(theirs, unit).padEnd(34)} ratio ${digits(ratio.median)} [${digits(ratio.low)}, ${digits(ratio.high)}]`,
    );
  }
  return { own, values };
}

/**
 * @param {string[]} keys
 * @returns {Record<string, number[]>}
 */
const emptyLists = (keys) => Object.fromEntries(keys.map((key) => [key, []]));

/** Slices of a few milliseconds each, in turn: whatever else the machine does falls on both sides. */
const DISPATCH_ROUNDS = 20;
const DISPATCH_SLICES = 9;

/**
 * What to dispatch, its name, how often in a slice, and how much of PyTorch's time at most.
 * @type {[DispatchRequest['kind'], string, number, number | null][]}
 */
const DISPATCHES = [
  ['add', 'dispatch: add', 2_000, 0.8],
  ['add_', 'dispatch: add in place', 2_000, null],
  ['backward', 'dispatch: forward, backward', 200, 0.7],
];

async function benchDispatch() {
  for (const [kind, label, repetitions, most] of DISPATCHES) {
    const request = { kind, repetitions, device };
    const theirs = () => reference.measure({ measure: 'dispatch', ...request });
    for (let warm = 0; warm < 30; warm++) {
      measures.dispatch(request);
      await theirs();
    }
    const { values } = await compare(
      `${label}, ns`,
      'ns',
      async () => measures.dispatch(request),
      { PyTorch: theirs },
      { count: Math.max(DISPATCH_ROUNDS, rounds), slices: DISPATCH_SLICES },
    );
    if (most !== null && onCpu)
      bar(`${label}, of PyTorch's Python`, pairedRatio(values.ours, values.PyTorch), { most });
  }
}

/** @type {number | null} */
let measuredRate = null;

/** Operations a second of a product of two large square matrices, the best of some, measured once. */
function matrixRate() {
  if (measuredRate === null) {
    measuredRate = measures.matrixRate({ size: onCpu ? 2048 : 8192, precision, device });
    results.push({ name: `matrix rate, ${precision}, operations a second`, rate: measuredRate });
    console.log(`a product of two large matrices: ${digits(measuredRate / 1e12)} TFLOP/s, ${precision}`);
  }
  return measuredRate;
}

const references = /** @type {const} */ (['published', 'tuned']);

/**
 * Steps or epochs of each layer. The bars are for the epochs of all layers of SimCNN.
 * @param {'step' | 'epoch'} measure
 */
async function benchPerLayer(measure) {
  const rate = matrixRate();
  /** @type {Record<string, object>} */
  const totals = {};
  for (const key of networks) {
    const { network, size, batch, epoch, layers } = NETWORKS[key];
    const steps = measure === 'epoch' ? epoch.train / batch : 1;
    let operationsOfAll = 0;
    /** @type {Record<string, number>} */
    const sums = { ours: 0, ...Object.fromEntries(references.map((name) => [name, 0])) };
    /**
     * Of each round, the time of all layers.
     * @type {Record<string, number[]>}
     */
    const byRound = Object.fromEntries(Object.keys(sums).map((side) => [side, new Array(rounds).fill(0)]));
    const chosen = flags.layers?.split(',').map((layer) => Number(layer) - 1) ?? [...Array(layers).keys()];
    for (const layer of chosen) {
      const request = { network, size, batch, layer, precision, device, cudaGraph: flags['cuda-graph'] };
      const others = Object.fromEntries(
        references.map((variant) => [
          variant,
          () =>
            measure === 'epoch'
              ? reference.measure({ measure, ...request, ...epoch, variant })
              : reference.measure({ measure, ...request, variant }),
        ]),
      );
      const name = `${measure}: ${key}, layer ${layer + 1}`;
      /** @type {number[]} */
      const busy = [];
      const ours = async () => {
        if (measure === 'step') return measures.step(request);
        const once = () => measures.epoch({ ...request, ...epoch });
        if (onCpu) return once();
        const { value, percent } = await whileSampling(once);
        busy.push(percent);
        return value;
      };
      const { own, values } = await compare(name, 's', ours, others);
      if (busy.length > 0) {
        const idle = 100 - summarize(busy).median;
        bar(`${name}: time in which the GPU is idle, %`, idle, { most: 10 });
      }
      for (const [side, measured] of Object.entries(values)) {
        sums[side] += summarize(measured).median;
        measured.forEach((value, round) => {
          byRound[side][round] += value;
        });
      }
      const operations = steps * (await reference.measure({ measure: 'operations', ...request }));
      operationsOfAll += operations;
      printRate(name, operations, own.median, rate);
    }
    totals[key] = { ...sums, operations: operationsOfAll };
    printRate(`${measure}: ${key}, these layers`, operationsOfAll, sums.ours, rate);
    for (const name of references) {
      const most = EPOCH_BARS[name];
      const isWhole = measure === 'epoch' && key === 'simcnn-k3@32' && flags.layers === undefined;
      if (isWhole)
        bar(`an epoch of every layer of SimCNN, of ${name}`, pairedRatio(byRound.ours, byRound[name]), { most });
      console.log(
        `${`${measure}: ${key}, ${flags.layers === undefined ? 'all layers' : 'these layers'}`.padEnd(34)} ${digits(sums.ours)} s, ${name} ${digits(sums[name])} s, ratio ${digits(sums.ours / sums[name])}`,
      );
    }
  }
  results.push({ name: `${measure}: sums of medians`, totals });
}

/**
 * How near the time is to that of as many operations in a large matrix product (a convolution can be faster still).
 * @param {string} name
 * @param {number} operations
 * @param {number} seconds that they took
 * @param {number} rate of the matrix product, operations a second
 */
function printRate(name, operations, seconds, rate) {
  const share = operations / seconds / rate;
  results.push({ name: `${name}: operations`, operations, share });
  console.log(
    `${name.padEnd(34)} ${digits(operations / 1e9)} GFLOP in training steps, at ${digits(operations / seconds / 1e12)} TFLOP/s: ` +
      `${(100 * share).toFixed(0)} % of that of a matrix product`,
  );
}

/**
 * Bytes of a training step, in a process of its own, so that nothing of another measurement is counted.
 * @param {LayerRequest} request
 * @returns {Promise<number>}
 */
function inProcess(request) {
  return new Promise((resolve, reject) => {
    const child = fork(new URL('./memory.mjs', import.meta.url), [JSON.stringify(request), String(threads)]);
    child.on('message', (bytes) => resolve(Number(bytes)));
    child.on('exit', (code) => reject(new Error(`the memory measurement ended with code ${code}`)));
  });
}

async function benchMemory() {
  const batch = 32;
  /** @type {Omit<LayerRequest, 'layer'>} */
  const base = { network: 'vgg11', size: 224, batch, device, precision: 'fp32' };
  /** @param {LayerRequest & { end_to_end: boolean }} request */
  const inPython = async (request) => {
    const { reference: own } = await Reference.start(python, threads);
    const bytes = await own.measure({ measure: 'memory', ...request });
    own.stop();
    return bytes;
  };
  /** @param {number} bytes */
  const megabytes = (bytes) => bytes / 1e6;
  const whole = {
    ours: await inProcess({ ...base, layer: 7, end_to_end: true }),
    PyTorch: await inPython({ ...base, layer: 7, end_to_end: true }),
  };
  console.log(
    `memory: vgg11@224, batch ${batch}, fp32, end to end: ${digits(megabytes(whole.ours))} MB, PyTorch ${digits(megabytes(whole.PyTorch))} MB`,
  );
  const sides = /** @type {const} */ (['ours', 'PyTorch']);
  /** @type {Record<typeof sides[number], number[]>} */
  const parts = { ours: [], PyTorch: [] };
  for (let layer = 0; layer < 8; layer++) {
    parts.ours.push(await inProcess({ ...base, layer }));
    parts.PyTorch.push(await inPython({ ...base, layer, end_to_end: false }));
    /** @param {typeof sides[number]} side */
    const share = (side) =>
      `${digits(megabytes(parts[side][layer]))} MB (${digits(parts[side][layer] / whole.PyTorch)} of PyTorch's end to end)`;
    console.log(`memory: layer ${layer + 1}: ${share('ours')}, PyTorch ${share('PyTorch')}`);
  }
  for (const side of sides) {
    const worst = Math.max(...parts[side]) / whole.PyTorch;
    const mean = parts[side].reduce((a, b) => a + b) / 8 / whole.PyTorch;
    console.log(`memory: ${side}: worst layer ${digits(worst)}, mean ${digits(mean)} of PyTorch's end-to-end step`);
  }
  const shares = parts.ours.map((bytes) => bytes / whole.PyTorch);
  bar("memory of VGG-11's worst layer, of PyTorch's end-to-end step", Math.max(...shares), { most: 0.55 });
  bar('the same, mean of the layers', shares.reduce((a, b) => a + b) / shares.length, { most: 0.35 });
  results.push({ name: 'memory: vgg11@224', batch, whole, parts });
}

/** The part of an epoch in which the processor ran JavaScript and not the kernels, by V8's sampling profiler. */
async function benchShare() {
  const { Session } = await import('node:inspector/promises');
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: 1000 });
  const { epoch, ...simcnn } = NETWORKS['simcnn-k3@32'];
  const request = { ...simcnn, ...epoch, layer: 0, precision, device };
  await measures.epoch(request);
  await session.post('Profiler.start');
  await measures.epoch(request);
  const { profile } = await session.post('Profiler.stop');
  const { nodes, samples = [], timeDeltas = [] } = profile;
  const frames = new Map(nodes.map((node) => [node.id, node.callFrame]));
  let total = 0;
  let script = 0;
  let idle = 0;
  samples.forEach((id, i) => {
    const microseconds = timeDeltas[i];
    const frame = frames.get(id);
    total += microseconds;
    if (frame?.functionName === '(idle)') idle += microseconds;
    // A native function has no url; the addon's calls are such.
    else if (frame?.url || frame?.functionName === '(garbage collector)') script += microseconds;
  });
  const share = (100 * script) / total;
  results.push({ name: 'share of JavaScript in an epoch, %', share, idle: (100 * idle) / total });
  bar('share of JavaScript in an epoch, %', share, { most: 2 });
  console.log(`share of JavaScript in an epoch of simcnn-k3@32, layer 1: ${share.toFixed(2)} %`);
}

if (cases.includes('dispatch')) await benchDispatch();
if (cases.includes('load')) await benchLoad({ python, threads, rounds, bar, results, request: { precision, device } });
if (cases.includes('service')) await benchService({ rounds, bar, results });
if (cases.includes('soak')) await benchSoak({ bar, results });
if (cases.includes('clients')) await benchClients({ minutes: Number(flags.minutes), bar, results });
if (flags.photographs !== undefined) {
  if (cases.includes('images')) await benchImages({ folder: flags.photographs, python, rounds, bar, results });
  if (cases.includes('shards')) await benchShards({ folder: flags.photographs, rounds, results });
  if (cases.includes('input')) await benchInput({ folder: flags.photographs, rounds, results });
} else if (['images', 'shards', 'input'].some((name) => cases.includes(name))) {
  console.log('images, shards, input: left out, since there is no --photographs DIR');
}
if (cases.includes('scale')) benchScale({ measured: flags.measured, results });
if (cases.includes('share')) await benchShare();
if (cases.includes('distributed')) await benchDistributed({ rounds, bar, results });
if (cases.includes('predictor')) {
  const chosen = Object.fromEntries(networks.map((name) => [name, NETWORKS[name]]));
  await benchPredictor({ reference, networks: chosen, rounds, threads, results });
}
if (cases.includes('step')) await benchPerLayer('step');
if (cases.includes('epoch')) await benchPerLayer('epoch');
if (cases.includes('memory')) await benchMemory();
started?.reference.stop();
if (bars.length > 0) {
  console.log('\nbars');
  for (const { name, median, low, high, most, least, verdict } of bars) {
    const spread = low === high ? '' : ` [${digits(low)}, ${digits(high)}]`;
    const wanted = most === undefined ? `at least ${least}` : `at most ${most}`;
    console.log(`${name.padEnd(62)} ${digits(median)}${spread}, ${wanted}: ${verdict}`);
  }
}
if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify({ results, bars }, null, 2)}\n`);
process.exit(0);
