// A run that is told to stop while its source gives no batch, as a web server that is silent.
import { describe, expect, it } from 'vitest';
import { DeviceImages, type ImageBatch, type ImageSource } from '../../lib/data/index.js';
import { overrideRecipe, presetRecipe } from '../../lib/recipe/index.js';
import { resume, train } from '../../lib/training/index.js';
import { temporaryFolder } from './runs.js';

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

/** Data whose training images stop coming after so many batches, for ever; `whenSilent` is called then. */
function silentAfter(source: ImageSource, batches: number, whenSilent: () => void) {
  const silent: ImageSource = {
    count: source.count,
    labels: source.labels,
    async *trainingBatches(pass): AsyncGenerator<ImageBatch> {
      let given = pass.firstStep;
      for await (const batch of source.trainingBatches(pass)) {
        if (given++ === batches) {
          whenSilent();
          await new Promise(() => {});
        }
        yield batch;
      }
    },
    batches: (size) => source.batches(size),
    dispose: () => {},
  };
  const normalization = { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] };
  return { classes: ['a', 'b'], imageShape: [3, SIDE, SIDE] as const, train: silent, test: source, normalization };
}

describe('a run whose source is silent', () => {
  it.each([3, 0])('after %i steps stops, and goes on from there', async (steps) => {
    const source = images();
    const out = at(`silent-${steps}`);
    const controller = new AbortController();
    const stop = (): void => void setTimeout(() => controller.abort(), 20);
    const data = silentAfter(source, steps, stop);
    await expect(train({ recipe, data, out, signal: controller.signal })).rejects.toMatchObject({
      name: 'TrainingInterrupted',
    });
    const seen: number[] = [];
    const whole = silentAfter(source, COUNT, () => {});
    await resume(out, {
      data: whole,
      onEvent: (event) => {
        if (event.type === 'step') seen.push(event.step);
      },
    });
    expect(seen).toEqual(Array.from({ length: COUNT / 4 - steps }, (_, i) => steps + i + 1));
    source.dispose();
  });
});
