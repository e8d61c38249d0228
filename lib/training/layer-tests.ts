import { type ImageSource, stoppingWhileWaiting } from '../data/index.js';
import { collectOutputs, LayerEnsemble, recordedConfusions, scoreLogits, scoreRanking } from '../evaluation/index.js';
import type { TestFeatures } from '../features/index.js';
import { type Stage, trainsAllHeads } from '../models/index.js';
import type { Recipe } from '../recipe/index.js';
import { keep, scope, type Tensor } from '../tensor/index.js';
import { AuxiliaryProblem, type ProblemContext } from './auxiliary-problem.js';
import type { TestedEpoch } from './events.js';
import { explainingMemory } from './out-of-memory.js';
import type { Peers } from './peers.js';

/** Called between batches; may stop the run by throwing. */
type Pause = () => Promise<void>;

/** What a test of a layer gives. */
type TestScores = Pick<TestedEpoch, 'testLoss' | 'testTop1' | 'testTop5' | 'ensembleTop1' | 'ensembleTop5'>;

/** Tests the layers of a run on the test images: each epoch's figures, the ensemble over layers, the last confusions. */
export class LayerTests {
  readonly #images: ImageSource;
  readonly #features: TestFeatures;
  readonly #context: ProblemContext;
  readonly #classes: number;
  readonly #peers: Peers;
  readonly #signal: AbortSignal | undefined;
  /** None where all layers are trained as one network. */
  readonly #ensemble: LayerEnsemble | null;
  #confusion: number[][] | null = null;

  constructor(options: {
    readonly images: ImageSource;
    readonly features: TestFeatures;
    readonly context: ProblemContext;
    readonly classes: number;
    /** Each process tests some of the images; all get the outputs of all. */
    readonly peers: Peers;
    /** Where it is aborted, a pause stops the run. */
    readonly signal: AbortSignal | undefined;
  }) {
    this.#images = options.images;
    this.#features = options.features;
    this.#context = options.context;
    this.#classes = options.classes;
    this.#peers = options.peers;
    this.#signal = options.signal;
    const { training, evaluation } = this.#recipe;
    this.#ensemble = trainsAllHeads(training.schedule) ? new LayerEnsemble(evaluation.ensemble) : null;
  }

  /** Prepares the stage's features of the test images. */
  begin(stage: Stage, pause: Pause): Promise<void> {
    return this.#inMemory(stage, () => this.#features.begin(stage, pause));
  }

  /** The logits [images, classes] of all test images, of each problem of the stage. They belong to the caller. */
  async logits(problem: AuxiliaryProblem, pause: Pause): Promise<Tensor[]> {
    const logits = await this.#inMemory(problem.stage, () => this.#collect(problem, pause));
    const { local } = problem.stage;
    if (local === undefined) return [logits];
    try {
      return scope(() => local.map((_, i) => keep(logits.select(1, i).contiguous())));
    } finally {
      logits.dispose();
    }
  }

  /** The logits of all test images, each process's share of the batches computed by it: the bits of one process. */
  async #collect(problem: AuxiliaryProblem, pause: Pause): Promise<Tensor> {
    const { batchSize } = this.#recipe.evaluation;
    const { count } = this.#images;
    const sharesOf = (batches: number) =>
      Array.from({ length: this.#peers.size }, (_, rank) => this.#peers.shareOf(batches, rank));
    const shares = sharesOf(Math.ceil(count / batchSize));
    const before = (batches: number): number => Math.min(count, batches * batchSize);
    const rows = shares.map(({ start, length }) => before(start + length) - before(start));
    const batches = this.#features.batches(batchSize, shares[this.#peers.rank]);
    const own = await collectOutputs(
      stoppingWhileWaiting(batches, this.#signal, pause),
      (features) => problem.predict(features()),
      { breathe: pause, none: { rowShape: this.#rowShape(problem), device: this.#context.device } },
    );
    return this.#peers.gatherRows(own, rows);
  }

  /** Of the logits of one image. */
  #rowShape({ stage: { local } }: AuxiliaryProblem): number[] {
    return local === undefined ? [this.#classes] : [local.length, this.#classes];
  }

  /**
   * Loss and accuracies of each layer, and accuracies of its ensemble with those before it: with the layers that were kept, or with
   * those that are tested with it.
   */
  score(tested: readonly Tensor[]): TestScores[] {
    if (tested.length === 1) return [this.#scoreOf(tested[0]!, this.#ensemble)];
    const ensemble = new LayerEnsemble(this.#recipe.evaluation.ensemble);
    try {
      return tested.map((logits) => {
        const scores = this.#scoreOf(logits, ensemble);
        ensemble.add(logits);
        return scores;
      });
    } finally {
      ensemble.dispose();
    }
  }

  #scoreOf(logits: Tensor, before: LayerEnsemble | null): TestScores {
    const own = scoreLogits(logits, this.#images);
    const ensemble = before === null ? null : scope(() => scoreRanking(before.with(logits), this.#images));
    return {
      testLoss: own.loss,
      testTop1: own.top1,
      testTop5: own.top5,
      ensembleTop1: ensemble?.top1 ?? null,
      ensembleTop5: ensemble?.top5 ?? null,
    };
  }

  /** Adds finished layers to the ensemble. The confusions of the last become those of the run. */
  keep(tested: readonly Tensor[]): void {
    for (const logits of tested) this.#ensemble?.add(logits);
    this.#confusion = recordedConfusions(tested.at(-1)!, this.#images.labels, this.#classes);
  }

  /**
   * Computes the outputs of what was trained before again and keeps them as they were then: they are written nowhere. Those of a
   * network that was trained as one are needed where it has ended alone.
   */
  async keepAgain(stage: Stage, pause: Pause, { isLast }: { isLast: boolean }): Promise<void> {
    if (this.#ensemble === null && !isLast) return;
    const problem = new AuxiliaryProblem(stage, this.#context);
    problem.endEpoch();
    try {
      await this.begin(stage, pause);
      const tested = await this.logits(problem, pause);
      try {
        this.keep(tested);
      } finally {
        for (const logits of tested) logits.dispose();
      }
    } finally {
      problem.dispose();
    }
  }

  /** Of the layer that was kept last; null where none was. */
  get confusion(): number[][] | null {
    return this.#confusion;
  }

  dispose(): void {
    this.#ensemble?.dispose();
  }

  get #recipe(): Recipe {
    return this.#context.recipe;
  }

  #inMemory<T>(stage: Stage, work: () => Promise<T>): Promise<T> {
    const { batchSize } = this.#recipe.evaluation;
    return explainingMemory({ layer: stage.layer, device: this.#context.device, batchSize, part: 'evaluation' }, work);
  }
}
