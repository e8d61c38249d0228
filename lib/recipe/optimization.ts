// From a recipe to what trains a stage: its optimiser, and the learning rate of each step.
import { matricesAndOthers, type Stage, trainedParameters } from '../models/index.js';
import {
  AdamW,
  cosine,
  linearWarmup,
  Muon,
  multiStep,
  type Optimizer,
  oneCycle,
  type Schedule,
  Sgd,
} from '../optim/index.js';
import { RecipeError } from './errors.js';
import type { Precision } from './precision.js';
import type { Recipe } from './recipe.js';

/** The rate at which a warm-up begins, as a fraction of the full rate: `--lr-warmup-decay` of torchvision's references. */
const WARMUP_START = 0.01;

/** The optimiser of a recipe, over all that a stage trains. Muon's own products are in bfloat16 where the forward pass is. */
export function buildOptimizer({ training }: Recipe, stage: Stage, precision: Precision): Optimizer {
  const { optimizer, learningRate, momentum, nesterov, betas, eps, weightDecay } = training;
  if (optimizer === 'adamw') return new AdamW(trainedParameters(stage), { learningRate, betas, eps, weightDecay });
  if (optimizer === 'sgd') return new Sgd(trainedParameters(stage), { learningRate, momentum, nesterov, weightDecay });
  const { matrices, others } = matricesAndOthers(stage);
  if (matrices.length === 0) {
    throw new RecipeError(
      'training.optimizer: expected sgd or adamw where no filters of convolutions and no linear layers of blocks are trained, got muon',
    );
  }
  const sgd = { parameters: others, learningRate: training.sgdLearningRate, weightDecay: training.sgdWeightDecay };
  const dtype = precision === 'bf16' ? 'bfloat16' : 'float32';
  return new Muon(matrices, { learningRate, momentum, nesterov, weightDecay, dtype, sgd });
}

/** The learning rates of a stage. */
export interface LearningRates {
  /**
   * The rate of a step of an epoch, both counted from 0. It depends on nothing else, so that a resumed run has the same rates.
   */
  at(epoch: number, step: number): number;
  /** Whether it changes within an epoch, too. */
  readonly changesWithinEpochs: boolean;
  /** Whether the epoch is a milestone at which the rate drops. */
  dropsAt(epoch: number): boolean;
}

/** The learning rates of a recipe. Those that change within an epoch need the count of its training images. */
export function buildLearningRates(recipe: Recipe): LearningRates {
  const { learningRate, rateSchedule, milestones, decay, warmupEpochs } = recipe.training;
  const ofEpoch = multiStep({ initial: learningRate, milestones, factor: decay });
  const dropsAt = (epoch: number): boolean => epoch > 0 && ofEpoch(epoch) !== ofEpoch(epoch - 1);
  if (!changesWithinEpochs(recipe)) return { at: ofEpoch, changesWithinEpochs: false, dropsAt };

  const stepsPerEpoch = stepsPerEpochOf(recipe);
  const warmup = warmupEpochs * stepsPerEpoch;
  const steps = recipe.training.epochs * stepsPerEpoch - warmup;
  const afterWarmup: Schedule =
    rateSchedule === 'cosine'
      ? cosine({ initial: learningRate, steps })
      : rateSchedule === 'one-cycle'
        ? oneCycle({ highest: learningRate, steps })
        : (step) => ofEpoch(warmupEpochs + Math.floor(step / stepsPerEpoch));
  const schedule =
    warmup === 0 ? afterWarmup : linearWarmup({ steps: warmup, startFactor: WARMUP_START, schedule: afterWarmup });
  return { at: (epoch, step) => schedule(epoch * stepsPerEpoch + step), changesWithinEpochs: true, dropsAt };
}

/** Whether the learning rate of a recipe changes from step to step. */
export const changesWithinEpochs = ({ training }: Recipe): boolean =>
  training.rateSchedule !== 'multi-step' || training.warmupEpochs > 0;

function stepsPerEpochOf({ training, dataset }: Recipe): number {
  if (dataset.trainCount !== undefined) return Math.ceil(dataset.trainCount / training.batchSize);
  throw new RecipeError(
    `dataset.trainCount: expected the count of training images, which training.rateSchedule ${training.rateSchedule} needs, got nothing`,
  );
}
