import { localProblems, type Stage } from '../models/index.js';
import type { Recipe } from '../recipe/index.js';
import type { CheckpointState, MeterState, Position, RunDirectory } from '../run/index.js';
import type { Generator } from '../tensor/index.js';
import type { AuxiliaryProblem } from './auxiliary-problem.js';
import { NonFiniteLossError, TrainingInterrupted } from './errors.js';
import type { TrainingEvent } from './events.js';
import type { Wish } from './layer-pipeline.js';
import type { EpochMeter, StepLoss } from './meter.js';
import type { Peers } from './peers.js';
import type { RunCheckpoints } from './run-checkpoints.js';

const seconds = (since: number): number => (performance.now() - since) / 1000;

export interface ProgressOptions {
  readonly recipe: Recipe;
  readonly directory: RunDirectory;
  readonly checkpoints: RunCheckpoints;
  /** What dropout draws from: the run's own, so that runs beside each other do not change each other's draws. */
  readonly generator: Generator;
  /** A checkpoint is written this often within an epoch, and after each one. */
  readonly checkpointSeconds: number;
  readonly signal: AbortSignal | undefined;
  /** The processes that train the run. */
  readonly peers: Peers;
  readonly onEvent: (event: TrainingEvent) => void;
  /** Lets timers, signals and input of the event loop be served, and other runs take their turn. */
  readonly breathe: () => Promise<void>;
}

/** What a run has done: how long it took, its checkpoints, and where it stops when it is told to. */
export class RunProgress {
  readonly #options: ProgressOptions;
  readonly #stageSeconds: number[] = [];
  /** Training time of earlier processes, and the start of this one. */
  #secondsBefore = 0;
  readonly #start = performance.now();
  #lastCheckpoint = performance.now();

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  /** Goes on from a checkpoint, whose finished stages are loaded. */
  async goBackTo(state: CheckpointState, stages: readonly Stage[]): Promise<void> {
    this.#secondsBefore = state.seconds;
    this.#stageSeconds.push(...state.stageSeconds);
    const { checkpoints, generator } = this.#options;
    await checkpoints.loadFinished(state, stages, generator);
  }

  /** Of the whole run, that of earlier processes included. */
  get seconds(): number {
    return this.#secondsBefore + seconds(this.#start);
  }

  /** Of a finished stage; null where that is not known. */
  secondsOf(stage: number): number | null {
    return this.#stageSeconds[stage] ?? null;
  }

  /** For work between checkpoints: the last one still holds. */
  readonly stopHere = async (): Promise<void> => {
    await this.#options.breathe();
    const { signal } = this.#options;
    if (signal?.aborted === true) throw this.#interrupted();
  };

  #interrupted(): TrainingInterrupted {
    const { directory, checkpoints } = this.#options;
    return new TrainingInterrupted(directory.path, { hasCheckpoint: checkpoints.exists });
  }

  /** Whether the run was told to stop, or its checkpoint is old. */
  get wish(): Wish {
    if (this.#options.signal?.aborted === true) return 'stop';
    return seconds(this.#lastCheckpoint) < this.#options.checkpointSeconds ? 'none' : 'checkpoint';
  }

  /**
   * After a step: writes a checkpoint when it is time, and stops there when the run was told to stop. Of several processes all do the
   * same: what `wish` says. Where each has a part of the state, `collect` brings it together, and gives the sums of all meters.
   */
  async afterStep(
    problem: AuxiliaryProblem,
    position: Position,
    meter: EpochMeter,
    { wish, collect }: { wish?: Wish; collect?: () => Promise<readonly MeterState[]> } = {},
  ): Promise<void> {
    await this.#options.breathe();
    const due = wish ?? this.wish;
    if (due === 'none') return;
    this.requireFinite(meter.flush(), problem, position.epoch);
    const states = (await collect?.()) ?? meter.states;
    // Weights that the last step made infinite are no good checkpoint; the next loss tells of them, where there is one.
    if (!problem.isFinite()) {
      if (due === 'stop' && this.#options.peers.size > 1) throw this.#interrupted();
      return;
    }
    await this.checkpoint(problem, position, states);
    if (due === 'stop') throw new TrainingInterrupted(this.#options.directory.path);
  }

  /** Between batches of the test images, after an epoch's last step. Several processes stop after the next step, together. */
  async whileTesting(problem: AuxiliaryProblem, position: Position, meter: EpochMeter): Promise<void> {
    await this.#options.breathe();
    if (this.#options.peers.size > 1) return;
    if (this.#options.signal?.aborted !== true || !problem.isFinite()) return;
    await this.checkpoint(problem, position, meter.states);
    throw new TrainingInterrupted(this.#options.directory.path);
  }

  /** `meters` is null between epochs. */
  async checkpoint(problem: AuxiliaryProblem, position: Position, meters: readonly MeterState[] | null): Promise<void> {
    const { optimizer, scaler, stage } = problem;
    const { checkpoints, generator, onEvent } = this.#options;
    await checkpoints.save(stage, { optimizer, scaler, generator }, { ...this.#times, position, meters });
    this.#lastCheckpoint = performance.now();
    onEvent({ type: 'checkpoint', layer: stage.layer, epoch: position.epoch, step: position.step });
  }

  /** Writes the weights of a finished stage, which took so many seconds. */
  async finishStage(stage: Stage, index: number, stageSeconds: number): Promise<void> {
    this.#stageSeconds.push(stageSeconds);
    const position = { stage: index + 1, epoch: 0, step: 0 };
    const { checkpoints, generator } = this.#options;
    await checkpoints.saveFinished(stage, generator, { ...this.#times, position, meters: null });
  }

  /** Throws NonFiniteLossError for a loss that is infinite or NaN, with what there is to go on from. */
  requireFinite(losses: readonly StepLoss[], problem: AuxiliaryProblem, epoch: number, part?: 'test'): void {
    const bad = losses.find(({ loss }) => !Number.isFinite(loss));
    if (bad === undefined) return;
    const { checkpoints, recipe } = this.#options;
    const { step, loss } = bad;
    const { layer } = localProblems(problem.stage)[bad.problem]!;
    throw new NonFiniteLossError(
      {
        ...{ layer, epoch, step, loss, part },
        learningRate: problem.optimizer.learningRate,
        hasSgdRate: recipe.training.optimizer === 'muon',
      },
      checkpoints.exists ? checkpoints.directory : null,
    );
  }

  get #times(): { seconds: number; stageSeconds: readonly number[] } {
    return { seconds: this.seconds, stageSeconds: this.#stageSeconds };
  }
}
