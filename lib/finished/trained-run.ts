import {
  applyTransforms,
  type Dataset,
  type DatasetName,
  type DatasetPart,
  datasetOf,
  type LoadDatasetOptions,
  noDraws,
  openImages,
  shapeOfPart,
  sizeOf,
  type Transform,
} from '../data/index.js';
import {
  type Accuracy,
  LayerEnsemble,
  predictAll,
  recordedConfusions,
  scoreLogits,
  scoreRanking,
} from '../evaluation/index.js';
import {
  disposeNetwork,
  type LayerMultiplyAdds,
  multiplyAddsOf,
  type Network,
  trainsAllHeads,
} from '../models/index.js';
import { FrozenBlocks } from '../nn/index.js';
import { requireOptions } from '../options.js';
import {
  buildNetwork,
  buildTransforms,
  deviceOfRecord,
  frozenDtype,
  inPrecision,
  type Precision,
  type Recipe,
  RecipeError,
  resolveDevice,
  resolvePrecision,
} from '../recipe/index.js';
import {
  datasetOptions,
  describeClasses,
  describeTestChanges,
  type EarlyExitRecord,
  findNetwork,
  type LoadedCode,
  loadCodeOfRun,
  loadOwn,
  loadRunData,
  OWN_CODE,
  type OwnCode,
  type RunConfig,
  RunDirectoryError,
  recordedNetwork,
  recordedRecipe,
  TemporaryFolder,
} from '../run/index.js';
import {
  canRehearse,
  type Device,
  inferenceMode,
  keep,
  noGrad,
  onDevice,
  scope,
  type Tensor,
} from '../tensor/index.js';
import { Climb } from './climb.js';
import { imageShapeOf } from './image-shape.js';

/** Loss, accuracies in percent and confusions of a head, or of the ensemble, on labelled images. */
export interface RunEvaluation extends Accuracy {
  /** Mean cross entropy; an ensemble has none. */
  readonly loss: number | null;
  /** How often each class was taken for each: a row a true class, a column a predicted one; null with more than 2,048 classes. */
  readonly confusion: number[][] | null;
}

/** A layer by its index from 0, or the ensemble of all layers. */
export type LayerSelection = number | 'ensemble';

/** How a finished run is opened. Where its network is one's own, `network` or `module` is needed. */
export interface OpenOptions extends OwnCode {
  readonly device?: Recipe['device'] | undefined;
  readonly precision?: Recipe['precision'] | undefined;
}

/** A finished run, loaded for use. Dispose it, or declare it with `using`. */
export class TrainedRun {
  readonly #frozen: FrozenBlocks;
  readonly #readOuts = new Map<number, FrozenBlocks>();
  readonly #heads = new Map<number, FrozenBlocks>();
  readonly #code: Pick<LoadedCode, 'network' | 'data'>;
  /** Of data of one's own that are kept in files; made with the first of them. */
  #folder: TemporaryFolder | null = null;

  private constructor(
    /** Or the exported file. */
    readonly runDirectory: string,
    readonly config: RunConfig,
    readonly recipe: Recipe,
    readonly network: Network,
    /**
     * Whether each layer has a trained head of its own: not so when the network was trained end to end, or exported without its
     * auxiliary heads.
     */
    readonly hasAuxiliaryHeads: boolean,
    readonly device: Device,
    readonly precision: Precision,
    readonly classes: readonly string[],
    readonly normalization: Dataset['normalization'],
    readonly transforms: readonly Transform[],
    /** What early exit comes to, where it was evaluated. */
    readonly earlyExit: EarlyExitRecord | null,
    /** Notes to show with all results, such as that a module has changed. */
    readonly notes: readonly string[],
    code: Pick<LoadedCode, 'network' | 'data'>,
  ) {
    this.#code = code;
    this.#frozen = new FrozenBlocks(network.blocks, frozenDtype(precision));
  }

  /**
   * Opens a run directory, or a file of `layerwise export`. Device and precision default to those that the run was trained with;
   * where its GPU is not there, to the device that there is. A module that the run names is not run: give it. Throws
   * RunDirectoryError or SafetensorsError for a directory that is not a whole, finished run and for a file that is no such export,
   * RecipeError for a device or a precision that this machine does not have, and ModuleFileError.
   */
  static async open(path: string, options: OpenOptions = {}): Promise<TrainedRun> {
    requireOptions(options, 'options', (problem) => new RecipeError(`TrainedRun.open: ${problem}`), [
      ...['device', 'precision'],
      ...OWN_CODE,
    ]);
    const found = await findNetwork(path);
    const { config, configFile } = found;
    const { classes, normalization } = config;
    if (classes === undefined || normalization === undefined) {
      throw new RunDirectoryError(`${configFile}: expected classes and normalization, but they are not there`);
    }
    const recipe = recordedRecipe(configFile, config);
    const device = options.device === undefined ? deviceOfRecord(config.device) : resolveDevice(options.device);
    const precision = resolvePrecision(options.precision ?? config.precision, device);
    const { network: builder, data, changes } = await loadCodeOfRun(path, config, options, ['network']);
    const network = recordedNetwork(configFile, recipe, classes.length, device, builder);
    for (const module of [...network.blocks, ...network.heads]) module.eval();
    const run = new TrainedRun(
      path,
      config,
      recipe,
      network,
      found.holdsAuxiliaryHeads(network),
      device,
      precision,
      classes,
      normalization,
      buildTransforms(recipe, normalization).testTransforms,
      found.earlyExit,
      changes,
      { network: builder, data },
    );
    try {
      await found.load(network);
    } catch (error) {
      run.dispose();
      throw error;
    }
    return run;
  }

  get layers(): number {
    return this.network.blocks.length;
  }

  /**
   * The logits [batch, classes], float32, of uint8 images [batch, channels, height, width], or of vectors [batch, length], after a
   * layer. Call it in a scope. Throws RunDirectoryError for a layer, from 0, that is not there or has no trained head.
   */
  logits(images: Tensor, layer = this.layers - 1): Tensor {
    this.checkSelection(layer);
    return forTraining(() => {
      const inputs = applyTransforms(this.transforms, images, noDraws);
      // As in training: the layers below first, then this one with its head.
      const below = this.#frozen.forward(inputs, layer);
      return inPrecision(this.precision, this.device, () => this.#readOut(layer).forward(below)).to({
        dtype: 'float32',
      });
    });
  }

  /** Images, or vectors, as `logits` takes them, at the beginning of their way up the network. Call it in a scope, in which it is used. */
  climb(images: Tensor): Climb {
    const inputs = inferenceMode(() => applyTransforms(this.transforms, images, noDraws));
    return new Climb(inputs, {
      blocks: this.#frozen,
      read: (features, layer) => this.#read(features, layer),
      checkLayer: (layer) => this.checkSelection(layer),
    });
  }

  /** The logits of a layer's head, float32. */
  #read(features: Tensor, layer: number): Tensor {
    let head = this.#heads.get(layer);
    if (head === undefined) {
      head = new FrozenBlocks([this.network.heads[layer]!], frozenDtype(this.precision));
      this.#heads.set(layer, head);
    }
    return inPrecision(this.precision, this.device, () => head.forward(features)).to({ dtype: 'float32' });
  }

  /** A layer and its head. */
  #readOut(layer: number): FrozenBlocks {
    let readOut = this.#readOuts.get(layer);
    if (readOut === undefined) {
      const { blocks, heads } = this.network;
      readOut = new FrozenBlocks([blocks[layer]!, heads[layer]!], frozenDtype(this.precision));
      this.#readOuts.set(layer, readOut);
    }
    return readOut;
  }

  /** Multiply-adds of an image in each layer; null where LibTorch is older than 2.4, which cannot count them. */
  multiplyAdds(): readonly LayerMultiplyAdds[] | null {
    if (!canRehearse()) return null;
    const build = (): Network => buildNetwork(this.recipe, this.classes.length, 'meta', this.#code.network);
    const network = onDevice('meta', build);
    try {
      return multiplyAddsOf(network);
    } finally {
      disposeNetwork(network);
    }
  }

  /**
   * The features of a layer for images or vectors, as `logits` takes them: maps averaged to 2x2, float32
   * [batch, 4 * channels], and others as they are, [batch, features]. Call it in a scope. Throws RunDirectoryError for a layer, from 0,
   * that is not there.
   */
  features(images: Tensor, layer = this.layers - 1): Tensor {
    this.checkLayer(layer);
    return forTraining(() => {
      const inputs = applyTransforms(this.transforms, images, noDraws);
      const features = this.#frozen.forward(inputs, layer + 1).to({ dtype: 'float32' });
      return (features.dim === 4 ? features.adaptiveAvgPool2d(2) : features).flatten({ startDim: 1 });
    });
  }

  /**
   * The data set that the run was trained on, or another of the same classes; of other ones where `anyClasses` is true.
   * With `testOnly` the training images are not read, and may be missing. Throws DataError, also for overrides that the data
   * set does not have, and RunDirectoryError.
   */
  async loadDataset(
    overrides: Partial<LoadDatasetOptions> = {},
    { anyClasses = false }: { anyClasses?: boolean } = {},
  ): Promise<Dataset> {
    const own = this.recipe.dataset;
    const isSame = overrides.name === undefined || overrides.name === own.name;
    const dataset =
      isSame && own.name === 'own'
        ? await this.#loadOwn(overrides)
        : await loadRunData(this.runDirectory, own.dataDir, {
            ...datasetOptions(isSame ? own : this.#forDataset(overrides.name!), this.normalization),
            ...overrides,
          });
    const changes = anyClasses ? null : describeClasses(this, dataset);
    if (changes !== null) {
      throw new RunDirectoryError(
        `${this.runDirectory}: the run's ${this.classes.length} classes are not the ${dataset.classes.length} of the data ` +
          `set ${dataset.name}: ${changes}`,
      );
    }
    return dataset;
  }

  /** The run's data options for another data set: only the size and channels of images stay those of the run. */
  #forDataset(name: DatasetName): Recipe['dataset'] {
    const { dataset } = this.recipe;
    const { channels, height, width } = imageShapeOf(this);
    const scaled = datasetOf(name).hasImageFiles ? {} : { testResize: null, maxPixels: null };
    return {
      ...{ ...dataset, name, dataDir: null, trainLimit: null, testLimit: null, onBadImage: 'fail' },
      ...{ imageSize: sizeOf(height, width), channels },
      ...scaled,
    };
  }

  /** Data of one's own, as given when the run was opened. */
  async #loadOwn({ name: _, ...overrides }: Partial<LoadDatasetOptions>): Promise<Dataset> {
    const { trainLimit, testLimit, testOnly, signal, ...others } = overrides;
    const other = Object.entries(others).find(([, value]) => value !== undefined);
    if (other !== undefined) {
      throw new RecipeError(`dataset.${other[0]}: expected none for data of one's own, got ${String(other[1])}`);
    }
    const { data } = this.#code;
    if (data === undefined) {
      await loadCodeOfRun(this.runDirectory, this.config, {}, ['data']);
      throw new RunDirectoryError(
        `${this.runDirectory}: its images were given in code: open it with them (data), or name another data set`,
      );
    }
    const { dataset } = this.recipe;
    const limits = { trainLimit: trainLimit ?? dataset.trainLimit, testLimit: testLimit ?? dataset.testLimit };
    this.#folder ??= new TemporaryFolder();
    const { normalization, device } = this;
    return loadOwn(
      { ...dataset, ...limits },
      { data, device, folder: this.#folder.newPath(), normalization, testOnly: testOnly ?? false },
      { signal },
    );
  }

  /**
   * How the test images differ from those that the run was trained with, for people; null where they do not, where that was
   * not recorded, and for another data set.
   */
  async testChanges(dataset: Dataset): Promise<string | null> {
    if (dataset.name !== this.recipe.dataset.name) return null;
    return describeClasses(this, dataset) ?? (await describeTestChanges(this.config, dataset));
  }

  /** Loss, top-1, top-5 and confusions of a layer's head, or of the ensemble (which has no loss), on labelled images. */
  async evaluate(source: DatasetPart, selection: LayerSelection): Promise<RunEvaluation> {
    this.checkSelection(selection);
    this.requireShape(source);
    const { batchSize, ensemble: scores } = this.recipe.evaluation;
    const images = openImages(source, { device: this.device });
    const ensemble = new LayerEnsemble(scores);
    const confusionOf = (scores: Tensor) => recordedConfusions(scores, images.labels, this.classes.length);
    const logitsOf = (layer: number) => predictAll(images, (batch) => this.logits(batch, layer), { batchSize });
    try {
      if (selection !== 'ensemble') {
        using logits = await logitsOf(selection);
        return { ...scoreLogits(logits, images), confusion: confusionOf(logits) };
      }
      for (let layer = 0; layer < this.layers - 1; layer++) {
        using logits = await logitsOf(layer);
        ensemble.add(logits);
      }
      using last = await logitsOf(this.layers - 1);
      using averaged = scope(() => keep(ensemble.with(last)));
      return { loss: null, ...scoreRanking(averaged, images), confusion: confusionOf(averaged) };
    } finally {
      ensemble.dispose();
      images.dispose();
    }
  }

  /** Throws RunDirectoryError for a layer, from 0, that is not there or has no head, and for the ensemble of such. */
  checkSelection(selection: LayerSelection): void {
    if (selection !== this.layers - 1) this.requireAuxiliaryHeads();
    if (selection !== 'ensemble') this.checkLayer(selection);
  }

  /** Throws RunDirectoryError where only the last layer has a head. */
  requireAuxiliaryHeads(): void {
    if (this.hasAuxiliaryHeads) return;
    throw new RunDirectoryError(
      trainsAllHeads(this.recipe.training.schedule)
        ? `${this.runDirectory}: exported without auxiliary heads, only its last layer has a head: export it with --auxiliary-heads`
        : 'this network was trained end to end: only its last layer has a head',
    );
  }

  /** Throws RunDirectoryError for images, or vectors, of another shape than the run's. */
  requireShape(part: DatasetPart): void {
    const [expected, got] = [this.network.inputShape, shapeOfPart(part)].map((shape) => shape.join(' x '));
    if (expected === got) return;
    throw new RunDirectoryError(
      `${this.runDirectory}: expected images of ${expected}, as the run was trained on, got ${got}`,
    );
  }

  /** Throws RunDirectoryError for a layer, from 0, that is not there. */
  checkLayer(layer: number): void {
    if (!(Number.isInteger(layer) && layer >= 0 && layer < this.layers)) {
      throw new RunDirectoryError(`expected a layer from 1 to ${this.layers}, got ${layer + 1}`);
    }
  }

  /** Frees the network. */
  dispose(): void {
    this.#frozen.dispose();
    for (const ready of [...this.#readOuts.values(), ...this.#heads.values()]) ready.dispose();
    disposeNetwork(this.network);
    this.#folder?.[Symbol.dispose]();
    this.#folder = null;
  }

  /** As `dispose`, at the end of a `using` declaration. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A result of inference mode as a tensor that others may train on. */
const forTraining = (work: () => Tensor): Tensor => {
  const found = inferenceMode(work);
  return noGrad(() => found.clone());
};
