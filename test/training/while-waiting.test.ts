// A run that is told to stop while its source gives no batch, as a web server that is silent.
import { describe, expect, it } from 'vitest';
import { DeviceImages, type ImageBatch, type ImageSource } from '../../lib/data/index.js';
import { overrideRecipe, presetRecipe } from '../../lib/recipe/index.js';
import { resume, type TrainingEvent, train } from '../../lib/training/index.js';
import { productOf, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();
const SIDE = 16;
const COUNT = 24;

const recipe = overrideRecipe(presetRecipe('vgg11-layerwise', { dataset: 'own', onCuda: false }), {
  model: { width: 2, layers: 1 },
  dataset: { imageSize: SIDE },
  training: { epochs: 1, batchSize: 4, milestones: [] },
  ...{ device: 'cpu', precision: 'fp32' },
});

const images = (): DeviceImages => {
  const pixels = Uint8Array.from({ length: COUNT * 3 * SIDE * SIDE }, (_, i) => (i * 7919) % 256);
  const labels = Uint8Array.from({ length: COUNT }, (_, i) => i % 2);
  return new DeviceImages({ images: pixels, labels, count: COUNT, channels: 3, height: SIDE, width: SIDE }, 'cpu');
};

/** Gives so many batches, then none, for ever; `whenSilent` is called then. */
async function* upTo(
  batches: number,
  source: AsyncIterable<ImageBatch>,
  whenSilent: () => void,
): AsyncGenerator<ImageBatch> {
  let given = 0;
  for await (const batch of source) {
    if (given++ === batches) {
      whenSilent();
      await new Promise(() => {});
    }
    yield batch;
  }
}

const NORMALIZATION = { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] };

/** Data whose training or test images stop coming after so many batches of a pass. Passes count from the start of a run on. */
function silentAfter(
  source: ImageSource,
  { batches, part = 'train', pass = 0 }: { batches: number; part?: 'train' | 'test'; pass?: number },
  whenSilent: () => void,
) {
  let passes = Number.NEGATIVE_INFINITY;
  const silent: ImageSource = {
    count: source.count,
    labels: source.labels,
    trainingBatches: (options) => {
      const given = source.trainingBatches(options);
      return passes++ === pass ? upTo(batches - options.firstStep, given, whenSilent) : given;
    },
    batches: (size) => {
      const given = source.batches(size);
      return passes++ === pass ? upTo(batches, given, whenSilent) : given;
    },
    dispose: () => {},
  };
  const parts = part === 'train' ? { train: silent, test: source } : { train: source, test: silent };
  const data = { classes: ['a', 'b'], imageShape: [3, SIDE, SIDE] as const, ...parts, normalization: NORMALIZATION };
  // Before a run starts, its data are looked at.
  const onEvent = ({ type }: TrainingEvent): void => {
    if (type === 'start') passes = 0;
  };
  return { data, onEvent };
}

const wholeData = (source: ImageSource) => silentAfter(source, { batches: COUNT }, () => {}).data;

/** A run that was told to stop is over in about a second. */
async function requireStops(options: Parameters<typeof train>[0], abort: AbortController): Promise<void> {
  let told = 0;
  abort.signal.addEventListener('abort', () => {
    told = performance.now();
  });
  await expect(train({ ...options, signal: abort.signal })).rejects.toMatchObject({ name: 'TrainingInterrupted' });
  expect(performance.now() - told).toBeLessThan(2500);
}

describe('a run whose source is silent', () => {
  it.each([3, 0])('after %i steps stops, and goes on from there', async (steps) => {
    const source = images();
    const out = at(`silent-${steps}`);
    const controller = new AbortController();
    const stop = (): void => void setTimeout(() => controller.abort(), 20);
    await requireStops({ recipe, out, ...silentAfter(source, { batches: steps }, stop) }, controller);
    const seen: number[] = [];
    await resume(out, {
      data: wholeData(source),
      onEvent: (event) => {
        if (event.type === 'step') seen.push(event.step);
      },
    });
    expect(seen).toEqual(Array.from({ length: COUNT / 4 - steps }, (_, i) => steps + i + 1));
    source.dispose();
  });

  it('stops in the middle of a test and while features are made, and ends as a run that was never stopped', async () => {
    const source = images();
    const two = overrideRecipe(recipe, {
      model: { layers: 2 },
      augmentation: { views: 1 },
      evaluation: { batchSize: 8 },
    });
    await train({ recipe: two, data: wholeData(source), out: at('whole') });
    // The first pass of the training images is layer 1's epoch, the second makes what layer 2 reads.
    for (const [name, where] of [
      ['testing', { part: 'test', batches: 1 }],
      ['testing-first', { part: 'test', batches: 0 }],
      ['features', { part: 'train', batches: 2, pass: 1 }],
    ] as const) {
      const controller = new AbortController();
      const silent = silentAfter(source, where, () => void setTimeout(() => controller.abort(), 20));
      await requireStops({ recipe: two, out: at(name), ...silent }, controller);
      await resume(at(name), { data: wholeData(source) });
      expect(productOf(at(name))).toEqual(productOf(at('whole')));
    }
    source.dispose();
  });

  it('stops while the outputs of finished layers are computed again', async () => {
    const source = images();
    const two = overrideRecipe(recipe, { model: { layers: 2 } });
    const out = at('again');
    await startAndStop({ recipe: two, data: wholeData(source), out }, ({ type }) => type === 'layer');
    const controller = new AbortController();
    const steps: TrainingEvent[] = [];
    const stop = (): void => void setTimeout(() => controller.abort(), 20);
    const { data, onEvent } = silentAfter(source, { part: 'test', batches: 0 }, stop);
    const watch = (event: TrainingEvent): void => {
      onEvent(event);
      if (event.type === 'step') steps.push(event);
    };
    await expect(resume(out, { data, onEvent: watch, signal: controller.signal })).rejects.toMatchObject({
      name: 'TrainingInterrupted',
    });
    expect(steps).toEqual([]);
    await resume(out, { data: wholeData(source) });
    source.dispose();
  });
});
