import type { LayerResult, RunConfig, RunResult } from '../evaluation/report/index.js';
import type { CachePlace } from './cache-plan.js';
import type { RunPlan } from './plan.js';

/** One line of metrics.jsonl. Accuracies are percentages, layers and epochs count from 0. */
export interface EpochRecord {
  readonly layer: number;
  readonly epoch: number;
  readonly lr: number;
  /** Mean over the epoch's augmented images, as they were trained on. */
  readonly trainLoss: number;
  readonly trainTop1: number;
  readonly testLoss: number;
  readonly testTop1: number;
  readonly testTop5: number;
  /** Of the layers up to this one; null when the network is trained end to end. */
  readonly ensembleTop1: number | null;
  readonly ensembleTop5: number | null;
  /** Of the whole epoch, its evaluation included. */
  readonly seconds: number;
  /** Of training alone. */
  readonly imagesPerSecond: number;
}

export interface StepProgress {
  readonly layer: number;
  readonly epoch: number;
  /** Steps done in this epoch. */
  readonly step: number;
  readonly stepsPerEpoch: number;
  /** Means over the epoch so far; null before they are read from a GPU for the first time. */
  readonly loss: number | null;
  readonly top1: number | null;
  readonly imagesPerSecond: number;
  /** Steps done and to be done in the whole run. */
  readonly stepsDone: number;
  readonly stepsTotal: number;
}

/** What a run tells while it goes on. */
export type TrainingEvent =
  | {
      readonly type: 'start';
      readonly runDirectory: string;
      readonly config: RunConfig;
      readonly notes: readonly string[];
      /** What is known of the run beforehand; null with a LibTorch older than 2.4. */
      readonly plan: RunPlan | null;
      readonly resumedFrom: { layer: number; epoch: number; step: number } | null;
    }
  | ({ readonly type: 'step' } & StepProgress)
  | ({ readonly type: 'epoch' } & EpochRecord)
  | {
      /** The features that a layer reads have been made for a view, and kept. */
      readonly type: 'view';
      readonly layer: number;
      readonly view: number;
      readonly views: number;
      readonly place: CachePlace;
      readonly bytes: number;
    }
  | ({ readonly type: 'layer' } & LayerResult)
  | { readonly type: 'checkpoint'; readonly layer: number; readonly epoch: number; readonly step: number }
  | {
      readonly type: 'scale';
      readonly layer: number;
      readonly epoch: number;
      readonly step: number;
      readonly scale: number;
      readonly skipped: number;
    }
  | { readonly type: 'done'; readonly runDirectory: string; readonly report: string; readonly result: RunResult };
