// All data sets. A new one is a file with its declaration, and a line here.

import { cifar10 } from './cifar10.js';
import type { DatasetDeclaration } from './declaration.js';
import { DataError } from './errors.js';
import { folder } from './folder.js';
import { imagenet } from './imagenet.js';
import { own } from './own.js';
import { shapes } from './shapes.js';

const DATASETS = [shapes, cifar10, folder, imagenet, own] as const;

type Declared = (typeof DATASETS)[number];

/** A data set that `loadDataset` and recipes know. */
export type DatasetName = Declared['name'];

/** What `loadDataset` gives for a name: images in memory, or files that are read while they are used. */
export type DatasetOf<Name extends DatasetName> = Awaited<ReturnType<Extract<Declared, { name: Name }>['load']>>;

export const DATASET_NAMES = DATASETS.map(({ name }) => name) as [DatasetName, ...DatasetName[]];

/** Those that can be loaded by name: not images that the caller gives in code. */
export const LOADABLE_DATASETS: readonly DatasetName[] = DATASETS.filter(({ source }) => source !== 'caller').map(
  ({ name }) => name,
);

/** Throws `DataError` (DATA_ARGUMENT) for a name that is none. */
export function datasetOf(name: string): DatasetDeclaration<DatasetName> {
  const found = DATASETS.find((one) => one.name === name);
  if (found !== undefined) return found;
  throw new DataError('DATA_ARGUMENT', `unknown data set '${name}': expected ${LOADABLE_DATASETS.join(', ')}`);
}

/** A data set's name as the literature writes it, such as CIFAR-10; any other as it is. */
export const datasetTitle = (name: string): string => DATASETS.find((one) => one.name === name)?.title ?? name;
