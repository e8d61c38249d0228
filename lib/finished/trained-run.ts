import {
  applyTransforms,
  type Dataset,
  type DatasetName,
  type DatasetPart,
  datasetOf,
  type LoadDatasetOptions,
  noDraws,
  openImages,
  type Transform,
} from '../data/index.js';
import {
  type Accuracy,
  confusionMatrix,
  LayerEnsemble,
  predictAll,
  scoreLogits,
  scoreRanking,
} from '../evaluation/index.js';
import { disposeNetwork, type Network, type NetworkBuilder } from '../models/index.js';
import { FrozenBlocks } from '../nn/index.js';
import { requireOptions } from '../options.js';
import {
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
  loadNetwork,
  loadRunData,
  type RunConfig,
  RunDirectory,
  RunDirectoryError,
  recordedNetwork,
  recordedRecipe,
} from '../run/index.js';
import { type Device, inferenceMode, keep, scope, type Tensor } from '../tensor/index.js';

/** What a head, or the ensemble, makes of labelled images: loss, accuracies in percent, confusions. */
export interface RunEvaluation extends Accuracy {
  /** Mean cross entropy; an ensemble has none. */
  readonly loss: number | null;
  /** How often each class was taken for each: a row a true class, a column a predicted one. */
  readonly confusion: number[][];
}

/** A layer by its index from 0, or the ensemble of all layers. */
export type LayerSelection = number | 'ensemble';

/** A finished run, loaded for use. Dispose it, or declare it with `using`. */
export class TrainedRun {
  readonly #frozen: FrozenBlocks;
  readonly #readOuts = new Map<number, FrozenBlocks>();

  private constructor(
    readonly runDirectory: string,
    readonly config: RunConfig,
    readonly recipe: Recipe,
    readonly network: Network,
    readonly device: Device,
    readonly precision: Precision,
    readonly classes: readonly string[],
    readonly normalization: Dataset['normalization'],
    readonly transforms: readonly Transform[],
  ) {
    this.#frozen = new FrozenBlocks(network.blocks, frozenDtype(precision));
  }

  /**
   * Device and precision default to those that the run was trained with; where its GPU is not there, to the device that there
   * is. Throws RunDirectoryError or SafetensorsError for a directory that is not a whole, finished run, and RecipeError for a
   * device or a precision that this machine does not have.
   */
  static async open(
    path: string,
    options: {
      device?: Recipe['device'] | undefined;
      precision?: Recipe['precision'] | undefined;
      /** The builder that the run was trained with, where its network is one's own. */
      network?: NetworkBuilder | undefined;
    } = {},
  ): Promise<TrainedRun> {
    requireOptions(options, 'options', (problem) => new RecipeError(`TrainedRun.open: ${problem}`), [
      'device',
      'precision',
      'network',
    ]);
    const directory = RunDirectory.open(path);
    const config = await directory.readConfig();
    const { classes, normalization } = config;
    if (classes === undefined || normalization === undefined) {
      throw new RunDirectoryError(`${path}/config.json: expected classes and normalization, but they are not there`);
    }
    const recipe = recordedRecipe(directory, config);
    const device = options.device === undefined ? deviceOfRecord(config.device) : resolveDevice(options.device);
    const precision = resolvePrecision(options.precision ?? config.precision, device);
    const network = recordedNetwork(directory, recipe, classes.length, device, options.network);
    for (const module of [...network.blocks, ...network.heads]) module.eval();
    const run = new TrainedRun(
      path,
      config,
      recipe,
      network,
      device,
      precision,
      classes,
      normalization,
      buildTransforms(recipe, normalization).testTransforms,
    );
    try {
      await loadNetwork(network, {
        model: directory.model,
        auxiliaryHeads: run.hasAuxiliaryHeads ? directory.auxiliaryHeads : null,
      });
    } catch (error) {
      run.dispose();
      throw error;
    }
    return run;
  }

  /** Whether each layer has a trained head of its own: not so when the network was trained end to end. */
  get hasAuxiliaryHeads(): boolean {
    return this.recipe.training.schedule === 'layerwise';
  }

  get layers(): number {
    return this.network.blocks.length;
  }

  /** The logits [batch, classes], float32, of uint8 images [batch, channels, height, width] after a layer. Call it in a scope. */
  logits(images: Tensor, layer = this.layers - 1): Tensor {
    return inferenceMode(() => {
      const inputs = applyTransforms(this.transforms, images, noDraws);
      // As in training: the layers below first, then this one with its head.
      const below = this.#frozen.forward(inputs, layer);
      return inPrecision(this.precision, this.device, () => this.#readOut(layer).forward(below)).to({
        dtype: 'float32',
      });
    });
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

  /**
   * The features of a layer, averaged to 2x2: float32 [batch, 4 * channels] of uint8 images [batch, channels, height, width].
   * Call it in a scope.
   */
  features(images: Tensor, layer = this.layers - 1): Tensor {
    return inferenceMode(() => {
      const inputs = applyTransforms(this.transforms, images, noDraws);
      const features = this.#frozen.forward(inputs, layer + 1);
      return features.to({ dtype: 'float32' }).adaptiveAvgPool2d(2).flatten({ startDim: 1 });
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
    const isOwn = overrides.name === undefined || overrides.name === own.name;
    const dataset = await loadRunData(this.runDirectory, own.dataDir, {
      ...datasetOptions(isOwn ? own : forDataset(overrides.name!, own)),
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
    this.#check(selection);
    const { batchSize, ensemble: scores } = this.recipe.evaluation;
    const images = openImages(source, { device: this.device });
    const ensemble = new LayerEnsemble(scores);
    const confusionOf = (scores: Tensor) => confusionMatrix(scores, images.labels, this.classes.length);
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

  #check(selection: LayerSelection): void {
    const isLast = selection === this.layers - 1;
    if (!this.hasAuxiliaryHeads && !isLast) {
      throw new RunDirectoryError('this network was trained end to end: only its last layer has a head');
    }
    if (selection !== 'ensemble') this.checkLayer(selection);
  }

  /** Throws RunDirectoryError for a layer, from 0, that is not there. */
  checkLayer(layer: number): void {
    if (!(Number.isInteger(layer) && layer >= 0 && layer < this.layers)) {
      throw new RunDirectoryError(`expected a layer from 1 to ${this.layers}, got ${layer + 1}`);
    }
  }

  dispose(): void {
    this.#frozen.dispose();
    for (const readOut of this.#readOuts.values()) readOut.dispose();
    disposeNetwork(this.network);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** What a run says of its own data, for another data set: of that only the sizes of the images are the run's. */
function forDataset(name: DatasetName, own: Recipe['dataset']): Recipe['dataset'] {
  const scaled = datasetOf(name).hasImageFiles ? {} : { testResize: null, maxPixels: null };
  return { ...own, ...{ dataDir: null, trainLimit: null, testLimit: null, onBadImage: 'fail' }, ...scaled };
}
