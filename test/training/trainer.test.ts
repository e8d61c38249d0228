// Algorithm 1 as it is carried out: what is frozen, what runs, when the momentum starts again, what is recorded.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { batchDraws, DeviceImages, Draws, loadDataset } from '../../lib/data/index.js';
import { RecomputedFeatures } from '../../lib/features/features.js';
import { FrozenPrefix } from '../../lib/features/frozen-prefix.js';
import { TestFeatures } from '../../lib/features/test-features.js';
import { disposeNetwork, type Network } from '../../lib/models/index.js';
import { Conv2d, Dropout, Linear, type Module, readSafetensors } from '../../lib/nn/index.js';
import { buildNetwork, buildStages, buildTransforms } from '../../lib/recipe/build.js';
import type { Recipe } from '../../lib/recipe/index.js';
import { CheckpointStore } from '../../lib/run/checkpoint.js';
import { RunDirectory } from '../../lib/run/run-directory.js';
import { Generator, isGradEnabled, memoryStats, noGrad, scope, type Tensor } from '../../lib/tensor/index.js';
import { AuxiliaryProblem } from '../../lib/training/auxiliary-problem.js';
import { resume, type TrainingEvent, train } from '../../lib/training/index.js';
import { Peers } from '../../lib/training/peers.js';
import { RunCheckpoints } from '../../lib/training/run-checkpoints.js';
import { Trainer } from '../../lib/training/trainer.js';
import { libtorchAtLeast } from '../support/fixtures.js';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

const metricsOf = (directory: string): Record<string, number>[] =>
  readFileSync(join(directory, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

/** The tensors of a file as bytes. */
async function bytesOf(file: string): Promise<Map<string, string>> {
  const { tensors } = await readSafetensors(file);
  const bytes = new Map<string, string>();
  for (const [name, tensor] of tensors) {
    const { buffer, byteOffset, byteLength } = tensor.toTypedArray();
    bytes.set(name, Buffer.from(buffer, byteOffset, byteLength).toString('base64'));
    tensor.dispose();
  }
  return bytes;
}

describe('a stage in training', () => {
  let network: Network;
  let images: DeviceImages;
  let problem: AuxiliaryProblem | null;
  let prefix: FrozenPrefix | null;
  const dataset = loadDataset({ name: 'shapes', trainLimit: 32, testLimit: 1 });

  beforeEach(() => {
    problem = null;
    prefix = null;
  });
  afterEach(() => {
    problem?.dispose();
    prefix?.dispose();
    images.dispose();
    disposeNetwork(network);
    vi.restoreAllMocks();
  });

  async function begin(recipe: Recipe, index: number): Promise<AuxiliaryProblem> {
    const { train: source, normalization } = await dataset;
    network = buildNetwork(recipe, 10, 'cpu');
    images = new DeviceImages(source, 'cpu');
    const stage = buildStages(recipe, network)[index]!;
    problem = new AuxiliaryProblem(stage, { recipe, device: 'cpu', precision: 'fp32' });
    const { trainTransforms } = buildTransforms(recipe, normalization);
    prefix = new FrozenPrefix(stage, { precision: 'fp32', transforms: trainTransforms });
    return problem;
  }

  const indices = Int32Array.from({ length: 16 }, (_, i) => i);
  const step = (of: AuxiliaryProblem, epoch = 0): number => scope(() => of.step(16, () => batch(epoch)).loss.item());
  const batch = (epoch: number, of = indices) => {
    const { images: pixels, labels } = images.batch(of);
    const draws = batchDraws(new Draws({ seed: 1, layer: 0 }), epoch, of);
    return { features: prefix!.forward(pixels, draws), labels };
  };
  const gradients = (module: Module): boolean[] =>
    scope(() => module.parameters().map((parameter) => parameter.grad !== null));

  /** Spies on the first convolution, or linear layer, of a module; notes for each call what autograd and the module were in, and whether its input had a history. */
  function watch(whole: Module): { grad: boolean; training: boolean; history: boolean }[] {
    const calls: { grad: boolean; training: boolean; history: boolean }[] = [];
    const module = [...whole.children.values()].find((part) => part instanceof Conv2d || part instanceof Linear)!;
    const forward = module.forward.bind(module);
    vi.spyOn(module, 'forward').mockImplementation((input: Tensor) => {
      calls.push({ grad: isGradEnabled(), training: module.training, history: input.requiresGrad });
      return forward(input);
    });
    return calls;
  }

  it('runs the layers below in evaluation mode and without autograd, its own with it, and no other head', async () => {
    const stage = await begin(smallRecipe({ model: { layers: 4 } }), 2);
    const blocks = network.blocks.map(watch);
    const heads = network.heads.map(watch);
    stage.beginEpoch(0, { inItsMiddle: false });
    step(stage);
    // Frozen blocks that are watched have behaviour of their own, and are asked: for one image, to find its size, and for all.
    const frozen = { grad: false, training: false, history: false };
    const below = [frozen, frozen];
    expect(blocks).toEqual([below, below, [{ grad: true, training: true, history: false }], []]);
    expect(heads).toEqual([[], [], [{ grad: true, training: true, history: true }], []]);
    for (const module of [...network.blocks[0]!.children.values(), ...network.blocks[1]!.children.values()]) {
      expect(module.training).toBe(false);
    }
    stage.endEpoch();
    scope(() => void stage.predict(batch(0).features));
    // Evaluated, the stage's own are asked so too.
    for (const calls of [...blocks, ...heads])
      expect(calls.slice(1).every((call) => !call.grad && !call.training)).toBe(true);
    expect([...blocks, ...heads].map((calls) => calls.length)).toEqual([3, 3, 3, 0, 0, 0, 3, 0]);
  });

  it('sends gradients to its own block and head only, and changes nothing else', async () => {
    const stage = await begin(smallRecipe({ model: { layers: 3 } }), 1);
    const state = (module: Module): number[][] =>
      [...module.stateDict().values()].map((tensor) => Array.from(tensor.toTypedArray() as Float32Array, Number));
    const others = [network.blocks[0]!, network.heads[0]!, network.blocks[2]!, network.heads[2]!];
    const own = [network.blocks[1]!, network.heads[1]!];
    const [othersBefore, ownBefore] = [others.map(state), own.map(state)];
    stage.beginEpoch(0, { inItsMiddle: false });
    for (let i = 0; i < 3; i++) step(stage);
    expect(others.flatMap(gradients)).not.toContain(true);
    expect(own.flatMap(gradients)).not.toContain(false);
    expect(others.map(state)).toEqual(othersBefore);
    for (const [i, module] of own.entries()) expect(state(module)).not.toEqual(ownBefore[i]);
  });

  it('frozen layers answer the same for an image whatever batch it is in', async () => {
    const stage = await begin(smallRecipe({ model: { layers: 2 } }), 1);
    stage.beginEpoch(0, { inItsMiddle: false });
    const outputs: number[][] = [];
    const conv = [...network.blocks[1]!.children.values()].find((part) => part instanceof Conv2d)!;
    const forward = conv.forward.bind(conv);
    vi.spyOn(conv, 'forward').mockImplementation((input) => {
      outputs.push([...scope(() => input.narrow(0, 0, 1).toFloat32Array())]);
      return forward(input);
    });
    for (const of of [Int32Array.of(3, 4, 5, 6), Int32Array.of(3, 20)]) {
      scope(() => void stage.step(of.length, () => batch(0, of)));
    }
    outputs[1]!.forEach((value, i) => {
      expect(value).toBeCloseTo(outputs[0]![i]!, 5);
    });
  });

  describe('at a drop of the learning rate', () => {
    const drops = (resetMomentumAtDrops: boolean): Recipe =>
      smallRecipe({
        training: { epochs: 5, milestones: [2, 4], decay: 0.5, learningRate: 0.08, resetMomentumAtDrops },
      });
    const momentum = (): number[][] =>
      [...problem!.optimizer.state.tensors.values()].map((b) => [...b.toFloat32Array()]);
    const isZero = (): boolean => momentum().every((buffer) => buffer.every((value) => value === 0));

    it('the momentum starts again where the recipe says so, and only there', async () => {
      const stage = await begin(drops(true), 0);
      expect(isZero()).toBe(true);
      for (const [epoch, startsAgain] of [
        [0, true],
        [1, false],
        [2, true],
        [3, false],
        [4, true],
      ] as const) {
        stage.beginEpoch(epoch, { inItsMiddle: false });
        expect(isZero(), `epoch ${epoch}`).toBe(startsAgain);
        expect(stage.optimizer.state.isFirstStep).toBe(startsAgain);
        step(stage, epoch);
        expect(isZero()).toBe(false);
      }
    });

    it('the momentum goes on where the recipe says so', async () => {
      const stage = await begin(drops(false), 0);
      stage.beginEpoch(1, { inItsMiddle: false });
      step(stage);
      const before = momentum();
      stage.beginEpoch(2, { inItsMiddle: false });
      expect(momentum()).toEqual(before);
      expect(stage.optimizer.learningRate).toBe(0.04);
    });

    it('the momentum goes on in the middle of the epoch, as when a run is resumed there', async () => {
      const stage = await begin(drops(true), 0);
      stage.beginEpoch(2, { inItsMiddle: false });
      step(stage);
      const before = momentum();
      stage.beginEpoch(2, { inItsMiddle: true });
      expect(momentum()).toEqual(before);
    });
  });

  it('end to end, dropout is on while training and off in evaluation', async () => {
    // So small a rate changes no weight: two steps on one batch differ by what was dropped, and by nothing else.
    const stage = await begin(smallRecipe({ training: { learningRate: 1e-30 } }, 'vgg11-end-to-end'), 0);
    expect([...network.heads.at(-1)!.children.values()].filter((module) => module instanceof Dropout)).toHaveLength(2);
    stage.beginEpoch(0, { inItsMiddle: false });
    expect(step(stage)).not.toBe(step(stage));
    stage.endEpoch();
    const evaluated = () => noGrad(() => scope(() => [...stage.predict(images.slice(0, 8).images).toFloat32Array()]));
    expect(evaluated()).toEqual(evaluated());
  });

  it('end to end, one stage trains every block and the last head', async () => {
    const stage = await begin(smallRecipe({}, 'vgg11-end-to-end'), 0);
    expect(buildStages(smallRecipe({}, 'vgg11-end-to-end'), network)).toHaveLength(1);
    stage.beginEpoch(0, { inItsMiddle: false });
    step(stage);
    expect([...network.blocks, network.heads[1]!].flatMap(gradients)).not.toContain(false);
    expect(gradients(network.heads[0]!)).not.toContain(true);
  });
});

describe('a run', () => {
  it('tells its start, each step, each epoch, each layer and its end, in that order', async () => {
    const recipe = smallRecipe();
    const events: TrainingEvent[] = [];
    const outcome = await train({ recipe, out: at('events'), onEvent: (event) => events.push(event) });
    const epoch = ['step', 'step', 'step', 'step', 'epoch'];
    const layer = [...epoch, 'checkpoint', ...epoch, 'layer'];
    expect(events.map(({ type }) => type)).toEqual(['start', ...layer, ...layer, 'done']);

    const steps = events.filter((event) => event.type === 'step');
    expect(steps.map(({ stepsDone }) => stepsDone)).toEqual(Array.from({ length: 16 }, (_, i) => i + 1));
    for (const { stepsTotal, stepsPerEpoch } of steps) expect([stepsTotal, stepsPerEpoch]).toEqual([16, 4]);
    const epochs = events.filter((event) => event.type === 'epoch').map(({ type: _, ...record }) => record);
    expect(metricsOf(at('events'))).toEqual(epochs);
    const { type: _, ...done } = events.at(-1) as TrainingEvent & { type: 'done' };
    expect(done).toEqual(outcome);
    expect(JSON.parse(readFileSync(join(at('events'), 'result.json'), 'utf8'))).toEqual(outcome.result);
    expect(existsSync(outcome.report)).toBe(true);
    expect(existsSync(join(at('events'), 'checkpoint'))).toBe(false);
  });

  it('does not change a layer after its own stage: not a weight, not a running statistic', async () => {
    const recipe = smallRecipe({ model: { layers: 3 } });
    const out = at('frozen');
    const first = join(out, 'checkpoint', 'layer-00.safetensors');
    const copy = at('layer-00.safetensors');
    await train({
      recipe,
      out,
      onEvent: (event) => {
        if (event.type === 'layer' && event.layer === 0) writeFileSync(copy, readFileSync(first));
        if (event.type === 'layer') expect(readFileSync(first).equals(readFileSync(copy))).toBe(true);
      },
    });
    const finished = await bytesOf(copy);
    // That of dropout, which the next layer draws on from.
    expect(finished.delete('generator')).toBe(true);
    const whole = new Map([
      ...(await bytesOf(join(out, 'model.safetensors'))),
      ...(await bytesOf(join(out, 'auxiliary-heads.safetensors'))),
    ]);
    expect(finished.size).toBeGreaterThan(20);
    expect([...finished.keys()].filter((name) => name.endsWith('running_mean')).length).toBe(4);
    for (const [name, bytes] of finished) {
      const own = name.startsWith('0.') ? `features.${name.slice(2)}` : `auxiliary.0.${name.slice(2)}`;
      expect(whole.get(own), own).toBe(bytes);
    }
  });

  it('writes the learning rate of each epoch, in every layer anew', async () => {
    const training = { epochs: 4, milestones: [1, 3], decay: 0.5, learningRate: 0.08 };
    await train({ recipe: smallRecipe({ training }), out: at('rates') });
    const rates = metricsOf(at('rates')).map(({ layer, epoch, learningRate }) => [layer, epoch, learningRate]);
    const expected = [0.08, 0.04, 0.04, 0.02];
    expect(rates).toEqual([0, 1].flatMap((layer) => expected.map((rate, epoch) => [layer, epoch, rate])));
  });

  it('reports of each layer its last epoch; the ensemble of the first layer is that layer', async () => {
    const { result } = await train({ recipe: smallRecipe(), out: at('reported') });
    const metrics = metricsOf(at('reported'));
    for (const layer of [0, 1]) {
      const { epoch: _e, learningRate: _l, seconds: _s, imagesPerSecond: _i, ...figures } = metrics[2 * layer + 1]!;
      expect(result.layers[layer]).toMatchObject(figures);
    }
    for (const { testTop1, ensembleTop1, testTop5, ensembleTop5 } of metrics.slice(0, 2)) {
      expect([ensembleTop1, ensembleTop5]).toEqual([testTop1, testTop5]);
    }
  });

  it('counts the train figures over the images, the last and smaller batch by its size', async () => {
    const told: { loss: number; top1: number }[] = [];
    const out = at('weighted');
    await train({
      recipe: smallRecipe({ model: { layers: 1 }, training: { epochs: 1 } }),
      out,
      onEvent: (event) => {
        if (event.type === 'step') told.push({ loss: event.loss!, top1: event.top1! });
      },
    });
    // The sums over 16, 32, 48 and 60 images give each batch's hits: whole numbers, of at most its size.
    const sizes = [16, 32, 48, 60];
    const hits = told.map(({ top1 }, i) => (top1 / 100) * sizes[i]!);
    hits.forEach((sum, i) => {
      const own = sum - (hits[i - 1] ?? 0);
      expect(Math.abs(own - Math.round(own))).toBeLessThan(1e-9);
      expect(Math.round(own)).toBeGreaterThanOrEqual(0);
      expect(Math.round(own)).toBeLessThanOrEqual(i === 3 ? 12 : 16);
    });
    expect(metricsOf(out)[0]).toMatchObject({ trainLoss: told[3]!.loss, trainTop1: told[3]!.top1 });
  });

  it('trains every layer on the same views where the recipe says so, else on views of its own', async () => {
    /** The bytes of the augmented images of each step, before they are normalised. */
    async function views(sharedDraws: boolean): Promise<string[]> {
      const recipe = smallRecipe({ augmentation: { sharedDraws }, training: { epochs: 1 } });
      const {
        train: source,
        test,
        normalization,
      } = await loadDataset({ name: 'shapes', trainLimit: 60, testLimit: 8 });
      const network = buildNetwork(recipe, 10, 'cpu');
      const trainImages = new DeviceImages(source, 'cpu');
      const testImages = new DeviceImages(test, 'cpu');
      const { trainTransforms, testTransforms } = buildTransforms(recipe, normalization);
      const seen: string[] = [];
      const record = {
        name: 'record',
        apply: (images: Tensor) => {
          expect(images.dtype).toBe('uint8');
          seen.push(Buffer.from(images.toTypedArray() as Uint8Array).toString('base64'));
          return images;
        },
      };
      const directory = await RunDirectory.create(at(`views-${sharedDraws}`));
      const context = { recipe, precision: 'fp32' } as const;
      const transforms = trainTransforms.toSpliced(-1, 0, record);
      const trainFeatures = new RecomputedFeatures({ ...context, images: trainImages, transforms });
      const testFeatures = new TestFeatures({ ...context, images: testImages, transforms: testTransforms }, 0);
      using generator = Generator.create({ seed: recipe.seed });
      const checkpoints = await RunCheckpoints.open(new CheckpointStore(directory.checkpoint), Peers.none);
      await new Trainer({
        ...{ ...context, device: 'cpu', network, stages: buildStages(recipe, network) },
        ...{ trainImages, testImages, trainFeatures, testFeatures },
        ...{ directory, checkpoints, generator, peers: Peers.none, costs: [] },
        ...{ checkpointSeconds: 300, signal: undefined, onEvent: () => {}, breathe: async () => {} },
      }).run(null);
      await trainFeatures.dispose();
      testFeatures.dispose();
      trainImages.dispose();
      testImages.dispose();
      disposeNetwork(network);
      return seen;
    }
    const same = await views(true);
    const own = await views(false);
    expect([same.length, own.length]).toEqual([8, 8]);
    expect(same.slice(4)).toEqual(same.slice(0, 4));
    for (let step = 0; step < 4; step++) expect(own[4 + step]).not.toBe(own[step]);
    expect(new Set(same.slice(0, 4)).size).toBe(4);
  });

  it('has, end to end, one layer in its result, no ensemble and no auxiliary heads', async () => {
    const out = at('end-to-end');
    const { result } = await train({ recipe: smallRecipe({}, 'vgg11-end-to-end'), out });
    expect(result.layers).toHaveLength(1);
    expect(result.layers[0]).toMatchObject({ layer: 1, ensembleTop1: null, ensembleTop5: null });
    for (const record of metricsOf(out)) expect(record).toMatchObject({ layer: 1, ensembleTop1: null });
    expect(existsSync(join(out, 'auxiliary-heads.safetensors'))).toBe(false);
    const names = [...(await bytesOf(join(out, 'model.safetensors'))).keys()];
    // torchvision's positions: dropout stands at 2 and 5.
    expect(names.filter((name) => name.startsWith('classifier'))).toEqual(
      ['0', '3', '6'].flatMap((index) => [`classifier.${index}.weight`, `classifier.${index}.bias`]),
    );
  });
});

describe('precision', () => {
  const first = async (precision: 'fp32' | 'bf16' | 'fp16'): Promise<{ loss: number; out: string }> => {
    const out = at(`precision-${precision}`);
    const recipe = smallRecipe({ precision, model: { width: 4 }, training: { epochs: 1, learningRate: 0.01 } });
    await train({ recipe, out });
    return { loss: metricsOf(out)[0]!.trainLoss!, out };
  };

  it('bfloat16 and float16 with loss scaling train like float32, on float32 weights', async () => {
    const full = await first('fp32');
    for (const precision of ['bf16', ...(libtorchAtLeast('2.4') ? (['fp16'] as const) : [])] as const) {
      const half = await first(precision);
      expect(half.loss, precision).not.toBe(full.loss);
      expect(Math.abs(half.loss - full.loss), precision).toBeLessThan(0.02);
      const config = JSON.parse(readFileSync(join(half.out, 'config.json'), 'utf8'));
      expect(config.precision).toBe(precision);
      const { tensors } = await readSafetensors(join(half.out, 'model.safetensors'));
      for (const [name, tensor] of tensors) {
        expect(tensor.dtype).toBe(name.endsWith('num_batches_tracked') ? 'int64' : 'float32');
        tensor.dispose();
      }
    }
  });

  it.runIf(libtorchAtLeast('2.4'))('float16 goes on with its loss scale after an interruption', async () => {
    const recipe = smallRecipe({ precision: 'fp16' });
    await train({ recipe, out: at('fp16-whole') });
    await startAndStop({ recipe, out: at('fp16') }, (event) => event.type === 'step' && event.step === 3);
    const state = JSON.parse(readFileSync(join(at('fp16'), 'checkpoint', 'state.json'), 'utf8'));
    expect(state.scaler.scale * 2 ** state.scaler.skipped).toBe(65536);
    expect(state.scaler.goodSteps + state.scaler.skipped).toBe(3);
    await resume(at('fp16'));
    expect(productOf(at('fp16'))).toEqual(productOf(at('fp16-whole')));
  });

  it.runIf(!libtorchAtLeast('2.4'))('float16 on the CPU is refused with the releases that have it', async () => {
    await expect(train({ recipe: smallRecipe({ precision: 'fp16' }), out: at('no-fp16') })).rejects.toThrow(
      'precision: fp16 on the CPU needs LibTorch 2.4 or later',
    );
    expect(existsSync(at('no-fp16'))).toBe(false);
  });
});

describe('a loss that is not finite', () => {
  const tooFast = { learningRate: 1e30 };

  it('stops the run with its layer, epoch, step and learning rate', async () => {
    const failed = train({ recipe: smallRecipe({ training: tooFast }), out: at('infinite') });
    await expect(failed).rejects.toMatchObject({
      code: 'LOSS_NOT_FINITE',
      at: { layer: 0, epoch: 0, step: 1, learningRate: 1e30 },
      message: expect.stringMatching(
        /^the loss is (NaN|Infinity) at layer 1, epoch 1, step 2, learning rate 1e\+30; try a smaller learning rate. No checkpoint had been written yet.$/,
      ),
    });
  });

  it("names both rates where Muon's is not the only one", async () => {
    const muon = { optimizer: 'muon' as const, sgdLearningRate: 1e30 };
    await expect(train({ recipe: smallRecipe({ training: muon }), out: at('beside-muon') })).rejects.toThrow(
      'learning rate 0.05; try a smaller learning rate, or training.sgdLearningRate. No',
    );
  });

  it('stops the run also where only the test images show it, before anything is recorded', async () => {
    const out = at('infinite-test');
    const recipe = smallRecipe({ training: { ...tooFast, batchSize: 60 } });
    await expect(train({ recipe, out })).rejects.toMatchObject({
      code: 'LOSS_NOT_FINITE',
      at: { layer: 0, epoch: 0, step: 0, part: 'test' },
      message: expect.stringContaining('the test loss is'),
    });
    expect(existsSync(join(out, 'metrics.jsonl'))).toBe(false);
    expect(existsSync(join(out, 'checkpoint'))).toBe(false);
  });

  it('keeps the last good checkpoint, from which a run with a better rate goes on to the end', async () => {
    const recipe = smallRecipe();
    const out = at('went-wrong');
    await startAndStop({ recipe, out }, (event) => event.type === 'step' && event.layer === 1 && event.step === 2);
    const configFile = join(out, 'config.json');
    const good = readFileSync(configFile, 'utf8');
    const config = JSON.parse(good);
    config.recipe.training.learningRate = 1e30;
    writeFileSync(configFile, JSON.stringify(config));
    const state = readFileSync(join(out, 'checkpoint', 'state.json'), 'utf8');
    await expect(resume(out)).rejects.toMatchObject({
      code: 'LOSS_NOT_FINITE',
      at: { layer: 1, epoch: 0, step: 3 },
      message: expect.stringContaining(`The last good checkpoint is in ${join(out, 'checkpoint')}.`),
    });
    expect(readFileSync(join(out, 'checkpoint', 'state.json'), 'utf8')).toBe(state);

    writeFileSync(configFile, good);
    await resume(out);
    await train({ recipe, out: at('went-well') });
    expect(productOf(out)).toEqual(productOf(at('went-well')));
  });

  it('no checkpoint is made of weights that are not finite, however often they are written', async () => {
    const out = at('often');
    const recipe = smallRecipe({ training: { learningRate: 1e38, weightDecay: 100 } });
    await expect(train({ recipe, out, checkpointSeconds: 0 })).rejects.toMatchObject({ code: 'LOSS_NOT_FINITE' });
    expect(existsSync(join(out, 'checkpoint')), 'the first step was already too long').toBe(false);
  });
});

describe('a run directory', () => {
  it('that holds a run is refused, and nothing in it is lost', async () => {
    const out = at('taken');
    await train({ recipe: smallRecipe(), out });
    const before = [productOf(out), readFileSync(join(out, 'config.json'), 'utf8')];
    await expect(train({ recipe: smallRecipe({ seed: 5 }), out })).rejects.toMatchObject({
      code: 'RUN_DIRECTORY',
      message: `${out} already holds a run: go on with --resume ${out}, or give another --out`,
    });
    expect([productOf(out), readFileSync(join(out, 'config.json'), 'utf8')]).toEqual(before);
  });

  it('is not made for a network that cannot be built', async () => {
    await expect(train({ recipe: smallRecipe({ model: { layers: 9 } }), out: at('never') })).rejects.toThrow(
      'vgg11: expected an integer from 1 to 8 for layers, got 9',
    );
    expect(existsSync(at('never'))).toBe(false);
  });
});

describe('memory', () => {
  it('is where it was after two runs', async () => {
    const before = memoryStats();
    await train({ recipe: smallRecipe(), out: at('memory-1') });
    expect(memoryStats()).toEqual(before);
    await train({ recipe: smallRecipe({ precision: 'bf16' }, 'vgg11-end-to-end'), out: at('memory-2') });
    expect(memoryStats()).toEqual(before);
  });

  it.each(['start', 'step', 'epoch', 'checkpoint', 'layer', 'done'])(
    'is where it was when the listener throws at %s',
    async (type) => {
      const before = memoryStats();
      const run = train({
        recipe: smallRecipe(),
        out: at(`thrown-${type}`),
        onEvent: (event) => {
          if (event.type === type) throw new Error(`no ${type} please`);
        },
      });
      await expect(run).rejects.toThrow(`no ${type} please`);
      expect(memoryStats()).toEqual(before);
    },
  );
});
