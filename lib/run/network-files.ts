import { existsSync } from 'node:fs';
import type { Network } from '../models/index.js';
import { loadInto, readSafetensors, type StateDict, writeSafetensors } from '../nn/index.js';
import { RunDirectoryError } from './errors.js';
import { describeUnfitValues } from './weight-values.js';

/** Writes a finished network's files; the heads of its layers too, unless it was trained end to end. */
export async function saveNetwork(
  network: Network,
  files: { model: string; auxiliaryHeads: string | null },
): Promise<void> {
  await writeSafetensors(files.model, network.stateDict(), { format: 'pt' });
  const auxiliary = network.auxiliaryStateDict();
  if (files.auxiliaryHeads !== null && auxiliary.size > 0) {
    await writeSafetensors(files.auxiliaryHeads, auxiliary, { format: 'pt' });
  }
}

/**
 * Loads a finished run's network from its files; a network trained end to end has no auxiliary heads. Throws RunDirectoryError
 * for a file that is not there, holds other tensors, or values that weights cannot have.
 */
export async function loadNetwork(
  network: Network,
  files: { model: string; auxiliaryHeads: string | null },
): Promise<void> {
  await loadFile(files.model, network.stateDict(), network.name);
  const auxiliary = network.auxiliaryStateDict();
  if (files.auxiliaryHeads !== null && auxiliary.size > 0)
    await loadFile(files.auxiliaryHeads, auxiliary, network.name);
}

/** The same from one file, which may hold the auxiliary heads, too. */
export function loadExported(
  network: Network,
  file: string,
  { auxiliaryHeads }: { auxiliaryHeads: boolean },
): Promise<void> {
  const own = network.stateDict();
  return loadFile(file, auxiliaryHeads ? new Map([...own, ...network.auxiliaryStateDict()]) : own, network.name);
}

async function loadFile(file: string, target: StateDict, name: string): Promise<void> {
  if (!existsSync(file)) throw new RunDirectoryError(`${file}: not found; has the run finished?`);
  const { tensors } = await readSafetensors(file);
  try {
    loadInto(target, tensors);
  } catch (error) {
    throw new RunDirectoryError(`${file}: expected the tensors of the run's ${name}: ${(error as Error).message}`, {
      cause: error,
    });
  } finally {
    for (const tensor of tensors.values()) tensor.dispose();
  }
  const unfit = describeUnfitValues(target);
  if (unfit !== null) throw new RunDirectoryError(`${file}: ${unfit}`);
}
