import { type DatasetName, datasetOf } from './catalogue.js';
import { type CheckedFiles, type CheckFilesOptions, NO_FILES } from './check-files.js';
import { requireOptionsOf } from './declaration.js';
import { DataError } from './errors.js';
import { requireMaxPixels } from './image-file.js';

export interface CheckDatasetOptions extends CheckFilesOptions {
  readonly name: DatasetName;
  readonly dataDir: string;
}

export interface DatasetCheck extends CheckedFiles {
  readonly name: string;
  readonly dataDir: string;
}

/**
 * Looks at a whole data set before it is used: every image file is decoded once, some at a time. What is wrong is listed,
 * not thrown. Throws `DataError`: DATA_ARGUMENT for a bad option, DATA_CANCELLED on `signal`.
 */
export async function checkDataset(options: CheckDatasetOptions): Promise<DatasetCheck> {
  const { name, dataDir, signal } = options;
  requireMaxPixels(options.maxPixels);
  try {
    const declaration = datasetOf(name);
    const { check } = declaration;
    if (check === null) throw new DataError('DATA_ARGUMENT', `${name} has no files: there is nothing to check`);
    requireOptionsOf(declaration, { dataDir, maxPixels: options.maxPixels });
    return { name, dataDir, ...(await check(options)) };
  } catch (error) {
    if (signal?.aborted) {
      throw new DataError('DATA_CANCELLED', 'checking the data set was cancelled', { cause: signal.reason });
    }
    if (!(error instanceof DataError) || error.code === 'DATA_ARGUMENT') throw error;
    return { ...{ name, dataDir, parts: [], problems: [error], duplicates: [] }, ...NO_FILES };
  }
}
