import { cpSync, existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { TrainedRun } from '../../lib/finished/index.js';
import { readSafetensors, writeSafetensors } from '../../lib/nn/index.js';
import { memoryStats, scope, tensor, zeros } from '../../lib/tensor/index.js';
import { train } from '../../lib/training/index.js';
import { smallRecipe, temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();

beforeAll(async () => {
  await train({ recipe: smallRecipe({ model: { layers: 3 }, precision: 'bf16' }), out: at('run') });
  await train({ recipe: smallRecipe({}, 'vgg11-end-to-end'), out: at('end-to-end') });
});

const resultOf = (name: string): { layers: Record<string, number>[] } =>
  JSON.parse(readFileSync(join(at(name), 'result.json'), 'utf8'));

describe('a finished run', () => {
  it('evaluates each layer, and the ensemble, to what the run recorded of them', async () => {
    using run = await TrainedRun.open(at('run'), { device: 'cpu' });
    const { test } = await run.loadDataset();
    const { layers } = resultOf('run');
    for (const [layer, recorded] of layers.entries()) {
      const { loss, top1, top5 } = await run.evaluate(test, layer);
      expect([top1, top5]).toEqual([recorded.testTop1, recorded.testTop5]);
      expect(Math.abs(loss! - recorded.testLoss!)).toBeLessThan(1e-6);
    }
    const { confusion, ...ensemble } = await run.evaluate(test, 'ensemble');
    expect(ensemble).toEqual({ loss: null, top1: layers[2]!.ensembleTop1, top5: layers[2]!.ensembleTop5 });
    const hits = confusion!.reduce((sum, row, label) => sum + row[label]!, 0);
    expect((100 * hits) / test.count).toBe(ensemble.top1);
    expect(confusion!.flat().reduce((sum, count) => sum + count)).toBe(test.count);
    // The run's own is that of its last layer.
    const last = await run.evaluate(test, 2);
    expect(JSON.parse(readFileSync(join(at('run'), 'result.json'), 'utf8')).confusion).toEqual(last.confusion);
  });

  it('refuses a directory for images that the program draws, by default or by name', async () => {
    using run = await TrainedRun.open(at('run'), { device: 'cpu' });
    for (const name of [undefined, 'shapes'] as const) {
      await expect(run.loadDataset({ ...(name && { name }), dataDir: '/nonexist' })).rejects.toMatchObject({
        code: 'DATA_ARGUMENT',
        message: expect.stringContaining('shapes is drawn by the program and takes no directory'),
      });
    }
  });

  it('recorded with options that had no effect is evaluated all the same', async () => {
    cpSync(at('run'), at('idle'), { recursive: true });
    const file = join(at('idle'), 'config.json');
    const config = JSON.parse(readFileSync(file, 'utf8'));
    Object.assign(config.recipe.dataset, { dataDir: '/nonexist', maxPixels: 5 });
    writeFileSync(file, JSON.stringify(config));
    using run = await TrainedRun.open(at('idle'), { device: 'cpu' });
    const { test } = await run.loadDataset();
    expect((await run.evaluate(test, 2)).top1).toBe(resultOf('run').layers[2]!.testTop1);
  });

  it('on image files is evaluated on other images without what only files have', async () => {
    cpSync(at('run'), at('files'), { recursive: true });
    const file = join(at('files'), 'config.json');
    const config = JSON.parse(readFileSync(file, 'utf8'));
    const scaled = { testResize: 36, maxPixels: 5000, onBadImage: 'skip' };
    Object.assign(config.recipe.dataset, { name: 'folder', dataDir: '/nonexist', ...scaled });
    writeFileSync(file, JSON.stringify(config));
    using run = await TrainedRun.open(at('files'), { device: 'cpu' });
    expect((await run.loadDataset({ name: 'shapes', testLimit: 3 })).test.count).toBe(3);
  });

  it('refuses a layer that there is not', async () => {
    using run = await TrainedRun.open(at('run'), { device: 'cpu' });
    const { test } = await run.loadDataset();
    for (const [layer, told] of [
      [3, 4],
      [-1, 0],
      [0.5, 1.5],
    ] as const) {
      const message = `expected a layer from 1 to 3, got ${told}`;
      await expect(run.evaluate(test, layer)).rejects.toThrow(message);
      scope(() => {
        const images = zeros([1, 3, 32, 32], { dtype: 'uint8' });
        expect(() => run.logits(images, layer)).toThrow(message);
        expect(() => run.climb(images).logits(layer)).toThrow(message);
        expect(() => run.features(images, layer)).toThrow(message);
      });
    }
  });

  it('gives float32 logits of any batch, by the last layer unless told', async () => {
    using run = await TrainedRun.open(at('run'), { device: 'cpu' });
    scope(() => {
      const images = tensor(new Uint8Array(2 * 3 * 32 * 32).fill(90), { shape: [2, 3, 32, 32] });
      const logits = run.logits(images);
      expect([logits.dtype, logits.shape]).toEqual(['float32', [2, 10]]);
      expect(run.logits(images, 2).toArray()).toEqual(logits.toArray());
      expect(run.logits(images, 0).toArray()).not.toEqual(logits.toArray());
    });
  });

  it('that was trained end to end has its last layer only', async () => {
    using run = await TrainedRun.open(at('end-to-end'), { device: 'cpu' });
    const { test } = await run.loadDataset();
    const [recorded] = resultOf('end-to-end').layers;
    const { loss, top1 } = await run.evaluate(test, 1);
    expect(top1).toBe(recorded!.testTop1);
    expect(Math.abs(loss! - recorded!.testLoss!)).toBeLessThan(1e-6);
    for (const selection of [0, 'ensemble'] as const) {
      await expect(run.evaluate(test, selection)).rejects.toThrow(
        'this network was trained end to end: only its last layer has a head',
      );
    }
    scope(() => {
      const images = zeros([1, 3, 32, 32], { dtype: 'uint8' });
      for (const logitsOf of [() => run.logits(images, 0), () => run.climb(images).logits(0)]) {
        expect(logitsOf).toThrow('this network was trained end to end: only its last layer has a head');
      }
      expect(run.features(images, 0).shape[0]).toBe(1);
    });
  });

  it('is refused, and leaves no tensor behind, when its network is damaged or missing', async () => {
    const before = memoryStats();
    cpSync(at('end-to-end'), at('damaged'), { recursive: true });
    const file = join(at('damaged'), 'model.safetensors');
    truncateSync(file, 1000);
    await expect(TrainedRun.open(at('damaged'), { device: 'cpu' })).rejects.toThrow(file);
    rmSync(file);
    await expect(TrainedRun.open(at('damaged'), { device: 'cpu' })).rejects.toThrow(
      `${file}: not found; has the run finished?`,
    );
    expect(existsSync(file)).toBe(false);
    expect(memoryStats()).toEqual(before);
  });

  it.each([
    ['model.safetensors', /weight$/, Number.NaN, 'expected finite float32 numbers, got 1 of'],
    ['model.safetensors', /running_var$/, -1, 'expected variances of at least 0, got 1 of'],
    ['auxiliary-heads.safetensors', /weight$/, Infinity, 'expected finite float32 numbers, got 1 of'],
  ])('is refused where %s has a value of %s that is %s', async (name, pattern, value, problem) => {
    rmSync(at('unfit'), { recursive: true, force: true });
    cpSync(at('run'), at('unfit'), { recursive: true });
    const file = join(at('unfit'), name);
    const { tensors, metadata } = await readSafetensors(file);
    const [changed, weights] = [...tensors].find(([key]) => pattern.test(key))!;
    scope(() => {
      weights.reshape([-1]).narrow(0, 0, 1).fill_(value);
    });
    await writeSafetensors(file, tensors, metadata);
    for (const one of tensors.values()) one.dispose();
    const before = memoryStats();
    const refused = TrainedRun.open(at('unfit'), { device: 'cpu' });
    await expect(refused).rejects.toMatchObject({
      code: 'RUN_DIRECTORY',
      message: expect.stringContaining(`${file}: ${changed}: ${problem}`),
    });
    expect(memoryStats()).toEqual(before);
    // A training that would start from it makes no directory.
    const out = at('from unfit');
    const recipe = smallRecipe({ model: { layers: 3 }, precision: 'bf16' });
    await expect(train({ recipe, out, startFrom: { runDirectory: at('unfit') } })).rejects.toThrow(
      `${file}: ${changed}`,
    );
    expect(existsSync(out)).toBe(false);
  });
});
