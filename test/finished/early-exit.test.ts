import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { generateShapes } from '../../lib/data/shapes.js';
import { exitEarly, exitLayersOf } from '../../lib/finished/early-exit.js';
import { classify, evaluateEarlyExit, TrainedRun } from '../../lib/finished/index.js';
import { overrideRecipe } from '../../lib/recipe/index.js';
import { type EarlyExitRecord, RunDirectory, readRunRecord, writeExported } from '../../lib/run/index.js';
import { canRehearse, scope, type Tensor, tensor } from '../../lib/tensor/index.js';
import { train } from '../../lib/training/index.js';
import { gradient, save } from '../data/images.js';
import { smallRecipe, temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();
const COUNT = 24;

beforeAll(async () => {
  for (const precision of ['fp32', 'bf16'] as const) {
    await train({ recipe: smallRecipe({ model: { layers: 4 }, precision }), out: at(precision) });
  }
  await train({ recipe: smallRecipe({}, 'vgg11-end-to-end'), out: at('end-to-end') });
});

const imagesOf = (pixels: Uint8Array): Tensor => tensor(pixels, { shape: [pixels.length / 3072, 3, 32, 32] });

/** Of each image alone, after each layer: probabilities. */
function alone(run: TrainedRun, pixels: Uint8Array): number[][][] {
  return Array.from({ length: COUNT }, (_, i) =>
    scope(() => {
      const image = imagesOf(pixels.subarray(3072 * i, 3072 * (i + 1)));
      return Array.from({ length: run.layers }, (_, layer) => [
        ...run.logits(image, layer).softmax(1).toFloat32Array(),
      ]);
    }),
  );
}

/** Confidences of the first layer, with a threshold in the widest gap of their middle half, so that rounding decides nothing. */
function dividing(probabilities: readonly number[][][]): number {
  const sorted = probabilities.map(([first]) => Math.max(...first!)).sort((a, b) => a - b);
  const middle = sorted.slice(COUNT / 4, (3 * COUNT) / 4);
  const gaps = middle.slice(1).map((value, i) => [value - middle[i]!, (value + middle[i]!) / 2] as const);
  return gaps.reduce((widest, gap) => (gap[0] > widest[0] ? gap : widest))[1];
}

describe('early exit', () => {
  it.each([
    ['fp32', 1e-6],
    ['bf16', 0.02],
  ] as const)(
    'takes each image of a batch for what the first layer that is sure makes of it alone: %s',
    async (name, error) => {
      using run = await TrainedRun.open(at(name));
      const { images: pixels } = await generateShapes({ split: 'test', count: COUNT, seed: 5 });
      const probabilities = alone(run, pixels);
      const threshold = dividing(probabilities);
      const layers = exitLayersOf(run);
      const { values, left } = scope(() => {
        const { probabilities, layers: left } = exitEarly(run, imagesOf(pixels), { threshold, layers });
        return { left, values: probabilities.toFloat32Array() };
      });
      const firstSure = probabilities.map((heads) => {
        const sure = heads.findIndex((one) => Math.max(...one) > threshold);
        return sure < 0 ? 3 : sure;
      });
      // In bfloat16 a confidence near the threshold may fall on the other side of it in another batch.
      if (name === 'fp32') expect([...left]).toEqual(firstSure);
      // Some leave, some go on.
      expect(new Set(left).size).toBeGreaterThan(1);
      for (let i = 0; i < COUNT; i++) {
        for (const [label, probability] of probabilities[i]![left[i]!]!.entries()) {
          expect(Math.abs(values[10 * i + label]! - probability)).toBeLessThan(error);
        }
      }
    },
  );

  it('lets all images leave at the first layer at a threshold of 0, and at the last one at 1', async () => {
    using run = await TrainedRun.open(at('fp32'));
    const { images: pixels } = await generateShapes({ split: 'test', count: COUNT, seed: 5 });
    for (const [threshold, layers, leftAt] of [
      [0, undefined, 0],
      [1, undefined, 3],
      [0, [2], 2],
      [0, [1, 3], 1],
      [1, [], 3],
    ] as const) {
      scope(() => {
        const images = imagesOf(pixels);
        const { probabilities, layers: left, top } = classify(run, images, { by: { threshold, layers }, top: 10 });
        expect([...left!]).toEqual(Array(COUNT).fill(leftAt));
        const expected = run.logits(images, leftAt).softmax(1).topk(top, { dim: 1 }).values.toFloat32Array();
        for (const [i, probability] of probabilities.entries()) {
          expect(Math.abs(probability - expected[i]!)).toBeLessThan(1e-6);
        }
      });
    }
  });

  it('is refused at layers that there are not, and in a network whose layers have no heads', async () => {
    using run = await TrainedRun.open(at('fp32'));
    expect(() => exitLayersOf(run, [4])).toThrow('expected a layer from 1 to 4, got 5');
    expect(() => exitLayersOf(run, [2, 1])).toThrow('layers: expected a list of layers that rise, got [2,1]');
    expect(() => exitLayersOf(run, [1, 1])).toThrow('layers: expected a list of layers that rise, got [1,1]');
    using whole = await TrainedRun.open(at('end-to-end'));
    await expect(evaluateEarlyExit(whole)).rejects.toThrow(
      'this network was trained end to end: only its last layer has a head',
    );
    for (const [options, message] of [
      [{ tolerance: '5' as never }, 'tolerance: expected points of top-1 from 0 to 100, got "5"'],
      [{ tolerance: -1 }, 'tolerance: expected points of top-1 from 0 to 100, got -1'],
      [{ threshold: 1 } as never, 'evaluateEarlyExit: unknown option threshold'],
    ] as const) {
      await expect(evaluateEarlyExit(run, options)).rejects.toMatchObject({
        name: 'RecipeError',
        message: expect.stringContaining(message),
      });
    }
  });
});

// Of older releases there is no rehearsal.
describe.runIf(canRehearse())('the multiply-adds of a run', () => {
  it('are those of its convolutions and products, by layer', async () => {
    using run = await TrainedRun.open(at('fp32'));
    const counted = run.multiplyAdds();
    // 3 x 3 kernels: 3 to 2 channels on 32 x 32, 2 to 4 on 16 x 16, 4 to 8 and 8 to 8 on 8 x 8.
    expect(counted!.map(({ block }) => block)).toEqual([
      ...[9 * 3 * 2 * 32 * 32, 9 * 2 * 4 * 16 * 16, 9 * 4 * 8 * 8 * 8, 9 * 8 * 8 * 8 * 8],
    ]);
    // Two padded 3 x 3 convolutions on half of the size, the average of 2 x 2, a linear layer; the last head: three linear layers.
    expect(counted!.map(({ head }) => head)).toEqual([
      9 * 2 * 4 * 16 * 16 + 9 * 4 * 4 * 16 * 16 + 4 * 4 * 10,
      9 * 4 * 8 * 8 * 8 + 9 * 8 * 8 * 8 * 8 + 4 * 8 * 10,
      9 * 8 * 16 * 4 * 4 + 9 * 16 * 16 * 4 * 4 + 4 * 16 * 10,
      2 * 128 * 128 + 128 * 10,
    ]);
  });
});

describe('the evaluation of early exit', () => {
  /** Shares of 20 test images. */
  const isShare = (top1: number): boolean => Math.abs((top1 * 20) / 100 - Math.round((top1 * 20) / 100)) < 1e-9;

  it('has the accuracies and costs of each threshold, chosen on training images that were held out', async () => {
    using run = await TrainedRun.open(at('fp32'));
    const record = await evaluateEarlyExit(run, { layers: [0, 2] });
    expect(record).toMatchObject({
      ...{ layers: [0, 2, 3], tolerance: 0.5, images: 20 },
      chosenOn: { part: 'train', images: 20 },
      timing: { device: 'cpu', precision: 'fp32' },
    });
    const { test } = await run.loadDataset();
    const of = async (layer: number): Promise<number> => (await run.evaluate(test, layer)).top1;
    expect(record.whole.top1).toBe(await of(3));
    const [first, last] = [record.points[0]!, record.points.at(-1)!];
    expect(first).toMatchObject({ threshold: 0, exits: [20, 0, 0], meanLayers: 1, top1: await of(0) });
    expect(last).toMatchObject({ threshold: 1, exits: [0, 0, 20], meanLayers: 4, top1: await of(3) });
    const costs = run.multiplyAdds();
    if (costs === null) return expect(record.points.every(({ multiplyAdds }) => multiplyAdds === null)).toBe(true);
    const blocks = (count: number): number => costs.slice(0, count).reduce((sum, { block }) => sum + block, 0);
    const leaving = [
      blocks(1) + costs[0]!.head,
      blocks(3) + costs[0]!.head + costs[2]!.head,
      blocks(4) + costs[0]!.head + costs[2]!.head + costs[3]!.head,
    ];
    expect(record.whole.multiplyAdds).toBe(blocks(4) + costs[3]!.head);
    for (const { exits, multiplyAdds, top1, milliseconds } of record.points) {
      expect(exits.reduce((sum, count) => sum + count)).toBe(20);
      expect(multiplyAdds).toBeCloseTo(exits.reduce((sum, count, i) => sum + count * leaving[i]!, 0) / 20, 6);
      expect(isShare(top1)).toBe(true);
      expect(milliseconds).toBeGreaterThan(0);
    }
    expect(record.points.some(({ threshold }) => threshold === record.threshold)).toBe(true);
    expect(record.chosenOn.top1).toBeGreaterThanOrEqual(record.chosenOn.wholeTop1 - 0.5);
  });

  it('counts what images are taken for when they really leave', async () => {
    using run = await TrainedRun.open(at('fp32'));
    const { test } = await run.loadDataset();
    if (!('images' in test)) throw new Error('expected images in memory');
    const { points, layers } = await evaluateEarlyExit(run, { layers: [0, 1, 2] });
    for (const { threshold, top1, exits } of points) {
      const { left, labels } = scope(() => {
        const { indices, layers: left } = classify(run, imagesOf(test.images), { by: { threshold, layers }, top: 1 });
        return { left: left!, labels: indices };
      });
      expect(layers.map((layer) => left.filter((one) => one === layer).length)).toEqual(exits);
      expect(top1).toBeCloseTo((100 * labels.filter((label, i) => label === test.labels[i]).length) / 20, 9);
    }
  });

  it('chooses on every other test image where none of training were held out, or cannot be known, and tells of the others', async () => {
    const images = await generateShapes({ split: 'train', count: 60, seed: 1 });
    const tested = await generateShapes({ split: 'test', count: 21, seed: 1 });
    const classes = Array.from({ length: 10 }, (_, i) => `class ${i}`);
    const data = { classes, imageShape: [3, 32, 32] as const, train: images, test: tested };
    const recipe = overrideRecipe(smallRecipe({ model: { layers: 3 } }), {
      dataset: { name: 'own', dataDir: null, trainLimit: null, testLimit: null },
    });
    await train({ recipe, data, out: at('own') });
    using run = await TrainedRun.open(at('own'), { data });
    const record = await evaluateEarlyExit(run);
    expect(record).toMatchObject({ chosenOn: { part: 'test', images: 11 }, images: 10 });
    const { test } = await run.loadDataset();
    if (!('images' in test)) throw new Error('expected images in memory');
    const others = { images: new Uint8Array(10 * 3072), labels: new Int32Array(10) };
    for (let i = 0; i < 10; i++) {
      others.images.set(test.images.subarray(3072 * (2 * i + 1), 3072 * (2 * i + 2)), 3072 * i);
      others.labels[i] = test.labels[2 * i + 1]!;
    }
    const { top1 } = await run.evaluate({ ...test, ...others, count: 10 }, 2);
    expect(record.whole.top1).toBe(top1);

    const limited = overrideRecipe(recipe, { dataset: { trainLimit: 40 } });
    await train({ recipe: limited, data, out: at('limited') });
    using held = await TrainedRun.open(at('limited'), { data });
    expect((await evaluateEarlyExit(held)).chosenOn).toMatchObject({ part: 'train', images: 20 });
    const changed = { ...data, train: { ...images, images: images.images.toReversed() } };
    using other = await TrainedRun.open(at('limited'), { data: changed });
    expect((await evaluateEarlyExit(other)).chosenOn).toMatchObject({ part: 'test', images: 11 });
  });

  it('knows image files that were held out, and files that were replaced since', async () => {
    const files = async (part: string, count: number): Promise<{ files: string[]; labels: number[] }> => {
      const made = Array.from({ length: count }, (_, i) => gradient(32 + i, 32, { blue: 9 * i }).png());
      return {
        files: await Promise.all(made.map((one, i) => save(at('files'), `${part}-${i}.png`, one))),
        labels: made.map((_, i) => i % 2),
      };
    };
    const data = { classes: ['even', 'odd'], train: await files('train', 13), test: await files('test', 4) };
    const recipe = overrideRecipe(smallRecipe(), {
      dataset: { name: 'own', dataDir: null, trainLimit: 10, testLimit: null },
      training: { batchSize: 5 },
    });
    await train({ recipe, data, out: at('of files') });
    const chosenOn = async (): Promise<EarlyExitRecord['chosenOn']> => {
      using run = await TrainedRun.open(at('of files'), { data });
      return (await evaluateEarlyExit(run)).chosenOn;
    };
    expect(await chosenOn()).toMatchObject({ part: 'train', images: 3 });
    await save(at('files'), 'train-0.png', gradient(99, 99, { blue: 7 }).png());
    expect(await chosenOn()).toMatchObject({ part: 'test', images: 2 });
  });

  it('is kept in the run directory and in exported files, and is refused where it is damaged', async () => {
    using run = await TrainedRun.open(at('bf16'));
    expect(run.earlyExit).toBe(null);
    const record = await evaluateEarlyExit(run, { testLimit: 10 });
    expect([record.images, record.chosenOn.images]).toEqual([10, 10]);
    const directory = RunDirectory.open(at('bf16'));
    await directory.writeEarlyExit(record);
    expect((await readRunRecord(at('bf16'))).earlyExit).toEqual(record);
    using again = await TrainedRun.open(at('bf16'));
    expect(again.earlyExit).toEqual(record);
    const { network, config, earlyExit } = again;
    await writeExported(at('all.safetensors'), network, { config, earlyExit, auxiliaryHeads: true });
    using exported = await TrainedRun.open(at('all.safetensors'));
    expect(exported.earlyExit).toEqual(record);

    const file = join(at('bf16'), 'early-exit.json');
    const text = readFileSync(file, 'utf8');
    for (const [change, problem] of [
      [{ threshold: 2 }, 'threshold: expected at most 1, got 2'],
      [{ threshold: 0.123 }, 'threshold: expected that of one of the points'],
      [{ layers: [3, 1] }, 'layers: expected rising layers'],
      [{ layers: [0] }, 'points: expected as many exits as layers'],
      [{ layers: record.layers.map((layer) => layer + 1) }, 'the last of layers: expected 3, of result.json, got 4'],
    ] as [Partial<EarlyExitRecord>, string][]) {
      writeFileSync(file, JSON.stringify({ ...JSON.parse(text), ...change }));
      await expect(TrainedRun.open(at('bf16'))).rejects.toMatchObject({
        name: 'RunDirectoryError',
        message: expect.stringContaining(`${file}: ${problem}`),
      });
    }
    writeFileSync(file, text);
  });
});

it('early exit of a network of one layer is the network itself', async () => {
  const recipe = smallRecipe({ model: { layers: 1 } });
  await train({ recipe, out: at('one') });
  using run = await TrainedRun.open(at('one'));
  expect(exitLayersOf(run)).toEqual([0]);
  const record = await evaluateEarlyExit(run);
  expect(record).toMatchObject({ layers: [0], threshold: 0 });
  for (const { multiplyAdds, top1 } of record.points) {
    expect([multiplyAdds, top1]).toEqual([record.whole.multiplyAdds, record.whole.top1]);
  }
});
