// The network of a finished run, wherever it lies: in a run directory, or in an exported file.
import { stat } from 'node:fs/promises';
import { type Network, trainsAllHeads } from '../models/index.js';
import { type ExportedHeader, readExportedHeader } from './exported-network.js';
import { loadExported, loadNetwork } from './network-files.js';
import type { EarlyExitRecord, RunConfig } from './record.js';
import { RunDirectory } from './run-directory.js';

/** What is known of a finished run before its network is built, and what fills that with its weights. */
export interface FinishedNetwork {
  readonly config: RunConfig;
  /** Null where early exit has not been evaluated. */
  readonly earlyExit: EarlyExitRecord | null;
  /** The file that has the configuration, for messages. */
  readonly configFile: string;
  /** Whether the heads of the layers below the last are there. */
  holdsAuxiliaryHeads(network: Network): boolean;
  /** Throws RunDirectoryError for files that are not there, hold other tensors, or values that weights cannot have. */
  load(network: Network): Promise<void>;
}

/**
 * Finds a run directory, or a file of `layerwise export`. Throws RunDirectoryError for what is neither, and SafetensorsError for a file
 * of another format.
 */
export async function findNetwork(path: string): Promise<FinishedNetwork> {
  const found = await stat(path).catch(() => null);
  return found?.isFile() ? exported(path, await readExportedHeader(path)) : ofRun(RunDirectory.open(path));
}

async function ofRun(directory: RunDirectory): Promise<FinishedNetwork> {
  const { config, earlyExit = null } = await directory.readRecord();
  const training = config.recipe.training as { schedule?: unknown } | undefined;
  const hasHeads = trainsAllHeads(training?.schedule);
  return {
    ...{ config, earlyExit, configFile: directory.config },
    holdsAuxiliaryHeads: () => hasHeads,
    load: (network) =>
      loadNetwork(network, {
        model: directory.model,
        auxiliaryHeads: hasHeads ? directory.auxiliaryHeads : null,
      }),
  };
}

function exported(file: string, { config, earlyExit, names }: ExportedHeader): FinishedNetwork {
  const holdsAuxiliaryHeads = (network: Network): boolean =>
    [...network.auxiliaryStateDict().keys()].some((name) => names.includes(name));
  return {
    ...{ config, earlyExit, configFile: file, holdsAuxiliaryHeads },
    load: (network) => loadExported(network, file, { auxiliaryHeads: holdsAuxiliaryHeads(network) }),
  };
}
