import type { Share } from '../features/index.js';
import { type Stage, trainedModules } from '../models/index.js';
import { type ForwardFunction, FrozenBlocks, forwardFunctions, type Module } from '../nn/index.js';
import { GradScaler, type Optimizer } from '../optim/index.js';
import {
  buildLearningRates,
  buildOptimizer,
  frozenDtype,
  inPrecision,
  type LearningRates,
  type Precision,
  type Recipe,
} from '../recipe/index.js';
import { cat, chain, type Device, noGrad, scope, stack, type Tensor } from '../tensor/index.js';
import { GraphedSteps } from './graphed-steps.js';

/** What all stages of a run share. */
export interface ProblemContext {
  readonly recipe: Recipe;
  readonly device: Device;
  readonly precision: Precision;
  /** Whether a training step is captured as a CUDA graph; `requireGraphs` tells where it can be. */
  readonly cudaGraph?: boolean;
}

/** What a stage learns from: features [n, ...] of its frozen layers, such as [n, channels, height, width], and labels int64 [n]. */
export interface StepBatch {
  readonly features: Tensor;
  readonly labels: Tensor;
}

/** A part of a batch that goes through the network at once: images of those that this process has, and their share of the batch. */
export interface BatchPart {
  readonly start: number;
  readonly length: number;
  /** Of all images of the batch, those of other processes included. */
  readonly share: number;
}

/** Makes `length` images of the batch, from `start` on. */
export type GiveBatch = (start: number, length: number) => StepBatch;

export interface StepResult {
  /** Mean cross entropy of the batch, with the recipe's label smoothing; a scalar on the device, or [problems] where there are several. */
  readonly loss: Tensor;
  /** Hits among the batch, an int64 scalar on the device, or [problems]. */
  readonly correct: Tensor;
  /** False when float16 gradients overflowed and the step was left out. */
  readonly stepped: boolean;
}

/** What a problem computes: what its head reads, which the next problem reads too where several are solved at once, and the logits. */
interface Functions {
  readonly block: readonly ForwardFunction[];
  readonly head: readonly ForwardFunction[];
}

/** All of a batch of `count` images, in parts of at most `microBatchSize`. */
export function wholeBatch(count: number, microBatchSize: number | null): BatchPart[] {
  const size = Math.min(count, microBatchSize ?? count);
  return Array.from({ length: Math.ceil(count / size) }, (_, part) => {
    const start = part * size;
    const length = Math.min(size, count - start);
    return { start, length, share: length / count };
  });
}

/**
 * One stage with its optimiser: gradient descent on the cross entropy of the stage's head over features of the layers below. Of several
 * problems that are solved at once each has its own cross entropy; one optimiser steps for all of them, each weight by its own gradient.
 */
export class AuxiliaryProblem {
  readonly optimizer: Optimizer;
  readonly learningRates: LearningRates;
  readonly scaler: GradScaler | null;
  readonly #context: ProblemContext;
  readonly #problems: readonly Functions[];
  #solved: readonly Functions[];
  readonly #graphed: GraphedSteps | null;
  /** Of each problem, in the form in which it is evaluated: weights do not change between epochs. */
  #evaluated: readonly { readonly block: FrozenBlocks; readonly head: FrozenBlocks }[] = [];
  #epoch = 0;

  constructor(
    readonly stage: Stage,
    context: ProblemContext,
    scaler?: ConstructorParameters<typeof GradScaler>[0],
  ) {
    this.#context = context;
    this.#problems = stage.local?.map(({ trained, head }) => ({
      block: forwardFunctions(trained),
      head: forwardFunctions([head]),
    })) ?? [{ block: [], head: forwardFunctions(trainedModules(stage)) }];
    this.#solved = this.#problems;
    this.learningRates = buildLearningRates(context.recipe);
    this.optimizer = buildOptimizer(context.recipe, stage, context.precision);
    this.scaler = context.precision === 'fp16' ? new GradScaler(scaler) : null;
    const { device, recipe, cudaGraph = false } = context;
    this.#graphed = cudaGraph
      ? new GraphedSteps((count, give) => this.#step(count, give), { device, batchSize: recipe.training.batchSize })
      : null;
  }

  /**
   * Sets the learning rate of the epoch's first step. At a drop the optimiser starts again, where the recipe says so, but not
   * when an epoch is resumed in its middle.
   */
  beginEpoch(epoch: number, options: { inItsMiddle: boolean }): void {
    this.#epoch = epoch;
    this.optimizer.learningRate = this.learningRates.at(epoch, 0);
    const startsAgain = this.#context.recipe.training.resetMomentumAtDrops && this.learningRates.dropsAt(epoch);
    if (startsAgain && !options.inItsMiddle) this.optimizer.reset();
    for (const module of trainedModules(this.stage)) module.train();
    this.#forgetEvaluated();
  }

  /** Sets the learning rate of a step of the epoch, counted from 0. */
  beginStep(step: number): void {
    if (!this.learningRates.changesWithinEpochs) return;
    this.optimizer.learningRate = this.learningRates.at(this.#epoch, step);
  }

  /** One step of the optimiser on a batch of `count` images, which `give` makes. Call it in a scope. */
  step(count: number, give: GiveBatch): StepResult {
    return this.#graphed?.step(count, give, this.optimizer.learningRate) ?? this.#step(count, give);
  }

  #step(count: number, give: GiveBatch): StepResult {
    const { loss, correct } = this.accumulate(this.#partsOf(count), give);
    return { loss, correct, stepped: this.update() };
  }

  /** The optimiser's step by the gradients that were accumulated; false when float16 gradients overflowed and it was left out. */
  update(): boolean {
    if (this.scaler !== null) return this.scaler.step(this.optimizer);
    this.optimizer.step();
    return true;
  }

  /** From now on some of several problems are learned alone, on the features of the first of them. All are evaluated. */
  solveOnly({ start, length }: Share): void {
    this.#solved = this.#problems.slice(start, start + length);
  }

  /** How many of a batch's images go through the network at once. */
  imagesAtOnce(count: number): number {
    return Math.min(count, this.#context.recipe.training.microBatchSize ?? count);
  }

  /**
   * The part of a step that takes memory, for a batch that may not fit: forward and backward pass, without an update. Call it in
   * a scope.
   */
  tryBatch(count: number, give: GiveBatch): void {
    try {
      this.accumulate(this.#partsOf(count), give);
    } finally {
      this.optimizer.zeroGrad();
    }
  }

  #partsOf(count: number): BatchPart[] {
    return wholeBatch(count, this.#context.recipe.training.microBatchSize);
  }

  /**
   * Gradients of the mean loss of a batch, of the parts that are given: the sum over all parts of the batch is that of the batch. The
   * loss is that of the parts times their shares. `output` is what the last problem gives for what comes after it, where that is asked
   * for. Call it in a scope.
   */
  accumulate(
    partsOfBatch: readonly BatchPart[],
    give: GiveBatch,
    { givesOutput = false }: { givesOutput?: boolean } = {},
  ): Pick<StepResult, 'loss' | 'correct'> & { output: Tensor | null } {
    const solved = this.#solved;
    this.optimizer.zeroGrad();
    const parts: Pick<StepResult, 'loss' | 'correct'>[][] = solved.map(() => []);
    const outputs: Tensor[] = [];
    for (const { start, length, share } of partsOfBatch) {
      let batch: StepBatch | null = null;
      for (const [i, functions] of solved.entries()) {
        const isLast = i + 1 === solved.length && !givesOutput;
        // The tensors of the forward pass are freed before the backward pass, except those that autograd and the next problem need.
        const { loss, correct, next } = scope(() =>
          this.#forward(functions, { ...(batch ?? give(start, length)), share, isLast }),
        );
        if (this.scaler === null) loss.backward();
        else this.scaler.backward(loss);
        parts[i]!.push({ loss: loss.detach(), correct });
        batch?.features.dispose();
        batch = next;
      }
      if (batch !== null) outputs.push(batch.features);
    }
    const sum = (tensors: Tensor[]): Tensor => (tensors.length === 1 ? tensors[0]! : stack(tensors).sum());
    const losses = parts.map((part) => sum(part.map(({ loss }) => loss)));
    const hits = parts.map((part) => sum(part.map(({ correct }) => correct)));
    const output = outputs.length < 2 ? (outputs[0] ?? null) : noGrad(() => cat(outputs));
    return parts.length === 1
      ? { loss: losses[0]!, correct: hits[0]!, output }
      : { loss: stack(losses), correct: stack(hits), output };
  }

  /** The loss of a part of a batch, times its share of the batch, and what the next problem learns from. */
  #forward(
    { block, head }: Functions,
    { features, labels, share, isLast }: StepBatch & { share: number; isLast: boolean },
  ): Pick<StepResult, 'loss' | 'correct'> & { next: StepBatch | null } {
    const { labelSmoothing } = this.#context.recipe.training;
    const output = block.length === 0 ? features : this.#train(features, block);
    const logits = this.#train(output, head).to({ dtype: 'float32' });
    const correct = noGrad(() => logits.argmax({ dim: 1 }).eq(labels).sum());
    const loss = logits.crossEntropy(labels, { labelSmoothing });
    return {
      loss: share === 1 ? loss : loss.mul(share),
      correct,
      next: isLast ? null : { features: output.detach(), labels },
    };
  }

  /** The logits [batch, classes] of features, in evaluation mode, or [batch, problems, classes]; after `endEpoch`. */
  predict(features: Tensor): Tensor {
    const { precision, device } = this.#context;
    const { local } = this.stage;
    if (this.#evaluated.length === 0) {
      const frozen = (modules: readonly Module[]) => new FrozenBlocks(modules, frozenDtype(precision));
      const parts = local?.map(({ trained, head }) => [trained, [head]] as const) ?? [[[], trainedModules(this.stage)]];
      this.#evaluated = parts.map(([block, head]) => ({ block: frozen(block), head: frozen(head) }));
    }
    return inPrecision(precision, device, () => {
      let output = features;
      const logits = this.#evaluated.map(({ block, head }) => {
        if (block.blocks.length > 0) {
          const next = block.forward(output);
          if (output !== features) output.dispose();
          output = next;
        }
        return head.forward(output);
      });
      return local === undefined ? logits[0]! : stack(logits, { dim: 1 });
    });
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

  #train(features: Tensor, functions: readonly ForwardFunction[]): Tensor {
    return inPrecision(this.#context.precision, this.#context.device, () => chain(features, functions));
  }

  #forgetEvaluated(): void {
    for (const { block, head } of this.#evaluated) {
      block.dispose();
      head.dispose();
    }
    this.#evaluated = [];
  }

  dispose(): void {
    this.#graphed?.dispose();
    this.#forgetEvaluated();
    this.optimizer.zeroGrad();
    this.optimizer.dispose();
  }
}
