// Greedy layerwise training (paper, Algorithm 1): one layer after the other, each by its auxiliary problem. End to end, and where all
// layers train at once, there is one stage with all layers.
import { type ImageSource, stoppingWhileWaiting } from '../data/index.js';
import type { FeatureBatch, TestFeatures, TrainingFeatures } from '../features/index.js';
import { localProblems, type Network, parametersOf, type Stage } from '../models/index.js';
import {
  type CheckpointState,
  type EpochRecord,
  type LayerResult,
  type MeterState,
  metersOf,
  type RunResult,
} from '../run/index.js';
import { isCuda, releaseFreedMemory, scope } from '../tensor/index.js';
import { AuxiliaryProblem, type ProblemContext, type StepResult } from './auxiliary-problem.js';
import { EpochProgress } from './epoch-progress.js';
import type { TestedEpoch } from './events.js';
import { LayerPipeline, type PipelineBatch, type Wish } from './layer-pipeline.js';
import { LayerTests } from './layer-tests.js';
import { EpochMeter } from './meter.js';
import { explainingMemory, explainOutOfMemory, isOutOfMemory } from './out-of-memory.js';
import { type ProgressOptions, RunProgress } from './run-progress.js';
import { SharedSteps, type StepPosition } from './shared-steps.js';

/** A read of the losses waits for the device: on CUDA it is done only so often, and at the end of an epoch. */
const CUDA_READ_SECONDS = 10;
/** Of several processes, once in so many steps. */
const STEPS_UNREAD = 64;

export interface TrainerOptions extends ProblemContext, ProgressOptions {
  /** Of each problem that is solved at once with others, what it costs. */
  readonly costs: readonly number[];
  readonly network: Network;
  readonly stages: readonly Stage[];
  readonly trainImages: ImageSource;
  readonly testImages: ImageSource;
  readonly trainFeatures: TrainingFeatures;
  readonly testFeatures: TestFeatures;
}

/** What a step of several processes is made by: none for a run of one. */
interface Together {
  readonly shared: SharedSteps | null;
  readonly pipeline: LayerPipeline | null;
}

/** An epoch of training, before its test. */
interface TrainedEpoch {
  readonly meter: EpochMeter;
  readonly steps: number;
  readonly imagesPerSecond: number;
}

const seconds = (since: number): number => (performance.now() - since) / 1000;

/** Trains the stages in order, from wherever the checkpoint stands. */
export class Trainer {
  readonly #options: TrainerOptions;
  readonly #progress: RunProgress;
  readonly #tests: LayerTests;
  readonly #layers: LayerResult[] = [];

  constructor(options: TrainerOptions) {
    this.#options = options;
    this.#progress = new RunProgress(options);
    const { testImages: images, testFeatures: features, network, peers, signal } = options;
    // Where the others wait for a process's outputs it does not stop in the middle of them.
    const stopping = peers.size === 1 ? signal : undefined;
    this.#tests = new LayerTests({
      images,
      features,
      context: options,
      classes: network.classes,
      peers,
      signal: stopping,
    });
  }

  /** Runs to the end. `from` is a checkpoint to go on from, with the epochs recorded before it. */
  async run(
    from: { state: CheckpointState; records: readonly EpochRecord[] } | null,
  ): Promise<Pick<RunResult, 'layers' | 'seconds' | 'confusion'>> {
    const { stages } = this.#options;
    try {
      if (from !== null) await this.#goBackTo(from.state, from.records);
      const first = from?.state.position.stage ?? 0;
      for (let i = first; i < stages.length; i++) {
        await this.#trainStage(i, i === first ? (from?.state ?? null) : null);
      }
      const { confusion } = this.#tests;
      return { layers: this.#layers, seconds: this.#progress.seconds, ...(confusion === null ? {} : { confusion }) };
    } finally {
      this.#tests.dispose();
    }
  }

  /** Trains a layer and its head on the outputs of the frozen layers. From the next stage on the layer is frozen too. */
  async #trainStage(index: number, from: CheckpointState | null): Promise<void> {
    const { stages, recipe, checkpoints, directory, generator, onEvent } = this.#options;
    const stage = stages[index]!;
    const before = from === null ? 0 : from.seconds - from.stageSeconds.reduce((sum, s) => sum + s, 0);
    const start = performance.now();
    const problem = new AuxiliaryProblem(stage, this.#options, from?.scaler ?? undefined);
    const together: Together = { shared: this.#sharedSteps(problem), pipeline: this.#pipeline(problem) };
    try {
      if (from !== null) await checkpoints.loadCurrent(from, stage, problem.optimizer, generator);
      await this.#beginFeatures(stage);
      let records: TestedEpoch[] = [];
      for (let epoch = from?.position.epoch ?? 0; epoch < recipe.training.epochs; epoch++) {
        const epochStart = performance.now();
        const trained = await this.#trainEpoch(
          index,
          { problem, ...together },
          epoch,
          from?.position.epoch === epoch ? from : null,
        );
        const { meter, steps, imagesPerSecond } = trained;
        const end = { stage: index, epoch, step: steps };
        const logits = await this.#tests.logits(problem, () => this.#progress.whileTesting(problem, end, meter));
        try {
          const scores = this.#tests.score(logits);
          // Problems that are solved at once share the time.
          const share = seconds(epochStart) / scores.length;
          records = localProblems(stage).map(({ layer }, i) => ({
            ...{ layer, epoch, learningRate: problem.optimizer.learningRate },
            ...{ trainLoss: meter.loss(i), trainTop1: meter.top1(i) },
            ...scores[i]!,
            ...{ seconds: share, imagesPerSecond },
          }));
          const losses = records.map(({ testLoss: loss }, problem) => ({ step: steps - 1, problem, loss }));
          this.#progress.requireFinite(losses, problem, epoch, 'test');
          await directory.appendMetrics(...records);
          for (const record of records) onEvent({ type: 'epoch', ...record });
          if (epoch + 1 === recipe.training.epochs) this.#tests.keep(logits);
        } finally {
          for (const tested of logits) tested.dispose();
        }
        if (epoch + 1 < recipe.training.epochs) {
          await this.#progress.checkpoint(problem, { stage: index, epoch: epoch + 1, step: 0 }, null);
        }
      }
      await this.#progress.finishStage(stage, index, before + seconds(start));
      for (const result of this.#finished(index, records)) onEvent({ type: 'layer', ...result });
    } finally {
      together.shared?.dispose();
      problem.dispose();
      releaseFreedMemory();
    }
  }

  /** Of a run of several processes; else null. */
  #sharedSteps(problem: AuxiliaryProblem): SharedSteps | null {
    const { peers, recipe, generator } = this.#options;
    if (peers.sharing === 1) return null;
    const { microBatchSize } = recipe.training;
    return new SharedSteps(problem, {
      ...{ peers, generator, seed: recipe.seed, microBatchSize },
      syncBatchNorm: recipe.training.syncBatchNorm === 'on',
    });
  }

  /** Of a run whose processes have a part of the layers each; else null. */
  #pipeline(problem: AuxiliaryProblem): LayerPipeline | null {
    const { peers, costs, trainImages: images, recipe, device } = this.#options;
    return peers.parallel === 'layers' ? new LayerPipeline({ peers, problem, costs, images, recipe, device }) : null;
  }

  async #trainEpoch(
    index: number,
    { problem, shared, pipeline }: { problem: AuxiliaryProblem } & Together,
    epoch: number,
    from: CheckpointState | null,
  ): Promise<TrainedEpoch> {
    const { recipe, trainImages, trainFeatures, device, peers, onEvent } = this.#options;
    const { batchSize } = recipe.training;
    const { layer } = problem.stage;
    const own = pipeline?.own ?? { start: 0, length: localProblems(problem.stage).length };
    const states = from === null ? null : metersOf(from);
    const meter = new EpochMeter({
      everySeconds: !isCuda(device) ? 0 : peers.size > 1 ? Number.POSITIVE_INFINITY : CUDA_READ_SECONDS,
      ...{ problems: own.length, first: own.start },
      ...(states === null ? {} : { states: states.slice(own.start, own.start + own.length) }),
    });
    const firstStep = from?.position.step ?? 0;
    const progress = new EpochProgress({
      ...{ layer, epoch, images: trainImages.count, batchSize, firstStep },
      epochsDone: index * recipe.training.epochs + epoch,
      epochsTotal: this.#options.stages.length * recipe.training.epochs,
    });

    problem.beginEpoch(epoch, { inItsMiddle: firstStep > 0 });
    try {
      let step = firstStep;
      const stop = (): Promise<void> =>
        step === firstStep
          ? this.#progress.stopHere()
          : this.#progress.afterStep(problem, { stage: index, epoch, step }, meter);
      const shareOf = shared === null ? undefined : (count: number) => peers.shareOf(count);
      const pass = { epoch, batchSize, firstStep, shareOf };
      const batches = pipeline?.batches(trainFeatures, pass) ?? trainFeatures.batches(pass);
      // Several processes stop together, after a step.
      const signal = peers.size === 1 ? this.#options.signal : undefined;
      for await (const batch of stoppingWhileWaiting<PipelineBatch>(batches, signal, stop)) {
        const count = Math.min(batchSize, trainImages.count - step * batchSize);
        problem.beginStep(step);
        const take = ({ loss, correct, stepped }: StepResult): void => {
          this.#progress.requireFinite(meter.add(step, count, loss, correct), problem, epoch);
          if (!stepped) onEvent({ type: 'scale', layer, epoch, step, ...problem.scaler!.state });
        };
        if (peers.size === 1) {
          scope(() => take(this.#step(problem, batch)));
        } else {
          const position = { layer, epoch, step };
          await this.#stepTogether({ shared, pipeline }, { problem, batch, count, position }, take);
          if (batch.isAgain === true) {
            await this.#options.breathe();
            continue;
          }
        }
        step++;
        // By the number of steps, so that all processes find a loss that is not finite at the same one.
        const isRead = peers.size > 1 && step % STEPS_UNREAD === 0;
        if (isRead) this.#progress.requireFinite(meter.flush(), problem, epoch);
        onEvent({ type: 'step', ...progress.after(step, meter) });
        const all = pipeline === null ? this.#wishOf(shared) : this.#wishIn(pipeline, meter);
        await this.#progress.afterStep(problem, { stage: index, epoch, step }, meter, all);
      }
      this.#progress.requireFinite(meter.flush(), problem, epoch);
    } finally {
      meter.dispose();
    }
    const sums = (await pipeline?.collect(meter.states)) ?? meter.states;
    problem.endEpoch();
    const steps = progress.stepsPerEpoch;
    const whole = new EpochMeter({ everySeconds: 0, problems: sums.length, states: sums });
    return { meter: whole, steps, imagesPerSecond: progress.imagesPerSecond(steps) };
  }

  #step(problem: AuxiliaryProblem, batch: FeatureBatch): StepResult {
    try {
      return problem.step(batch.indices.length, batch.tensors);
    } catch (error) {
      throw this.#explain(problem, batch, error);
    }
  }

  /** A step of all processes on a batch of `count` images, of which this one has those of `batch`, or what its layers read. */
  async #stepTogether(
    { shared, pipeline }: Together,
    step: { problem: AuxiliaryProblem; batch: PipelineBatch; count: number; position: StepPosition },
    take: (result: StepResult) => void,
  ): Promise<void> {
    const { problem, batch, count, position } = step;
    let result: StepResult;
    try {
      result =
        pipeline === null
          ? await shared!.step(count, batch.tensors, position, this.#progress.wish === 'stop')
          : await pipeline.step(batch, this.#progress.wish);
    } catch (error) {
      throw this.#explain(problem, batch, error);
    }
    try {
      if (batch.isAgain === true) result.correct.dispose();
      else scope(() => take(result));
    } finally {
      result.loss.dispose();
    }
  }

  /** What all processes do after a step, where each has a share of every batch. Rank 0 alone writes, whenever it is time. */
  #wishOf(shared: SharedSteps | null): { wish?: Wish } {
    if (shared === null) return {};
    const isDue = this.#options.peers.isFirst && this.#progress.wish === 'checkpoint';
    return { wish: shared.stops ? 'stop' : isDue ? 'checkpoint' : 'none' };
  }

  /** The same, where each has some layers. */
  #wishIn(pipeline: LayerPipeline, meter: EpochMeter): { wish: Wish; collect: () => Promise<readonly MeterState[]> } {
    return { wish: pipeline.wish, collect: () => pipeline.collect(meter.states) };
  }

  #explain(problem: AuxiliaryProblem, { indices, tensors }: FeatureBatch, error: unknown): unknown {
    if (!isOutOfMemory(error)) return error;
    return explainOutOfMemory(problem, { count: indices.length, give: tensors, device: this.#options.device, error });
  }

  /** Prepares the stage's features of the training and of the test images. */
  async #beginFeatures(stage: Stage): Promise<void> {
    const { trainFeatures, recipe, device } = this.#options;
    const { stopHere } = this.#progress;
    const { batchSize } = recipe.training;
    await explainingMemory({ layer: stage.layer, device, batchSize, part: 'features' }, () =>
      trainFeatures.begin(stage, stopHere),
    );
    await this.#tests.begin(stage, stopHere);
  }

  /** Loads the finished stages and computes again what is not kept: their outputs for the ensemble. */
  async #goBackTo(state: CheckpointState, records: readonly EpochRecord[]): Promise<void> {
    const { stages } = this.#options;
    await this.#progress.goBackTo(state, stages);
    for (const [i, stage] of stages.slice(0, state.position.stage).entries()) {
      const last = localProblems(stage).map((one) => records.findLast(({ layer }) => layer === one.layer));
      this.#finished(
        i,
        last.filter((record) => record !== undefined),
      );
      await this.#tests.keepAgain(stage, this.#progress.stopHere, { isLast: i === stages.length - 1 });
    }
  }

  /** The results of a stage's layers: the figures of their last epoch, not of their best. */
  #finished(index: number, records: readonly EpochRecord[]): LayerResult[] {
    const problems = localProblems(this.#options.stages[index]!);
    const seconds = this.#progress.secondsOf(index);
    const results = records.map(({ epoch: _, learningRate: __, imagesPerSecond: ___, ...figures }, i) => ({
      ...figures,
      seconds: seconds === null ? null : seconds / records.length,
      parameters: parametersOf(problems[i]!),
    }));
    this.#layers.push(...results);
    return results;
  }
}
