export {
  applyTransforms,
  type BatchDraws,
  batchDraws,
  noDraws,
  normalize,
  PADDING_MODES,
  type PaddingMode,
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
export { isUrl, wholeLocation } from './data-location.js';
export { type LoadDatasetOptions, loadDataset, take } from './dataset.js';
export type { DatasetDeclaration, DatasetOptions, TrainingProtocol } from './declaration.js';
export { Draws, type DrawsOptions, stepSeed } from './draws.js';
export type { EncodedImage, EncodedImages } from './encoded-images.js';
export { DataError, type DataErrorCode } from './errors.js';
export {
  compareParts,
  type DataIdentity,
  identifyDataset,
  identifyPart,
  type PartChanges,
  type PartIdentity,
} from './identity.js';
export { type DecodeOptions, decodeImage, type ReadImageOptions, readImage } from './image-file.js';
export type { ImageListing } from './image-listing.js';
export {
  FILE_CHANNELS,
  type FileChannels,
  type FileShape,
  type ImageSize,
  shownSize,
  sidesOf,
  sizeOf,
} from './image-size.js';
export type { BatchRange, ImageBatch, ImageSource, TrainingPass } from './image-source.js';
export { type InMemoryData, type InMemoryImages, type InMemoryVectorData, inMemoryDataset } from './in-memory.js';
export { type JpegDecoder, jpegDecoder } from './jpeg-decoder.js';
export {
  BAD_IMAGE_POLICIES,
  type BadImage,
  type BadImageOptions,
  type Dataset,
  type DatasetPart,
  type ImageFiles,
  type LabelledImages,
  type LabelledVectors,
  type Normalization,
  type OnBadImage,
  type PackedImages,
  type Shard,
  type SourceImages,
  type StoredImages,
  shapeOfPart,
} from './labelled-images.js';
export { isImageFiles, isInMemory, type OpenImagesOptions, openImages, requireImageFiles } from './open-images.js';
export { type LoadOwnDataOptions, loadOwnData, type OwnData, type OwnImageData, type OwnImages } from './own-data.js';
export { decodesAtOnce } from './parallel.js';
export { PrefetchPass, type PrefetchPassOptions } from './prefetch-pass.js';
export { slicePart } from './slice-part.js';
export { StreamedImages, type StreamedImagesOptions } from './streamed-images.js';
export { type InMemoryVectors, standardize } from './vectors.js';
export { stoppingWhileWaiting } from './while-waiting.js';
