import { OptimizerError, optionsOf, requireNumber } from './errors.js';

/** The learning rate of an epoch, counted from 0. */
export type Schedule = (epoch: number) => number;

/**
 * The initial rate times `factor` for each milestone that the epoch has reached (torch.optim.lr_scheduler.MultiStepLR). Throws
 * OptimizerError for a rate or factor that is not above 0, and for milestones that do not rise.
 */
export function multiStep(options: { initial: number; milestones: readonly number[]; factor: number }): Schedule {
  const { initial, milestones, factor } = optionsOf('multiStep', options, ['initial', 'milestones', 'factor']);
  requireNumber('multiStep', 'initial', initial, 'a number above 0', (rate) => rate > 0);
  requireNumber('multiStep', 'factor', factor, 'a number above 0', (times) => times > 0);
  if (!Array.isArray(milestones)) {
    throw new OptimizerError(`multiStep: expected an array of epochs for milestones, got ${String(milestones)}`);
  }
  if (milestones.some((m, i) => !Number.isInteger(m) || m < 1 || (i > 0 && m <= milestones[i - 1]!))) {
    throw new OptimizerError(
      `multiStep: expected rising epochs of at least 1 for milestones, got ${milestones.join(', ')}`,
    );
  }
  return (epoch) => initial * factor ** milestones.filter((milestone) => epoch >= milestone).length;
}
