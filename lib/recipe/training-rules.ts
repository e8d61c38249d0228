// Which values of a recipe's `training` go together.
import type { Blocks } from '../models/index.js';

/** The defaults of torch.optim.AdamW, as is `ADAMW_EPS`. */
export const ADAMW_BETAS = [0.9, 0.999] as const;
export const ADAMW_EPS = 1e-8;

/** Of what `muon` leaves to SGD. */
export const SGD_BESIDE_MUON = { sgdLearningRate: 0.1, sgdWeightDecay: 5e-4 } as const;

/** The values that an optimiser brings in place of those of another. */
export const OPTIMIZER_DEFAULTS = {
  adamw: { learningRate: 1e-3, weightDecay: 1e-2, momentum: 0, nesterov: false },
  muon: { learningRate: 0.05, weightDecay: 0.03, momentum: 0.9, nesterov: true },
} as const;

export const RATE_SCHEDULES = ['multi-step', 'cosine', 'one-cycle'] as const;

interface Training {
  readonly schedule: string;
  readonly blocks: Blocks | null;
  readonly optimizer: string;
  readonly rateSchedule: string;
  readonly epochs: number;
  readonly warmupEpochs: number;
  readonly milestones: readonly number[];
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly sgdLearningRate: number;
  readonly sgdWeightDecay: number;
  readonly betas: readonly number[];
  readonly eps: number;
}

/** A value that another one leaves without effect is refused: it would be recorded and not used. */
export const TRAINING_RULES: readonly {
  readonly of: keyof Training;
  readonly expected: string;
  readonly holds: (training: Training) => boolean;
}[] = [
  {
    of: 'blocks',
    expected: 'none with training.schedule end-to-end, which trains all layers as one',
    holds: ({ schedule, blocks }) => schedule !== 'end-to-end' || blocks === null,
  },
  {
    of: 'momentum',
    expected: '0 with training.optimizer adamw, whose training.betas stand in for it',
    holds: ({ optimizer, momentum }) => optimizer !== 'adamw' || momentum === 0,
  },
  {
    of: 'nesterov',
    expected: 'false, or training.optimizer sgd or muon with a training.momentum above 0',
    holds: ({ optimizer, momentum, nesterov }) => !nesterov || (optimizer !== 'adamw' && momentum > 0),
  },
  ...(['sgdLearningRate', 'sgdWeightDecay'] as const).map((of) => ({
    of,
    expected: 'none with training.optimizer sgd or adamw, or training.optimizer muon',
    holds: (training: Training) => training.optimizer === 'muon' || training[of] === SGD_BESIDE_MUON[of],
  })),
  {
    of: 'betas',
    expected: 'none with training.optimizer sgd or muon, or training.optimizer adamw',
    holds: ({ optimizer, betas }) => optimizer === 'adamw' || betas.join() === ADAMW_BETAS.join(),
  },
  {
    of: 'eps',
    expected: 'none with training.optimizer sgd or muon, or training.optimizer adamw',
    holds: ({ optimizer, eps }) => optimizer === 'adamw' || eps === ADAMW_EPS,
  },
  {
    of: 'milestones',
    expected: 'none with training.rateSchedule cosine or one-cycle, or training.rateSchedule multi-step',
    holds: ({ rateSchedule, milestones }) => rateSchedule === 'multi-step' || milestones.length === 0,
  },
  {
    of: 'milestones',
    expected: 'epochs after those of training.warmupEpochs',
    holds: ({ warmupEpochs, milestones }) => warmupEpochs < (milestones[0] ?? Number.POSITIVE_INFINITY),
  },
  {
    of: 'warmupEpochs',
    expected: '0 with training.rateSchedule one-cycle, which begins with a warm-up of its own',
    holds: ({ rateSchedule, warmupEpochs }) => rateSchedule !== 'one-cycle' || warmupEpochs === 0,
  },
  {
    of: 'warmupEpochs',
    expected: 'less than training.epochs',
    holds: ({ warmupEpochs, epochs }) => warmupEpochs === 0 || warmupEpochs < epochs,
  },
];
