// The arithmetic of docs/scale.md against values by hand and its limits, and the document against the script.
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { markdown } from '../../bench/markdown.mjs';
import { figuresOf, imagenetRecipe, scaleTables } from '../../bench/scale.mjs';
import {
  allGatherSeconds,
  allReduceSeconds,
  BUCKET_BYTES,
  divide,
  efficiency,
  linkOf,
  localStepSeconds,
  messagesOf,
  pipelineTime,
  ringSeconds,
  sentBytes,
  shareOf,
  stepTime,
  total,
} from '../../bench/scale-model.mjs';

const link = { bandwidth: 100, latency: 0.5 };
const slow = { bandwidth: 10, latency: 2 };
const cluster = { perNode: 4, inside: link, between: slow };
const gpu = { operations: 1000, memory: 1e9, host: 0 };

it('sends nothing of one rank, and all of each of two', () => {
  expect(sentBytes(600, 1)).toBe(0);
  expect(sentBytes(600, 2)).toBe(600);
  expect(sentBytes(600, 3)).toBe(800);
  expect(ringSeconds(600, 1, link)).toBe(0);
  expect(ringSeconds(600, 2, link)).toBe(6 + 2 * 0.5);
  expect(ringSeconds(600, 3, link)).toBe(8 + 4 * 0.5);
});

it('needs no network within a node, and rings within and between several', () => {
  for (const gpus of [1, 2, 3, 4]) {
    expect(allReduceSeconds(600, gpus, cluster)).toBe(ringSeconds(600, gpus, link));
    expect(allGatherSeconds(60, gpus, cluster)).toBeCloseTo((gpus - 1) * (0.6 + 0.5), 12);
  }
  // 2 nodes of 4: 900 of 600 bytes and 6 messages inside, 600 and 2 between.
  expect(allReduceSeconds(600, 8, cluster)).toBeCloseTo(9 + 3 + 60 + 4, 12);
  // From the other node 4 times 60 bytes, then within the node 3 times 120.
  expect(allGatherSeconds(60, 8, cluster)).toBeCloseTo(24 + 2 + 3 * (1.2 + 0.5), 12);
  expect(() => allReduceSeconds(600, 6, cluster)).toThrow('expected whole nodes of 4 GPUs, got 6 GPUs');
  expect(() => sentBytes(-1, 2)).toThrow('expected bytes of at least 0, got -1');
  expect(() => sentBytes(1, 0)).toThrow('expected an integer of at least 1 for ranks, got 0');
});

it('fills messages with consecutive tensors', () => {
  expect(messagesOf([])).toEqual([]);
  expect(messagesOf([BUCKET_BYTES - 4, 4, 4])).toEqual([BUCKET_BYTES, 4]);
  expect(messagesOf([8, 2 * BUCKET_BYTES, 8])).toEqual([8, 2 * BUCKET_BYTES, 8]);
});

it('computes a step by hand', () => {
  const work = { operations: 10, gradients: [600], channels: [2] };
  const alone = stepTime(work, { batch: 256, gpus: 1, gpu, cluster });
  expect(alone.compute).toBeCloseTo(2.56 + (5 * 600) / 1e9, 12);
  expect(alone).toMatchObject({ statistics: 0, sum: 0, alone: alone.compute, overlapped: alone.compute });
  // 64 images each: statistics of one's own.
  const four = stepTime(work, { batch: 256, gpus: 4, gpu, cluster });
  expect(four.compute).toBeCloseTo(0.64 + (9 * 600) / 1e9, 12);
  expect(four).toMatchObject({ statistics: 0, sum: 12 });
  expect(four.alone).toBeCloseTo(four.compute + 12, 12);
  expect(four.overlapped).toBe(12);
  // 31 each at most: 5 numbers forward and 4 backward, of 8 bytes.
  const few = stepTime(work, { batch: 124, gpus: 4, gpu, cluster });
  expect(few.statistics).toBeCloseTo(3 * (0.4 + 0.5) + 3 * (0.32 + 0.5), 12);
  expect(few.overlapped).toBeCloseTo(Math.max(few.compute + few.statistics, few.sum), 12);
  // However few the images, the host has its tensors.
  const hosted = stepTime(work, { batch: 4, gpus: 4, gpu: { ...gpu, host: 7 }, cluster });
  expect(hosted.compute).toBe(7);
  expect(() => shareOf(3, 4)).toThrow('expected an image for each of 4 GPUs, got a batch of 3');
});

it('never has an efficiency above 1', () => {
  for (const images of [1, 8, 32, 100]) {
    for (const bytes of [0, 4, 1e6, 1e9]) {
      for (const gpus of [1, 2, 4, 8, 64, 512]) {
        const work = { operations: 10, gradients: [bytes], channels: [3, 5] };
        const where = { gpu: { ...gpu, host: 1e-3 }, cluster };
        for (const batch of [images * gpus, 512]) {
          const one = stepTime(work, { batch, gpus: 1, ...where });
          const several = stepTime(work, { batch, gpus, ...where });
          for (const seconds of [several.alone, several.overlapped]) {
            expect(efficiency(one.alone, seconds, gpus)).toBeLessThanOrEqual(1 + 1e-12);
          }
          expect(several.overlapped).toBeLessThanOrEqual(several.alone);
        }
      }
    }
  }
});

it('gives the units to the stages with the most work, up to a limit', () => {
  expect(divide(3, [1, 1, 1], 9)).toEqual([1, 1, 1]);
  expect(divide(8, [30, 10], 9)).toEqual([6, 2]);
  expect(divide(8, [30, 10], 4)).toEqual([4, 4]);
  expect(divide(9, [30, 10], 4)).toEqual([4, 4]);
  expect(() => divide(1, [1, 1], 9)).toThrow('expected at least 2 units, got 1');
});

it('goes as fast as the slowest stage of a pipeline', () => {
  const stage = (operations: number, activations: number) => ({
    ...{ operations, activations, gradients: [], channels: [] },
  });
  // A stage alone is data-parallel training.
  const work = { ...stage(10, 50), gradients: [600] };
  const whole = pipelineTime([work], { batch: 256, gpus: 4, gpu, cluster });
  expect(whole).toMatchObject({ gpus: [4], slowest: 0 });
  expect(whole.alone).toBe(stepTime(work, { batch: 256, gpus: 4, gpu, cluster }).alone);
  // Two of one GPU each: 256 images of 50 bytes at 100 a second, and 0.5 s.
  const two = pipelineTime([stage(10, 50), stage(20, 50)], { batch: 256, gpus: 2, gpu, cluster });
  expect(two).toMatchObject({ gpus: [1, 1], slowest: 1 });
  expect(two.alone).toBeCloseTo(5.12 + 128.5, 10);
  expect(two.overlapped).toBeCloseTo(128.5, 10);
  // Whole nodes where there are two: a GPU has a quarter of the node's 10 bytes a second.
  const nodes = pipelineTime([stage(10, 50), stage(20, 50)], { batch: 256, gpus: 8, gpu, cluster });
  expect(nodes.gpus).toEqual([4, 4]);
  expect(nodes.alone).toBeCloseTo(1.28 + (256 * 50) / (4 * 2.5) + 2, 10);
});

it('finds latency and bandwidth again, and predicts processes that take turns', () => {
  const measured = [1, 100, 10_000].map((bytes) => ({ bytes, seconds: ringSeconds(bytes, 4, slow) }));
  const found = linkOf(measured, 4);
  expect(found.bandwidth).toBeCloseTo(slow.bandwidth, 9);
  expect(found.latency).toBeCloseTo(slow.latency, 9);
  const step = { computeSeconds: 3, gradients: [600], processors: 2, link };
  expect(localStepSeconds({ ...step, processes: 1 })).toBe(3);
  expect(localStepSeconds({ ...step, processes: 2 })).toBe(3 + 7);
  expect(localStepSeconds({ ...step, processes: 4 })).toBe(6 + 9 + 3);
});

it("has the presets' operations and bytes", () => {
  const layers = figuresOf(imagenetRecipe('vgg11-layerwise'), 1000);
  // 27 weights and a bias of each of 64 filters, and batch norm's two.
  expect(layers[0]).toMatchObject({ block: (27 + 1 + 2) * 64, channels: [64, 128, 128, 128] });
  for (const { block, head, gradientBytes, gradients } of layers) {
    expect(total(gradients)).toBe(gradientBytes);
    expect(gradientBytes).toBe(4 * (block + head));
  }
  // 64 channels of 224 x 224 in bfloat16, and what the pooling that opens layer 2 makes of them.
  expect(layers[0]!.activations).toEqual({ output: 2 * 64 * 224 ** 2, opened: 2 * 64 * 112 ** 2 });
  const [endToEnd] = figuresOf(imagenetRecipe('vgg11-layerwise', { schedule: 'end-to-end' }), 1000);
  // torchvision's vgg11_bn has 132,868,840 parameters.
  expect(endToEnd!.gradientBytes).toBe(4 * 132_868_840);
  const atOnce = figuresOf(imagenetRecipe('vgg11-layerwise', { schedule: 'simultaneous' }), 1000);
  expect(atOnce.map(({ gradients }) => gradients)).toEqual(layers.map(({ gradients }) => gradients));
  expect(atOnce[7]!.operations).toBeLessThan(layers[7]!.operations);
});

it('is what the document says', () => {
  const document = readFileSync(new URL('../../docs/scale.md', import.meta.url), 'utf8');
  for (const { name, table } of scaleTables()) expect(document, name).toContain(table);
  expect(markdown(['a', 'bb'], [['ccc', 'd']])).toBe('| a   | bb |\n| --- | -- |\n| ccc | d  |');
});
