export {
  CACHE_TIERS,
  type CacheBudget,
  type CachePlan,
  type CacheTier,
  planCache,
  resolveCacheBudget,
} from './cache-plan.js';
export { FeatureCacheError } from './errors.js';
export { CachedFeatures } from './feature-cache.js';
export { rowBytes } from './feature-storage.js';
export {
  type EpochPass,
  epochOrder,
  type FeatureBatch,
  RecomputedFeatures,
  type Share,
  type ShareOf,
  type TrainingFeatures,
} from './features.js';
export { FrozenPrefix } from './frozen-prefix.js';
export { TestFeatures } from './test-features.js';
