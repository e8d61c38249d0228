// node bench/jpeg-scaling.mjs --photographs DIR [--cases pixels,accuracy] [--seeds 1,2,3] [--epochs 10] [--json FILE]
//
// What it changes that large JPEG images are decoded an eighth, a quarter or half as large. DIR has a folder for each class.
// pixels: the photographs beside the same ones scaled from all their pixels, in evaluation and in training crops.
// accuracy: which photograph a piece is of. Each photograph is cut into 4 x 3 pieces, which are in turn of the training and the test
// set. SimCNN k = 3 of 2 layers and width 16 is trained on crops of 32 x 32 pixels, with scaling and without, and each network is
// evaluated both ways. Each run is a process of its own.
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import sharp from 'sharp';

/**
 * @typedef {{ dataDir: string, out: string, seed: number, epochs: number }} TrainRequest
 * @typedef {{ on: number, off: number }} Switched for scaling on and off
 * @typedef {{ top1: number, classes: number[] }} Evaluated in per cent of the test images, and the class that each was taken for
 */

const { values: flags } = parseArgs({
  options: {
    photographs: { type: 'string' },
    cases: { type: 'string', default: 'pixels,accuracy' },
    seeds: { type: 'string', default: '1,2,3' },
    epochs: { type: 'string', default: '10' },
    json: { type: 'string' },
    train: { type: 'string' },
    evaluate: { type: 'string' },
  },
});

const SIDES = /** @type {const} */ (['off', 'on']);
/** Pixels a side of what the networks see. */
const CROP = 32;
/** Across and down; a piece of a photograph whose shorter side has so many pixels is decoded half as large in evaluation. */
const PIECES = [4, 3];
const LEAST_SIDE = 330;

/**
 * Trains: what a process of its own does.
 * @param {TrainRequest} request
 */
async function trainOne({ dataDir, out, seed, epochs }) {
  const { overrideRecipe, presetRecipe, train } = await import('../dist/index.js');
  const recipe = overrideRecipe(presetRecipe('simcnn-k3', { dataset: 'imagenet', onCuda: false }), {
    model: { layers: 2, downsampleAt: [1], width: 16, auxWidth: 16 },
    dataset: { dataDir, imageSize: CROP, testResize: null },
    training: { epochs, batchSize: 64, milestones: [0.5, 0.8].map((part) => Math.round(part * epochs)) },
    seed,
    precision: 'fp32',
    threads: 1,
  });
  await train({ recipe, out });
}

/**
 * Prints the top-1 accuracy of the last layer, and the class that each test image is taken for.
 * @param {string} out
 */
async function evaluateOne(out) {
  const { TrainedRun } = await import('../dist/index.js');
  const { openImages } = await import('../dist/data/index.js');
  const { inferenceMode, scope } = await import('../dist/tensor/index.js');
  const run = await TrainedRun.open(out);
  const { test } = await run.loadDataset();
  const images = openImages(test, { device: run.device, randomResizedCrop: false });
  /** @type {number[]} */
  const classes = [];
  for await (const batch of images.batches(240)) {
    scope(() => {
      const logits = inferenceMode(() => run.logits(batch.tensors().images));
      classes.push(...Array.from(logits.argmax({ dim: 1 }).toTypedArray(), Number));
    });
  }
  const labels = scope(() => Array.from(images.labels.toTypedArray(), Number));
  const hits = classes.filter((found, i) => found === labels[i]).length;
  console.log(JSON.stringify({ top1: (100 * hits) / classes.length, classes }));
}

if (flags.train !== undefined) {
  await trainOne(JSON.parse(flags.train));
  process.exit(0);
}
if (flags.evaluate !== undefined) {
  await evaluateOne(flags.evaluate);
  process.exit(0);
}
const folder = flags.photographs ?? '';
if (folder === '') {
  console.error('bench: --photographs: expected a folder of JPEG files for each class, got nothing');
  process.exit(2);
}
const files = readdirSync(folder)
  .sort()
  .flatMap((name) => readdirSync(join(folder, name)).map((file) => join(folder, name, file)));
/** @type {object[]} */
const results = [];

/** @param {readonly number[]} values */
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Decodes the photographs both ways, for some sizes of what is shown. */
async function pixels() {
  const { Draws } = await import('../dist/data/draws.js');
  const { resizedCropDraws } = await import('../dist/data/resized-crop.js');
  const { DECODED, decodeImages, empty, findTurboJpeg, keep, scope } = await import('../dist/tensor/index.js');
  if (findTurboJpeg() === null) throw new Error('there is no TurboJPEG');
  const draws = new Draws({ seed: 7, layer: 0 });
  const indices = Int32Array.from(files.keys());
  /**
   * @param {number} size
   * @param {Float64Array} numbers
   * @param {boolean} mayReduce
   */
  const decoded = async (size, numbers, mayReduce) => {
    const images = scope(() => keep(empty([files.length, size, size, 3], { dtype: 'uint8' })));
    const covered = /** @type {const} */ ([Math.floor((size * 8) / 7), Math.floor((size * 8) / 7)]);
    const request = { images, sources: files, draws: numbers, covered, maxPixels: 1e9, mayReduce };
    const outcomes = await decodeImages(request).done;
    if (outcomes.some((outcome) => outcome !== DECODED.yes)) throw new Error('a photograph could not be decoded');
    const found = images.toTypedArray();
    images.dispose();
    return found;
  };
  for (const size of [224, 96, 64, 32]) {
    /** @type {Record<string, Float64Array[]>} */
    const kinds = {
      evaluation: [new Float64Array()],
      'training crops': [0, 1, 2].map((epoch) => resizedCropDraws(draws, epoch, indices)),
    };
    for (const [kind, passes] of Object.entries(kinds)) {
      /** @type {number[]} */
      const means = [];
      let worst = 0;
      for (const numbers of passes) {
        const [plain, scaled] = [await decoded(size, numbers, false), await decoded(size, numbers, true)];
        const length = 3 * size * size;
        for (let at = 0; at < plain.length; at += length) {
          let sum = 0;
          for (let i = at; i < at + length; i++) {
            const difference = Math.abs(Number(plain[i]) - Number(scaled[i]));
            sum += difference;
            worst = Math.max(worst, difference);
          }
          means.push(sum / length);
        }
      }
      const changed = means.filter((value) => value > 0);
      const share = (100 * changed.length) / means.length;
      const figures = { share, mean: mean(means), ofChanged: changed.length === 0 ? 0 : mean(changed) };
      results.push({ case: 'pixels', size, kind, ...figures, worstImage: Math.max(...means), worst });
      console.log(
        `${size} x ${size}, ${kind}: ${share.toFixed(1)} % of ${means.length} decoded smaller; mean difference ${figures.mean.toFixed(3)}, ` +
          `of those ${figures.ofChanged.toFixed(3)}, of the worst image ${Math.max(...means).toFixed(2)}, of the worst pixel ${worst}`,
      );
    }
  }
}

/**
 * Writes the pieces of the photographs as train/ and val/ of a data set. Returns how many photographs are large enough.
 * @param {string} to
 */
async function cutPieces(to) {
  let count = 0;
  const [columns, rows] = PIECES;
  for (const [index, file] of files.entries()) {
    const { data, info } = await sharp(file).toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
    if (Math.min(info.width, info.height) < LEAST_SIDE) continue;
    count++;
    const [width, height] = [Math.floor(info.width / columns), Math.floor(info.height / rows)];
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const name = join(
          to,
          (row + column) % 2 === 0 ? 'train' : 'val',
          `photograph-${String(index).padStart(3, '0')}`,
        );
        mkdirSync(name, { recursive: true });
        const { channels } = info;
        await sharp(data, { raw: { width: info.width, height: info.height, channels } })
          .extract({ left: column * width, top: row * height, width, height })
          .jpeg({ quality: 95 })
          .toFile(join(name, `${row}-${column}.jpg`));
      }
    }
  }
  return count;
}

const run = promisify(execFile);

/**
 * @param {'train' | 'evaluate'} what
 * @param {string} request
 * @param {'on' | 'off'} scaling
 */
const inProcess = async (what, request, scaling) => {
  const env = { ...process.env, LAYERWISE_JPEG_SCALING: scaling };
  const { stdout } = await run(process.execPath, [import.meta.filename, `--${what}`, request], { env });
  return stdout;
};

/** Trains with scaling and without, and evaluates both ways. */
async function accuracy() {
  const place = mkdtempSync(join(tmpdir(), 'layerwise-scaling-'));
  try {
    const dataDir = join(place, 'data');
    const count = await cutPieces(dataDir);
    const half = (count * PIECES[0] * PIECES[1]) / 2;
    console.log(`${count} photographs, ${half} pieces to train on and ${half} to test with`);
    /** @type {Record<'on' | 'off', Switched[]>} */
    const found = { on: [], off: [] };
    for (const seed of flags.seeds.split(',').map(Number)) {
      for (const trained of SIDES) {
        const out = join(place, `${seed}-${trained}`);
        const start = performance.now();
        await inProcess('train', JSON.stringify({ dataDir, out, seed, epochs: Number(flags.epochs) }), trained);
        const seconds = (performance.now() - start) / 1000;
        /** @type {Record<'on' | 'off', Evaluated>} */
        const evaluated = {
          on: JSON.parse(await inProcess('evaluate', out, 'on')),
          off: JSON.parse(await inProcess('evaluate', out, 'off')),
        };
        const others = evaluated.on.classes.filter((one, i) => one !== evaluated.off.classes[i]).length;
        const top1 = { on: evaluated.on.top1, off: evaluated.off.top1 };
        found[trained].push(top1);
        results.push({ case: 'accuracy', seed, trained, top1, others, tested: half, seconds });
        console.log(
          `seed ${seed}, trained with scaling ${trained}: top-1 ${top1.off.toFixed(2)} without, ${top1.on.toFixed(2)} with it in ` +
            `evaluation; ${others} of ${half} pieces are taken for another class; ${seconds.toFixed(0)} s`,
        );
      }
    }
    for (const side of SIDES) {
      // As a user has it: trained and evaluated the same way.
      const own = found[side].map((top1) => top1[side]);
      const spread = Math.max(...own) - Math.min(...own);
      console.log(`scaling ${side}: top-1 ${mean(own).toFixed(2)}, spread of the seeds ${spread.toFixed(2)}`);
    }
    const differences = found.on.map((top1, i) => top1.on - found.off[i].off);
    console.log(`with scaling less without, by seed: ${differences.map((value) => value.toFixed(2)).join(', ')}`);
  } finally {
    rmSync(place, { recursive: true });
  }
}

/** @type {Record<string, () => Promise<void>>} */
const CASES = { pixels, accuracy };
console.log(
  `${cpus()[0].model}, Node ${process.version}, sharp ${sharp.versions.sharp}; ${new Date().toISOString().slice(0, 10)}`,
);
for (const name of flags.cases.split(',')) {
  const measure = CASES[name];
  if (measure === undefined) {
    console.error(`bench: --cases: expected some of ${Object.keys(CASES).join(', ')}, got ${name}`);
    process.exit(2);
  }
  await measure();
  if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(results, null, 2)}\n`);
}
