// Runs with other optimisers, schedules of the rate and losses than the presets': what their steps are, and that a run that was
// stopped anywhere ends with the bits of one that was not.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { layeredNetwork, layerwiseStages } from '../../lib/models/index.js';
import { Identity, Linear, readSafetensors } from '../../lib/nn/index.js';
import { buildLearningRates, buildOptimizer, type Recipe } from '../../lib/recipe/index.js';
import type { EpochRecord } from '../../lib/run/index.js';
import { scope } from '../../lib/tensor/index.js';
import { resume, type TrainingEvent, train } from '../../lib/training/index.js';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

const KINDS: readonly [name: string, training: object, others?: object][] = [
  ['AdamW', { optimizer: 'adamw' }],
  [
    'AdamW that starts again at a milestone, in bfloat16',
    { optimizer: 'adamw', milestones: [1] },
    { precision: 'bf16' },
  ],
  [
    'Nesterov with label smoothing, cosine after a warm-up',
    { nesterov: true, labelSmoothing: 0.1, rateSchedule: 'cosine', warmupEpochs: 1 },
  ],
  ['Muon, with SGD of its own rate', { optimizer: 'muon', sgdLearningRate: 0.05, rateSchedule: 'one-cycle' }],
  ['Muon that starts again at a milestone, in bfloat16', { optimizer: 'muon', milestones: [1] }, { precision: 'bf16' }],
  ['one cycle', { rateSchedule: 'one-cycle', betas: [0.8, 0.99], optimizer: 'adamw', learningRate: 0.01 }],
];

it.each(KINDS)('goes on to the same bits: %s', async (name, training, others = {}) => {
  const recipe = smallRecipe({ training, ...others });
  const folder = (part: string): string => at(`${name.replaceAll(/\W+/g, '-')}-${part}`);
  const { result } = await train({ recipe, out: folder('whole') });
  expect(result.layers.every(({ testLoss }) => Number.isFinite(testLoss))).toBe(true);
  const whole = productOf(folder('whole'));
  const out = folder('stopped');
  await startAndStop(
    { recipe, out },
    (event) => event.type === 'step' && event.layer === 0 && event.epoch === 0 && event.step === 3,
  );
  // And again, in the second epoch of the second layer.
  const controller = new AbortController();
  const onEvent = (event: TrainingEvent): void => {
    if (event.type === 'step' && event.layer === 1 && event.epoch === 1 && event.step === 1) controller.abort();
  };
  await expect(resume(out, { onEvent, signal: controller.signal })).rejects.toMatchObject({ code: 'INTERRUPTED' });
  await resume(out);
  expect(productOf(out)).toEqual(whole);
});

it('a checkpoint of AdamW has its averages and the counts of steps', async () => {
  const out = at('adamw-checkpoint');
  await startAndStop(
    { recipe: smallRecipe({ training: { optimizer: 'adamw' } }), out },
    (event) => event.type === 'step' && event.epoch === 0 && event.step === 3,
  );
  const { current } = JSON.parse(readFileSync(join(out, 'checkpoint', 'state.json'), 'utf8'));
  const { tensors } = await readSafetensors(join(out, 'checkpoint', current));
  const parameters = [...tensors.keys()].filter((name) => name.startsWith('exp_avg.')).length;
  expect(parameters).toBeGreaterThan(4);
  expect([...tensors.keys()].filter((name) => name.startsWith('exp_avg_sq.'))).toHaveLength(parameters);
  expect(tensors.get('step')!.toArray()).toEqual(new Array(parameters).fill(3));
  for (const tensor of tensors.values()) tensor.dispose();
});

it('Muon steps filters, and SGD all else: a rate of nearly 0 of the one leaves the weights of the other moving', async () => {
  const [none, some] = [1e-30, 0.05];
  const values = new Map<string, number[][]>();
  for (const [name, learningRate, sgdLearningRate] of [
    ['start', none, none],
    ['muon', some, none],
    ['sgd', none, some],
  ] as const) {
    const out = at(`muon-${name}`);
    const training = { optimizer: 'muon', epochs: 1, milestones: [], learningRate, sgdLearningRate, weightDecay: 0 };
    await train({ recipe: smallRecipe({ model: { layers: 1 }, training: { ...training, sgdWeightDecay: 0 } }), out });
    const { tensors } = await readSafetensors(join(out, 'model.safetensors'));
    const weights = [...tensors].filter(([key]) => /\.(weight|bias)$/.test(key));
    for (const [key, tensor] of weights) {
      const name = `${key} ${tensor.shape.length}`;
      values.set(name, [...(values.get(name) ?? []), Array.from(tensor.toTypedArray(), Number)]);
    }
    for (const tensor of tensors.values()) tensor.dispose();
  }
  const names = { muon: [] as string[], sgd: [] as string[] };
  for (const [key, [start, ...others]] of values) {
    others.forEach((to, i) => {
      const hasMoved = to.some((value, n) => Math.abs(value - start![n]!) > 1e-9);
      if (hasMoved) names[i === 0 ? 'muon' : 'sgd'].push(key);
    });
  }
  const filters = [...values.keys()].filter((key) => key.endsWith(' 4'));
  expect(filters.length).toBeGreaterThan(0);
  expect(names.muon).toEqual(filters);
  // All else but biases before a batch norm, which have no effect.
  expect(names.sgd.length).toBeGreaterThan(2);
  expect(names.sgd.filter((key) => filters.includes(key))).toEqual([]);
});

it('Muon without anything to step as a matrix is refused', () => {
  const recipe = smallRecipe({ training: { optimizer: 'muon' } });
  scope(() => {
    const head = new Linear({ inFeatures: 4, outFeatures: 3 });
    const network = layeredNetwork({ classes: 3, inputShape: [4], blocks: [new Identity()], heads: [head] });
    const [stage] = layerwiseStages(network);
    expect(() => buildOptimizer(recipe, stage!, 'fp32')).toThrow(
      'training.optimizer: expected sgd or adamw where no filters of convolutions and no linear layers of blocks are trained, got muon',
    );
    head.dispose();
  });
});

const metricsOf = (directory: string): EpochRecord[] =>
  readFileSync(join(directory, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

it('label smoothing spreads a part of each label over the classes, in the training loss alone', async () => {
  const losses: { train: number; test: number }[] = [];
  for (const labelSmoothing of [0, 0.25, 0.5]) {
    const out = at(`smoothing-${labelSmoothing}`);
    // So small a rate changes no weight.
    const training = { epochs: 1, milestones: [], learningRate: 1e-30, labelSmoothing };
    await train({ recipe: smallRecipe({ model: { layers: 1 }, training }), out });
    const [{ trainLoss, testLoss }] = metricsOf(out) as [EpochRecord];
    losses.push({ train: trainLoss!, test: testLoss! });
  }
  const [none, quarter, half] = losses as [(typeof losses)[0], (typeof losses)[0], (typeof losses)[0]];
  // The smoothed loss is linear in the part.
  expect(quarter.train).toBeCloseTo((none.train + half.train) / 2, 6);
  // Little, since the network has learned nothing.
  expect(Math.abs(half.train - none.train)).toBeGreaterThan(2e-5);
  expect([quarter.test, half.test]).toEqual([none.test, none.test]);
});

/** The rates of all steps of two epochs of four. */
function ratesOf(training: object): number[] {
  const recipe: Recipe = smallRecipe({ dataset: { trainCount: 60 }, training: { learningRate: 0.1, ...training } });
  const { at } = buildLearningRates(recipe);
  return [0, 1].flatMap((epoch) => [0, 1, 2, 3].map((step) => at(epoch, step)));
}

it.each<[object, number[]]>([
  [{ milestones: [1], decay: 0.5 }, [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05]],
  // 0.05 (1 + cos(pi t / 8)).
  [{ rateSchedule: 'cosine' }, [0.1, 0.096194, 0.0853553, 0.0691342, 0.05, 0.0308658, 0.0146447, 0.003806]],
  // From 1 % along a line, then half a cosine over the four steps that are left.
  [{ rateSchedule: 'cosine', warmupEpochs: 1 }, [0.001, 0.02575, 0.0505, 0.07525, 0.1, 0.0853553, 0.05, 0.0146447]],
  [{ milestones: [], warmupEpochs: 1 }, [0.001, 0.02575, 0.0505, 0.07525, 0.1, 0.1, 0.1, 0.1]],
])('the rate of each step of %j', (training, expected) => {
  ratesOf(training).forEach((rate, step) => {
    expect(rate, `step ${step}`).toBeCloseTo(expected[step]!, 6);
  });
});

it('a run has the rates of its schedule, and records that of the last step of an epoch', async () => {
  const out = at('cosine');
  const training = { rateSchedule: 'cosine', learningRate: 0.1 };
  await train({ recipe: smallRecipe({ model: { layers: 1 }, training }), out });
  const [first, second] = metricsOf(out).map(({ learningRate }) => learningRate);
  expect(first).toBeCloseTo(0.05 * (1 + Math.cos((Math.PI * 3) / 8)), 12);
  expect(second).toBeCloseTo(0.05 * (1 + Math.cos((Math.PI * 7) / 8)), 12);
});
