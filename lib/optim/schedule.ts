import { OptimizerError, optionsOf } from './errors.js';

/** The learning rate of an epoch, counted from 0. */
export type Schedule = (epoch: number) => number;

/** The initial rate times `factor` for each milestone that the epoch has reached (torch.optim.lr_scheduler.MultiStepLR). */
export function multiStep(options: { initial: number; milestones: readonly number[]; factor: number }): Schedule {
  const { initial, milestones, factor } = optionsOf('multiStep', options);
  if (!(initial > 0 && Number.isFinite(initial))) {
    throw new OptimizerError(`multiStep: expected a number above 0 for initial, got ${initial}`);
  }
  if (milestones.some((m, i) => !Number.isInteger(m) || m < 1 || (i > 0 && m <= milestones[i - 1]!))) {
    throw new OptimizerError(
      `multiStep: expected rising epochs of at least 1 for milestones, got ${milestones.join(', ')}`,
    );
  }
  return (epoch) => initial * factor ** milestones.filter((milestone) => epoch >= milestone).length;
}
