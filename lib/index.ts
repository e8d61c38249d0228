export { WriteError } from '../scripts/support/files.mjs';
export { LockLostError } from '../scripts/support/lock.mjs';
export {
  type BadImage,
  DataError,
  type Dataset,
  type DatasetPart,
  type ImageFiles,
  type LabelledImages,
  loadDataset,
  type OnBadImage,
} from './data/index.js';
export * from './evaluation/index.js';
export * from './models/index.js';
export * from './nn/index.js';
export * from './optim/index.js';
export * from './service/index.js';
export * from './tensor/index.js';
export * from './training/index.js';
