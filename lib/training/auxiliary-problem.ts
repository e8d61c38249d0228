import { type Stage, trainedModules } from '../models/index.js';
import { FrozenBlocks, forwardSteps } from '../nn/index.js';
import { GradScaler, multiStep, type Schedule, Sgd } from '../optim/index.js';
import { frozenDtype, inPrecision, type Precision, type Recipe } from '../recipe/index.js';
import { chain, type Device, noGrad, scope, stack, type Tensor } from '../tensor/index.js';
import { GraphedSteps } from './graphed-steps.js';

/** What all stages of a run share. */
export interface ProblemContext {
  readonly recipe: Recipe;
  readonly device: Device;
  readonly precision: Precision;
  /** Whether a training step is captured as a CUDA graph; `requireGraphs` tells where it can be. */
  readonly cudaGraph?: boolean;
}

/** What a stage learns from: features [n, channels, height, width] of its frozen layers, and labels int64 [n]. */
export interface StepBatch {
  readonly features: Tensor;
  readonly labels: Tensor;
}

/** Makes `length` images of the batch, from `start` on. */
export type GiveBatch = (start: number, length: number) => StepBatch;

export interface StepResult {
  /** Mean cross entropy of the batch, a scalar on the device. */
  readonly loss: Tensor;
  /** Hits among the batch, an int64 scalar on the device. */
  readonly correct: Tensor;
  /** False when float16 gradients overflowed and the step was left out. */
  readonly stepped: boolean;
}

/** One stage with its optimiser: SGD on the cross entropy of the stage's head over features of the layers below. */
export class AuxiliaryProblem {
  readonly optimizer: Sgd;
  readonly learningRate: Schedule;
  readonly scaler: GradScaler | null;
  readonly #context: ProblemContext;
  readonly #steps: readonly ((input: Tensor) => Tensor)[];
  readonly #graphed: GraphedSteps | null;
  /** Block and head as they are evaluated: their weights stand still between epochs. */
  #evaluated: FrozenBlocks | null = null;

  constructor(
    readonly stage: Stage,
    context: ProblemContext,
    scaler?: ConstructorParameters<typeof GradScaler>[0],
  ) {
    this.#context = context;
    this.#steps = forwardSteps(trainedModules(stage));
    const { learningRate, milestones, decay, momentum, weightDecay } = context.recipe.training;
    this.learningRate = multiStep({ initial: learningRate, milestones, factor: decay });
    this.optimizer = new Sgd(
      trainedModules(stage).flatMap((module) => module.parameters()),
      { learningRate, momentum, weightDecay },
    );
    this.scaler = context.precision === 'fp16' ? new GradScaler(scaler) : null;
    const { device, recipe, cudaGraph = false } = context;
    this.#graphed = cudaGraph
      ? new GraphedSteps((count, give) => this.#step(count, give), { device, batchSize: recipe.training.batchSize })
      : null;
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
    this.#forgetEvaluated();
  }

  /** One step of SGD on `count` images, which `give` makes the batch of. Call it in a scope. */
  step(count: number, give: GiveBatch): StepResult {
    return this.#graphed?.step(count, give, this.optimizer.learningRate) ?? this.#step(count, give);
  }

  #step(count: number, give: GiveBatch): StepResult {
    const { loss, correct } = this.#accumulate(count, give);
    const stepped = this.scaler === null || this.scaler.step(this.optimizer);
    if (this.scaler === null) this.optimizer.step();
    return { loss, correct, stepped };
  }

  /** How many of a batch's images go through the network at once. */
  imagesAtOnce(count: number): number {
    return Math.min(count, this.#context.recipe.training.microBatchSize ?? count);
  }

  /** What of a step takes memory, for a batch that may not fit: its passes, without an update. Call it in a scope. */
  tryBatch(count: number, give: GiveBatch): void {
    try {
      this.#accumulate(count, give);
    } finally {
      this.optimizer.zeroGrad();
    }
  }

  /** Gradients of the mean loss of `count` images, in parts where the recipe says so. */
  #accumulate(count: number, give: GiveBatch): Pick<StepResult, 'loss' | 'correct'> {
    const size = this.imagesAtOnce(count);
    this.optimizer.zeroGrad();
    const parts: Pick<StepResult, 'loss' | 'correct'>[] = [];
    for (let start = 0; start < count; start += size) {
      const length = Math.min(size, count - start);
      // What the forward pass made is let go before the backward pass, but for what autograd needs.
      const { loss, correct } = scope(() => {
        const { features, labels } = give(start, length);
        const logits = this.#train(features).to({ dtype: 'float32' });
        const correct = noGrad(() => logits.argmax({ dim: 1 }).eq(labels).sum());
        const loss = logits.crossEntropy(labels);
        return { loss: length === count ? loss : loss.mul(length / count), correct };
      });
      if (this.scaler === null) loss.backward();
      else this.scaler.backward(loss);
      parts.push({ loss: loss.detach(), correct });
    }
    const sum = (tensors: Tensor[]): Tensor => (tensors.length === 1 ? tensors[0]! : stack(tensors).sum());
    return { loss: sum(parts.map(({ loss }) => loss)), correct: sum(parts.map(({ correct }) => correct)) };
  }

  /** The logits [batch, classes] of features, in evaluation mode; after `endEpoch`. */
  predict(features: Tensor): Tensor {
    const { precision, device } = this.#context;
    this.#evaluated ??= new FrozenBlocks(trainedModules(this.stage), frozenDtype(precision));
    return inPrecision(precision, device, () => this.#evaluated!.forward(features));
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
    this.#forgetEvaluated();
  }

  #train(features: Tensor): Tensor {
    return inPrecision(this.#context.precision, this.#context.device, () => chain(features, this.#steps));
  }

  #forgetEvaluated(): void {
    this.#evaluated?.dispose();
    this.#evaluated = null;
  }

  dispose(): void {
    this.#graphed?.dispose();
    this.#forgetEvaluated();
    this.optimizer.zeroGrad();
    this.optimizer.dispose();
  }
}
