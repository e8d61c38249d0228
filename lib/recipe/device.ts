import { doctorCommand } from '#scripts/support/paths.mjs';
import { buildInfo, type Device } from '../tensor/index.js';
import { RecipeError } from './errors.js';
import type { Recipe } from './recipe.js';

type Gpus = Pick<ReturnType<typeof buildInfo>, 'cudaAvailable' | 'cudaDeviceCount' | 'cudaReason'>;

/** The device that a run was trained on; where this machine does not have it, that of auto. */
export function deviceOfRecord(recorded: string, gpus: Gpus = buildInfo()): Device {
  const { cudaAvailable, cudaDeviceCount } = gpus;
  const isHere = recorded === 'cpu' || (cudaAvailable && Number(recorded.slice('cuda:'.length)) < cudaDeviceCount);
  return resolveDevice(isHere ? recorded : 'auto', gpus);
}

/**
 * auto is the first CUDA device where there is one, else the CPU. A device that is asked for is never replaced by another: throws
 * RecipeError, with the reason, where it is not there.
 */
export function resolveDevice(requested: Recipe['device'], gpus: Gpus = buildInfo()): Device {
  const { cudaAvailable, cudaDeviceCount, cudaReason } = gpus;
  if (requested === 'auto') return cudaAvailable ? 'cuda:0' : 'cpu';
  if (requested === 'cpu') return 'cpu';
  const index = requested === 'cuda' ? 0 : Number(requested.slice('cuda:'.length));
  if (!cudaAvailable) {
    throw new RecipeError(`device: ${requested} was asked for, but ${cudaReason}; ${doctorCommand} says more`);
  }
  if (index >= cudaDeviceCount) {
    throw new RecipeError(`device: ${requested} was asked for, but there are ${cudaDeviceCount} CUDA devices`);
  }
  return `cuda:${index}`;
}
