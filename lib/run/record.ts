// The record of a run, as it lies in a run directory: config.json, metrics.jsonl and result.json.
import type { DataIdentity } from '../data/index.js';

/** `config.json`: what was asked for, and of which machine and versions. */
export interface RunConfig {
  package: 'layerwise';
  formatVersion: 1;
  preset: string;
  /** The resolved recipe. The report prints whatever it holds; of the names below it makes use where they are there. */
  recipe: RecordedRecipe;
  /** The data set's classes, by label. */
  classes?: string[];
  /** Mean and standard deviation of each channel, of values 0 to 1, that images were normalised with. */
  normalization?: { mean: readonly number[]; std: readonly number[] };
  /** Which images the run is made of; runs of older versions and imported ones lack it. */
  data?: DataIdentity;
  seed: number;
  /** Device and precision that `auto` stands for where the run was made: cpu or cuda:N; fp32, bf16 or fp16. */
  device: string;
  deviceName?: string | null;
  precision: 'fp32' | 'bf16' | 'fp16';
  threads?: number | null;
  versions: Record<string, string>;
  /** ISO 8601. */
  startedAt: string;
  /** The finished run whose first layers were taken instead of being trained, how many, and whether their head was. */
  startedFrom?: { runDirectory: string; layers: number; head: 'new' | 'taken' };
  /** What became of the run while it was interrupted, for all who see its results. */
  notes?: readonly string[];
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

/** What an epoch, or a layer after its last one, came to. Accuracies are percentages; null is a figure that was not taken or not finite. */
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
  readonly lr: number;
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

/** Of a layer of which nothing was taken. */
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

/** A run directory, read and checked. */
export interface RunRecord {
  config: RunConfig;
  /** By layer, then by epoch, each once. */
  epochs: EpochRecord[];
  /** Absent while training is unfinished. */
  result?: RunResult;
  /** The line of `metrics.jsonl` that a killed run left half written, counted from 1. It is not in `epochs`. */
  incompleteLine?: number;
}
