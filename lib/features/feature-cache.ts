import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { applyTransforms, batchDraws, stoppingWhileWaiting } from '../data/index.js';
import type { Stage } from '../models/index.js';
import { FrozenBlocks, type Module } from '../nn/index.js';
import { frozenDtype } from '../recipe/index.js';
import { type Device, noGrad, scope, type Tensor, tensor } from '../tensor/index.js';
import type { CachePlan, CacheTier } from './cache-plan.js';
import { type FeatureRows, FileRows, MemoryRows, type RowFormat, rowBytes } from './feature-storage.js';
import {
  type EpochPass,
  epochOrder,
  type FeatureBatch,
  type FeatureContext,
  givenOf,
  type Pause,
  RecomputedFeatures,
  type TrainingFeatures,
  viewDraws,
  viewOf,
} from './features.js';

export interface CachedFeaturesOptions extends FeatureContext {
  readonly device: Device;
  readonly views: NonNullable<CachePlan['views']>;
  /** Where files of features go: made when it is needed, and removed again. */
  readonly directory: string;
  readonly onView?: (view: { layer: number; view: number; tier: CacheTier; bytes: number }) => void;
}

/**
 * Keeps the features of a number of views of each image. All layers see the same views, so the outputs of layer j are what layer
 * j + 1 reads. Each stage's features are computed from those of the stage before, by one layer, and the cost of training a layer
 * does not grow with its depth.
 */
export class CachedFeatures implements TrainingFeatures {
  readonly #options: CachedFeaturesOptions;
  /** For the first stage, which reads the images themselves. */
  readonly #uncached: RecomputedFeatures;
  #stage: Stage | null = null;
  /** The blocks whose features `#rows` are, view by view, and the features' format. */
  #blocks: readonly Module[] = [];
  #format: RowFormat | null = null;
  readonly #rows: FeatureRows[] = [];

  constructor(options: CachedFeaturesOptions) {
    this.#options = options;
    this.#uncached = new RecomputedFeatures(options);
  }

  async begin(stage: Stage, pause: Pause): Promise<void> {
    this.#stage = stage;
    const before = this.#blocks;
    if (stage.frozen.length === 0 || before.some((block, i) => block !== stage.frozen[i])) await this.#forget();
    if (stage.frozen.length === 0) return this.#uncached.begin(stage);
    const added = stage.frozen.slice(this.#rows.length === 0 ? 0 : before.length);
    this.#blocks = stage.frozen;
    if (added.length === 0) return;
    for (const block of added) block.eval();
    // One by one, so that a resumed run computes the same bits.
    const layers = added.map((block) => new FrozenBlocks([block], frozenDtype(this.#options.precision)));
    const { format, tiers } = this.#options.views.get(stage.frozen.length)!;
    try {
      for (const [view, tier] of tiers.entries()) {
        const old = this.#rows[view];
        const rows = await this.#rowsFor(format, tier, old, view);
        try {
          if (old === undefined) await this.#fillFromImages(rows, layers, view, pause);
          else await this.#fillFromRows(rows, old, layers, pause);
        } catch (error) {
          if (rows !== old) await rows.dispose();
          throw error;
        }
        if (old !== undefined && rows !== old) await old.dispose();
        this.#rows[view] = rows;
        const bytes = rowBytes(format) * this.#options.images.count;
        this.#options.onView?.({ layer: stage.layer, view, tier, bytes });
      }
      this.#format = format;
    } catch (error) {
      // Some views have gone through the added layers, others have not.
      await this.#forget();
      throw error;
    } finally {
      for (const layer of layers) layer.dispose();
    }
  }

  async #rowsFor(format: RowFormat, tier: CacheTier, old: FeatureRows | undefined, view: number): Promise<FeatureRows> {
    const { device, directory, images } = this.#options;
    if (old?.rowBytes === rowBytes(format)) return old;
    if (tier !== 'disk') {
      return MemoryRows.create(format, images.count, { at: tier === 'host' ? 'cpu' : device, device });
    }
    await mkdir(directory, { recursive: true });
    return FileRows.create(format, join(directory, `layer-${this.#blocks.length}-view-${view}.bin`), device);
  }

  async #fillFromImages(rows: FeatureRows, layers: readonly FrozenBlocks[], view: number, pause: Pause): Promise<void> {
    const { recipe, images, transforms, signal } = this.#options;
    const { batchSize } = recipe.training;
    const { draws } = viewDraws(recipe, 0, view);
    const order = Int32Array.from({ length: images.count }, (_, i) => i);
    let start = 0;
    const batches = images.trainingBatches({ epoch: view, order, batchSize, firstStep: 0, draws });
    for await (const batch of stoppingWhileWaiting(batches, signal, pause)) {
      await this.#write(rows, start, layers, () =>
        applyTransforms(transforms, batch.tensors().images, batchDraws(draws, view, batch.indices)),
      );
      start += batch.indices.length;
      await pause();
    }
  }

  async #fillFromRows(
    rows: FeatureRows,
    old: FeatureRows,
    layers: readonly FrozenBlocks[],
    pause: Pause,
  ): Promise<void> {
    const { recipe, images } = this.#options;
    const { batchSize } = recipe.training;
    for (let start = 0; start < images.count; start += batchSize) {
      const length = Math.min(batchSize, images.count - start);
      const give = await old.read(start, length, this.#format!);
      await this.#write(rows, start, layers, () => give(0, length));
      await pause();
    }
  }

  async #write(rows: FeatureRows, start: number, layers: readonly FrozenBlocks[], give: () => Tensor): Promise<void> {
    let written: Promise<void> | undefined;
    scope(() => {
      const features = noGrad(() => layers.reduce((x, layer) => layer.forward(x), give()));
      written = rows.write(start, features);
    });
    await written;
  }

  async *batches(pass: EpochPass): AsyncGenerator<FeatureBatch> {
    if (this.#rows.length === 0) return yield* this.#uncached.batches(pass);
    const { recipe, images } = this.#options;
    const { epoch, firstStep } = pass;
    const { order, batchSize } = givenOf(epochOrder(recipe, this.#stage!.layer, epoch, images.count), pass);
    const indicesOf = (batch: number): Int32Array => order.subarray(batch * batchSize, (batch + 1) * batchSize);
    const rows = this.#rows[viewOf(recipe, epoch)]!;
    let batch = firstStep;
    for await (const give of rows.gather(indicesOf, { first: firstStep, format: this.#format! })) {
      const indices = indicesOf(batch++);
      yield {
        indices,
        tensors: (start, length) => {
          const chosen = tensor(indices.subarray(start, start + length), { device: this.#options.device });
          return { features: give(start, length), labels: images.labels.indexSelect(0, chosen) };
        },
      };
    }
  }

  async #forget(): Promise<void> {
    this.#blocks = [];
    for (const rows of this.#rows.splice(0)) await rows.dispose();
  }

  async dispose(): Promise<void> {
    await this.#forget();
    await this.#uncached.dispose();
    await rm(this.#options.directory, { recursive: true, force: true });
  }
}
