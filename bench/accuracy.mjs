// node bench/accuracy.mjs --data-dir DIR [--seeds 1,2,3] [--views none,1,4,16] [--epochs N] [--width N] [--json FILE]
//
// What the fast paths and the kept views do to accuracy: SimCNN k = 3 on the first 5,000 CIFAR-10 images, by layer.
// "plain" is float32 and the modules by their definitions: frozen layers unfolded and computed in every epoch, batch norm and
// ReLU apart, evaluation by the same modules. "fast" is what a user gets. Each run is a process of its own.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const { values: flags } = parseArgs({
  options: {
    'data-dir': { type: 'string' },
    seeds: { type: 'string', default: '1,2,3' },
    views: { type: 'string', default: 'none,1,4,16' },
    'view-seeds': { type: 'string', default: '1' },
    epochs: { type: 'string', default: '4' },
    'view-epochs': { type: 'string', default: '16' },
    width: { type: 'string', default: '32' },
    json: { type: 'string' },
    one: { type: 'string' },
  },
});

/** The plain path, by putting the definitions in the place of what is fast. */
async function makePlain() {
  const { BatchNorm2d, FrozenBlocks } = await import('../dist/nn/index.js');
  const { noGrad } = await import('../dist/tensor/index.js');
  BatchNorm2d.prototype.forwardRectified = function (input) {
    return this.forward(input).relu();
  };
  FrozenBlocks.prototype.forward = function (input, count = this.blocks.length) {
    return noGrad(() => this.blocks.slice(0, count).reduce((x, block) => block.forward(x), input));
  };
}

async function runOne({ plain, seed, views, epochs, width, dataDir, out }) {
  const { overrideRecipe, presetRecipe, train } = await import('../dist/training/index.js');
  if (plain) await makePlain();
  const recipe = overrideRecipe(presetRecipe('simcnn-k3', { dataset: 'cifar10', onCuda: false }), {
    model: { width, auxWidth: width },
    dataset: { dataDir, trainLimit: 5000, testLimit: 2000 },
    augmentation: { views },
    training: {
      epochs,
      milestones: [...new Set([0.3, 0.6, 0.9].map((part) => Math.max(1, Math.round(part * epochs))))],
    },
    seed,
    ...(plain ? { precision: 'fp32' } : {}),
  });
  const { result } = await train({ recipe, out, ...(plain ? { cache: 'none' } : { cache: { host: 12 * 2 ** 30 } }) });
  const layers = result.layers.map(({ testTop1, ensembleTop1, seconds }) => ({ testTop1, ensembleTop1, seconds }));
  console.log(JSON.stringify({ layers, seconds: result.seconds }));
}

if (flags.one !== undefined) {
  await runOne(JSON.parse(flags.one));
  process.exit(0);
}
if (flags['data-dir'] === undefined) {
  console.error('bench: --data-dir: expected the directory of CIFAR-10, got nothing');
  process.exit(2);
}

const width = Number(flags.width);
const folder = mkdtempSync(join(tmpdir(), 'layerwise-accuracy-'));
const results = [];

function measure(request) {
  const whole = { width, dataDir: flags['data-dir'], out: join(folder, String(results.length)), ...request };
  const told = execFileSync(process.execPath, [import.meta.filename, '--one', JSON.stringify(whole)], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { layers, seconds } = JSON.parse(told.trim().split('\n').at(-1));
  rmSync(whole.out, { recursive: true });
  results.push({ ...request, layers, seconds });
  const shown = layers.map(({ testTop1 }) => testTop1.toFixed(2).padStart(6)).join(' ');
  const paces = layers.map((layer) => layer.seconds.toFixed(0).padStart(4)).join(' ');
  const name = `${request.plain ? 'plain' : 'fast'}, views ${request.views ?? 'new ones'}, seed ${request.seed}, ${request.epochs} epochs`;
  console.log(`${name.padEnd(44)} top-1 ${shown}  ensemble ${layers.at(-1).ensembleTop1.toFixed(2)}  seconds ${paces}`);
  return layers.map(({ testTop1 }) => testTop1);
}

console.log(`${cpus()[0].model}, Node ${process.version}; width ${width}; ${new Date().toISOString().slice(0, 10)}`);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const seeds = flags.seeds.split(',').filter((seed) => seed !== '');
const runs = { plain: [], fast: [] };
for (const seed of seeds.map(Number)) {
  for (const side of ['plain', 'fast']) {
    runs[side].push(measure({ plain: side === 'plain', seed, views: null, epochs: Number(flags.epochs) }));
  }
}
if (seeds.length > 0) {
  runs.plain[0].forEach((_, layer) => {
    const [plain, fast] = ['plain', 'fast'].map((side) => runs[side].map((values) => values[layer]));
    const spread = Math.max(...plain) - Math.min(...plain);
    console.log(
      `layer ${layer + 1}: plain ${mean(plain).toFixed(2)}, spread of its seeds ${spread.toFixed(2)}; ` +
        `fast ${mean(fast).toFixed(2)}, difference of the means ${(mean(fast) - mean(plain)).toFixed(2)}`,
    );
  });
}
for (const seed of flags['view-seeds'].split(',').filter((one) => one !== '')) {
  for (const views of flags.views.split(',').filter((one) => one !== '')) {
    const number = views === 'none' ? null : Number(views);
    measure({ plain: false, seed: Number(seed), views: number, epochs: Number(flags['view-epochs']) });
  }
}
rmSync(folder, { recursive: true });
if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(results, null, 2)}\n`);
