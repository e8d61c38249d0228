import { OptimizerError, optionsOf, requireNumber } from './errors.js';

/**
 * The learning rate at a step of the schedule, counted from 0. A step is an epoch or a batch, whichever the schedule's lengths
 * count.
 */
export type Schedule = (step: number) => number;

const requireRate = (schedule: string, name: string, rate: number): void =>
  requireNumber(schedule, name, rate, 'a number above 0', (value) => value > 0);

const requireCount = (schedule: string, name: string, count: number): void =>
  requireNumber(schedule, name, count, 'an integer of at least 1', (value) => Number.isInteger(value) && value >= 1);

/**
 * The initial rate times `factor` for each milestone that the epoch has reached (torch.optim.lr_scheduler.MultiStepLR). Throws
 * OptimizerError for a rate or factor that is not above 0, and for milestones that do not rise.
 */
export function multiStep(options: { initial: number; milestones: readonly number[]; factor: number }): Schedule {
  const { initial, milestones, factor } = optionsOf('multiStep', options, ['initial', 'milestones', 'factor']);
  requireRate('multiStep', 'initial', initial);
  requireRate('multiStep', 'factor', factor);
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

/** From `start` to `end` along half a cosine, as `part` goes from 0 to 1. */
const annealed = (start: number, end: number, part: number): number =>
  end + ((start - end) / 2) * (1 + Math.cos(Math.PI * part));

/**
 * From the initial rate to 0 along half a cosine, in `steps` (torch.optim.lr_scheduler.CosineAnnealingLR in its closed form, with
 * T_max `steps` and eta_min 0); 0 from there on. Throws OptimizerError for a rate that is not above 0 and for a count that is none.
 */
export function cosine(options: { initial: number; steps: number }): Schedule {
  const { initial, steps } = optionsOf('cosine', options, ['initial', 'steps']);
  requireRate('cosine', 'initial', initial);
  requireCount('cosine', 'steps', steps);
  return (step) => annealed(initial, 0, Math.min(step, steps) / steps);
}

/**
 * Up to the `highest` rate in the first part of the steps, `pctStart`, then down to nearly 0, both along half a cosine: from
 * `highest / divFactor`, to that divided by `finalDivFactor` in the last step. torch.optim.lr_scheduler.OneCycleLR with its
 * defaults, but for the momentum, which stays (`cycle_momentum=False`). Throws OptimizerError for a rate or divisor that is not
 * above 0, for a count that is none, and for a `pctStart` that is no part.
 */
export function oneCycle(options: {
  highest: number;
  steps: number;
  /** Default: 0.3. */
  pctStart?: number;
  /** Default: 25. */
  divFactor?: number;
  /** Default: 1e4. */
  finalDivFactor?: number;
}): Schedule {
  const {
    highest,
    steps,
    pctStart = 0.3,
    divFactor = 25,
    finalDivFactor = 1e4,
  } = optionsOf('oneCycle', options, ['highest', 'steps', 'pctStart', 'divFactor', 'finalDivFactor']);
  for (const [name, value] of Object.entries({ highest, divFactor, finalDivFactor })) {
    requireRate('oneCycle', name, value);
  }
  requireCount('oneCycle', 'steps', steps);
  requireNumber('oneCycle', 'pctStart', pctStart, 'a number from 0 to 1', (part) => part >= 0 && part <= 1);
  const first = highest / divFactor;
  const last = first / finalDivFactor;
  const [peak, end] = [pctStart * steps - 1, steps - 1];
  return (step) => {
    const at = Math.min(step, end);
    if (at < peak) return annealed(first, highest, at / peak);
    // A cycle of one phase has no way to go.
    return end === peak ? highest : annealed(highest, last, (at - peak) / (end - peak));
  };
}

/**
 * A schedule after `steps` of warm-up, in which its first rate is reached along a line from `startFactor` of it
 * (torch.optim.lr_scheduler.LinearLR, before the schedule in a SequentialLR). Throws OptimizerError for a count that is none, and
 * for a factor that is not above 0 or is above 1.
 */
export function linearWarmup(options: {
  steps: number;
  /** Default: 1 / 3. */
  startFactor?: number;
  /** Its step 0 is the first after the warm-up. */
  schedule: Schedule;
}): Schedule {
  const {
    steps,
    startFactor = 1 / 3,
    schedule,
  } = optionsOf('linearWarmup', options, ['steps', 'startFactor', 'schedule']);
  requireCount('linearWarmup', 'steps', steps);
  requireNumber('linearWarmup', 'startFactor', startFactor, 'a number above 0, at most 1', (f) => f > 0 && f <= 1);
  if (typeof schedule !== 'function') {
    throw new OptimizerError(`linearWarmup: expected a function for schedule, got ${String(schedule)}`);
  }
  return (step) =>
    step < steps ? schedule(0) * (startFactor + (1 - startFactor) * (step / steps)) : schedule(step - steps);
}
