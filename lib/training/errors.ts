/** The loss became infinite or NaN. The last checkpoint is from before. */
export class NonFiniteLossError extends Error {
  override readonly name = 'NonFiniteLossError';
  readonly code = 'LOSS_NOT_FINITE';

  constructor(
    readonly at: {
      layer: number;
      epoch: number;
      /** The training step, or the last one before the test images were evaluated. */
      step: number;
      learningRate: number;
      loss: number;
      part?: 'test' | undefined;
    },
    lastCheckpoint: string | null,
  ) {
    super(
      `the ${at.part === 'test' ? 'test ' : ''}loss is ${at.loss} at layer ${at.layer + 1}, epoch ${at.epoch + 1}, step ${at.step + 1}, learning rate ${at.learningRate}; ` +
        'try a smaller learning rate. ' +
        (lastCheckpoint === null
          ? 'No checkpoint had been written yet.'
          : `The last good checkpoint is in ${lastCheckpoint}.`),
    );
  }
}

/** Training was stopped by its AbortSignal; a checkpoint has been written. */
export class TrainingInterrupted extends Error {
  override readonly name = 'TrainingInterrupted';
  readonly code = 'INTERRUPTED';

  constructor(readonly runDirectory: string) {
    super(`training was interrupted; go on with --resume ${runDirectory}`);
  }
}

/** A value of a recipe is unknown or out of range: its name, what was expected, what came. */
export class RecipeError extends Error {
  override readonly name = 'RecipeError';
  readonly code = 'INVALID_RECIPE';
}

/** A run directory cannot be used: which file, and why. */
export class RunDirectoryError extends Error {
  override readonly name = 'RunDirectoryError';
  readonly code = 'RUN_DIRECTORY';
}

/** Features of the frozen layers cannot be kept: they do not fit, or a file of them cannot be used. */
export class FeatureCacheError extends Error {
  override readonly name = 'FeatureCacheError';
  readonly code = 'FEATURE_CACHE';
}
