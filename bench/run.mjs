// npm run bench [-- --cases dispatch,step,epoch,memory,share] [--networks simcnn-k3@32,vgg11@32,vgg11@224] [--layers 1,2]
//                  [--rounds N] [--device cpu|cuda] [--threads N] [--json FILE]
//
// Each case measures this project and a PyTorch reference (reference/, the same LibTorch release) alternately, in one call,
// and prints the medians, the range of the middle half, and the median of the ratios of neighbouring measurements.
import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { buildInfo, getThreads, setThreads } from '../dist/tensor/index.js';
import { resolvePrecision } from '../dist/training/precision.js';
import { measures } from './ours.mjs';
import { Reference } from './python.mjs';
import { pairedRatio, summarize } from './statistics.mjs';

const CASES = ['dispatch', 'step', 'epoch', 'memory', 'share'];

const { values: flags } = parseArgs({
  options: {
    cases: { type: 'string', default: CASES.join(',') },
    networks: { type: 'string', default: 'simcnn-k3@32,vgg11@32,vgg11@224' },
    layers: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    device: { type: 'string', default: 'cpu' },
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
const { device } = flags;
if (flags.threads !== undefined) setThreads(Number(flags.threads));
const threads = getThreads();
const precision = resolvePrecision('auto', device === 'cuda' ? 'cuda:0' : device);
const at = device === 'cuda' ? 'cuda:0' : device;

/** Batches: 128 as in the paper's CIFAR recipe; fewer images at 224, where a step is long. */
const NETWORKS = {
  'simcnn-k3@32': { network: 'simcnn-k3', size: 32, batch: 128, layers: 4 },
  'vgg11@32': { network: 'vgg11', size: 32, batch: 128, layers: 8 },
  'vgg11@224': { network: 'vgg11', size: 224, batch: device === 'cpu' ? 8 : 64, layers: 8 },
};
/** Images of an epoch, five to train with for one to test with, as in CIFAR-10. */
const EPOCH = { train: 1280, test: 256 };
const networks = flags.networks.split(',');

const python = process.env.LAYERWISE_BENCH_PYTHON || 'python3';
const { reference, versions } = await Reference.start(python, threads).catch((error) => {
  console.error(`bench: ${error.message}`);
  process.exit(1);
});
const info = buildInfo();
console.log(
  `${cpus()[0].model}, ${threads} threads, ${device}, ${precision}; LibTorch ${info.libtorchLoaded || info.libtorchBuilt}, ` +
    `Node ${process.version}; PyTorch ${versions.torch}, Python ${versions.python}; ${new Date().toISOString().slice(0, 10)}`,
);

const results = [];
/** What is to be reached, on two cores of a CPU: each value at most so much. */
const bars = [];
const bar = (name, value, most) => bars.push({ name, value, most });
const digits = (value) => (value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(2) : value.toFixed(4));
const shown = ({ median, low, high }, unit) => `${digits(median)} ${unit} [${digits(low)}, ${digits(high)}]`;

/** Measures each side `count` times, in turn, and prints a line for each reference. */
async function compare(name, unit, ours, references, count = rounds) {
  const values = { ours: [], ...Object.fromEntries(Object.keys(references).map((key) => [key, []])) };
  for (let round = 0; round < count; round++) {
    values.ours.push(await ours());
    for (const [key, measure] of Object.entries(references)) values[key].push(await measure());
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

async function benchDispatch() {
  for (const [kind, label, repetitions] of [
    ['add', 'dispatch: add, ns', 20_000],
    ['add_', 'dispatch: add in place, ns', 20_000],
    ['backward', 'dispatch: forward, backward, ns', 3_000],
  ]) {
    const request = { kind, repetitions, device: at };
    measures.dispatch(request); // warm
    await reference.measure({ measure: 'dispatch', ...request });
    const { values } = await compare(
      label,
      'ns',
      async () => measures.dispatch(request),
      { PyTorch: () => reference.measure({ measure: 'dispatch', ...request }) },
      4 * rounds,
    );
    if (kind === 'add')
      bar("an operator's dispatch, of PyTorch's Python", pairedRatio(values.ours, values.PyTorch).median, 1);
  }
}

async function benchPerLayer(measure, extra, references) {
  const totals = {};
  for (const key of networks) {
    const { network, size, batch, layers } = NETWORKS[key];
    const sums = { ours: 0, ...Object.fromEntries(references.map((name) => [name, 0])) };
    const chosen = flags.layers?.split(',').map((layer) => Number(layer) - 1) ?? [...Array(layers).keys()];
    for (const layer of chosen) {
      const request = { network, size, batch, layer, precision, device: at, ...extra };
      const others = Object.fromEntries(
        references.map((variant) => [variant, () => reference.measure({ measure, ...request, variant })]),
      );
      const { values } = await compare(
        `${measure}: ${key}, layer ${layer + 1}`,
        's',
        () => measures[measure](request),
        others,
      );
      for (const [name, measured] of Object.entries(values)) sums[name] += summarize(measured).median;
    }
    totals[key] = sums;
    for (const name of references) {
      const most = { published: 0.4, tuned: 0.95 }[name];
      const isWhole = measure === 'epoch' && key === 'simcnn-k3@32' && flags.layers === undefined;
      if (isWhole) bar(`an epoch of every layer of SimCNN, of ${name}`, sums.ours / sums[name], most);
      console.log(
        `${`${measure}: ${key}, ${flags.layers === undefined ? 'all layers' : 'these layers'}`.padEnd(34)} ${digits(sums.ours)} s, ${name} ${digits(sums[name])} s, ratio ${digits(sums.ours / sums[name])}`,
      );
    }
  }
  results.push({ name: `${measure}: sums of medians`, totals });
}

/** In a process of its own, so that nothing of another measurement is counted. */
function inProcess(request) {
  return new Promise((resolve, reject) => {
    const child = fork(new URL('./memory.mjs', import.meta.url), [JSON.stringify(request), String(threads)]);
    child.on('message', resolve);
    child.on('exit', (code) => reject(new Error(`the memory measurement ended with code ${code}`)));
  });
}

async function benchMemory() {
  const batch = 32;
  const base = { network: 'vgg11', size: 224, batch, device: at, precision: 'fp32' };
  const inPython = async (request) => {
    const { reference: own } = await Reference.start(python, threads);
    const bytes = await own.measure({ measure: 'memory', ...request });
    own.stop();
    return bytes;
  };
  const megabytes = (bytes) => bytes / 1e6;
  const whole = {
    ours: await inProcess({ ...base, layer: 7, end_to_end: true }),
    PyTorch: await inPython({ ...base, layer: 7, end_to_end: true }),
  };
  console.log(
    `memory: vgg11@224, batch ${batch}, fp32, end to end: ${digits(megabytes(whole.ours))} MB, PyTorch ${digits(megabytes(whole.PyTorch))} MB`,
  );
  const parts = { ours: [], PyTorch: [] };
  for (let layer = 0; layer < 8; layer++) {
    parts.ours.push(await inProcess({ ...base, layer }));
    parts.PyTorch.push(await inPython({ ...base, layer, end_to_end: false }));
    const share = (side) =>
      `${digits(megabytes(parts[side].at(-1)))} MB (${digits(parts[side].at(-1) / whole.PyTorch)} of PyTorch's end to end)`;
    console.log(`memory: layer ${layer + 1}: ${share('ours')}, PyTorch ${share('PyTorch')}`);
  }
  for (const side of ['ours', 'PyTorch']) {
    const worst = Math.max(...parts[side]) / whole.PyTorch;
    const mean = parts[side].reduce((a, b) => a + b) / 8 / whole.PyTorch;
    console.log(`memory: ${side}: worst layer ${digits(worst)}, mean ${digits(mean)} of PyTorch's end-to-end step`);
  }
  const shares = parts.ours.map((bytes) => bytes / whole.PyTorch);
  bar("memory of VGG-11's worst layer, of PyTorch's end-to-end step", Math.max(...shares), 0.55);
  bar('the same, mean of the layers', shares.reduce((a, b) => a + b) / shares.length, 0.35);
  results.push({ name: 'memory: vgg11@224', batch, whole, parts });
}

/** The part of an epoch in which the processor ran JavaScript and not the kernels, by V8's sampling profiler. */
async function benchShare() {
  const { Session } = await import('node:inspector/promises');
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: 1000 });
  const request = { ...NETWORKS['simcnn-k3@32'], layer: 0, precision, device: at, ...EPOCH };
  await measures.epoch(request);
  await session.post('Profiler.start');
  await measures.epoch(request);
  const { profile } = await session.post('Profiler.stop');
  const own = new Map(profile.nodes.map((node) => [node.id, node.callFrame]));
  let total = 0;
  let script = 0;
  let idle = 0;
  profile.samples.forEach((id, i) => {
    const microseconds = profile.timeDeltas[i];
    const { functionName, url } = own.get(id);
    total += microseconds;
    if (functionName === '(idle)') idle += microseconds;
    // A native function has no url; the addon's calls are such.
    else if (url !== '' || functionName === '(garbage collector)') script += microseconds;
  });
  const share = (100 * script) / total;
  results.push({ name: 'share of JavaScript in an epoch, %', share, idle: (100 * idle) / total });
  bar('share of JavaScript in an epoch, %', share, 2);
  console.log(`share of JavaScript in an epoch of simcnn-k3@32, layer 1: ${share.toFixed(2)} %`);
}

if (cases.includes('dispatch')) await benchDispatch();
if (cases.includes('share')) await benchShare();
if (cases.includes('step')) await benchPerLayer('step', {}, ['published', 'tuned']);
if (cases.includes('epoch')) await benchPerLayer('epoch', EPOCH, ['published', 'tuned']);
if (cases.includes('memory')) await benchMemory();
reference.stop();
if (device === 'cpu' && bars.length > 0) {
  console.log('\nbars');
  for (const { name, value, most } of bars) {
    console.log(`${name.padEnd(62)} ${digits(value)}, at most ${most}: ${value <= most ? 'met' : 'NOT MET'}`);
  }
}
if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify({ results, bars }, null, 2)}\n`);
process.exit(0);
