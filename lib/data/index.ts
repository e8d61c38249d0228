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
export { loadDataset } from './dataset.js';
export { Draws } from './draws.js';
export { DataError, type DataErrorCode } from './errors.js';
export { readImage } from './folder.js';
export type { ImageBatch, ImageSource, TrainingPass } from './image-source.js';
export type { Dataset, LabelledImages } from './labelled-images.js';
