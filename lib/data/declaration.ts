import type { DownloadProgress } from '#scripts/download.mjs';
import { shown } from '../format.js';
import type { CheckedFiles, CheckFilesOptions } from './check-files.js';
import { DataError } from './errors.js';
import { shownSize, sidesOf } from './image-size.js';
import type { Dataset } from './labelled-images.js';
import { requireMemory } from './memory.js';
import type { ImageFileOptions } from './reading-options.js';

/** What a data set may be asked for. One that lies in no directory, or has no image files, refuses what makes no sense for it. */
export interface DatasetOptions extends ImageFileOptions {
  /** Where the files are. */
  readonly dataDir?: string | undefined;
  /** Of images that the program draws: another seed gives other images of the same kind. Default: 0. */
  readonly seed?: number | undefined;
}

/** The default training values for a data set, by their names in a recipe. */
export interface TrainingProtocol {
  readonly imageSize: number;
  readonly testResize: number | null;
  readonly augmentation: {
    readonly cropPadding: number;
    readonly randomResizedCrop: boolean;
    readonly horizontalFlip: boolean;
  };
  readonly training: {
    readonly epochs: number;
    readonly batchSize: number;
    readonly learningRate: number;
    readonly milestones: readonly number[];
    readonly decay: number;
    readonly momentum: number;
    readonly weightDecay: number;
  };
  readonly evaluation: { readonly batchSize: number; readonly ensemble: 'logits' | 'probabilities' };
}

/** A data set, declared once: all that recipes, the command line and the documents know of it. */
export interface DatasetDeclaration<Name extends string = string, Loaded extends Dataset = Dataset> {
  readonly name: Name;
  /** As the literature writes it. */
  readonly title: string;
  /** Where its images come from: the program draws them, they lie in a directory, or the caller gives them in code. */
  readonly source: 'program' | 'directory' | 'caller';
  /** Whether its images are JPEG and PNG files, each of its own size. */
  readonly hasImageFiles: boolean;
  readonly protocol: TrainingProtocol;
  /** Throws DataError. */
  readonly load: (options: DatasetOptions) => Promise<Loaded>;
  /** Looks at all of its files; null where there is nothing to look at. */
  readonly check: ((options: CheckFilesOptions & { readonly dataDir: string }) => Promise<CheckedFiles>) | null;
  /** Downloads it and resolves with the path of its folder; null where its owner must be asked first. */
  readonly download:
    | ((options: {
        readonly dataDir: string;
        readonly onProgress?: (progress: DownloadProgress) => void;
        readonly signal?: AbortSignal;
      }) => Promise<string>)
    | null;
}

/** Keeps the name, and the type of what is loaded. */
export const declareDataset = <const Name extends string, Loaded extends Dataset>(
  declaration: DatasetDeclaration<Name, Loaded>,
): DatasetDeclaration<Name, Loaded> => declaration;

export function requireDataDir(name: string, { dataDir }: DatasetOptions): string {
  if (dataDir === undefined || dataDir === '') {
    throw new DataError('DATA_ARGUMENT', `${name} is read from a directory: give dataDir (--data-dir DIR)`);
  }
  return dataDir;
}

/** Throws `DataError` (DATA_ARGUMENT) for options that the data set does not have, whatever their values. */
export function requireOptionsOf(
  { name, source, hasImageFiles }: Pick<DatasetDeclaration, 'name' | 'source' | 'hasImageFiles'>,
  { dataDir, seed, maxPixels, normalization, onBadImage }: DatasetOptions,
): void {
  const refuse = (problem: string): never => {
    throw new DataError('DATA_ARGUMENT', `${name} ${problem}`);
  };
  if (source !== 'directory' && dataDir !== undefined) {
    const by = source === 'program' ? 'drawn by the program' : 'given in code';
    refuse(`is ${by} and takes no directory: expected no dataDir (--data-dir), got ${shown(dataDir)}`);
  }
  if (source !== 'program' && seed !== undefined) {
    refuse(`is ${source === 'directory' ? 'read from files' : 'given in code'}: expected no seed, got ${seed}`);
  }
  if (hasImageFiles) return;
  if (maxPixels !== undefined) refuse(`has no image files: expected no maxPixels (--max-pixels), got ${maxPixels}`);
  if (normalization !== undefined) {
    refuse(`has a normalisation of its own: expected no normalization, got ${JSON.stringify(normalization)}`);
  }
  // Recipes always say what is done about bad images.
  if (onBadImage === 'skip') refuse("has no image files: expected onBadImage 'fail' or none, got 'skip'");
}

/**
 * Throws `DataError` (DATA_ARGUMENT) for sizes and channels that colour images of 32 x 32 pixels do not have, and for more than
 * memory holds.
 */
export function requireImages32(
  name: string,
  { imageSize, channels, testResize }: DatasetOptions,
  counts: { readonly train: number; readonly test: number },
): void {
  const refuse = (problem: string): never => {
    throw new DataError('DATA_ARGUMENT', `${name} has ${problem}`);
  };
  if (imageSize !== undefined && sidesOf(imageSize).some((side) => side !== 32)) {
    refuse(`images of 32 x 32 only, got imageSize ${shownSize(sidesOf(imageSize))}`);
  }
  if (channels !== undefined && channels !== 3) {
    refuse(`no image files, which could be made grey: expected channels 3 (--channels) or none, got ${channels}`);
  }
  if (testResize !== undefined) refuse(`images of 32 x 32 only: expected no testResize, got ${testResize}`);
  requireMemory({
    what: `${counts.train} training and ${counts.test} test images of 32 x 32 pixels`,
    bytes: [counts.train, counts.test].map((count) => count * 3 * 32 ** 2),
    instead: 'take fewer (--train-limit, --test-limit)',
  });
}
