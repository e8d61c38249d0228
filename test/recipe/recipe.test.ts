import { describe, expect, it } from 'vitest';
import { inputShapeOf, overrideRecipe, parseRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';

const base = presetRecipe('vgg11-layerwise', { dataset: 'cifar10', onCuda: false });

/** The message of the RecipeError for these overrides. */
function refusal(overrides: unknown): string {
  try {
    overrideRecipe(base, overrides);
  } catch (error) {
    expect(error).toMatchObject({ name: 'RecipeError', code: 'INVALID_RECIPE' });
    return (error as Error).message;
  }
  throw new Error('it was not refused');
}

describe('overriding a recipe', () => {
  it('replaces the one value and leaves all others, and the given recipe, as they were', () => {
    const before = structuredClone(base);
    const changed = overrideRecipe(base, { training: { epochs: 3 } });
    expect(changed.training.epochs).toBe(3);
    expect({ ...changed, training: { ...changed.training, epochs: before.training.epochs } }).toEqual(before);
    expect(base).toEqual(before);
  });

  it('replaces lists whole, and takes null where there may be none', () => {
    const changed = overrideRecipe(overrideRecipe(base, { threads: 2, dataset: { trainLimit: 10 } }), {
      threads: null,
      dataset: { trainLimit: null },
      training: { milestones: [7] },
    });
    expect(changed).toEqual({ ...base, training: { ...base.training, milestones: [7] } });
  });

  it('leaves a value as it is where the override is undefined', () => {
    expect(overrideRecipe(base, { seed: undefined, model: { width: undefined } })).toEqual(base);
  });
});

describe('an unknown key is refused by its whole name', () => {
  it.each([
    [{ learningRate: 1 }, 'unknown key learningRate'],
    [{ training: { lr: 1 } }, 'unknown key training.lr'],
    [{ model: { depth: 3, hight: 4 } }, 'unknown key model.depth, model.hight'],
    [{ toString: 1 }, 'unknown key toString'],
    [JSON.parse('{"__proto__": {"seed": 3}}'), 'unknown key __proto__'],
    [JSON.parse('{"training": {"__proto__": {"epochs": 3}}}'), 'unknown key training.__proto__'],
  ])('%j', (overrides, message) => {
    expect(refusal(overrides).split(': expected one of ')[0]).toBe(message);
  });

  it('with the keys that there are, by the kind of network', () => {
    expect(refusal({ model: { k: 2 } })).toBe('unknown key model.k: expected one of name, width, layers, dropout');
  });
});

describe('what image files are made into', () => {
  const onFiles = presetRecipe('vgg11-layerwise', { dataset: 'folder', onCuda: false });

  it('is in colour where a recorded recipe does not say so', () => {
    const { channels, ...dataset } = onFiles.dataset;
    expect(channels).toBe(3);
    expect(parseRecipe({ ...onFiles, dataset })).toEqual(onFiles);
    expect(inputShapeOf(onFiles)).toEqual([3, 32, 32]);
  });

  it('may be grey and of unequal sides', () => {
    const recipe = overrideRecipe(onFiles, { dataset: { imageSize: [32, 64], channels: 1 } });
    expect(parseRecipe(JSON.parse(JSON.stringify(recipe)))).toEqual(recipe);
    expect(inputShapeOf(recipe)).toEqual([1, 32, 64]);
    expect(() => overrideRecipe(recipe, { dataset: { name: 'cifar10' } })).toThrow(
      'dataset.channels: expected 3 for cifar10, which has no image files, got 1',
    );
    // Encoded images of one's own have the shape as well.
    const own = { name: 'own', inputShape: [1, 32, 64] };
    expect(overrideRecipe(recipe, { dataset: own }).dataset).toMatchObject({ ...own, channels: 1 });
  });
});

/** Of vectors. */
const NONE = { cropPadding: 0, horizontalFlip: false };

describe('a value out of range is refused with its name, what was expected and what came', () => {
  it.each<[unknown, string, RegExp]>([
    [{ training: { epochs: 0 } }, 'training.epochs', /: expected at least 1, got 0$/],
    [{ training: { epochs: 2.5 } }, 'training.epochs', /int.*, got 2.5$/],
    [{ training: { epochs: '3' } }, 'training.epochs', /number, got "3"$/],
    [{ training: { batchSize: -1 } }, 'training.batchSize', /: expected at least 1, got -1$/],
    [{ training: { learningRate: 0 } }, 'training.learningRate', /: expected more than 0, got 0$/],
    [{ training: { learningRate: Number.NaN } }, 'training.learningRate', /number, got/],
    [{ training: { learningRate: Number.POSITIVE_INFINITY } }, 'training.learningRate', /number, got/],
    [{ training: { momentum: 1 } }, 'training.momentum', /: expected less than 1, got 1$/],
    [{ training: { weightDecay: -1e-4 } }, 'training.weightDecay', /: expected at least 0, got -0.0001$/],
    [{ training: { decay: 1.5 } }, 'training.decay', /: expected at most 1, got 1.5$/],
    [{ training: { milestones: [4, 4] } }, 'training.milestones', /rising epochs, got \[4,4\]$/],
    [{ training: { milestones: [5, 2] } }, 'training.milestones', /rising epochs, got \[5,2\]$/],
    [{ training: { milestones: [3, 0] } }, 'training.milestones.1', /: expected at least 1, got 0/],
    [
      { training: { schedule: 'sideways' } },
      'training.schedule',
      /"layerwise"\|"simultaneous"\|"end-to-end", got "sideways"$/,
    ],
    [{ training: { resetMomentumAtDrops: 1 } }, 'training.resetMomentumAtDrops', /boolean, got 1$/],
    [{ training: 3 }, 'training', /object, got 3$/],
    [{ training: null }, 'training', /object, got null$/],
    [{ model: { width: 0 } }, 'model.width', /: expected at least 1, got 0$/],
    [{ model: { dropout: 1 } }, 'model.dropout', /: expected less than 1, got 1$/],
    [
      { model: { name: 'resnet' } },
      'model.name',
      /'vgg11' \| 'vgg13' \| 'vgg16' \| 'vgg19' \| 'simcnn' \| 'whitened-vgg' \| 'own', got "resnet"$/,
    ],
    [{ dataset: { trainLimit: 0 } }, 'dataset.trainLimit', /: expected at least 1, got 0$/],
    [{ augmentation: { cropPadding: -1 } }, 'augmentation.cropPadding', /: expected at least 0, got -1$/],
    [{ evaluation: { ensemble: 'votes' } }, 'evaluation.ensemble', /"logits"\|"probabilities", got "votes"$/],
    [{ seed: -1 }, 'seed', /: expected at least 0, got -1$/],
    [{ seed: 2 ** 53 }, 'seed', /, got 9007199254740992$/],
    [{ device: 'gpu' }, 'device', /auto, cpu, cuda or cuda:N, got "gpu"$/],
    [{ device: 'cuda:x' }, 'device', /got "cuda:x"$/],
    [{ precision: 'int8' }, 'precision', /"auto"\|"fp32"\|"bf16"\|"fp16", got "int8"$/],
    [{ threads: 0 }, 'threads', /: expected at least 1, got 0$/],
    [{ threads: 1e6 }, 'threads', /: expected at most 4096, got 1000000$/],
    [{ seed: 2 ** 53 + 2 }, 'seed', /, got 9007199254740994$/],
    [JSON.parse('{"training": {"learningRate": 1e400}}'), 'training.learningRate', /expected number, got Infinity$/],
    [{ training: { epochs: Number.NaN } }, 'training.epochs', /expected number, got NaN$/],
    [{ training: { epochs: 1e9 } }, 'training.epochs', /: expected at most 100000, got 1000000000$/],
    [{ training: { batchSize: 1e6 } }, 'training.batchSize', /: expected at most 65536, got 1000000$/],
    [{ training: { microBatchSize: 1e6 } }, 'training.microBatchSize', /: expected at most 65536, got/],
    [{ training: { milestones: [1e9] } }, 'training.milestones.0', /: expected at most 100000, got/],
    [{ evaluation: { batchSize: 1e6 } }, 'evaluation.batchSize', /: expected at most 65536, got/],
    [{ model: { width: 5000 } }, 'model.width', /: expected at most 4096, got 5000$/],
    [{ model: { layers: 513 } }, 'model.layers', /: expected at most 512, got 513$/],
    [{ dataset: { imageSize: 5000 } }, 'dataset.imageSize', /: expected at most 4096, got 5000$/],
    [{ dataset: { imageSize: [32, 5000] } }, 'dataset.imageSize.1', /: expected at most 4096, got 5000$/],
    [
      { dataset: { imageSize: [32] } },
      'dataset.imageSize',
      /: expected pixels a side, or \[height, width\], got \[32\]$/,
    ],
    [{ dataset: { imageSize: '32x48' } }, 'dataset.imageSize', /: expected pixels a side, or .*, got "32x48"$/],
    [{ dataset: { channels: 2 } }, 'dataset.channels', /: expected one of 3\|1, got 2$/],
    [{ dataset: { channels: 1 } }, 'dataset.channels', /: expected 3 for cifar10, which has no image files, got 1$/],
    [
      { dataset: { name: 'own', channels: 1, inputShape: [4], imageSize: null }, augmentation: NONE },
      'dataset.channels',
      /: expected 3 beside dataset.inputShape \[4\], got 1$/,
    ],
    [
      { dataset: { imageSize: [48, 32] }, augmentation: { cropPadding: 32 } },
      'augmentation.cropPadding',
      /less than the smaller side of dataset.imageSize, got 32$/,
    ],
    [{ dataset: { testResize: 5000 } }, 'dataset.testResize', /: expected at most 4096, got 5000$/],
    [{ dataset: { trainLimit: 1e9 } }, 'dataset.trainLimit', /: expected at most 100000000, got/],
    [{ dataset: { testLimit: 1e9 } }, 'dataset.testLimit', /: expected at most 100000000, got/],
    [{ augmentation: { views: 1e6 } }, 'augmentation.views', /: expected at most 100000, got/],
    [{ augmentation: { cropPadding: 32 } }, 'augmentation.cropPadding', /less than dataset.imageSize, got 32$/],
  ])('%j', (overrides, name, rest) => {
    const message = refusal(overrides);
    expect(message.split(': ')[0]).toBe(name);
    expect(message).toMatch(rest);
  });

  it.each<[object, string]>([
    [{ optimizer: 'adam' }, 'training.optimizer: expected one of "sgd"|"adamw"|"muon", got "adam"'],
    [
      { rateSchedule: 'linear' },
      'training.rateSchedule: expected one of "multi-step"|"cosine"|"one-cycle", got "linear"',
    ],
    [{ labelSmoothing: 1 }, 'training.labelSmoothing: expected less than 1, got 1'],
    [{ betas: [0.9, 1] }, 'training.betas.1: expected less than 1, got 1'],
    [{ eps: 0 }, 'training.eps: expected more than 0, got 0'],
    [
      { epochs: 9, milestones: [], warmupEpochs: 9 },
      'training.warmupEpochs: expected less than training.epochs, got 9',
    ],
    [
      { optimizer: 'adamw', momentum: 0.9 },
      'training.momentum: expected 0 with training.optimizer adamw, whose training.betas',
    ],
    [
      { optimizer: 'adamw', nesterov: true },
      'training.nesterov: expected false, or training.optimizer sgd or muon with a',
    ],
    [{ momentum: 0, nesterov: true }, 'training.nesterov: expected false, or training.optimizer sgd or muon with a'],
    [
      { sgdLearningRate: 0.2 },
      'training.sgdLearningRate: expected none with training.optimizer sgd or adamw, or training.optimizer muon, got 0.2',
    ],
    [
      { optimizer: 'adamw', sgdWeightDecay: 0 },
      'training.sgdWeightDecay: expected none with training.optimizer sgd or',
    ],
    [
      { optimizer: 'muon', momentum: 0, nesterov: true },
      'training.nesterov: expected false, or training.optimizer sgd or muon with',
    ],
    [{ optimizer: 'muon', eps: 1e-6 }, 'training.eps: expected none with training.optimizer sgd or muon, or'],
    [{ optimizer: 'muon', sgdLearningRate: 0 }, 'training.sgdLearningRate: expected more than 0, got 0'],
    [
      { betas: [0.5, 0.9] },
      'training.betas: expected none with training.optimizer sgd or muon, or training.optimizer adamw',
    ],
    [{ eps: 1e-6 }, 'training.eps: expected none with training.optimizer sgd or muon, or training.optimizer adamw'],
    [
      { rateSchedule: 'cosine', milestones: [2] },
      'training.milestones: expected none with training.rateSchedule cosine or one-cycle, or training.rateSchedule multi-step, got [2]',
    ],
    [
      { warmupEpochs: 2, milestones: [2] },
      'training.milestones: expected epochs after those of training.warmupEpochs, got [2]',
    ],
    [
      { rateSchedule: 'one-cycle', warmupEpochs: 1 },
      'training.warmupEpochs: expected 0 with training.rateSchedule one-cycle, which begins with a warm-up of its own, got 1',
    ],
  ])('of the optimiser and its rates, also where another value leaves one without effect: %j', (training, message) => {
    expect(refusal({ training })).toContain(message);
  });

  it.each([
    [{ k: 65 }, 'model.k', /: expected at most 64, got 65$/],
    [{ auxWidth: 5000 }, 'model.auxWidth', /: expected at most 4096, got 5000$/],
    [{ widths: [2, 5000] }, 'model.widths.1', /: expected at most 4096, got 5000$/],
    [{ lastHead: { convolutions: 65, width: 1 } }, 'model.lastHead.convolutions', /: expected at most 64, got 65$/],
    [{ lastHead: { convolutions: 1, width: 5000 } }, 'model.lastHead.width', /: expected at most 4096, got 5000$/],
  ])('of SimCNN: %j', (model, name, rest) => {
    const simcnn = presetRecipe('simcnn-k2', { onCuda: false });
    const refused = expect.objectContaining({ code: 'INVALID_RECIPE', message: expect.stringMatching(rest) });
    expect(() => overrideRecipe(simcnn, { model })).toThrow(refused);
    expect(() => overrideRecipe(simcnn, { model })).toThrow(`${name}: `);
  });

  it('flips that alternate from view to view, of an odd number of views', () => {
    const horizontalFlip = 'alternating';
    const expected =
      'augmentation.horizontalFlip: expected true or false with an odd number of augmentation.views: flips that alternate need an even one, got "alternating"';
    for (const views of [1, 3]) expect(refusal({ augmentation: { horizontalFlip, views } })).toBe(expected);
    for (const augmentation of [{ horizontalFlip, views: 2 }, { horizontalFlip }, { horizontalFlip: true, views: 3 }]) {
      expect(overrideRecipe(base, { augmentation }).augmentation).toMatchObject(augmentation);
    }
    expect(refusal({ augmentation: { horizontalFlip: 'sometimes' } })).toContain(
      "expected true, false or 'alternating'",
    );
  });

  it('whatever it is: a bigint, a text without an end', () => {
    expect(refusal({ seed: 10n })).toMatch(/^seed: .*expected number, got 10n$/);
    expect(refusal({ augmentation: { views: 'x'.repeat(1e6) } })).toMatch(/^augmentation\.views: .{0,250}\.\.\.$/);
  });

  it('names every one of several', () => {
    expect(refusal({ seed: -1, extra: 1, training: { epochs: 0 } })).toMatch(
      /^(?=.*seed: )(?=.*training\.epochs: )(?=.*unknown key extra)/,
    );
  });

  it.each([[null], [3], ['text'], [[]]])('%j is no recipe', (value) => {
    expect(() => overrideRecipe(base, value)).toThrow(expect.objectContaining({ code: 'INVALID_RECIPE' }));
    expect(() => parseRecipe(value)).toThrow(expect.objectContaining({ code: 'INVALID_RECIPE' }));
  });

  it('a missing value is named', () => {
    const { seed: _, ...rest } = base;
    expect(() => parseRecipe(rest)).toThrow('seed: expected number, got nothing');
    expect(() => parseRecipe({ ...base, training: {} as Recipe['training'] })).toThrow(
      'training.batchSize: expected number, got nothing',
    );
  });
});

describe('another optimiser or schedule of the rate than that of the preset', () => {
  const trainingOf = (...overrides: object[]): Recipe['training'] =>
    overrideRecipe(base, ...overrides.map((training) => ({ training }))).training;

  it('comes with its own defaults', () => {
    expect(trainingOf({ optimizer: 'adamw' })).toEqual({
      ...base.training,
      ...{ optimizer: 'adamw', learningRate: 1e-3, weightDecay: 1e-2, momentum: 0 },
    });
    expect(trainingOf({ optimizer: 'muon' })).toEqual({
      ...base.training,
      ...{ optimizer: 'muon', learningRate: 0.05, weightDecay: 0.03, momentum: 0.9, nesterov: true },
    });
    expect(trainingOf({ rateSchedule: 'cosine' })).toEqual({
      ...base.training,
      ...{ rateSchedule: 'cosine', milestones: [] },
    });
    expect(trainingOf({})).toEqual(base.training);
  });

  it('leaves Nesterov out where no momentum is asked for', () => {
    const { nesterov, momentum } = trainingOf({ optimizer: 'muon', momentum: 0 });
    expect([nesterov, momentum]).toEqual([false, 0]);
  });

  it('of a preset with values of its own too', () => {
    const fast = presetRecipe('cifar10-fast', { onCuda: false });
    const of = (training: object) => overrideRecipe(fast, { training }).training;
    const none = { sgdLearningRate: 0.1, sgdWeightDecay: 5e-4, epochs: 15, batchSize: 1024 };
    expect(of({ optimizer: 'sgd' })).toMatchObject({ ...none, learningRate: 0.1, weightDecay: 5e-4, momentum: 0.9 });
    expect(of({ optimizer: 'adamw' })).toMatchObject({ ...none, learningRate: 1e-3, weightDecay: 1e-2, momentum: 0 });
  });

  it('no padding of crops leaves its mode out, which is refused without', () => {
    const fast = presetRecipe('cifar10-fast', { onCuda: false });
    expect(fast.augmentation.cropPaddingMode).toBe('reflect');
    const without = overrideRecipe(fast, { augmentation: { cropPadding: 0 } });
    expect(without.augmentation).toMatchObject({ cropPadding: 0, cropPaddingMode: 'zeros' });
    expect(() => overrideRecipe(without, { augmentation: { cropPaddingMode: 'reflect' } })).toThrow(
      'augmentation.cropPaddingMode: expected zeros without augmentation.cropPadding, got "reflect"',
    );
  });

  it.each(['adamw', 'muon'])("back from %s has the data set's", (optimizer) => {
    const others = optimizer === 'muon' ? { sgdLearningRate: 0.7, sgdWeightDecay: 0 } : { eps: 1e-4 };
    const recipe = overrideRecipe(base, { training: { optimizer, ...others } });
    expect(overrideRecipe(recipe, { training: { optimizer: 'sgd' } }).training).toEqual(base.training);
    const kept = { learningRate: 0.3, momentum: 0.5 };
    expect(overrideRecipe(recipe, { training: { optimizer: 'sgd', ...kept } }).training).toEqual({
      ...base.training,
      ...kept,
    });
  });

  it("back from one without milestones has those of the data set's", () => {
    const fast = presetRecipe('cifar10-fast', { onCuda: false });
    const back = (training: object) => overrideRecipe(fast, { training }).training.milestones;
    expect(back({ rateSchedule: 'multi-step' })).toEqual([15, 30, 45]);
    expect(back({ rateSchedule: 'multi-step', milestones: [3] })).toEqual([3]);
    expect(back({ epochs: 3 })).toEqual([]);
  });

  it('keeps what is given with it, in whatever order', () => {
    const given = { learningRate: 3e-4, weightDecay: 0.1 };
    for (const training of [
      trainingOf({ optimizer: 'adamw', ...given }),
      trainingOf(given, { optimizer: 'adamw' }),
      trainingOf({ optimizer: 'adamw' }, given),
    ]) {
      expect(training).toMatchObject({ optimizer: 'adamw', momentum: 0, ...given });
    }
    const recipe = overrideRecipe(base, { training: { optimizer: 'adamw', ...given } });
    expect(overrideRecipe(recipe, { training: { optimizer: 'adamw', epochs: 3 } }).training).toEqual({
      ...recipe.training,
      epochs: 3,
    });
  });
});

it('a recipe of a version without optimiser and schedule is one of SGD with milestones', () => {
  const {
    blocks,
    syncBatchNorm,
    optimizer,
    rateSchedule,
    warmupEpochs,
    nesterov,
    betas,
    eps,
    labelSmoothing,
    sgdLearningRate,
    sgdWeightDecay,
    ...training
  } = base.training;
  expect(Object.keys(training)).toHaveLength(10);
  expect(parseRecipe({ ...base, training })).toEqual(base);
});
