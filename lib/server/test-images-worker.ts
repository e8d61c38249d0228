// The worker thread that looks at test images of a run: reads them, asks every head, and makes pictures of them.
import { parentPort, workerData } from 'node:worker_threads';
import sharp from 'sharp';
import { Draws, type ImageBatch, openImages } from '../data/index.js';
import { classifyByLayer, TrainedRun } from '../finished/index.js';
import { toSend } from '../service/index.js';
import { scope, setThreads, type Tensor } from '../tensor/index.js';
import type { TestImage } from './schemas.js';
import type { FromTestImagesWorker, TestImages, TestImagesRequest } from './test-images.js';

const request = workerData as TestImagesRequest;
const send = (message: FromTestImagesWorker): void => parentPort!.postMessage(message);

/** A test image, and its pixels uint8 [channels, height, width]. */
interface Found {
  readonly image: TestImage;
  readonly pixels: Uint8Array;
}

// Trainings beside it have the other threads.
setThreads(1);
try {
  send({ type: 'done', images: await look(request) });
} catch (error) {
  send({ type: 'failed', error: toSend(error) });
}
parentPort!.close();

async function look({ runDirectory, count }: TestImagesRequest): Promise<TestImages> {
  using run = await TrainedRun.open(runDirectory);
  const { test } = await run.loadDataset({ testOnly: true });
  const source = openImages(test, { device: run.device });
  try {
    // As a pass in that order, which reads no other image; nothing is drawn where nothing is augmented.
    const order = Int32Array.from(spread(source.count, count));
    const { batchSize } = run.recipe.evaluation;
    const found: Found[] = [];
    const pass = { epoch: 0, order, batchSize, firstStep: 0, draws: new Draws({ seed: 0 }) };
    for await (const batch of source.trainingBatches(pass)) found.push(...foundIn(run, batch));
    return {
      images: found.map(({ image }) => image),
      pictures: await Promise.all(found.map(({ pixels }) => picture(pixels, run.network.inputShape))),
    };
  } finally {
    source.dispose();
  }
}

/** Indices below `total`, as far apart as can be. */
function spread(total: number, count: number): number[] {
  const taken = Math.min(total, count);
  return Array.from({ length: taken }, (_, i) => Math.floor((i * total) / taken));
}

function foundIn(run: TrainedRun, batch: ImageBatch): Found[] {
  return scope(() => {
    const { images, labels } = batch.tensors();
    const layersOf = whatLayersSay(run, images);
    const labelled = labels.toTypedArray();
    const pixels = images.contiguous().toTypedArray() as Uint8Array;
    const size = pixels.length / labelled.length;
    return Array.from(batch.indices, (index, row) => ({
      image: { index, class: run.classes[Number(labelled[row])]!, layers: layersOf(row) },
      pixels: pixels.slice(row * size, (row + 1) * size),
    }));
  });
}

/** The likeliest class by the head of each layer, of the image in a row. */
function whatLayersSay(run: TrainedRun, images: Tensor): (row: number) => TestImage['layers'] {
  const byLayer = classifyByLayer(run, images, { top: 1 });
  return (row) =>
    byLayer.map(({ indices, probabilities, layers }) => ({
      layer: layers![row]!,
      class: run.classes[indices[row]!]!,
      probability: probabilities[row]!,
    }));
}

/** Pixels as PNG; of other channels than 1 and 3 the first is shown. */
async function picture(
  pixels: Uint8Array,
  [channels = 0, height = 0, width = 0]: readonly number[],
): Promise<Uint8Array> {
  const shown = channels === 3 ? 3 : 1;
  const raw = new Uint8Array(height * width * shown);
  for (let i = 0; i < height * width; i++) {
    for (let channel = 0; channel < shown; channel++) raw[i * shown + channel] = pixels[channel * height * width + i]!;
  }
  return sharp(raw, { raw: { width, height, channels: shown } })
    .png()
    .toBuffer();
}
