import { type Tensor, unscaleGradients } from '../tensor/index.js';
import { optionsOf, requireNumber } from './errors.js';
import type { Optimizer } from './optimizer.js';

/**
 * Dynamic loss scaling for float16 (torch.amp.GradScaler): the loss is multiplied by a scale so that small gradients
 * survive, the gradients are divided by it before the step, and a step with gradients that are not finite is skipped
 * and halves the scale. After `growthInterval` good steps in a row the scale doubles. The scale stays where float32 holds it and its
 * inverse. Throws OptimizerError for a scale beyond that, and for counts that are none.
 */
export class GradScaler {
  #scale: number;
  #goodSteps: number;
  #skipped: number;
  readonly #growthInterval: number;

  constructor(options: { scale?: number; growthInterval?: number; goodSteps?: number; skipped?: number } = {}) {
    const {
      scale = 2 ** 16,
      growthInterval = 2000,
      goodSteps = 0,
      skipped = 0,
    } = optionsOf('GradScaler', options, ['scale', 'growthInterval', 'goodSteps', 'skipped']);
    requireNumber('GradScaler', 'scale', scale, 'a number from 2^-126 to 2^127', isScale);
    requireCount('growthInterval', growthInterval, 1);
    requireCount('goodSteps', goodSteps, 0);
    requireCount('skipped', skipped, 0);
    this.#scale = scale;
    this.#growthInterval = growthInterval;
    this.#goodSteps = goodSteps;
    this.#skipped = skipped;
  }

  /** What the loss is multiplied by now. */
  get scale(): number {
    return this.#scale;
  }

  /** Steps left out so far because a gradient was not finite. */
  get skipped(): number {
    return this.#skipped;
  }

  /** For checkpoints: give it to the constructor to go on. */
  get state(): { scale: number; goodSteps: number; skipped: number } {
    return { scale: this.#scale, goodSteps: this.#goodSteps, skipped: this.#skipped };
  }

  /** Computes the gradients of the loss [] times the scale. */
  backward(loss: Tensor): void {
    loss.mul(this.#scale).backward();
  }

  /** Unscales the gradients and steps, or skips the step. Returns whether it stepped. */
  step(optimizer: Optimizer): boolean {
    if (!unscaleGradients(optimizer.parameters, 1 / this.#scale)) {
      if (isScale(this.#scale / 2)) this.#scale /= 2;
      this.#goodSteps = 0;
      this.#skipped++;
      return false;
    }
    optimizer.step();
    this.#goodSteps++;
    if (this.#goodSteps >= this.#growthInterval) {
      if (isScale(this.#scale * 2)) this.#scale *= 2;
      this.#goodSteps = 0;
    }
    return true;
  }
}

/** Beyond it the scale or its inverse, which gradients are multiplied by, is infinite or 0 in float32: so would the weights be. */
const isScale = (scale: number): boolean => scale >= 2 ** -126 && scale <= 2 ** 127;

function requireCount(name: string, value: number, least: number): void {
  const isCount = (count: number): boolean => Number.isInteger(count) && count >= least;
  requireNumber('GradScaler', name, value, `an integer of at least ${least}`, isCount);
}
