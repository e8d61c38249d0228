import { Command, Option } from 'commander';
import { BAD_IMAGE_POLICIES, type OnBadImage } from '../data/index.js';
import { type Launch, readLaunch } from '../distributed/launchers.js';
import type { CacheBudget } from '../features/index.js';
import { presetNames } from '../recipe/index.js';
import { type JobOptions, type ResumeJobOptions, TrainingJob } from '../service/index.js';
import type { StartFrom } from '../training/index.js';
import { addCodeFlags, type CodeFlags, codeOf } from './code-flags.js';
import { EXIT, exitCodeOf, UsageError } from './exit.js';
import { abortOnInterrupt } from './interrupt.js';
import { cacheBudget, flagOf, integer } from './options.js';
import { OutputError, outputFailure } from './output.js';
import { endWithLauncher, MOST_PROCESSES, startProcesses } from './processes.js';
import { type ProgressView, progressView } from './progress.js';
import { type RecipeFlags, resolveRecipe } from './recipe.js';
import { addRecipeFlags, recipeValuesOf } from './recipe-flags.js';
import { exitAtOnce } from './thread.js';

/** The flags that decide what is trained and how; those of a recipe's values follow from its schema. */
export interface TrainingFlags extends RecipeFlags, CodeFlags {
  readonly startLayers?: number;
  readonly keepHead?: boolean;
  readonly cache?: Partial<CacheBudget> | 'none';
  readonly cudaGraph?: boolean;
  readonly onBadImage?: OnBadImage;
}

interface TrainFlags extends TrainingFlags {
  readonly out?: string;
  readonly resume?: string;
  /** With --resume. */
  readonly dataDir?: string;
  readonly device?: string;
  readonly acceptChangedData?: boolean;
  readonly json?: boolean;
  readonly tensorboard?: boolean;
  readonly processes?: number;
  readonly parallel?: 'data' | 'layers';
  readonly replay?: number;
  /** Seconds. */
  readonly timeout?: number;
}

export function trainCommand(): Command {
  return withRecipeFlags(new Command('train').description('train a network and write a run directory'))
    .option('--out <dir>', 'run directory to make (default: a new one under runs/)')
    .option('--resume <dir>', 'go on with an interrupted run')
    .option('--trust-module', 'with --resume: run the modules that the run names itself')
    .option('--accept-changed-data', 'with --resume: go on where images were replaced in place, as a damaged file is')
    .option('--tensorboard', 'write an event file for TensorBoard into the run directory')
    .option('--json', 'one JSON object a line on standard output')
    .option('--processes <n>', 'start n processes on this machine that train together', integer(1, MOST_PROCESSES))
    .addOption(
      new Option(
        '--parallel <what>',
        'with several processes, what each has: a share of every batch (default), or with --schedule simultaneous some of the layers',
      ).choices(['data', 'layers']),
    )
    .option(
      '--replay <n>',
      'with --parallel layers: batches that a process learns from again while the next has not come (default: 0, it waits)',
      integer(0, 1024),
    )
    .option(
      '--timeout <seconds>',
      'with several processes: how long one waits for another (default: 600)',
      integer(1, 2_000_000),
    )
    .action(run);
}

/** The flags of every command that takes a recipe. */
export function withRecipeFlags(command: Command): Command {
  command
    .option('--preset <name>', `recipe to start from: ${presetNames.join(', ')} (default: ${presetNames[0]})`)
    .option('--config <file>', "JSON file whose values replace those of the preset, or a run's config.json");
  return addCodeFlags(addRecipeFlags(command))
    .option('--cache <gib>', 'GiB for kept features, such as device=8,host=16,disk=100; or none', cacheBudget)
    .option('--cuda-graph', 'on a GPU: capture each training step once and launch it as a whole')
    .addOption(
      new Option(
        '--on-bad-image <what>',
        'an image file that cannot be used ends the run (default), or another of its class stands in (at most 1 %)',
      ).choices(BAD_IMAGE_POLICIES),
    )
    .option('--start-from <dir>', 'take the layers of a finished run instead of training them')
    .option('--start-layers <n>', 'with --start-from: only its first n layers', integer(1))
    .option('--keep-head', "with --start-from, all of whose layers are taken: fine-tune the run's own last head");
}

const SILENT_MILLISECONDS = 3_000;

/** Training is in a worker thread: here signals and the terminal are served whatever it is doing. */
async function run(flags: TrainFlags): Promise<void> {
  endWithLauncher();
  if (flags.processes !== undefined && flags.processes > 1) {
    process.exitCode = await startProcesses(flags.processes, recipeValuesOf(flags).threads !== undefined);
    return;
  }
  const launch = readLaunch(process.env);
  const view = launch === null || launch.rank === 0 ? progressView({ json: flags.json ?? false }) : SILENT;
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
      exitAtOnce(code);
    },
  );
  try {
    const job = await startJob(flags, launch);
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
    // Rank 0 tells it for all.
    if (launch !== null && launch.rank > 0 && isInterruption(error)) {
      process.exitCode = EXIT.interrupted;
      return;
    }
    const failure = outputFailure();
    throw failure !== null && isInterruption(error) ? new OutputError(failure.cause, error.message) : error;
  } finally {
    clearTimeout(late);
    view.close();
    interrupt.release();
  }
}

const isInterruption = (error: unknown): error is Error => exitCodeOf(error) === EXIT.interrupted;

/** Of a process that is not the first of its group. */
const SILENT: ProgressView = { show: () => {}, note: () => {}, close: () => {} };

async function startJob(flags: TrainFlags, launch: Launch | null): Promise<TrainingJob> {
  const group = groupOf(launch, flags);
  if (flags.resume !== undefined) {
    refuseWithResume(flags);
    return TrainingJob.resume({
      runDirectory: flags.resume,
      ...resumeOptionsOf(flags),
      ...group,
      ...(await codeOf(flags, { runDirectory: flags.resume })),
    });
  }
  if (flags.trustModule) throw new UsageError('--trust-module needs --resume DIR, the run whose modules are run');
  if (flags.acceptChangedData) throw new UsageError('--accept-changed-data needs --resume DIR, the run to go on with');
  const startFrom = startFromOf(flags);
  const recipe = await resolveRecipe(flags);
  return TrainingJob.train({
    recipe,
    ...(flags.out === undefined ? {} : { out: flags.out }),
    ...(startFrom === undefined ? {} : { startFrom }),
    ...jobOptionsOf(flags),
    ...group,
    ...restartOf(launch, flags),
    ...(await codeOf(flags)),
  });
}

/** The place of this process among those of its launcher, where it has one. */
function groupOf(launch: Launch | null, flags: TrainFlags): Pick<JobOptions, 'group'> {
  const { timeout, parallel, replay } = flags;
  if (replay !== undefined && parallel !== 'layers') throw new UsageError('--replay goes with --parallel layers');
  if (launch === null || launch.worldSize === 1) {
    const name = (['timeout', 'parallel'] as const).find((one) => flags[one] !== undefined);
    if (name === undefined || launch !== null) return {};
    throw new UsageError(`--${name} goes with several processes, of a launcher such as torchrun, or of --processes`);
  }
  const { rank, worldSize, localRank, masterAddress, masterPort, hostsStore, storePrefix } = launch;
  const store = { host: masterAddress, port: masterPort, hostsStore, prefix: storePrefix };
  const how = {
    ...(parallel === undefined ? {} : { parallel }),
    ...(replay === undefined ? {} : { replay }),
    ...(timeout === undefined ? {} : { timeoutMs: 1000 * timeout }),
  };
  return { group: { rank, worldSize, localRank, store, ...how } };
}

/** Processes that a launcher starts again go on with the run, which they know by its directory. */
function restartOf(launch: Launch | null, { out }: TrainFlags): { orResume?: boolean } {
  if (launch === null || (launch.mostRestarts === 0 && launch.restarts === 0)) return {};
  if (out === undefined) {
    throw new UsageError(
      'expected --out DIR under a launcher that starts processes again (torchrun --max-restarts, a requeued job of Slurm), so that they go on with the run',
    );
  }
  return { orResume: launch.restarts > 0 };
}

/** Options of how a recipe is trained that are no part of it. */
export const jobOptionsOf = ({
  cache,
  cudaGraph,
  onBadImage,
  tensorboard,
}: TrainingFlags & Pick<TrainFlags, 'tensorboard'>): JobOptions => ({
  ...(cache === undefined ? {} : { cache }),
  ...(cudaGraph === undefined ? {} : { cudaGraph }),
  ...(onBadImage === undefined ? {} : { onBadImage }),
  ...(tensorboard === undefined ? {} : { tensorboard }),
});

const resumeOptionsOf = ({ dataDir, device, acceptChangedData, ...flags }: TrainFlags): ResumeJobOptions => ({
  ...jobOptionsOf(flags),
  ...(dataDir === undefined ? {} : { dataDir }),
  ...(device === undefined ? {} : { device }),
  ...(acceptChangedData === undefined ? {} : { acceptChangedData }),
});

const WITH_RESUME: ReadonlySet<string> = new Set([
  ...['resume', 'dataDir', 'device', 'acceptChangedData'],
  ...['network', 'data', 'trustModule', 'json', 'cache', 'cudaGraph', 'onBadImage', 'tensorboard'],
  ...['processes', 'parallel', 'replay', 'timeout'],
]);

export function startFromOf({ startFrom, startLayers, keepHead }: TrainingFlags): StartFrom | undefined {
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
  const flag = flagOf(other);
  throw new UsageError(`${flag} cannot be given with --resume: the run goes on with the recipe in its config.json`);
}
