import { type Tensor, unscaleGradients } from '../tensor/index.js';
import { optionsOf } from './errors.js';
import type { Sgd } from './sgd.js';

/**
 * Dynamic loss scaling for float16 (torch.amp.GradScaler): the loss is multiplied by a scale so that small gradients
 * survive, the gradients are divided by it before the step, and a step with gradients that are not finite is skipped
 * and halves the scale. After `growthInterval` good steps in a row the scale doubles.
 */
export class GradScaler {
  #scale: number;
  #goodSteps: number;
  #skipped: number;
  readonly #growthInterval: number;

  constructor(options: { scale?: number; growthInterval?: number; goodSteps?: number; skipped?: number } = {}) {
    const { scale = 2 ** 16, growthInterval = 2000, goodSteps = 0, skipped = 0 } = optionsOf('GradScaler', options);
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

  backward(loss: Tensor): void {
    loss.mul(this.#scale).backward();
  }

  /** Unscales the gradients and steps, or skips the step. Returns whether it stepped. */
  step(optimizer: Sgd): boolean {
    if (!unscaleGradients(optimizer.parameters, 1 / this.#scale)) {
      this.#scale /= 2;
      this.#goodSteps = 0;
      this.#skipped++;
      return false;
    }
    optimizer.step();
    this.#goodSteps++;
    if (this.#goodSteps === this.#growthInterval) {
      this.#scale *= 2;
      this.#goodSteps = 0;
    }
    return true;
  }
}
