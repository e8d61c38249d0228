// The record of a run, as it lies in a run directory: config.json, metrics.jsonl and result.json.
import type { DataIdentity } from '../data/index.js';

/** `config.json`: what was asked for, and of which machine and versions. */
export interface RunConfig {
  package: 'layerwise';
  formatVersion: 1;
  preset: string;
  /** The resolved recipe. The report prints all of it, and uses the names below where they are there. */
  recipe: RecordedRecipe;
  /** The data set's classes, by label. */
  classes?: string[];
  /** Mean and standard deviation of each channel, of values 0 to 1, that images were normalised with. */
  normalization?: { mean: readonly number[]; std: readonly number[] };
  /** The modules that network and data of one's own came from. */
  modules?: { network?: ModuleRecord; data?: ModuleRecord };
  /** Which images the run is made of; runs of older versions and imported ones lack it. */
  data?: DataIdentity;
  seed: number;
  /** Device and precision that `auto` stands for where the run was made: cpu or cuda:N; fp32, bf16 or fp16. */
  device: string;
  deviceName?: string | null;
  precision: 'fp32' | 'bf16' | 'fp16';
  /** Of each process. */
  threads?: number | null;
  /** That trained it together, the last time; left out: one. */
  processes?: number;
  /** Of this package, LibTorch and Node; `jpeg` is what decoded JPEG files, where there may be some, and where it was from. */
  versions: Record<string, string>;
  /** ISO 8601. */
  startedAt: string;
  /**
   * The finished run whose first layers were taken instead of being trained, how many, and whether the last head was taken or is
   * new.
   */
  startedFrom?: { runDirectory: string; layers: number; head: 'new' | 'taken' };
  /** Notes on what happened to the run while it was interrupted, shown with its results. */
  notes?: readonly string[];
}

/** A JavaScript file, and SHA-256 of its text in hexadecimal; what it imports is not in it. */
export interface ModuleRecord {
  readonly path: string;
  readonly sha256: string;
}

/**
 * A recipe as a run recorded it, whatever its version: only its shape as JSON is checked. `recipeOfRun` gives it checked.
 */
export interface RecordedRecipe {
  model?: RecordedValue;
  dataset?: RecordedValue;
  training?: RecordedValue;
  [name: string]: RecordedValue | undefined;
}

/** A value of JSON. */
export type RecordedValue = string | number | boolean | null | RecordedValue[] | { [name: string]: RecordedValue };

/**
 * The figures of an epoch, or of a layer after its last epoch. Accuracies are percentages; null is a figure that was not taken or
 * not finite.
 */
export interface Figures {
  /** Mean over the epoch's augmented images, as they were trained on. */
  readonly trainLoss: number | null;
  readonly trainTop1: number | null;
  readonly testLoss: number | null;
  readonly testTop1: number | null;
  readonly testTop5: number | null;
  /** Of the layers up to this one; null when the network is trained end to end. */
  readonly ensembleTop1: number | null;
  readonly ensembleTop5: number | null;
}

/** One line of `metrics.jsonl`. */
export interface EpochRecord extends Figures {
  /** From 0. */
  readonly layer: number;
  /** From 0, in each layer anew. */
  readonly epoch: number;
  readonly learningRate: number;
  /** Of the whole epoch, its evaluation included. */
  readonly seconds: number;
  /** Of training alone. */
  readonly imagesPerSecond: number | null;
}

/** A finished layer in `result.json`: the figures of its last epoch. */
export interface LayerResult extends Figures {
  /** From 0. */
  readonly layer: number;
  readonly seconds: number | null;
  /** Trained values of the layer and of its head. */
  readonly parameters: { readonly block: number; readonly head: number } | null;
}

/** The figures of a layer for which none were taken. */
export const NO_FIGURES: Figures = {
  trainLoss: null,
  trainTop1: null,
  testLoss: null,
  testTop1: null,
  testTop5: null,
  ensembleTop1: null,
  ensembleTop5: null,
};

/** `result.json`, which a run writes when it has finished. An end-to-end run has one entry in `layers`. */
export interface RunResult {
  layers: LayerResult[];
  seconds: number;
  notes?: string[];
  /** Of the last layer's head on the test images, counts [classes][classes]: a row a true class, a column a predicted one. */
  confusion?: number[][];
}

/** What answering images takes, and how well it does. */
export interface EarlyExitFigures {
  /** Percentage. */
  readonly top1: number;
  /** Mean of an image; null where LibTorch is too old to count them. */
  readonly multiplyAdds: number | null;
  /** Mean of an image, measured in batches. */
  readonly milliseconds: number;
}

/** What early exit at one threshold comes to. */
export interface EarlyExitPoint extends EarlyExitFigures {
  readonly threshold: number;
  /** Mean number of layers that an image went through. */
  readonly meanLayers: number;
  /** Images that left at each of the record's `layers`. */
  readonly exits: readonly number[];
}

/** `early-exit.json`, which `evaluate --early-exit` writes: what it comes to that images leave at the first layer which is sure enough. */
export interface EarlyExitRecord {
  /** Those that images may leave at, from 0, rising; the last of the network is the last of them. */
  readonly layers: readonly number[];
  /** An image leaves at the first of them whose head's largest softmax probability is above it. */
  readonly threshold: number;
  /**
   * What layers and threshold were chosen on, and top-1 there: training images that the run was not trained on, or, where there are
   * none, every other test image.
   */
  readonly chosenOn: {
    readonly part: 'train' | 'test';
    readonly images: number;
    readonly top1: number;
    readonly wholeTop1: number;
  };
  /** Points of top-1 that they might lose there. */
  readonly tolerance: number;
  /** Test images that all that follows is of; where they were chosen on test images, the others. */
  readonly images: number;
  /** Of all layers and the last head. */
  readonly whole: EarlyExitFigures;
  /** By rising threshold; `threshold` is one of them. */
  readonly points: readonly EarlyExitPoint[];
  /** What times were measured on: images at once, the device, its precision and threads. */
  readonly timing: {
    readonly batchSize: number;
    readonly device: string;
    readonly precision: string;
    readonly threads: number;
  };
}

/** A run directory, read and checked. */
export interface RunRecord {
  config: RunConfig;
  /** By layer, then by epoch, each once. */
  epochs: EpochRecord[];
  /** Absent while training is unfinished. */
  result?: RunResult;
  /** Where early exit was evaluated. */
  earlyExit?: EarlyExitRecord;
  /** The line of `metrics.jsonl` that a killed run left half written, counted from 1. It is not in `epochs`. */
  incompleteLine?: number;
}
