import { LayerwiseError } from '../errors.js';
import { gibibytes } from '../format.js';

/** The loss became infinite or NaN. The last checkpoint is from before. */
export class NonFiniteLossError extends LayerwiseError {
  override readonly name = 'NonFiniteLossError';
  readonly code = 'LOSS_NOT_FINITE';

  constructor(
    readonly at: {
      layer: number;
      epoch: number;
      /** The training step, or the last one before the test images were evaluated. */
      step: number;
      learningRate: number;
      /** Whether SGD has a rate of its own beside it; default: no. */
      hasSgdRate?: boolean;
      loss: number;
      part?: 'test' | undefined;
    },
    lastCheckpoint: string | null,
  ) {
    super(
      `the ${at.part === 'test' ? 'test ' : ''}loss is ${at.loss} at layer ${at.layer + 1}, epoch ${at.epoch + 1}, step ${at.step + 1}, learning rate ${at.learningRate}; ` +
        `try a smaller learning rate${at.hasSgdRate === true ? ', or training.sgdLearningRate' : ''}. ` +
        (lastCheckpoint === null
          ? 'No checkpoint had been written yet.'
          : `The last good checkpoint is in ${lastCheckpoint}.`),
    );
  }
}

/** A batch does not fit into the device's memory. The last checkpoint is from before. */
export class OutOfMemoryError extends LayerwiseError {
  override readonly name = 'OutOfMemoryError';
  readonly code = 'OUT_OF_MEMORY';

  constructor(
    readonly at: {
      layer: number;
      device: string;
      /** Images that went through the network at once. */
      batchSize: number;
      /** The most bytes that tensors had when the memory was not enough; null where LibTorch does not tell. */
      peakBytes: number | null;
      /** The largest tried that fits; null where not even one image does, or where `part` says what was done. */
      fittingBatchSize: number | null;
      /** Where it was no training step: evaluating the test images, or keeping features (`augmentation.views`). */
      part?: 'evaluation' | 'features';
    },
    cause: unknown,
  ) {
    const { layer, device, batchSize, peakBytes, fittingBatchSize, part } = at;
    const images = (count: number): string => `${count} ${count === 1 ? 'image' : 'images'}`;
    const [doing, mend] = {
      step: ['with a batch of', 'not even one image fits'],
      evaluation: ['evaluating', 'take a smaller evaluation.batchSize'],
      features: ['keeping features in batches of', 'let them take less of it, with --cache or fewer --views'],
    }[part ?? 'step'];
    super(
      `out of memory on ${device} at layer ${layer + 1}, ${doing} ${images(batchSize)}` +
        `${peakBytes === null ? '' : `, when tensors had ${gibibytes(peakBytes)}`}; ` +
        (fittingBatchSize === null
          ? mend
          : `${images(fittingBatchSize)} fit: take --batch-size ${fittingBatchSize}, or --micro-batch ${fittingBatchSize} to keep the batch ` +
            '(with batch norm that changes the result: its statistics are then those of each part)'),
      { cause },
    );
  }
}

/** Training was stopped by its AbortSignal. The message says what there is to go on from. */
export class TrainingInterrupted extends LayerwiseError {
  override readonly name = 'TrainingInterrupted';
  readonly code = 'INTERRUPTED';

  constructor(
    /** Null: it had not been made yet. */
    readonly runDirectory: string | null,
    { hasCheckpoint = true, ...options }: { hasCheckpoint?: boolean } & ErrorOptions = {},
  ) {
    super(
      runDirectory === null
        ? 'training was interrupted before anything was written: there is nothing to resume'
        : hasCheckpoint
          ? `training was interrupted; go on with --resume ${runDirectory}`
          : `training was interrupted before its first checkpoint; begin it again with --resume ${runDirectory}`,
      options,
    );
  }
}
