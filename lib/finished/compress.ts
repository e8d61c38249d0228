// Compression while training (paper, section 4.4): after a layer is trained, its least important filters are removed.
import { join } from 'node:path';
import { writeWhole } from '#scripts/support/files.mjs';
import { applyTransforms, type Dataset, noDraws, openImages } from '../data/index.js';
import { type Accuracy, filterImportance } from '../evaluation/index.js';
import { disposeNetwork, keepFilters, type Network, SimCnn } from '../models/index.js';
import { loadInto } from '../nn/index.js';
import { requireOptions } from '../options.js';
import { buildNetwork, overrideRecipe, type Recipe, RecipeError } from '../recipe/index.js';
import { NO_FIGURES, RunDirectory, type RunResult, saveNetwork } from '../run/index.js';
import { noGrad, scope } from '../tensor/index.js';
import { finishRun } from './finish-run.js';
import { TrainedRun } from './trained-run.js';

/** Which run is compressed, to how many filters, and where to. */
export interface CompressOptions {
  /** A finished run of SimCNN. */
  readonly runDirectory: string;
  /** How many filters of its last layer stay. */
  readonly filters: number;
  /** The run directory to make: new or empty. */
  readonly out: string;
  /** Default: the run's own. */
  readonly device?: Recipe['device'] | undefined;
}

/** What `compressRun` kept, and the accuracies, in percent, before and after. */
export interface CompressionOutcome {
  readonly runDirectory: string;
  /** Indices of the filters that were kept, rising. */
  readonly kept: readonly number[];
  /** The importance of each filter before the removal, by Molchanov's criterion on the training images. */
  readonly importance: readonly number[];
  /** Of the last layer's head on the test images, before the removal and after it. */
  readonly before: Accuracy;
  readonly after: Accuracy;
}

const OPTIONS: readonly (keyof CompressOptions)[] = ['runDirectory', 'filters', 'out', 'device'];

/**
 * Removes the filters of a finished run's last layer that matter least to the loss of its head on the training images
 * (see `filterImportance`), and leaves a finished run of the smaller network, its head not yet fine-tuned. Throws
 * RunDirectoryError, or RecipeError for another network than SimCNN or a number of filters that it does not have.
 */
export async function compressRun(options: CompressOptions): Promise<CompressionOutcome> {
  requireOptions(options, 'options', (problem) => new RecipeError(`compressRun: ${problem}`), OPTIONS);
  const { runDirectory, filters, out, device } = options;
  using source = await TrainedRun.open(runDirectory, { device });
  const { network, recipe } = source;
  const { model, training } = recipe;
  if (training.blocks !== null) {
    throw new RecipeError(
      `training.blocks: expected none for a run that is compressed, got ${String(training.blocks)}`,
    );
  }
  if (!(network instanceof SimCnn) || model.name !== 'simcnn') {
    throw new RecipeError(`model.name: expected simcnn for a run that is compressed, got ${model.name}`);
  }
  const widths = network.widths;
  if (!(Number.isInteger(filters) && filters >= 1 && filters <= widths.at(-1)!)) {
    throw new RecipeError(`filters: expected 1 to ${widths.at(-1)}, the filters of the last layer, got ${filters}`);
  }
  const dataset = await source.loadDataset();
  const importance = await importanceOf(source, dataset.train);
  const kept = [...importance.keys()]
    .sort((a, b) => importance[b]! - importance[a]! || a - b)
    .slice(0, filters)
    .sort((a, b) => a - b);
  const { confusion: _, ...before } = await source.evaluate(dataset.test, source.layers - 1);

  return await RunDirectory.fill(out, async (directory) => {
    const smaller = overrideRecipe(recipe, { model: { widths: [...widths.slice(0, -1), filters] } });
    const { startedFrom, ...config } = source.config;
    await directory.writeConfig({ ...config, recipe: smaller, startedAt: new Date().toISOString() });
    await saveCompressed(
      directory,
      source.network as SimCnn,
      kept,
      buildNetwork(smaller, source.classes.length, 'cpu'),
    );
    using compressed = await TrainedRun.open(out, { device });
    const last = source.layers - 1;
    const after = await compressed.evaluate(dataset.test, last);
    const ensemble = source.layers > 1 ? await compressed.evaluate(dataset.test, 'ensemble') : null;

    const record = await RunDirectory.open(runDirectory).readRecord();
    await directory.writeMetrics(record.epochs.filter(({ layer }) => layer < last));
    const result: RunResult = {
      layers: [
        ...record.result!.layers.filter(({ layer }) => layer < last),
        {
          ...NO_FIGURES,
          layer: last,
          testLoss: after.loss,
          testTop1: after.top1,
          testTop5: after.top5,
          ensembleTop1: ensemble?.top1 ?? null,
          ensembleTop5: ensemble?.top5 ?? null,
          seconds: null,
          parameters: {
            block: compressed.network.blocks[last]!.parameterCount(),
            head: compressed.network.heads[last]!.parameterCount(),
          },
        },
      ],
      seconds: record.result!.seconds,
      ...(after.confusion === null ? {} : { confusion: after.confusion }),
      notes: [
        ...(record.result!.notes ?? []),
        `Layer ${last + 1}: ${filters} of ${widths.at(-1)} filters kept, by the first-order criterion; its head is not fine-tuned.`,
      ],
    };
    const outcome = {
      runDirectory: out,
      kept,
      importance: [...importance],
      before: { top1: before.top1, top5: before.top5 },
      after: { top1: after.top1, top5: after.top5 },
    };
    await writeWhole(join(out, 'compression.json'), `${JSON.stringify(outcome, null, 2)}\n`);
    await finishRun(directory, result);
    return outcome;
  });
}

async function importanceOf(source: TrainedRun, train: Dataset['train']): Promise<Float64Array> {
  const images = openImages(train, { device: source.device, randomResizedCrop: false });
  try {
    return await filterImportance(
      images,
      {
        features: (pixels) =>
          source.network.blocks.reduce(
            (x, block) => block.forward(x),
            applyTransforms(source.transforms, pixels, noDraws),
          ),
        head: source.network.heads.at(-1)!,
      },
      { batchSize: source.recipe.training.batchSize },
    );
  } finally {
    images.dispose();
  }
}

/** Writes the smaller network's files. */
async function saveCompressed(
  directory: RunDirectory,
  from: SimCnn,
  kept: readonly number[],
  to: Network,
): Promise<void> {
  try {
    const last = to.blocks.length - 1;
    noGrad(() =>
      scope(() => {
        for (let layer = 0; layer < last; layer++) {
          loadInto(to.blocks[layer]!.stateDict(), from.blocks[layer]!.stateDict());
          loadInto(to.heads[layer]!.stateDict(), from.heads[layer]!.stateDict());
        }
        const { block, head } = keepFilters(from, kept);
        loadInto(to.blocks[last]!.stateDict(), block);
        loadInto(to.heads[last]!.stateDict(), head);
      }),
    );
    await saveNetwork(to, directory);
  } finally {
    disposeNetwork(to);
  }
}
