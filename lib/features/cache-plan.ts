// Where the features of the frozen layers are kept: decided before a run begins, so that it cannot fail for want of room.
import { availableMemory } from '#scripts/support/limits.mjs';
import { gibibytes } from '../format.js';
import type { Network, Stage } from '../models/index.js';
import { FrozenBlocks } from '../nn/index.js';
import { frozenDtype, type Precision, type Recipe } from '../recipe/index.js';
import { channelsLast, type Device, isCuda, scope, zeros } from '../tensor/index.js';
import { FeatureCacheError } from './errors.js';
import { type RowFormat, rowBytes } from './feature-storage.js';

/** Memory of the training GPU, memory of the host, files in the run directory. The first with room is taken. */
export const CACHE_TIERS = ['device', 'host', 'disk'] as const;

/** A kind of room for kept features: `device`, `host` or `disk`. */
export type CacheTier = (typeof CACHE_TIERS)[number];

/** Bytes that features may take in each tier. */
export type CacheBudget = Readonly<Record<CacheTier, number>>;

export interface CachePlan {
  /** Bytes of the training device's memory in which features of the test images may stay. */
  readonly testBytes: number;
  /** For each number of frozen parts: the format of one image's features, and the tier of each view. Null: nothing is kept. */
  readonly views: ReadonlyMap<number, { readonly format: RowFormat; readonly tiers: readonly CacheTier[] }> | null;
}

const GIB = 2 ** 30;
const DEFAULT_DEVICE_BYTES = 4 * GIB;
/** Of the memory that this process can still allocate when the run begins. */
const DEFAULT_HOST_SHARE = 1 / 4;

/**
 * The budget of a run. Default: 4 GiB of a GPU, a quarter of the memory that this process can still allocate, or of its share where
 * `processes` of the run are on this machine, nothing on disk;
 * 'none' is nothing anywhere. Throws FeatureCacheError for an unknown tier, for what is no number of bytes, and for
 * memory of a GPU where the run is on the CPU.
 */
export function resolveCacheBudget(
  stated: Partial<CacheBudget> | 'none' | undefined,
  device: Device,
  processes = 1,
): CacheBudget {
  if (stated === 'none') return { device: 0, host: 0, disk: 0 };
  for (const [tier, bytes] of Object.entries(stated ?? {})) {
    if (!CACHE_TIERS.includes(tier as CacheTier)) {
      throw new FeatureCacheError('CACHE_BUDGET', `cache: expected one of ${CACHE_TIERS.join(', ')}, got ${tier}`);
    }
    if (!(typeof bytes === 'number' && bytes >= 0 && Number.isFinite(bytes))) {
      throw new FeatureCacheError('CACHE_BUDGET', `cache.${tier}: expected a number of bytes from 0, got ${bytes}`);
    }
  }
  if (!isCuda(device) && (stated?.device ?? 0) > 0) {
    throw new FeatureCacheError(
      'CACHE_BUDGET',
      `cache.device: expected nothing for ${device}, whose memory is the host's, got ${stated!.device} bytes`,
    );
  }
  return {
    device: isCuda(device) ? DEFAULT_DEVICE_BYTES : 0,
    host: Math.floor((availableMemory() * DEFAULT_HOST_SHARE) / processes),
    disk: 0,
    ...stated,
  };
}

export interface CachePlanOptions {
  readonly recipe: Recipe;
  readonly network: Network;
  readonly stages: readonly Stage[];
  readonly device: Device;
  readonly precision: Precision;
  readonly trainCount: number;
  readonly testCount: number;
  readonly budget: CacheBudget;
}

/**
 * Finds a tier for the features of every view and every stage. Throws FeatureCacheError, with the room that is needed and
 * the number of views that would fit, where the budget is too small.
 */
export function planCache(options: CachePlanOptions): CachePlan {
  const { recipe, stages, device, budget, trainCount, testCount } = options;
  const { views } = recipe.augmentation;
  const ownTier = isCuda(device) ? 'device' : 'host';
  const depths = stages.map(({ frozen }) => frozen.length).filter((depth) => depth > 0);
  if (views === null || depths.length === 0 || budgetOf(budget) === 0) {
    return { testBytes: budget[ownTier], views: null };
  }
  const formats = featureFormats(options);
  const format = (depth: number): RowFormat => formats[depth]!;
  const viewBytes = depths.map((depth) => rowBytes(format(depth)) * trainCount);
  const testBytes = Math.max(...depths.map((depth) => rowBytes(format(depth)) * testCount));
  const largest = Math.max(...viewBytes);
  // No assignment to tiers can hold more.
  const most = Math.floor(budgetOf(budget) / largest);
  const assign = (number: number, room: CacheBudget): CacheTier[][] | null =>
    number > most ? null : assignTiers(viewBytes, number, room);
  // The test images' features are read in every epoch too, but they are few: views go before them.
  for (const reserved of [testBytes, 0]) {
    if (reserved > budget[ownTier]) continue;
    const tiers = assign(views, { ...budget, [ownTier]: budget[ownTier] - reserved });
    if (tiers === null) continue;
    return {
      testBytes: reserved,
      views: new Map(depths.map((depth, i) => [depth, { format: format(depth), tiers: tiers[i]! }])),
    };
  }
  let fitting = Math.min(views - 1, most);
  while (fitting > 0 && assign(fitting, budget) === null) fitting--;
  const stage = stages.find(({ frozen }) => frozen.length === depths[viewBytes.indexOf(largest)])!;
  const allowed = CACHE_TIERS.filter((tier) => tier !== 'device' || isCuda(device))
    .map((tier) => `${gibibytes(budget[tier])} ${tier}`)
    .join(', ');
  throw new FeatureCacheError(
    'CACHE_BUDGET',
    `the features that layer ${stage.layer + 1} reads need ${gibibytes(largest)} for each view of ${trainCount} images, ` +
      `${gibibytes(largest * views)} for ${views} ${views === 1 ? 'view' : 'views'}; allowed: ${allowed}. ` +
      `Allow more room (--cache host=GIB,disk=GIB), ${fitting > 0 ? `take ${fitting} ${fitting === 1 ? 'view' : 'views'} (--views ${fitting}), ` : ''}` +
      'or compute them in every epoch (--cache none)',
  );
}

const budgetOf = (budget: CacheBudget): number => CACHE_TIERS.reduce((sum, tier) => sum + budget[tier], 0);

/**
 * Tiers for `views` views at each stage, or null where they do not fit; a view takes `viewBytes[stage]` bytes. From stage to
 * stage one view is made after another. Where its size stays, it overwrites its old features; else it goes to the first tier with
 * room while the old ones are still there.
 */
export function assignTiers(viewBytes: readonly number[], views: number, budget: CacheBudget): CacheTier[][] | null {
  const free: Record<CacheTier, number> = { ...budget };
  const stages: CacheTier[][] = [];
  for (const [stage, bytes] of viewBytes.entries()) {
    const tiers: CacheTier[] = [];
    for (let view = 0; view < views; view++) {
      const oldTier = stages[stage - 1]?.[view];
      const oldBytes = viewBytes[stage - 1];
      if (oldTier !== undefined && oldBytes === bytes) {
        tiers.push(oldTier);
        continue;
      }
      const tier = CACHE_TIERS.find((candidate) => free[candidate] >= bytes);
      if (tier === undefined) return null;
      free[tier] -= bytes;
      if (oldTier !== undefined) free[oldTier] += oldBytes!;
      tiers.push(tier);
    }
    stages.push(tiers);
  }
  return stages;
}

/** The format of an image's features after each number of frozen parts, from 0. */
function featureFormats({ network, stages, precision }: CachePlanOptions): RowFormat[] {
  // Where the network is: on the training device, or on meta.
  const { device } = [...network.blocks, ...network.heads].flatMap((module) => module.parameters())[0]!;
  const dtype = frozenDtype(precision);
  return scope(() => {
    const image = channelsLast(zeros([1, ...network.inputShape], { device }));
    const shapes: RowFormat[] = [{ shape: network.inputShape, dtype }];
    let features = image;
    for (const block of stages.at(-1)!.frozen) {
      const frozen = new FrozenBlocks([block.eval()], dtype);
      features = frozen.forward(features);
      frozen.dispose();
      shapes.push({ shape: features.shape.slice(1), dtype });
    }
    return shapes;
  });
}
