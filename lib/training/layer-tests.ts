import { type ImageSource, stoppingWhileWaiting } from '../data/index.js';
import { collectOutputs, confusionMatrix, LayerEnsemble, scoreLogits, scoreRanking } from '../evaluation/index.js';
import type { TestFeatures } from '../features/index.js';
import type { Stage } from '../models/index.js';
import type { Recipe } from '../recipe/index.js';
import { scope, type Tensor } from '../tensor/index.js';
import { AuxiliaryProblem, type ProblemContext } from './auxiliary-problem.js';
import type { TestedEpoch } from './events.js';
import { explainingMemory } from './out-of-memory.js';

/** Called between batches; may stop the run by throwing. */
type Pause = () => Promise<void>;

/** Tests the layers of a run on the test images: each epoch's figures, the ensemble over layers, the last confusions. */
export class LayerTests {
  readonly #images: ImageSource;
  readonly #features: TestFeatures;
  readonly #context: ProblemContext;
  readonly #classes: number;
  readonly #signal: AbortSignal | undefined;
  /** None where all layers are trained as one network. */
  readonly #ensemble: LayerEnsemble | null;
  #confusion: number[][] | null = null;

  constructor(options: {
    readonly images: ImageSource;
    readonly features: TestFeatures;
    readonly context: ProblemContext;
    readonly classes: number;
    /** Where it is aborted, a pause stops the run. */
    readonly signal: AbortSignal | undefined;
  }) {
    this.#images = options.images;
    this.#features = options.features;
    this.#context = options.context;
    this.#classes = options.classes;
    this.#signal = options.signal;
    const { training, evaluation } = this.#recipe;
    this.#ensemble = training.schedule === 'layerwise' ? new LayerEnsemble(evaluation.ensemble) : null;
  }

  /** Prepares the stage's features of the test images. */
  begin(stage: Stage, pause: Pause): Promise<void> {
    return this.#inMemory(stage, () => this.#features.begin(stage, pause));
  }

  /** The logits [images, classes] of all test images. They belong to the caller. */
  logits(problem: AuxiliaryProblem, pause: Pause): Promise<Tensor> {
    const batches = this.#features.batches(this.#recipe.evaluation.batchSize);
    return this.#inMemory(problem.stage, () =>
      collectOutputs(
        stoppingWhileWaiting(batches, this.#signal, pause),
        (features) => problem.predict(features()),
        pause,
      ),
    );
  }

  /** Loss and accuracies of a layer, and accuracies of its ensemble with the layers that were kept. */
  score(logits: Tensor): Pick<TestedEpoch, 'testLoss' | 'testTop1' | 'testTop5' | 'ensembleTop1' | 'ensembleTop5'> {
    const own = scoreLogits(logits, this.#images);
    const ensemble =
      this.#ensemble === null ? null : scope(() => scoreRanking(this.#ensemble!.with(logits), this.#images));
    return {
      testLoss: own.loss,
      testTop1: own.top1,
      testTop5: own.top5,
      ensembleTop1: ensemble?.top1 ?? null,
      ensembleTop5: ensemble?.top5 ?? null,
    };
  }

  /** Adds a finished layer to the ensemble. Its confusions become those of the run. */
  keep(logits: Tensor): void {
    this.#ensemble?.add(logits);
    this.#confusion = confusionMatrix(logits, this.#images.labels, this.#classes);
  }

  /** Computes the outputs of a layer that was trained before again and adds them to the ensemble: they are kept nowhere. */
  async addAgain(stage: Stage, pause: Pause): Promise<void> {
    if (this.#ensemble === null) return;
    const problem = new AuxiliaryProblem(stage, this.#context);
    problem.endEpoch();
    try {
      await this.begin(stage, pause);
      using logits = await this.logits(problem, pause);
      this.#ensemble.add(logits);
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
