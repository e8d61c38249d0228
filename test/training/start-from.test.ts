// A run that starts from the layers of a finished one is the run that trained them itself.
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { TrainedRun } from '../../lib/finished/index.js';
import { overrideRecipe, type Recipe } from '../../lib/recipe/index.js';
import { resume, type TrainingEvent, train } from '../../lib/training/index.js';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from './runs.js';

const folder = temporaryFolder();
const withModel = (model: object): Recipe => smallRecipe({ model: { width: 4, auxWidth: 3, ...model } }, 'simcnn-k2');
/** The layers below are frozen to the byte; a learning rate of next to nothing leaves a taken head as it is too. */
const tiny = { learningRate: 1e-30, weightDecay: 0 };

const twoLayers = withModel({ downsampleAt: [1] });
const oneLayer = withModel({ downsampleAt: [], layers: 1 });
const one = folder('one');
const two = folder('two');
beforeAll(async () => {
  await train({ recipe: oneLayer, out: one });
  await train({ recipe: twoLayers, out: two });
});

const blockBytes = async (run: string): Promise<string[]> => {
  using trained = await TrainedRun.open(run, { device: 'cpu' });
  return trained.network.blocks.map((block) =>
    [...block.stateDict().values()].map((value) => Buffer.from(value.toTypedArray().buffer).toString('base64')).join(),
  );
};

describe('a run that starts from a finished run', () => {
  it('grows it to the same bytes as a run that trained every layer itself', async () => {
    const out = folder('grown');
    await train({ recipe: twoLayers, out, startFrom: { runDirectory: one } });
    expect(productOf(out)).toEqual(productOf(two));
    const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
    expect(config.startedFrom, 'what it records').toEqual({ runDirectory: one, layers: 1, head: 'new' });
  });

  it('takes as many layers as it is told to', async () => {
    const out = folder('first-of-two');
    await train({ recipe: twoLayers, out, startFrom: { runDirectory: two, layers: 1 } });
    expect(productOf(out)).toEqual(productOf(two));
  });

  it.each([
    ['in its first step', 1],
    ['later', 3],
  ])('goes on after an interruption %s to the same bytes', async (name, step) => {
    const out = folder(`interrupted ${name}`);
    const grown = { recipe: twoLayers, out, startFrom: { runDirectory: one } };
    await startAndStop(grown, (event) => event.type === 'step' && event.step === step);
    await resume(out);
    expect(productOf(out)).toEqual(productOf(two));
  });

  it('takes the layers again when it was stopped before its first checkpoint', async () => {
    const out = folder('no-checkpoint');
    await startAndStop({ recipe: twoLayers, out, startFrom: { runDirectory: one } });
    rmSync(join(out, 'checkpoint'), { recursive: true });
    await resume(out);
    expect(productOf(out)).toEqual(productOf(two));
  });

  it('takes the layers again when its process was killed, or its disk was full, while they were written', async () => {
    const out = folder('half-taken');
    const grown = withModel({ downsampleAt: [1], layers: 3 });
    const startFrom = { runDirectory: two };
    await train({ recipe: grown, out: folder('grown-whole'), startFrom });
    await startAndStop({ recipe: grown, out, startFrom });
    const checkpoint = join(out, 'checkpoint');
    const state = JSON.parse(readFileSync(join(checkpoint, 'state.json'), 'utf8'));
    for (const [left, gone] of [
      ['both layers, and no state', ['state.json']],
      ['one layer', ['state.json', 'layer-01.safetensors']],
    ] as const) {
      const copy = folder(left);
      cpSync(out, copy, { recursive: true });
      for (const file of gone) rmSync(join(copy, 'checkpoint', file));
      await resume(copy);
      expect(productOf(copy), left).toEqual(productOf(folder('grown-whole')));
    }

    // As older versions left it after the first of the two.
    const half = { ...state, position: { stage: 1, epoch: 0, step: 0 }, finished: state.finished.slice(0, 1) };
    const older = {
      ...half,
      stageSeconds: state.stageSeconds.slice(0, 1),
      meter: null,
      isFirstStep: true,
      current: null,
    };
    writeFileSync(join(checkpoint, 'state.json'), JSON.stringify(older));
    await expect(resume(out)).rejects.toThrow(
      `${checkpoint}: expected the 2 layers that were taken from another run, got 1 of them; begin anew in another directory`,
    );
  });

  it('does not take the layers again where it has trained more, and its checkpoint was lost', async () => {
    const out = folder('lost');
    const isSecondEpoch = (event: TrainingEvent): boolean => event.type === 'step' && event.epoch === 1;
    await startAndStop({ recipe: twoLayers, out, startFrom: { runDirectory: one } }, isSecondEpoch);
    rmSync(join(out, 'checkpoint'), { recursive: true });
    const metrics = readFileSync(join(out, 'metrics.jsonl'), 'utf8');
    await expect(resume(out)).rejects.toThrow('state.json: not found, but metrics.jsonl has epochs of this run: 1');
    expect(readFileSync(join(out, 'metrics.jsonl'), 'utf8')).toBe(metrics);
  });

  it('trains a new last head alone when it takes all layers, and leaves their bytes as they were', async () => {
    const out = folder('head');
    const recipe = overrideRecipe(twoLayers, { model: { lastHead: { convolutions: 2, width: 5 } } });
    const startFrom = { runDirectory: two };
    const { result } = await train({ recipe, out, startFrom });
    expect(await blockBytes(out)).toEqual(await blockBytes(two));
    const before = (productOf(two) as { layers: { parameters: unknown }[] }).layers;
    const after = (productOf(out) as { layers: { parameters: unknown }[] }).layers;
    expect(after[0]).toEqual(before[0]);
    expect(after[1]).not.toEqual(before[1]);
    // 8 channels read by 5 and 5, each with batch norm; then 4 * 5 values by ten classes.
    const head = 9 * (8 * 5 + 5 * 5) + 2 * 10 + 10 + 20 * 10 + 10;
    expect(result.layers[1]!.parameters).toEqual({ block: 9 * 16 * 8 + 16, head });
    using trained = await TrainedRun.open(out, { device: 'cpu' });
    const dataset = await trained.loadDataset();
    expect((await trained.evaluate(dataset.test, 1)).top1).toBeCloseTo(result.layers[1]!.testTop1!, 10);

    const again = folder('head-interrupted');
    await startAndStop({ recipe, out: again, startFrom }, (event) => event.type === 'step' && event.step === 2);
    await resume(again);
    expect(productOf(again), 'after an interruption').toEqual(productOf(out));
  });

  it("starts from the run's own head where told to", async () => {
    // Without batch norm, whose statistics move even where nothing is learnt.
    const recipe = overrideRecipe(twoLayers, { model: { k: 1 } });
    const source = folder('k1');
    const { result } = await train({ recipe, out: source });
    const out = folder('k1-fine-tuned');
    const still = overrideRecipe(recipe, { training: tiny });
    const tuned = await train({ recipe: still, out, startFrom: { runDirectory: source, head: 'taken' } });
    expect(tuned.result.layers[1]!.testLoss).toBe(result.layers[1]!.testLoss);
    const fresh = await train({ recipe: still, out: folder('k1-new'), startFrom: { runDirectory: source } });
    expect(fresh.result.layers[1]!.testLoss).not.toBe(result.layers[1]!.testLoss);
  });
});

describe('refuses, and makes no run directory', () => {
  const refusal = async (recipe: Recipe, startFrom: { runDirectory: string; layers?: number }): Promise<string> => {
    const out = folder('refused');
    const error = await train({ recipe, out, startFrom }).then(
      () => new Error('nothing was refused'),
      (reason: Error) => reason,
    );
    expect(() => readFileSync(join(out, 'config.json'))).toThrow();
    return error.message;
  };

  it.each([
    ['more layers than the run has', twoLayers, { layers: 3 }, /expected 1 to 1 of its 1 layers .* got 3$/],
    ['no layer', twoLayers, { layers: 0 }, /expected 1 to 1 of its 1 layers .* got 0$/],
    [
      'layers of other channels',
      overrideRecipe(twoLayers, { model: { width: 5 } }),
      {},
      /layer 1: .*conv.weight: expected \[5, /,
    ],
    [
      'heads of other channels',
      overrideRecipe(twoLayers, { model: { auxWidth: 7 } }),
      {},
      /the head of layer 1: .*expected \[7, /,
    ],
    ['another architecture', smallRecipe(), {}, /layer 1: .*missing: 0.weight/],
    [
      'training end to end',
      overrideRecipe(twoLayers, { training: { schedule: 'end-to-end' } }),
      {},
      /training.schedule: expected layerwise/,
    ],
  ])('%s', async (_, recipe, start, message) => {
    expect(await refusal(recipe, { runDirectory: one, ...start })).toMatch(message);
  });

  it('a run that was trained end to end', async () => {
    const out = folder('end-to-end');
    await train({ recipe: overrideRecipe(twoLayers, { training: { schedule: 'end-to-end' } }), out });
    expect(await refusal(twoLayers, { runDirectory: out })).toMatch(/was trained end to end/);
  });

  it('a run that is not there', async () => {
    expect(await refusal(twoLayers, { runDirectory: folder('nowhere') })).toMatch(/no config.json/);
  });
});
