// A finished network as one file that is enough to use it: safetensors, with what else is needed in its metadata.
import { type Network, torchvisionStateDict } from '../models/index.js';
import { readSafetensorsHeader, type StateDict, writeSafetensors } from '../nn/index.js';
import { RunDirectoryError, RunRecordError } from './errors.js';
import { parseEarlyExit, parseRunConfig } from './read-record.js';
import type { EarlyExitRecord, RunConfig } from './record.js';

/** The keys of the metadata under which the configuration and what is known of early exit lie, as JSON. */
const KEY = 'layerwise';
const EARLY_EXIT_KEY = 'layerwise.early-exit';

/** What an exported file holds beside tensors: the record of the run as far as its network needs it, and the names of the tensors. */
export interface ExportedHeader {
  readonly config: RunConfig;
  readonly earlyExit: EarlyExitRecord | null;
  readonly names: readonly string[];
}

/** What of a network is written: with its auxiliary heads, layers below the last can be read, too. */
export interface ExportOptions {
  readonly config: RunConfig;
  readonly auxiliaryHeads?: boolean;
  /** Goes with the auxiliary heads. */
  readonly earlyExit?: EarlyExitRecord | null;
}

/** Writes a network, with PyTorch's names. Gives the number of tensors. */
export async function writeExported(
  file: string,
  network: Network,
  { config, auxiliaryHeads = false, earlyExit = null }: ExportOptions,
): Promise<number> {
  const tensors: StateDict = new Map([...network.stateDict(), ...(auxiliaryHeads ? network.auxiliaryStateDict() : [])]);
  await writeSafetensors(file, tensors, {
    ...{ format: 'pt', [KEY]: JSON.stringify(portable(config)) },
    ...(auxiliaryHeads && earlyExit !== null ? { [EARLY_EXIT_KEY]: JSON.stringify(earlyExit) } : {}),
  });
  return tensors.size;
}

/** Writes a network for torchvision, which has other tensors: it is opened there, and not here. Gives the number of tensors. */
export async function writeForTorchvision(file: string, network: Network): Promise<number> {
  using converted = torchvisionStateDict(network);
  await writeSafetensors(file, converted.tensors, { format: 'pt' });
  return converted.tensors.size;
}

/** A file travels: what says where data and modules lay on the machine of the run, and which images they were, stays behind. */
function portable({ data, modules, startedFrom, deviceName, notes, ...config }: RunConfig): RunConfig {
  const { dataset } = config.recipe;
  const isObject = typeof dataset === 'object' && dataset !== null && !Array.isArray(dataset);
  if (!isObject) return config;
  const { options, ...others } = dataset;
  return { ...config, recipe: { ...config.recipe, dataset: { ...others, dataDir: null } } };
}

/** Throws RunDirectoryError for a file that `layerwise export` has not written, and SafetensorsError. */
export async function readExportedHeader(file: string): Promise<ExportedHeader> {
  const { shapes, metadata } = await readSafetensorsHeader(file);
  const text = metadata[KEY];
  if (text === undefined) {
    throw new RunDirectoryError(
      `${file}: expected a run directory, or a file of layerwise export, got a safetensors file without the run's recipe: ` +
        "open the run's directory, export it again without --torchvision, or make a run of torchvision's weights by layerwise import",
    );
  }
  try {
    const earlyExit = metadata[EARLY_EXIT_KEY];
    return {
      names: [...shapes.keys()],
      config: parseRunConfig(text, `${file}: metadata ${KEY}`),
      earlyExit: earlyExit === undefined ? null : parseEarlyExit(earlyExit, `${file}: metadata ${EARLY_EXIT_KEY}`),
    };
  } catch (error) {
    if (!(error instanceof RunRecordError)) throw error;
    throw new RunDirectoryError(error.message, { cause: error });
  }
}
