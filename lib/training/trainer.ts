// Algorithm 1 of the paper: for each layer, train it with its auxiliary head while the layers below are frozen. End to
// end training is the same loop over a single stage.
import type { ImageSource } from '../data/index.js';
import { collectOutputs, confusionMatrix, LayerEnsemble, scoreLogits, scoreRanking } from '../evaluation/index.js';
import type { FeatureBatch, TestFeatures, TrainingFeatures } from '../features/index.js';
import { type Network, parametersOf, type Stage } from '../models/index.js';
import type {
  CheckpointState,
  CheckpointStore,
  EpochRecord,
  LayerResult,
  Position,
  RunDirectory,
  RunResult,
} from '../run/index.js';
import { type Generator, isCuda, releaseFreedMemory, scope, type Tensor } from '../tensor/index.js';
import { AuxiliaryProblem, type ProblemContext, type StepResult } from './auxiliary-problem.js';
import { NonFiniteLossError, OutOfMemoryError, TrainingInterrupted } from './errors.js';
import type { TestedEpoch, TrainingEvent } from './events.js';
import { EpochMeter, type StepLoss } from './meter.js';
import { explainOutOfMemory, isOutOfMemory } from './out-of-memory.js';

/** A read of the losses waits for the device: on CUDA it is done only so often, and at the end of an epoch. */
const CUDA_READ_SECONDS = 10;

export interface TrainerOptions extends ProblemContext {
  readonly network: Network;
  readonly stages: readonly Stage[];
  readonly trainImages: ImageSource;
  readonly testImages: ImageSource;
  readonly trainFeatures: TrainingFeatures;
  readonly testFeatures: TestFeatures;
  readonly directory: RunDirectory;
  readonly checkpoints: CheckpointStore;
  /** What dropout draws from: the run's own, so that runs beside each other do not change each other's draws. */
  readonly generator: Generator;
  /** A checkpoint is written this often within an epoch, and after each one. */
  readonly checkpointSeconds: number;
  readonly signal: AbortSignal | undefined;
  readonly onEvent: (event: TrainingEvent) => void;
  /** Lets timers, signals and input of the event loop be served, and other runs take their turn. */
  readonly breathe: () => Promise<void>;
}

interface TrainedEpoch {
  readonly meter: EpochMeter;
  readonly steps: number;
  readonly imagesPerSecond: number;
}

const seconds = (since: number): number => (performance.now() - since) / 1000;

/** Trains the stages in order, from wherever the checkpoint stands. */
export class Trainer {
  readonly #options: TrainerOptions;
  readonly #layers: LayerResult[] = [];
  readonly #stageSeconds: number[] = [];
  /** Of the stage that was trained last. */
  #confusion: number[][] | null = null;
  readonly #ensemble: LayerEnsemble | null;
  /** Training time of earlier processes, and the start of this one. */
  #secondsBefore = 0;
  readonly #start = performance.now();
  #lastCheckpoint = performance.now();

  constructor(options: TrainerOptions) {
    this.#options = options;
    const { training, evaluation } = options.recipe;
    this.#ensemble = training.schedule === 'layerwise' ? new LayerEnsemble(evaluation.ensemble) : null;
  }

  get #elapsed(): number {
    return this.#secondsBefore + seconds(this.#start);
  }

  /** Runs to the end. `from` is a checkpoint to go on from, with the epochs recorded before it. */
  async run(
    from: { state: CheckpointState; records: readonly EpochRecord[] } | null,
  ): Promise<Pick<RunResult, 'layers' | 'seconds' | 'confusion'>> {
    const { stages } = this.#options;
    try {
      if (from !== null) await this.#goBackTo(from.state, from.records);
      for (let i = from?.state.position.stage ?? 0; i < stages.length; i++) {
        const here = from !== null && i === from.state.position.stage ? from.state : null;
        await this.#trainStage(i, here);
      }
      const confusion = this.#confusion === null ? {} : { confusion: this.#confusion };
      return { layers: this.#layers, seconds: this.#elapsed, ...confusion };
    } finally {
      this.#ensemble?.dispose();
    }
  }

  /** Loads the finished stages and computes again what is not kept: their outputs for the ensemble. */
  async #goBackTo(state: CheckpointState, records: readonly EpochRecord[]): Promise<void> {
    const { checkpoints, stages } = this.#options;
    this.#secondsBefore = state.seconds;
    this.#stageSeconds.push(...state.stageSeconds);
    await checkpoints.loadFinished(state, stages);
    for (const [i, stage] of stages.slice(0, state.position.stage).entries()) {
      const record = records.findLast((r) => r.layer === stage.layer);
      if (record !== undefined) this.#layers.push(this.#layerResult(i, record));
      await this.#addToEnsemble(stage);
    }
  }

  /** For work between checkpoints: the last one still holds. */
  readonly #stopHere = async (): Promise<void> => {
    await this.#options.breathe();
    const { signal, directory, checkpoints } = this.#options;
    if (signal?.aborted === true) {
      throw new TrainingInterrupted(directory.path, { hasCheckpoint: checkpoints.exists });
    }
  };

  async #addToEnsemble(stage: Stage): Promise<void> {
    if (this.#ensemble === null) return;
    const problem = new AuxiliaryProblem(stage, this.#options);
    problem.endEpoch();
    try {
      await this.#inMemory(stage, 'evaluation', () => this.#options.testFeatures.begin(stage, this.#stopHere));
      using logits = await this.#testLogits(problem, this.#stopHere);
      this.#ensemble.add(logits);
    } finally {
      problem.dispose();
    }
  }

  async #trainStage(index: number, from: CheckpointState | null): Promise<void> {
    const { stages, recipe, checkpoints, directory, onEvent } = this.#options;
    const stage = stages[index]!;
    const before = from === null ? 0 : from.seconds - from.stageSeconds.reduce((sum, s) => sum + s, 0);
    const start = performance.now();
    const problem = new AuxiliaryProblem(stage, this.#options, from?.scaler ?? undefined);
    try {
      if (from !== null) await checkpoints.loadCurrent(from, stage, problem.optimizer, this.#options.generator);
      const { trainFeatures, testFeatures } = this.#options;
      await this.#inMemory(stage, 'features', () => trainFeatures.begin(stage, this.#stopHere));
      await this.#inMemory(stage, 'evaluation', () => testFeatures.begin(stage, this.#stopHere));
      let record: TestedEpoch | null = null;
      for (let epoch = from?.position.epoch ?? 0; epoch < recipe.training.epochs; epoch++) {
        const epochStart = performance.now();
        const trained = await this.#trainEpoch(index, problem, epoch, from?.position.epoch === epoch ? from : null);
        using logits = await this.#testLogits(problem, async () => {
          if (this.#options.signal?.aborted !== true || !problem.isFinite()) return;
          await this.#checkpoint(problem, { stage: index, epoch, step: trained.steps }, trained.meter);
          throw new TrainingInterrupted(directory.path);
        });
        record = this.#score(stage, epoch, problem, trained, logits, epochStart);
        this.#checkLosses([{ step: trained.steps - 1, loss: record.testLoss }], problem, epoch, 'test');
        await directory.appendMetrics(record);
        onEvent({ type: 'epoch', ...record });
        if (epoch + 1 < recipe.training.epochs) {
          await this.#checkpoint(problem, { stage: index, epoch: epoch + 1, step: 0 }, null);
        } else {
          this.#ensemble?.add(logits);
          this.#confusion = confusionMatrix(logits, this.#options.testImages.labels, this.#options.network.classes);
        }
      }
      this.#stageSeconds.push(before + seconds(start));
      const result = this.#layerResult(index, record!);
      this.#layers.push(result);
      await checkpoints.saveFinished(stage, {
        position: { stage: index + 1, epoch: 0, step: 0 },
        meter: null,
        seconds: this.#elapsed,
        stageSeconds: this.#stageSeconds,
      });
      onEvent({ type: 'layer', ...result });
    } finally {
      problem.dispose();
      releaseFreedMemory();
    }
  }

  async #trainEpoch(
    index: number,
    problem: AuxiliaryProblem,
    epoch: number,
    from: CheckpointState | null,
  ): Promise<TrainedEpoch> {
    const { recipe, trainImages, trainFeatures, device, onEvent } = this.#options;
    const { batchSize } = recipe.training;
    const { layer } = problem.stage;
    const stepsPerEpoch = Math.ceil(trainImages.count / batchSize);
    const meter = new EpochMeter({
      everySeconds: isCuda(device) ? CUDA_READ_SECONDS : 0,
      ...(from?.meter ? { state: from.meter } : {}),
    });
    const firstStep = from?.position.step ?? 0;
    const epochsDone = index * recipe.training.epochs + epoch;
    const start = performance.now();
    const imagesBefore = Math.min(firstStep * batchSize, trainImages.count);

    problem.beginEpoch(epoch, { inItsMiddle: firstStep > 0 });
    try {
      let step = firstStep;
      for await (const batch of trainFeatures.batches({ epoch, batchSize, firstStep })) {
        const { places } = batch;
        scope(() => {
          const { loss, correct, stepped } = this.#step(problem, batch);
          this.#checkLosses(meter.add(step, places.length, loss, correct), problem, epoch);
          if (!stepped) onEvent({ type: 'scale', layer, epoch, step, ...problem.scaler!.state });
        });
        step++;
        const done = Math.min(step * batchSize, trainImages.count);
        onEvent({
          type: 'step',
          layer,
          epoch,
          step,
          stepsPerEpoch,
          loss: meter.hasRead ? meter.loss : null,
          top1: meter.hasRead ? meter.top1 : null,
          imagesPerSecond: (done - imagesBefore) / seconds(start),
          stepsDone: epochsDone * stepsPerEpoch + step,
          stepsTotal: this.#options.stages.length * recipe.training.epochs * stepsPerEpoch,
        });
        await this.#options.breathe();
        await this.#pauseForCheckpoint(problem, { stage: index, epoch, step }, meter);
      }
      this.#checkLosses(meter.flush(), problem, epoch);
    } finally {
      meter.dispose();
    }
    problem.endEpoch();
    return {
      meter,
      steps: stepsPerEpoch,
      imagesPerSecond: (trainImages.count - imagesBefore) / seconds(start),
    };
  }

  #step(problem: AuxiliaryProblem, { places, tensors }: FeatureBatch): StepResult {
    try {
      return problem.step(places.length, tensors);
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
      const { device } = this.#options;
      throw explainOutOfMemory(problem, { count: places.length, give: tensors, device, error });
    }
  }

  #checkLosses(losses: readonly StepLoss[], problem: AuxiliaryProblem, epoch: number, part?: 'test'): void {
    const bad = losses.find(({ loss }) => !Number.isFinite(loss));
    if (bad === undefined) return;
    const { checkpoints } = this.#options;
    throw new NonFiniteLossError(
      { layer: problem.stage.layer, epoch, ...bad, learningRate: problem.optimizer.learningRate, part },
      checkpoints.exists ? checkpoints.directory : null,
    );
  }

  /** After a step: writes a checkpoint when it is time, and stops there when the run was told to stop. */
  async #pauseForCheckpoint(problem: AuxiliaryProblem, position: Position, meter: EpochMeter): Promise<void> {
    const { signal, checkpointSeconds, directory } = this.#options;
    const stopping = signal?.aborted === true;
    if (!stopping && seconds(this.#lastCheckpoint) < checkpointSeconds) return;
    this.#checkLosses(meter.flush(), problem, position.epoch);
    // Weights that the last step made infinite are no good checkpoint; the next loss tells of them.
    if (!problem.isFinite()) return;
    await this.#checkpoint(problem, position, meter);
    if (stopping) throw new TrainingInterrupted(directory.path);
  }

  async #checkpoint(problem: AuxiliaryProblem, position: Position, meter: EpochMeter | null): Promise<void> {
    const { optimizer, scaler } = problem;
    const { checkpoints, generator } = this.#options;
    await checkpoints.save(
      problem.stage,
      { optimizer, scaler, generator },
      {
        position,
        meter: meter === null ? null : { ...meter.state },
        seconds: this.#elapsed,
        stageSeconds: this.#stageSeconds,
      },
    );
    this.#lastCheckpoint = performance.now();
    this.#options.onEvent({
      type: 'checkpoint',
      layer: problem.stage.layer,
      epoch: position.epoch,
      step: position.step,
    });
  }

  /** The logits of the whole test set; `pause` is called between batches and may stop the run. */
  async #testLogits(problem: AuxiliaryProblem, pause: () => Promise<void>): Promise<Tensor> {
    const { testFeatures, recipe } = this.#options;
    const { batchSize } = recipe.evaluation;
    return this.#inMemory(problem.stage, 'evaluation', () =>
      collectOutputs(
        testFeatures.batches(batchSize),
        (features) => problem.predict(features()),
        async () => {
          await this.#options.breathe();
          await pause();
        },
      ),
    );
  }

  /** Runs what is no training step; where the memory is not enough, throws OutOfMemoryError that names the part. */
  async #inMemory<T>(stage: Stage, part: 'evaluation' | 'features', work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
      const { recipe, device } = this.#options;
      const { batchSize } = part === 'features' ? recipe.training : recipe.evaluation;
      const unknown = { peakBytes: null, fittingBatchSize: null };
      throw new OutOfMemoryError({ layer: stage.layer, device, batchSize, ...unknown, part }, error);
    }
  }

  #score(
    stage: Stage,
    epoch: number,
    problem: AuxiliaryProblem,
    trained: TrainedEpoch,
    logits: Tensor,
    epochStart: number,
  ): TestedEpoch {
    const test = scoreLogits(logits, this.#options.testImages);
    const ensemble =
      this.#ensemble === null
        ? null
        : scope(() => scoreRanking(this.#ensemble!.with(logits), this.#options.testImages));
    return {
      layer: stage.layer,
      epoch,
      lr: problem.optimizer.learningRate,
      trainLoss: trained.meter.loss,
      trainTop1: trained.meter.top1,
      testLoss: test.loss,
      testTop1: test.top1,
      testTop5: test.top5,
      ensembleTop1: ensemble?.top1 ?? null,
      ensembleTop5: ensemble?.top5 ?? null,
      seconds: seconds(epochStart),
      imagesPerSecond: trained.imagesPerSecond,
    };
  }

  /** What is reported of a layer: its last epoch, not its best. */
  #layerResult(index: number, record: EpochRecord): LayerResult {
    const stage = this.#options.stages[index]!;
    const { epoch: _, lr: __, imagesPerSecond: ___, ...figures } = record;
    return {
      ...figures,
      seconds: this.#stageSeconds[index] ?? null,
      parameters: parametersOf(stage),
    };
  }
}
