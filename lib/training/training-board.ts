import { type Network, trainsAllHeads } from '../models/index.js';
import type { RunDirectory } from '../run/index.js';
import type { Tensor } from '../tensor/index.js';
import { EventFile, filterImage, type SummaryValue, sessionEnd, sessionStart } from '../tensorboard/index.js';
import type { StepProgress, TestedEpoch, TrainingEvent } from './events.js';
import type { RunSetting } from './prepare-run.js';

/** The means within an epoch are written at most this often. */
const STEP_SECONDS = 1;

/** The figures of the last layer, or of the ensemble, when the run has finished. */
const RESULTS = { top1: 'result/top-1', top5: 'result/top-5', ensembleTop1: 'result/ensemble top-1' } as const;

type Figure = Exclude<keyof TestedEpoch, 'layer' | 'epoch' | 'seconds'>;

/** The groups that TensorBoard shows, by figure: in each a chart a layer. */
const GROUPS: Readonly<Record<Figure, string>> = {
  trainLoss: 'train loss',
  trainTop1: 'train top-1',
  testLoss: 'test loss',
  testTop1: 'test top-1',
  testTop5: 'test top-5',
  ensembleTop1: 'ensemble top-1',
  ensembleTop5: 'ensemble top-5',
  learningRate: 'learning rate',
  imagesPerSecond: 'images per second',
};

/**
 * Writes what a run tells into an event file for TensorBoard: figures of epochs, and means within them, by layer; accuracy by depth;
 * the filters of the first convolution; the recipe as hyperparameters. A run that goes on writes a file of its own, and epochs that
 * it repeats have the same figures.
 */
export class TrainingBoard implements Disposable {
  readonly #directory: RunDirectory;
  readonly #file: EventFile;
  /** Null where no layer reads maps, as of vectors. */
  readonly #filters: Tensor | null;
  readonly #hasAllHeads: boolean;
  #lastStep = Number.NEGATIVE_INFINITY;
  /** Images are encoded in other threads. */
  #images: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor({ recipe, network }: RunSetting & { network: Network }, directory: RunDirectory) {
    this.#directory = directory;
    this.#filters = firstFilters(network);
    this.#hasAllHeads = trainsAllHeads(recipe.training.schedule);
    directory.requireHeld();
    this.#file = new EventFile(directory.path);
    // TensorBoard shows the first ones.
    const { model, training, ...others } = recipe;
    this.#write(sessionStart({ model, training, ...others }, Object.values(RESULTS)), 0);
  }

  take(event: TrainingEvent): void {
    if (event.type === 'step') this.#step(event);
    else if (event.type === 'epoch') this.#epoch(event);
    else if (event.type === 'layer') this.#write(present({ 'by depth/test top-1': event.testTop1 }), event.layer + 1);
    else if (event.type === 'done') {
      const last = event.result.layers.at(-1)!;
      const { testTop1, testTop5, ensembleTop1 } = last;
      const results = { [RESULTS.top1]: testTop1, [RESULTS.top5]: testTop5, [RESULTS.ensembleTop1]: ensembleTop1 };
      this.#write([...present(results), sessionEnd()], last.layer + 1);
    }
  }

  /** Resolves when all that was taken is in the file. Throws what writing threw. */
  async written(): Promise<void> {
    await this.#images;
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#file.close();
  }

  /** The means over the epoch so far. */
  #step({ layer, epoch, step, stepsPerEpoch, loss, top1 }: StepProgress): void {
    const now = performance.now() / 1000;
    if (loss === null || now - this.#lastStep < STEP_SECONDS) return;
    this.#lastStep = now;
    const ofLayer = `layer ${layer + 1}`;
    const means = { [`steps: train loss/${ofLayer}`]: loss, [`steps: train top-1/${ofLayer}`]: top1 };
    this.#write(present(means), epoch * stepsPerEpoch + step);
  }

  #epoch(record: TestedEpoch): void {
    const figures = Object.entries(GROUPS) as [Figure, string][];
    const ofLayer = `layer ${record.layer + 1}`;
    this.#write(
      present(Object.fromEntries(figures.map(([figure, group]) => [`${group}/${ofLayer}`, record[figure]]))),
      record.epoch,
    );
    const isFirst = record.layer === 0 || !this.#hasAllHeads;
    if (isFirst && this.#filters !== null) this.#image(this.#filters, record.epoch);
  }

  #image(filters: Tensor, step: number): void {
    const image = filterImage('filters of the first convolution', filters);
    const earlier = this.#images;
    this.#images = image.then(async (value) => {
      await earlier;
      // A run that was stopped does not wait for its images.
      if (!this.#isClosed) this.#write([value], step);
    });
    // Told by `written`.
    this.#images.catch(() => {});
  }

  #write(values: readonly SummaryValue[], step: number): void {
    this.#directory.requireHeld();
    this.#file.write(values, step);
  }
}

/** Scalars of the figures that there are. */
function present(figures: Readonly<Record<string, number | null>>): SummaryValue[] {
  return Object.entries(figures).flatMap(([tag, scalar]) => (scalar === null ? [] : [{ tag, scalar }]));
}

/** The weight of the first convolution, [outChannels, inChannels, height, width]. */
function firstFilters({ blocks }: Network): Tensor | null {
  return blocks.flatMap((block) => block.parameters()).find(({ dim }) => dim === 4) ?? null;
}
