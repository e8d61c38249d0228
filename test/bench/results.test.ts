// Tables of runs against runs made by hand.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { curveOf, epochTable, madeOn, networksOf, runsIn, seedTable, sideBySide } from '../../bench/results.mjs';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { describeRun, type EpochRecord } from '../../lib/run/index.js';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-results-'));
afterAll(() => rmSync(folder, { recursive: true }));

const COUNTS = { trainCount: 50_000, testCount: 10_000 };

/** Multiply-adds of an image, by hand: whitening at 31 x 31; blocks of 64, 256 and 256 channels, stage 1's head as block 3, and linear layers. */
const STAGE_1 =
  31 ** 2 * 24 * 12 + 31 ** 2 * 64 * 24 * 9 + 15 ** 2 * 64 * 64 * 9 + 15 ** 2 * 256 * 64 * 9 + 7 ** 2 * 256 ** 2 * 9;
const BLOCK_3 = (7 ** 2 + 3 ** 2) * 256 ** 2 * 9;
const HEAD_1 = BLOCK_3 + 9 * 256 * 10;
const HEAD_2 = 256 * 10;
const recipeOf = (preset: string, training: object): Recipe =>
  overrideRecipe(presetRecipe(preset, { onCuda: false }), { dataset: COUNTS, training });

const record = (
  layer: number,
  epoch: number,
  testTop1: number,
  ensembleTop1: number,
  seconds: number,
): EpochRecord => ({
  ...{ layer, epoch, testTop1, ensembleTop1, seconds },
  ...{
    learningRate: 0.1,
    trainLoss: 1,
    trainTop1: 50,
    testLoss: 1,
    testTop5: 90,
    ensembleTop5: 90,
    imagesPerSecond: 1,
  },
});

/** A run of two stages that train at once, of two epochs; the later figures are those of the seed. */
function writeRun(name: string, seed: number, top1: number, isFinished = true): void {
  const run = join(folder, name);
  mkdirSync(run);
  const recipe = { ...recipeOf('cifar10-fast', { epochs: 2 }), seed };
  const metrics = [
    record(0, 0, 70, 70, 10),
    record(1, 0, 82, 83, 20),
    record(0, 1, 80, 80, 30),
    record(1, 1, top1, 91, 40),
  ];
  const conditions = { title: 'fast', command: 'layerwise train', peakResidentBytes: 2 ** 30 };
  const config = describeRun({
    ...{ recipe, classes: Array.from({ length: 10 }, String), device: 'cpu' as const, precision: 'bf16' as const },
    normalization: { mean: [0, 0, 0], std: [1, 1, 1] },
  });
  writeFileSync(join(run, 'config.json'), JSON.stringify(config));
  writeFileSync(join(run, 'metrics.jsonl'), `${metrics.map((line) => JSON.stringify(line)).join('\n')}\n`);
  writeFileSync(join(run, 'run.json'), JSON.stringify(conditions));
  if (!isFinished) return;
  const layers = metrics
    .slice(2)
    .map(({ epoch, learningRate, imagesPerSecond, ...line }) => ({ ...line, parameters: null }));
  writeFileSync(join(run, 'result.json'), JSON.stringify({ layers, seconds: 130 }));
}

it("counts an epoch's seconds and operations, of all layers that train at once", () => {
  const recipe = recipeOf('cifar10-fast', { epochs: 2 });
  const { points, operations } = curveOf(
    [record(0, 0, 70, 70, 10), record(1, 0, 80, 81, 20), record(0, 1, 71, 71, 30), record(1, 1, 85, 86, 40)],
    recipe,
    10,
  );
  expect(points.map(({ seconds, top1, ensemble }) => [seconds, top1, ensemble])).toEqual([
    [30, 80, 81],
    [100, 85, 86],
  ]);
  const anEpoch = 6 * 50_000 * (STAGE_1 + HEAD_1 + BLOCK_3 + HEAD_2);
  expect(points.map(({ operations }) => operations)).toEqual([anEpoch, 2 * anEpoch]);
  expect(operations).toBe(2 * anEpoch);
});

it('adds layers that train one after another, each with what is frozen below it', () => {
  const recipe = recipeOf('cifar10-fast-layerwise', { epochs: 1 });
  const { points, operations } = curveOf([record(0, 0, 70, 70, 10), record(1, 0, 80, 81, 20)], recipe, 10);
  expect(points.map(({ seconds }) => seconds)).toEqual([10, 30]);
  const [first, second] = [3 * (STAGE_1 + HEAD_1), STAGE_1 + 3 * (BLOCK_3 + HEAD_2)];
  expect(points.map(({ operations }) => operations)).toEqual([1e5 * first, 1e5 * (first + second)]);
  expect(points[1]!.operations).toBe(operations);
});

it('has means over seeds, and what was taken to an accuracy', async () => {
  writeRun('a', 1, 89);
  writeRun('b', 2, 92);
  const runs = await runsIn(folder);
  expect(runs.map(({ name, recipe }) => [name, recipe.seed])).toEqual([
    ['a', 1],
    ['b', 2],
  ]);
  expect(seedTable(runs).split('\n').at(-1)).toBe(
    '| mean | 80.00            | 90.50            | 91.00             | 2:10 |',
  );
  expect(epochTable(runs).split('\n').at(-1)).toMatch(/^\| 2 +\| 1:40 +\| 91 +\| 90\.50 +\| 91\.00/);
  const [row] = sideBySide(networksOf(runs)).split('\n').slice(2);
  const cells = row!.split('|').map((cell) => cell.trim());
  // 82 % after the first epoch, 90.5 after the second.
  expect(cells.slice(1, -1)).toEqual([
    ...['fast', '2', '90.50', '2:10', '91', '1024'],
    // 45.7 TFLOP an epoch.
    ...['0:30, 46', '1:40, 91', '1:40, 91'],
  ]);
});

it('tells of each machine once', async () => {
  const [run] = await runsIn(folder);
  const made = { startedAt: '2026-12-01T10:00:00.000Z', deviceName: 'EPYC', threads: 2, precision: 'bf16' as const };
  const versions = { layerwise: '1.2.3', libtorch: '2.13.0', node: 'v20.20.2' };
  const one = { ...run!, config: { ...run!.config, ...made, versions } };
  const other = { ...one, config: { ...one.config, threads: 1, precision: 'fp32' as const } };
  const rest = '; layerwise 1.2.3, LibTorch 2.13.0, Node v20.20.2';
  expect(madeOn([one, one])).toBe(`2026-12-01; EPYC, 2 threads, bf16${rest}`);
  expect(madeOn([one, other, one])).toBe(
    `2026-12-01; EPYC, 2 threads, bf16${rest} / 2026-12-01; EPYC, 1 thread, fp32${rest}`,
  );
});

it('shows no ensemble of a network that was trained end to end', async () => {
  const recipe = recipeOf('cifar10-fast-end-to-end', { epochs: 1 });
  const { points, operations } = curveOf([{ ...record(2, 0, 82, 0, 10), ensembleTop1: null }], recipe, 10);
  expect(points[0]!.operations).toBe(6 * 50_000 * (STAGE_1 + BLOCK_3 + HEAD_2));
  expect(operations).toBe(points[0]!.operations);
  const [run] = await runsIn(folder);
  expect(
    epochTable([{ ...run!, points }])
      .split('\n')
      .at(-1),
  ).toMatch(/\| 82\.00 +\| - +\|$/);
});

it('extrapolates a run that was not finished, and marks it', async () => {
  writeRun('c', 3, 89, false);
  const [run] = (await runsIn(folder)).filter(({ name }) => name === 'c');
  const half = { ...run!, points: run!.points.slice(0, 1) };
  const cells = sideBySide([[half]])
    .split('\n')[2]!
    .split('|')
    .map((cell) => cell.trim());
  expect(cells.slice(3, 5)).toEqual(['-', '1:00 *']);
  expect(cells.slice(7, 10)).toEqual(['0:30, 46', '-', '-']);
});
