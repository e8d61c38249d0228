import { cudaMemoryStats, type Device, isCuda, measureAttempt, scope, TensorError } from '../tensor/index.js';
import type { AuxiliaryProblem, GiveBatch } from './auxiliary-problem.js';
import { OutOfMemoryError } from './errors.js';

export const isOutOfMemory = (error: unknown): error is TensorError =>
  error instanceof TensorError && error.code === 'OUT_OF_MEMORY';

/** Runs what is no training step; where the memory is not enough, throws OutOfMemoryError that names the part. */
export async function explainingMemory<T>(
  at: {
    readonly layer: number;
    readonly device: Device;
    readonly batchSize: number;
    readonly part: 'evaluation' | 'features';
  },
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isOutOfMemory(error)) throw error;
    throw new OutOfMemoryError({ ...at, peakBytes: null, fittingBatchSize: null }, error);
  }
}

/**
 * Explains why a batch did not fit: tries it again for its peak, then half of it and so on until one fits, and at last the size
 * between that one and its double. The weights stay as they are, batch norm's running statistics do not.
 */
export function explainOutOfMemory(
  problem: AuxiliaryProblem,
  failed: { readonly count: number; readonly give: GiveBatch; readonly device: Device; readonly error: TensorError },
): OutOfMemoryError {
  const { count, give, device, error } = failed;
  const attempt = (images: number): { fits: boolean; peakBytes: number } => {
    const { outcome, peakBytes } = measureAttempt(() => scope(() => problem.tryBatch(images, give)));
    if ('error' in outcome && !isOutOfMemory(outcome.error)) throw outcome.error;
    return { fits: !('error' in outcome), peakBytes };
  };
  const whole = problem.imagesAtOnce(count);
  const peakBytes = isCuda(device) ? (cudaMemoryStats(device)?.peakAllocatedBytes ?? null) : attempt(whole).peakBytes;
  let fitting = Math.floor(whole / 2);
  while (fitting > 0 && !attempt(fitting).fits) fitting = Math.floor(fitting / 2);
  const between = Math.floor((3 * fitting) / 2);
  if (between > fitting && attempt(between).fits) fitting = between;
  return new OutOfMemoryError(
    {
      ...{ layer: problem.stage.layer, device, batchSize: whole, peakBytes },
      fittingBatchSize: fitting === 0 ? null : fitting,
    },
    error,
  );
}
