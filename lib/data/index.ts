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
export {
  DATASET_NAMES,
  type DatasetName,
  type DatasetOf,
  datasetOf,
  datasetTitle,
  LOADABLE_DATASETS,
} from './catalogue.js';
export { type LoadDatasetOptions, loadDataset, take } from './dataset.js';
export type { DatasetDeclaration, DatasetOptions, TrainingProtocol } from './declaration.js';
export { DecodingPass, type DecodingPassOptions } from './decoding-pass.js';
export { Draws, type DrawsOptions } from './draws.js';
export { DataError, type DataErrorCode } from './errors.js';
export {
  compareParts,
  type DataIdentity,
  identifyDataset,
  identifyPart,
  type PartChanges,
  type PartIdentity,
} from './identity.js';
export { type DecodeOptions, type ReadImageOptions, readImage } from './image-file.js';
export type { ImageBatch, ImageSource, TrainingPass } from './image-source.js';
export { type InMemoryData, type InMemoryImages, inMemoryDataset } from './in-memory.js';
export {
  BAD_IMAGE_POLICIES,
  type BadImage,
  type BadImageOptions,
  type Dataset,
  type DatasetPart,
  type ImageFiles,
  type LabelledImages,
  type Normalization,
  type OnBadImage,
} from './labelled-images.js';
export { type OpenImagesOptions, openImages, requireImageFiles } from './open-images.js';
export { StreamedImages, type StreamedImagesOptions } from './streamed-images.js';
