import { applyTransforms, type BatchDraws, noDraws, type Transform } from '../data/index.js';
import { FrozenBlocks } from '../nn/index.js';
import { GradScaler, multiStep, type Schedule, Sgd } from '../optim/index.js';
import { type Device, noGrad, scope, type Tensor } from '../tensor/index.js';
import { frozenDtype, inPrecision, type Precision } from './precision.js';
import type { Recipe } from './recipe.js';
import { type Stage, trainedModules } from './stage.js';

/** What all stages of a run share. */
export interface ProblemContext {
  readonly recipe: Recipe;
  readonly device: Device;
  readonly precision: Precision;
  /** Augmentation, then normalisation. */
  readonly trainTransforms: readonly Transform[];
  /** Normalisation alone. */
  readonly testTransforms: readonly Transform[];
}

export interface StepResult {
  /** Mean cross entropy of the batch, a scalar on the device. */
  readonly loss: Tensor;
  /** Hits among the batch, an int64 scalar on the device. */
  readonly correct: Tensor;
  /** False when float16 gradients overflowed and the step was left out. */
  readonly stepped: boolean;
}

/** One stage with its optimiser: SGD on the cross entropy of the stage's head, the layers below frozen. */
export class AuxiliaryProblem {
  readonly optimizer: Sgd;
  readonly learningRate: Schedule;
  readonly scaler: GradScaler | null;
  readonly #context: ProblemContext;
  readonly #frozen: FrozenBlocks;

  constructor(
    readonly stage: Stage,
    context: ProblemContext,
    scaler?: ConstructorParameters<typeof GradScaler>[0],
  ) {
    this.#context = context;
    const { learningRate, milestones, decay, momentum, weightDecay } = context.recipe.training;
    this.learningRate = multiStep({ initial: learningRate, milestones, factor: decay });
    this.optimizer = new Sgd(
      trainedModules(stage).flatMap((module) => module.parameters()),
      { learningRate, momentum, weightDecay },
    );
    this.scaler = context.precision === 'fp16' ? new GradScaler(scaler) : null;
    for (const module of stage.frozen) module.eval();
    this.#frozen = new FrozenBlocks(stage.frozen, frozenDtype(context.precision));
  }

  /**
   * Sets the epoch's learning rate. At a drop the momentum starts again, where the recipe says so; not when the epoch is
   * gone on with in its middle.
   */
  beginEpoch(epoch: number, options: { inItsMiddle: boolean }): void {
    this.optimizer.learningRate = this.learningRate(epoch);
    const dropped = epoch > 0 && this.learningRate(epoch) !== this.learningRate(epoch - 1);
    if (dropped && !options.inItsMiddle && this.#context.recipe.training.resetMomentumAtDrops) this.optimizer.reset();
    for (const module of trainedModules(this.stage)) module.train();
  }

  /** One step of SGD on uint8 images [batch, channels, height, width] with labels [batch]. Call it in a scope. */
  step(batch: { readonly images: Tensor; readonly labels: Tensor }, draws: BatchDraws): StepResult {
    const inputs = noGrad(() => applyTransforms(this.#context.trainTransforms, batch.images, draws));
    const logits = this.#forward(inputs).to({ dtype: 'float32' });
    const loss = logits.crossEntropy(batch.labels);
    this.optimizer.zeroGrad();
    const stepped = this.#update(loss);
    return { loss: loss.detach(), correct: noGrad(() => logits.argmax({ dim: 1 }).eq(batch.labels).sum()), stepped };
  }

  /** The logits [batch, classes] of uint8 images, in evaluation mode. */
  predict(images: Tensor): Tensor {
    const inputs = applyTransforms(this.#context.testTransforms, images, noDraws);
    return this.#forward(inputs);
  }

  /** Whether every weight is a finite number. Waits for the device. */
  isFinite(): boolean {
    return noGrad(() =>
      scope(() => this.optimizer.parameters.every((weights) => Number.isFinite(weights.mul(0).sum().item()))),
    );
  }

  /** Puts the trained modules into evaluation mode. */
  endEpoch(): void {
    for (const module of trainedModules(this.stage)) module.eval();
  }

  #forward(inputs: Tensor): Tensor {
    const features = this.#frozen.forward(inputs);
    const { trained, head } = this.stage;
    return inPrecision(this.#context.precision, this.#context.device, () =>
      head.forward(trained.reduce((x, block) => block.forward(x), features)),
    );
  }

  #update(loss: Tensor): boolean {
    if (this.scaler !== null) {
      this.scaler.backward(loss);
      return this.scaler.step(this.optimizer);
    }
    loss.backward();
    this.optimizer.step();
    return true;
  }

  dispose(): void {
    this.#frozen.dispose();
    this.optimizer.zeroGrad();
    this.optimizer.dispose();
  }
}
