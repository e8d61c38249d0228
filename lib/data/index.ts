export {
  applyTransforms,
  type BatchDraws,
  batchDraws,
  noDraws,
  normalize,
  randomCrop,
  randomHorizontalFlip,
  type Transform,
} from './augmentation.js';
export { DeviceImages } from './batches.js';
export { type Dataset, type LabelledImages, loadDataset } from './dataset.js';
export { Draws } from './draws.js';
export { DataError, type DataErrorCode } from './errors.js';
export { readImage } from './folder.js';
