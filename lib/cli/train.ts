import { Command, Option } from 'commander';
import type { DatasetName, OnBadImage } from '../data/index.js';
import type { CacheBudget } from '../features/index.js';
import type { Recipe } from '../recipe/index.js';
import type { JobOptions, ResumeJobOptions, TrainingJob } from '../service/index.js';
import { readJsonFile } from '../text-file.js';
import type { StartFrom } from '../training/index.js';
import { EXIT, exitCodeOf, UsageError } from './exit.js';
import { abortOnInterrupt } from './interrupt.js';
import { cacheBudget, DATASETS, device, integer, PRECISIONS, positiveNumber, readGiven, VGGS } from './options.js';
import { OutputError, outputFailure } from './output.js';
import { progressView } from './progress.js';
import { exitAtOnce } from './thread.js';

/** The flags that decide what is trained. */
export interface RecipeFlags {
  preset?: string;
  model?: Recipe['model']['name'];
  schedule?: Recipe['training']['schedule'];
  config?: string;
  dataset?: DatasetName;
  dataDir?: string;
  epochs?: number;
  batchSize?: number;
  microBatch?: number;
  lr?: number;
  layers?: number;
  width?: number;
  auxWidth?: number;
  k?: number;
  trainLimit?: number;
  testLimit?: number;
  seed?: number;
  device?: string;
  precision?: Recipe['precision'];
  startFrom?: string;
  startLayers?: number;
  keepHead?: boolean;
  views?: number;
  cache?: Partial<CacheBudget> | 'none';
  cudaGraph?: boolean;
  onBadImage?: OnBadImage;
  maxPixels?: number;
}

interface TrainFlags extends RecipeFlags {
  out?: string;
  resume?: string;
  acceptChangedData?: boolean;
  json?: boolean;
}

export function trainCommand(): Command {
  return withRecipeFlags(new Command('train').description('train a network and write a run directory'))
    .option('--out <dir>', 'run directory to make (default: a new one under runs/)')
    .option('--resume <dir>', 'go on with an interrupted run')
    .option('--accept-changed-data', 'with --resume: go on where images were replaced in place, as a damaged file is')
    .option('--json', 'one JSON object a line on standard output')
    .action(run);
}

/** The flags of every command that takes a recipe. */
export function withRecipeFlags(command: Command): Command {
  return command
    .option(
      '--preset <name>',
      'recipe to start from: vgg11-layerwise (default), vgg11-end-to-end, the same of vgg13, vgg16, vgg19, simcnn-k1, -k2, -k3',
    )
    .addOption(new Option('--model <name>', "another VGG than the preset's").choices(VGGS))
    .addOption(
      new Option('--schedule <name>', 'layer by layer, or all layers as one network').choices([
        'layerwise',
        'end-to-end',
      ]),
    )
    .option('--config <file>', "JSON file whose values replace those of the preset, or a run's config.json")
    .addOption(new Option('--dataset <name>', 'data set; its preset recipe goes with it').choices(DATASETS))
    .option('--data-dir <dir>', 'where the data set lies')
    .option('--epochs <n>', 'epochs of each layer', integer(1))
    .option('--batch-size <n>', 'images in a step', integer(1))
    .option(
      '--micro-batch <n>',
      'images that go through the network at once; gradients are summed over the batch',
      integer(1),
    )
    .option('--lr <x>', 'initial learning rate', positiveNumber)
    .option('--layers <n>', 'layers to train', integer(1))
    .option('--width <n>', 'channels of the first layer (64 is VGG itself)', integer(1))
    .option('--aux-width <n>', "channels of SimCNN's first auxiliary head", integer(1))
    .option('--k <n>', "layers of SimCNN's auxiliary problems", integer(1))
    .option('--train-limit <n>', 'use the first n training images', integer(1))
    .option('--test-limit <n>', 'use the first n test images', integer(1))
    .option('--seed <n>', 'seed of weights, order and augmentation', integer(0))
    .option('--device <name>', 'auto, cpu, cuda or cuda:N', device)
    .addOption(new Option('--precision <name>', 'of the forward pass').choices(PRECISIONS))
    .option(
      '--views <n>',
      'augmented views of each image, the same for all layers, whose features are kept',
      integer(1),
    )
    .option('--cache <gib>', 'GiB for kept features, such as device=8,host=16,disk=100; or none', cacheBudget)
    .option('--cuda-graph', 'on a GPU: capture each training step once and launch it as a whole')
    .addOption(
      new Option(
        '--on-bad-image <what>',
        'an image file that cannot be used ends the run (default), or another of its class stands in (at most 1 %)',
      ).choices(['fail', 'skip']),
    )
    .option('--max-pixels <n>', 'width times height of the largest image file (default: 178956970)', integer(1))
    .option('--start-from <dir>', 'take the layers of a finished run instead of training them')
    .option('--start-layers <n>', 'with --start-from: only its first n layers', integer(1))
    .option('--keep-head', "with --start-from, all of whose layers are taken: fine-tune the run's own last head");
}

const SILENT_MILLISECONDS = 3_000;

/** Training is in a worker thread: here signals and the terminal are served whatever it is doing. */
async function run(flags: TrainFlags): Promise<void> {
  const view = progressView({ json: flags.json ?? false });
  let isStarted = false;
  let isStepping = false;
  let late: NodeJS.Timeout | undefined;
  const interrupt = abortOnInterrupt(
    () => {
      const when = isStepping ? ' after this step, with a checkpoint' : '';
      const note = (): void => view.note(`Stopping${when}. Ctrl-C again stops at once.`);
      // Before the start it is most often over in a moment.
      if (isStarted) note();
      else late = setTimeout(note, SILENT_MILLISECONDS);
    },
    (code) => {
      view.close();
      void exitAtOnce(code);
    },
  );
  try {
    const job = await startJob(flags);
    job.on('event', (event) => {
      isStarted ||= event.type === 'start';
      // Not so while features are made.
      isStepping = ['step', 'scale', 'epoch', 'checkpoint'].includes(event.type);
      // Readers of --json see it by the missing start.
      if (event.type === 'done' && !isStarted && !flags.json) {
        view.note(`${event.runDirectory} was finished before: nothing is left to train.`);
      }
      view.show(event);
    });
    if (interrupt.signal.aborted) void job.cancel();
    interrupt.signal.addEventListener('abort', () => void job.cancel());
    await job.outcome;
  } catch (error) {
    const failure = outputFailure();
    throw failure !== null && isInterruption(error) ? new OutputError(failure.cause, error.message) : error;
  } finally {
    clearTimeout(late);
    view.close();
    interrupt.release();
  }
}

const isInterruption = (error: unknown): error is Error => exitCodeOf(error) === EXIT.interrupted;

async function startJob(flags: TrainFlags): Promise<TrainingJob> {
  const { TrainingJob } = await import('../service/index.js');
  if (flags.resume !== undefined) {
    refuseWithResume(flags);
    return TrainingJob.resume({ runDirectory: flags.resume, ...resumeOptionsOf(flags) });
  }
  if (flags.acceptChangedData) throw new UsageError('--accept-changed-data needs --resume DIR, the run to go on with');
  const startFrom = startFromOf(flags);
  const recipe = await resolveRecipe(flags);
  return TrainingJob.train({
    recipe,
    ...(flags.out === undefined ? {} : { out: flags.out }),
    ...(startFrom === undefined ? {} : { startFrom }),
    ...jobOptionsOf(flags),
  });
}

/** What decides how a recipe is trained, and is no part of it. */
export const jobOptionsOf = ({ cache, cudaGraph, onBadImage }: RecipeFlags): JobOptions => ({
  ...(cache === undefined ? {} : { cache }),
  ...(cudaGraph === undefined ? {} : { cudaGraph }),
  ...(onBadImage === undefined ? {} : { onBadImage }),
});

const resumeOptionsOf = ({ dataDir, device, acceptChangedData, ...flags }: TrainFlags): ResumeJobOptions => ({
  ...jobOptionsOf(flags),
  ...(dataDir === undefined ? {} : { dataDir }),
  ...(device === undefined ? {} : { device }),
  ...(acceptChangedData === undefined ? {} : { acceptChangedData }),
});

const WITH_RESUME: ReadonlySet<string> = new Set([
  ...['resume', 'dataDir', 'device', 'acceptChangedData'],
  ...['json', 'cache', 'cudaGraph', 'onBadImage'],
]);

export function startFromOf({ startFrom, startLayers, keepHead }: RecipeFlags): StartFrom | undefined {
  if (startFrom === undefined) {
    const alone = startLayers === undefined ? (keepHead ? '--keep-head' : undefined) : '--start-layers';
    if (alone !== undefined) throw new UsageError(`${alone} needs --start-from DIR, the run whose layers are taken`);
    return undefined;
  }
  return {
    runDirectory: startFrom,
    ...(startLayers === undefined ? {} : { layers: startLayers }),
    ...(keepHead ? { head: 'taken' as const } : {}),
  };
}

/** A run that goes on keeps its recipe: a flag that would change it is refused. */
function refuseWithResume(flags: TrainFlags): void {
  const other = Object.keys(flags).find((name) => !WITH_RESUME.has(name));
  if (other === undefined) return;
  const flag = `--${other.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  throw new UsageError(`${flag} cannot be given with --resume: the run goes on with the recipe in its config.json`);
}

export async function resolveRecipe(flags: RecipeFlags): Promise<Recipe> {
  const { overrideRecipe, presetRecipe } = await import('../recipe/index.js');
  const { recipeOfRun } = await import('../run/index.js');
  const { buildInfo } = await import('../tensor/index.js');
  const file = flags.config === undefined ? {} : await readConfig(flags.config);
  const onCuda =
    flags.device === undefined || flags.device === 'auto' ? buildInfo().cudaAvailable : flags.device !== 'cpu';
  // What a file says may be of any type: the preset's lookup refuses what is no name.
  const preset = flags.preset ?? (file.preset as string | undefined) ?? 'vgg11-layerwise';
  const inFile = file as { [K in 'dataset' | 'model' | 'training']?: Record<string, unknown> };
  const dataset = flags.dataset ?? (inFile.dataset?.name as DatasetName | undefined);
  const model = flags.model ?? (inFile.model?.name as Recipe['model']['name'] | undefined);
  const schedule = flags.schedule ?? (inFile.training?.schedule as Recipe['training']['schedule'] | undefined);
  // A run that starts from another one has its recipe too, unless a preset is named.
  const isNamed = flags.preset !== undefined || file.preset !== undefined;
  const recipe =
    flags.startFrom !== undefined && !isNamed
      ? await recipeOfRun(flags.startFrom)
      : presetRecipe(preset, { onCuda, dataset, model, schedule });
  if (recipe.dataset.name === 'shapes' && flags.dataDir !== undefined) {
    throw new UsageError('--data-dir: shapes is drawn by the program and takes no directory; is a --dataset missing?');
  }
  return overrideRecipe(overrideRecipe(recipe, { ...file, preset: recipe.preset }), {
    model: { name: flags.model, width: flags.width, auxWidth: flags.auxWidth, k: flags.k, layers: flags.layers },
    dataset: {
      name: flags.dataset,
      dataDir: flags.dataDir,
      trainLimit: flags.trainLimit,
      testLimit: flags.testLimit,
      maxPixels: flags.maxPixels,
    },
    augmentation: { views: flags.views },
    training: {
      schedule: flags.schedule,
      epochs: flags.epochs,
      batchSize: flags.batchSize,
      microBatchSize: flags.microBatch,
      learningRate: flags.lr,
    },
    seed: flags.seed,
    device: flags.device,
    precision: flags.precision,
  });
}

async function readConfig(file: string): Promise<Record<string, unknown>> {
  const value = await readGiven('--config', file, readJsonFile);
  if (!isObject(value))
    throw new UsageError(`--config: expected a JSON object in ${file}, got ${JSON.stringify(value)}`);
  if (value.package !== 'layerwise') return value;
  // The record of a run: its recipe, less what was counted when its data was loaded.
  if (!isObject(value.recipe) || !isObject(value.recipe.dataset)) {
    throw new UsageError(`--config: expected the recipe of a run in ${file}, which is a run's config.json without one`);
  }
  const { title, trainCount, testCount, ...dataset } = value.recipe.dataset;
  return { ...value.recipe, dataset };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
