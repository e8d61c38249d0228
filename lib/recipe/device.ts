import { doctorCommand } from '#scripts/support/paths.mjs';
import { buildInfo, type Device } from '../tensor/index.js';
import { RecipeError } from './errors.js';
import type { Recipe } from './recipe.js';

type Gpus = Pick<ReturnType<typeof buildInfo>, 'cudaAvailable' | 'cudaDeviceCount' | 'cudaReason'>;

/** The device that a run was trained on; where this machine does not have it, that of auto. */
export function deviceOfRecord(recorded: string, gpus: Gpus = buildInfo()): Device {
  const { cudaAvailable, cudaDeviceCount } = gpus;
  const isHere = recorded === 'cpu' || (cudaAvailable && Number(recorded.slice('cuda:'.length)) < cudaDeviceCount);
  return resolveDevice(isHere ? recorded : 'auto', { gpus });
}

/**
 * auto is the first CUDA device where there is one, else the CPU; of several processes on a machine each takes that of its `localRank`. A device that is asked for is never replaced by another: throws
 * RecipeError, with the reason, where it is not there.
 */
export function resolveDevice(
  requested: Recipe['device'],
  { localRank = 0, gpus = buildInfo() }: { localRank?: number | undefined; gpus?: Gpus } = {},
): Device {
  const { cudaAvailable, cudaDeviceCount, cudaReason } = gpus;
  if (requested === 'cpu' || (requested === 'auto' && !cudaAvailable)) return 'cpu';
  const isAnyGpu = requested === 'auto' || requested === 'cuda';
  const index = isAnyGpu ? localRank : Number(requested.slice('cuda:'.length));
  if (!cudaAvailable) {
    throw new RecipeError(`device: ${requested} was asked for, but ${cudaReason}; ${doctorCommand} says more`);
  }
  if (index >= cudaDeviceCount) {
    throw new RecipeError(`device: ${requested} was asked for, but there are ${cudaDeviceCount} CUDA devices`);
  }
  return `cuda:${index}`;
}
