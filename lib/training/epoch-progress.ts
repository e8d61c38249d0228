import type { StepProgress } from './events.js';
import type { EpochMeter } from './meter.js';

export interface EpochProgressOptions {
  readonly layer: number;
  readonly epoch: number;
  /** Of an epoch. */
  readonly images: number;
  readonly batchSize: number;
  /** The step that the epoch goes on with, from 0. */
  readonly firstStep: number;
  /** Of the whole run: the epochs before this one, and all. */
  readonly epochsDone: number;
  readonly epochsTotal: number;
}

/** How far an epoch is, and how fast it goes from here on. */
export class EpochProgress {
  readonly #options: EpochProgressOptions;
  readonly #start = performance.now();

  constructor(options: EpochProgressOptions) {
    this.#options = options;
  }

  get stepsPerEpoch(): number {
    return Math.ceil(this.#options.images / this.#options.batchSize);
  }

  /** After so many steps of the epoch. */
  imagesPerSecond(steps: number): number {
    const { images, batchSize, firstStep } = this.#options;
    const imagesOf = (count: number): number => Math.min(count * batchSize, images);
    return ((imagesOf(steps) - imagesOf(firstStep)) * 1000) / (performance.now() - this.#start);
  }

  after(steps: number, meter: EpochMeter): StepProgress {
    const { layer, epoch, epochsDone, epochsTotal } = this.#options;
    const { stepsPerEpoch } = this;
    return {
      ...{ layer, epoch, step: steps, stepsPerEpoch },
      loss: meter.hasRead ? meter.loss() : null,
      top1: meter.hasRead ? meter.top1() : null,
      imagesPerSecond: this.imagesPerSecond(steps),
      stepsDone: epochsDone * stepsPerEpoch + steps,
      stepsTotal: epochsTotal * stepsPerEpoch,
    };
  }
}
