// Batch norm whose statistics are those of several processes' images, against one process that has all of them.
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildInfo, scope, tensor } from '../../lib/tensor/index.js';
import { hashValues } from '../support/fixtures.js';
import { inFolder, startRanks } from './ranks.js';

const WORLD = 3;
const can = buildInfo().glooReason === '';

interface Case {
  readonly name: string;
  readonly layer: '1d' | '2d' | 'relu';
  readonly shape: readonly number[];
  readonly starts: readonly number[];
  readonly dtype: 'float32' | 'bfloat16';
  readonly channelsLast: boolean;
}

const image = { shape: [8, 5, 6, 7], starts: [0, 3, 5, 8], dtype: 'float32' } as const;
const CASES: readonly Case[] = [
  { ...image, name: 'with ReLU in one operation, channels last', layer: 'relu', channelsLast: true },
  { ...image, name: 'with ReLU, channels first', layer: 'relu', channelsLast: false },
  { ...image, name: 'without ReLU, channels last', layer: '2d', channelsLast: true },
  { ...image, name: 'without ReLU, channels first', layer: '2d', channelsLast: false },
  { ...image, name: 'of bfloat16, with ReLU', layer: 'relu', channelsLast: true, dtype: 'bfloat16' },
  { ...image, name: 'of bfloat16, without ReLU', layer: '2d', channelsLast: false, dtype: 'bfloat16' },
  { ...image, name: 'of vectors', layer: '1d', shape: [8, 5], channelsLast: false },
  { ...image, name: 'of sequences', layer: '1d', shape: [8, 5, 9], channelsLast: false },
  {
    ...image,
    name: 'with one value on each rank',
    layer: 'relu',
    shape: [3, 5, 1, 1],
    starts: [0, 1, 2, 3],
    channelsLast: true,
  },
  {
    ...image,
    name: 'with one vector on each rank',
    layer: '1d',
    shape: [3, 5],
    starts: [0, 1, 2, 3],
    channelsLast: false,
  },
];

const sizeOf = ({ shape }: Case): number => shape.reduce((a, b) => a * b);
// A mean that is large beside the deviations.
const valuesOf = (one: Case): number[] => [...hashValues(sizeOf(one), 1)].map((value) => value + 20);
const gradientOf = (one: Case): number[] => [...hashValues(sizeOf(one), 2)];

interface Results {
  readonly output: readonly number[];
  readonly dtype: string;
  readonly input: readonly number[];
  readonly weight: readonly number[];
  readonly bias: readonly number[];
  readonly runningMean: readonly number[];
  readonly runningVar: readonly number[];
}

/** The values as a dtype holds them. */
const held = (values: readonly number[], { dtype }: Case): number[] =>
  scope(() => [
    ...(tensor(Float32Array.from(values)).to({ dtype }).to({ dtype: 'float64' }).toTypedArray() as Float64Array),
  ]);

/** One process with the whole batch, in float64: Ioffe and Szegedy 2015, algorithm 1 and its derivatives, with eps 1e-5. */
function alone(one: Case): Results {
  const channels = one.shape[1]!;
  const inner = one.shape.slice(2).reduce((a, b) => a * b, 1);
  const count = sizeOf(one) / channels;
  const [x, g] = [held(valuesOf(one), one), held(gradientOf(one), one)];
  const channelOf = (at: number): number => Math.floor(at / inner) % channels;
  const sums = (values: readonly number[]): number[] => {
    const total: number[] = Array(channels).fill(0);
    for (const [at, value] of values.entries()) total[channelOf(at)]! += value;
    return total;
  };
  const gain = (c: number): number => 0.5 + c;
  const mean = sums(x).map((sum) => sum / count);
  const squares = sums(x.map((value, at) => (value - mean[channelOf(at)]!) ** 2));
  const scale = squares.map((sum) => 1 / Math.sqrt(sum / count + 1e-5));
  const normalized = x.map((value, at) => (value - mean[channelOf(at)]!) * scale[channelOf(at)]!);
  const linear = normalized.map((value, at) => value * gain(channelOf(at)) + 0.25 * channelOf(at) - 0.5);
  const isRelu = one.layer === 'relu';
  const behind = g.map((value, at) => (isRelu && linear[at]! <= 0 ? 0 : value));
  const bias = sums(behind);
  const weight = sums(behind.map((value, at) => value * normalized[at]!));
  return {
    output: linear.map((value) => (isRelu ? Math.max(value, 0) : value)),
    dtype: one.dtype,
    input: behind.map((value, at) => {
      const c = channelOf(at);
      return gain(c) * scale[c]! * (value - bias[c]! / count - (normalized[at]! * weight[c]!) / count);
    }),
    ...{ weight, bias },
    runningMean: mean.map((value) => 0.1 * value),
    runningVar: squares.map((sum) => 0.9 + (0.1 * sum) / (count - 1)),
  };
}

/** The largest difference, as a part of the largest value. */
function distance(a: readonly number[], b: readonly number[]): number {
  expect(a.length).toBe(b.length);
  const largest = Math.max(...b.map(Math.abs));
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!))) / largest;
}

describe.runIf(can)('synchronised batch norm', () => {
  /** By rank, and case by case. */
  let ranks: readonly (readonly Results[])[] = [];
  beforeAll(async () => {
    await inFolder(async (folder) => {
      const options = [0, 1, 2].map((rank) => ({
        ...{ rank, worldSize: WORLD, timeoutMs: 30_000 },
        store: { file: `${folder}/store` },
      }));
      const cases = CASES.map((one) => ({ ...one, values: valuesOf(one), gradient: gradientOf(one) }));
      writeFileSync(`${folder}/cases.json`, JSON.stringify(cases));
      const ended = await startRanks('batch-norm.mjs', options, { CASES: `${folder}/cases.json` }).ended;
      for (const { code, stderr } of ended) expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      ranks = ended.map(({ lines }) => lines as Results[]);
    });
  });
  afterAll(() => {
    ranks = [];
  });

  it.each(CASES.map((one, i) => ({ ...one, i })))('$name is that of one process with all images', ({ i, ...one }) => {
    const expected = alone(one);
    const results = ranks.map((cases) => cases[i]!);
    const count = sizeOf(one) / one.shape[1]!;
    // Of three values the gradients nearly cancel.
    const bound = one.dtype === 'bfloat16' ? 1 / 200 : count < 10 ? 3e-5 : 3e-6;
    for (const { dtype } of results) expect(dtype).toBe(expected.dtype);
    for (const name of ['output', 'input'] as const) {
      const joined = results.flatMap((result) => result[name]);
      expect(distance(joined, expected[name]), name).toBeLessThan(bound);
    }
    // Their sum over the ranks is the gradient of the batch.
    for (const name of ['weight', 'bias'] as const) {
      const sum = expected[name].map((_, c) => results.reduce((total, result) => total + result[name][c]!, 0));
      expect(distance(sum, expected[name]), name).toBeLessThan(one.dtype === 'float32' ? 1e-5 : 1 / 64);
    }
    for (const name of ['runningMean', 'runningVar'] as const) {
      for (const result of results) {
        expect(distance(result[name], expected[name]), name).toBeLessThan(1e-5);
        expect(result[name]).toEqual(results[0]![name]);
      }
    }
  });
});
