// A stage of a run on the meta device: what it takes and whether it can be trained at all, without computing.
import { batchDraws, Draws, noDraws, type Transform } from '../data/index.js';
import { FrozenPrefix } from '../features/index.js';
import { type Network, rehearseModules, type Stage } from '../models/index.js';
import { buildOptimizer, frozenDtype, inputDtypeOf, type Precision, type Recipe } from '../recipe/index.js';
import { channelsLast, noGrad, rehearse, scope, type Tensor, TensorError, zeros } from '../tensor/index.js';
import { AuxiliaryProblem, type StepBatch, wholeBatch } from './auxiliary-problem.js';

export interface RehearsalContext {
  readonly recipe: Recipe;
  /** On meta. */
  readonly network: Network;
  readonly precision: Precision;
  /** That share each batch. */
  readonly processes: number;
  readonly transforms: { readonly train: readonly Transform[]; readonly test: readonly Transform[] };
  /** Whether what the stage reads is kept, or made of the images in every epoch. */
  readonly isKept: (stage: Stage) => boolean;
}

const META = { device: 'meta' } as const;

/** The shape that one image becomes, and its multiply-adds: in the frozen layers, the block and the head. */
export interface ForwardFigures {
  readonly inputShape: readonly number[];
  readonly outputShape: readonly number[];
  readonly multiplyAdds: { readonly frozen: number; readonly block: number; readonly head: number };
}

export function rehearseForward({ network }: RehearsalContext, stage: Stage): ForwardFigures {
  const shapeOf = (tensor: Tensor): readonly number[] => tensor.shape.slice(1);
  return scope(() =>
    noGrad(() => {
      const frozen = rehearseModules(stage.frozen, zeros([1, ...network.inputShape], META));
      const block = rehearseModules(stage.trained, frozen.output);
      const head = rehearseModules([stage.head], block.output);
      return {
        inputShape: shapeOf(frozen.output),
        outputShape: shapeOf(block.output),
        multiplyAdds: { frozen: frozen.multiplyAdds, block: block.multiplyAdds, head: head.multiplyAdds },
      };
    }),
  );
}

/** Bytes of tensors, beside the network's own. */
export interface StageMemory {
  /**
   * A training step: the batch's images and features, all that autograd keeps, gradients, the optimiser's state, the frozen layers as
   * they run, and what LibTorch's kernels take for a while.
   */
  readonly step: number;
  /** The same, or the evaluation of the test images where that takes more. */
  readonly peak: number;
}

/** Runs `use` with the stage as the trainer has it, on meta. */
function withProblem<T>(
  context: RehearsalContext,
  stage: Stage,
  use: (problem: AuxiliaryProblem, give: (start: number, length: number) => StepBatch) => T,
): T {
  const { recipe, network, precision, transforms, isKept } = context;
  const problem = new AuxiliaryProblem(stage, { recipe, precision, ...META });
  const prefix = new FrozenPrefix(stage, { precision, transforms: transforms.train });
  const draws = new Draws({ seed: recipe.seed });
  const { inputShape } = rehearseForward(context, stage);
  const give = (start: number, length: number): StepBatch => ({
    features: isKept(stage)
      ? channelsLast(zeros([length, ...inputShape], { ...META, dtype: frozenDtype(precision) }))
      : prefix.forward(
          zeros([length, ...network.inputShape], { ...META, dtype: inputDtypeOf(recipe) }),
          batchDraws(
            draws,
            0,
            Int32Array.from({ length }, (_, i) => start + i),
          ),
        ),
    labels: zeros([length], { ...META, dtype: 'int64' }),
  });
  try {
    problem.beginEpoch(0, { inItsMiddle: false });
    return use(problem, give);
  } finally {
    problem.dispose();
    prefix.dispose();
  }
}

/** The memory of a stage that is trained in batches of `count` images. */
export function rehearseMemory(context: RehearsalContext, stage: Stage, count: number): StageMemory {
  const { recipe, network, precision, transforms } = context;
  const { evaluation, dataset } = recipe;
  let step = 0;
  const { peakBytes } = rehearse(() => {
    withProblem(context, stage, (problem, give) => {
      step = rehearse(() =>
        scope(() => {
          // A step but for a scaler, which would read whether gradients are finite.
          problem.accumulate(wholeBatch(count, recipe.training.microBatchSize), give);
          problem.optimizer.step();
        }),
      ).peakBytes;
      problem.endEpoch();
      const test = new FrozenPrefix(stage, { precision, transforms: transforms.test });
      scope(() => {
        const batch = zeros([Math.min(evaluation.batchSize, dataset.testCount!), ...network.inputShape], {
          ...META,
          dtype: inputDtypeOf(recipe),
        });
        problem.predict(test.forward(batch, noDraws));
      });
      test.dispose();
    });
  });
  const state = optimizerBytes(context, stage);
  return { step: step + state, peak: Math.max(peakBytes, step + state) };
}

/** Bytes of what a stage's optimiser keeps from step to step. */
export function optimizerBytes({ recipe, precision }: RehearsalContext, stage: Stage): number {
  const optimizer = buildOptimizer(recipe, stage, precision);
  const bytes = [...optimizer.state.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  optimizer.dispose();
  return bytes;
}

/** Whether a pass of so many images would give a batch norm one value a channel, which has no variance. */
export function hasOneValue(context: RehearsalContext, stage: Stage, images: number): boolean {
  const kept = { ...context, isKept: () => true };
  return withProblem(kept, stage, (problem, give) => {
    try {
      scope(() => problem.tryBatch(images, give));
      return false;
    } catch (error) {
      if (isOneValue(error)) return true;
      throw error;
    }
  });
}

const isOneValue = (error: unknown): boolean =>
  error instanceof TensorError &&
  error.operator.startsWith('batchNorm') &&
  error.message.includes('more than one value');
