import type { CacheTier } from '../features/index.js';
import type { EpochRecord, LayerResult, RunConfig, RunResult } from '../run/index.js';
import type { RunPlan } from './plan.js';

/** An epoch that has just been trained and tested: of its figures only the ensemble's may be missing. */
export type TestedEpoch = EpochRecord &
  Readonly<Record<'trainLoss' | 'trainTop1' | 'testLoss' | 'testTop1' | 'testTop5' | 'imagesPerSecond', number>>;

/** How far a run is, after each training step. Layers and epochs count from 0, `top1` is a percentage. */
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
  | ({ readonly type: 'epoch' } & TestedEpoch)
  | {
      /** The features that a layer reads have been made for a view, and kept. */
      readonly type: 'view';
      readonly layer: number;
      readonly view: number;
      readonly views: number;
      readonly tier: CacheTier;
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
