// What every example that reproduces a table or figure shares: its options, its recipes, training or going on with a run.
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import {
  buildInfo,
  type DatasetName,
  overrideRecipe,
  presetRecipe,
  type Recipe,
  type RunConfig,
  type RunRecord,
  type RunResult,
  readRunRecord,
  resume,
  type StartFrom,
  TrainingInterrupted,
  type TrainingOutcome,
  train,
} from 'layerwise';
import { agreed } from './table.js';

export interface ExperimentOptions {
  /**
   * smoke: minutes on two cores, to see that everything works; reduced: all images, on narrower networks and in fewer epochs, hours on
   * two cores; paper: the full recipe.
   */
  readonly scale: 'smoke' | 'reduced' | 'paper';
  /** Directory of the runs and the table; a second call with the same one goes on where the first was stopped. */
  readonly out: string;
  readonly dataset: DatasetName;
  readonly dataDir: string | null;
  /** The data set's name as it is printed, where it is not its own. */
  readonly title: string | null;
  readonly seeds: readonly number[];
  readonly device: string;
  /** Those of the experiment's networks that are trained. */
  readonly networks: readonly string[];
}

interface Experiment {
  /** The example's file, without its ending. */
  readonly name: string;
  readonly description: string;
  /** The paper's data set first. */
  readonly datasets: readonly DatasetName[];
  /** How many seeds the paper's figure is of; default: 1. */
  readonly paperSeeds?: number;
  /** Whether there is a scale `reduced`. */
  readonly hasReduced?: boolean;
  /** The names by which a part of its networks may be asked for. */
  readonly networks?: (scale: ExperimentOptions['scale']) => readonly string[];
}

/** Reads the command line of an example; from here on an error that speaks for itself ends it in one line. */
export function experimentOptions(experiment: Experiment): ExperimentOptions {
  const { name, description, datasets, paperSeeds = 1, hasReduced = false, networks } = experiment;
  const scales = hasReduced ? ['smoke', 'reduced', 'paper'] : ['smoke', 'paper'];
  process.on('uncaughtException', (error: Error & { code?: string }) => {
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    console.error(error.code === undefined ? error.stack : `${name}: ${error.message}`);
    process.exit(1);
  });
  const command = new Command(name)
    .description(description)
    .exitOverride()
    .addOption(new Option('--scale <scale>', 'how large networks and runs are').choices(scales).default('smoke'))
    .addOption(new Option('--dataset <name>', 'data set').choices([...datasets, 'shapes']).default(datasets[0]))
    .option('--data-dir <dir>', 'where the data set lies')
    .option('--title <text>', 'the name of the data set as it is printed, for a variant of it')
    .option('--out <dir>', 'directory of the runs and the table; give it again to go on')
    .option('--seeds <list>', `seeds, such as 1,2,3 (default: 1; at paper scale ${paperSeeds} of them)`, seedList)
    .option('--device <name>', 'auto, cpu, cuda or cuda:N', 'auto');
  if (networks !== undefined) {
    command.option('--networks <list>', 'those that are trained, with commas between (default: all of the scale)');
  }
  command.parse();
  const options = command.opts<{
    scale: ExperimentOptions['scale'];
    dataset: DatasetName;
    dataDir?: string;
    title?: string;
    out?: string;
    seeds?: number[];
    device: string;
    networks?: string;
  }>();
  const { dataset, scale } = options;
  if (dataset === 'shapes' && options.scale !== 'smoke') {
    command.error(`error: --scale ${options.scale} is the recipe of real images: ${datasets.join(' or ')}`);
  }
  if (dataset !== 'shapes' && options.dataDir === undefined) {
    command.error(
      `error: --data-dir DIR is missing: where ${dataset} lies` +
        `${dataset === 'cifar10' ? ' (npx layerwise data download cifar10 --data-dir DIR gets it)' : ''}; ` +
        '--dataset shapes needs none, and shows only that everything works',
    );
  }
  const known = networks?.(scale) ?? [];
  const asked = options.networks?.split(',') ?? known;
  if (asked.some((one) => !known.includes(one)) || new Set(asked).size < asked.length) {
    command.error(
      `error: --networks: expected different ones of ${known.join(', ')} at scale ${scale}, got "${options.networks}"`,
    );
  }
  const seedCount = options.scale === 'paper' ? paperSeeds : 1;
  return {
    ...options,
    dataDir: options.dataDir ?? null,
    title: options.title ?? null,
    networks: asked,
    seeds: options.seeds ?? Array.from({ length: seedCount }, (_, i) => i + 1),
    out: options.out ?? join('runs', `${name}-${options.scale}-${dataset}`),
  };
}

function seedList(text: string): number[] {
  const seeds = text.split(',').map(Number);
  if (!/^\d+(,\d+)*$/.test(text) || new Set(seeds).size < seeds.length) {
    throw new InvalidArgumentError(`Expected different integers from 0, with commas between, got "${text}".`);
  }
  return seeds;
}

/** A preset's recipe for the experiment's data set, seed and device, with values replaced. */
export function recipeOf(preset: string, options: ExperimentOptions, seed: number, overrides: object = {}): Recipe {
  const recipe = presetRecipe(preset, { dataset: options.dataset, onCuda: buildInfo().cudaAvailable });
  const chosen = overrideRecipe(recipe, {
    dataset: { dataDir: options.dataDir },
    seed,
    device: options.device,
  });
  return overrideRecipe(chosen, overrides);
}

/** Does `work` with a signal that Ctrl-C, SIGTERM and SIGHUP abort; a run that stops so ends the example. */
async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.once(name, stop);
  try {
    return await work(controller.signal);
  } catch (error) {
    if (!(error instanceof TrainingInterrupted)) throw error;
    console.error('Interrupted; the same command goes on.');
    process.exit(130);
  } finally {
    signals.map((name) => process.off(name, stop));
  }
}

/** Trains a recipe in a directory of its own, or goes on with the run that is there. Throws ExperimentError where it has another recipe. */
export async function runOrResume(recipe: Recipe, directory: string, startFrom?: StartFrom): Promise<TrainingOutcome> {
  const begun = await recordIn(directory, recipe);
  return interruptible((signal) => {
    const options = {
      signal,
      onEvent: (event: { type: string }) => {
        if (event.type !== 'epoch') return;
        const { layer, epoch, testTop1 } = event as unknown as { layer: number; epoch: number; testTop1: number };
        console.log(`${directory}: layer ${layer + 1} epoch ${epoch + 1}: top-1 ${testTop1.toFixed(2)} %`);
      },
    };
    return begun === null
      ? train({ recipe, out: directory, ...(startFrom === undefined ? {} : { startFrom }), ...options })
      : resume(directory, options);
  });
}

/** The figures of such a run. Of a finished one its records are enough: a table may be made again where the weights are not kept. */
export async function resultOf(recipe: Recipe, directory: string): Promise<RunResult> {
  const finished = (await recordIn(directory, recipe))?.result;
  return finished ?? (await runOrResume(recipe, directory)).result;
}

/** What keeps an example from its figures, in words for its user. */
export class ExperimentError extends Error {
  readonly code = 'EXPERIMENT';
}

/** What is recorded of the run in a directory; null where there is none. Throws ExperimentError where it is one of another recipe. */
async function recordIn(directory: string, recipe: Recipe): Promise<RunRecord | null> {
  if (!existsSync(join(directory, 'config.json'))) return null;
  const record = await readRunRecord(directory);
  const [begun, asked] = [record.config.recipe, recipe].map(comparable);
  const name = Object.keys(asked!).find((key) => !isDeepStrictEqual(asked![key], begun![key]));
  if (name === undefined) return record;
  throw new ExperimentError(
    `${directory}: expected a run of this experiment's recipe, got one that differs in ${name}; give another --out`,
  );
}

/** What makes two runs the same, as JSON has it. Paths, devices and what is found in the data are not part of it. */
function comparable(recipe: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { model, dataset, augmentation, training, seed } = JSON.parse(JSON.stringify(recipe));
  const { name, trainLimit, testLimit, imageSize } = dataset ?? {};
  return { model, dataset: { name, trainLimit, testLimit, imageSize }, augmentation, training, seed };
}

/**
 * What a table says of where its figures come from: data set, seeds, device, versions, date. `runs` are directories; where they
 * differ, as after a table that was grown on several machines, each value has the names of its runs.
 */
export async function conditionsOf(
  options: ExperimentOptions,
  runs: readonly string[],
): Promise<Record<string, string>> {
  const configs = await Promise.all(
    runs.map(async (run) => ({ name: basename(run), config: (await readRunRecord(run)).config })),
  );
  const each = (told: (config: RunConfig) => string): string =>
    agreed(configs.map(({ name, config }) => ({ name, value: told(config) })));
  const days = configs.map(({ config }) => config.startedAt.slice(0, 10)).sort();
  const [first, last] = [days[0]!, days.at(-1)!];
  const own = ({ recipe }: RunConfig) => (recipe.dataset as { title?: string } | undefined)?.title ?? options.dataset;
  return {
    'data set': options.title ?? (options.dataset === 'shapes' ? 'shapes (drawn by the program)' : each(own)),
    scale: options.scale,
    [options.seeds.length === 1 ? 'seed' : 'seeds']: options.seeds.join(', '),
    device: each(deviceOf),
    precision: each(({ precision }) => precision),
    versions: each(
      ({ versions: { layerwise, libtorch, node } }) => `layerwise ${layerwise}, LibTorch ${libtorch}, Node ${node}`,
    ),
    date: first === last ? first : `${first} to ${last}`,
  };
}

const deviceOf = ({ device, deviceName, threads }: RunConfig): string =>
  device === 'cpu'
    ? `${deviceName ?? 'CPU'}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`
    : `${device}${deviceName ? ` (${deviceName})` : ''}`;

/** What has to be said below every table of a scale and data set. */
export function notesOf(options: ExperimentOptions): string[] {
  return [
    ...(options.dataset === 'shapes'
      ? ['Networks of this scale hardly learn these images: the figures only show that everything works.']
      : []),
    ...(options.scale === 'reduced'
      ? ['Reduced scale: all images, but narrower networks and fewer epochs than in the paper.']
      : []),
    ...(options.scale === 'smoke'
      ? ['Smoke scale: narrow networks, few images, few epochs; it shows that everything works.']
      : []),
    'Reported is the last epoch, not the best.',
  ];
}
