// Whether a run's data has changed, and how.
import {
  compareParts,
  type DataIdentity,
  type Dataset,
  identifyDataset,
  identifyPart,
  type PartChanges,
} from '../data/index.js';
import { RunDirectoryError } from './errors.js';
import type { RunConfig } from './record.js';

export interface CheckedData {
  /** As the data is now. */
  readonly data: DataIdentity;
  /** Shown with every result of the run. */
  readonly notes: readonly string[];
}

/**
 * Compares the data with the record of a run. Throws RunDirectoryError, which tells the classes and images that are missing, new
 * or changed, and what to do. With `acceptChangedData`, images that were replaced in place are only noted.
 */
export async function checkData(
  directory: string,
  config: RunConfig,
  dataset: Dataset,
  {
    acceptChangedData = false,
    decoderChange = null,
    signal,
  }: {
    acceptChangedData?: boolean | undefined;
    /** For people: that images are decoded by another decoder, which may be why they differ. */
    decoderChange?: string | null;
    signal?: AbortSignal | undefined;
  } = {},
): Promise<CheckedData> {
  const refuse = (problem: string, mend: string): never => {
    throw new RunDirectoryError(`${directory}: the data is not what the run was started with: ${problem}; ${mend}`);
  };
  const data = await identifyDataset(dataset, { signal });
  const classes = config.classes ?? dataset.classes;
  const classChanges = describeClasses({ classes, data: config.data }, { classes: dataset.classes, data });
  if (classChanges !== null) refuse(classChanges, 'put the classes back as they were, or train a new run');
  if (config.data === undefined) {
    return { data, notes: [requireCounts(directory, config, dataset)] };
  }
  const changes = (['train', 'test'] as const).flatMap((part) => {
    const found = compareParts(config.data![part], data[part]);
    return found === null ? [] : [{ part, found }];
  });
  if (changes.length === 0) return { data, notes: [] };
  const problem = changes.map(({ part, found }) => describeChanges(part, dataset.classes, found)).join('; ');
  if (changes.some(({ found }) => !isInPlace(found))) {
    refuse(problem, 'put the images back as they were, or train a new run');
  }
  if (!acceptChangedData) {
    refuse(
      decoderChange === null ? problem : `${problem} (${decoderChange})`,
      'put the old images back, or go on with the new ones, as after a damaged file was replaced: --accept-changed-data',
    );
  }
  return { data, notes: [`The data was changed while the run was interrupted: ${problem}.`] };
}

/** How the test images differ from those that the run was started with; null where they do not, or that is not known. */
export async function describeTestChanges(config: RunConfig, dataset: Dataset): Promise<string | null> {
  if (config.data === undefined) return null;
  const found = compareParts(config.data.test, await identifyPart(dataset.test, dataset.classes.length));
  return found === null ? null : describeChanges('test', dataset.classes, found);
}

const isSame = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((name, label) => name === b[label]);

const isInPlace = ({ missing, added, renamed }: PartChanges): boolean =>
  missing.length + added.length + renamed.length === 0;

/** The record of an older version has only the counts of images. */
function requireCounts(directory: string, { recipe }: RunConfig, dataset: Dataset): string {
  const recorded = recipe.dataset as { trainCount?: number; testCount?: number } | undefined;
  for (const part of ['train', 'test'] as const) {
    const count = recorded?.[`${part}Count`];
    if (count !== undefined && count !== dataset[part].count) {
      throw new RunDirectoryError(
        `${directory}: the run was started with ${count} ${part} images, but the data set now has ${dataset[part].count}`,
      );
    }
  }
  return 'The run was started by a version that did not record which images it was made of: only their number was checked.';
}

interface ClassList {
  readonly classes: readonly string[];
  readonly data?: DataIdentity | undefined;
}

/** How the classes of a data set differ from those of a run; null where they are the same. */
export function describeClasses(before: ClassList, after: ClassList): string | null {
  if (isSame(before.classes, after.classes)) return null;
  const missing = before.classes.filter((name) => !after.classes.includes(name));
  const added = after.classes.filter((name) => !before.classes.includes(name));
  if (missing.length + added.length === 0) {
    const moved = before.classes.findIndex((name, label) => name !== after.classes[label]);
    return `the classes are in another order: label ${moved} was ${before.classes[moved]}, and is now ${after.classes[moved] ?? 'no more'}`;
  }
  const pairs = missing.flatMap((name) => {
    const images = imagesOf(before, name);
    const now = images === null ? undefined : added.find((other) => imagesOf(after, other) === images);
    return now === undefined ? [] : [{ name, now }];
  });
  const isPaired = (name: string): boolean => pairs.some((pair) => pair.name === name || pair.now === name);
  return [
    ...listed(
      'classes renamed',
      pairs.map(({ name, now }) => `${name} is now ${now}`),
    ),
    ...listed(
      'classes missing',
      missing.filter((name) => !isPaired(name)),
    ),
    ...listed(
      'new classes',
      added.filter((name) => !isPaired(name)),
    ),
  ].join('; ');
}

/** What a class's training images are, where that is known. */
function imagesOf({ classes, data }: ClassList, name: string): string | null {
  const label = classes.indexOf(name);
  const train = data?.train;
  if (train === undefined) return null;
  const { images, ...digests } = train;
  const each = [digests.names, digests.sizes, digests.pixels, digests.values].map((one) => one?.[label]);
  return [images[label], ...each].join();
}

function describeChanges(part: 'train' | 'test', classes: readonly string[], changes: PartChanges): string {
  const counted = (one: { label: number; images: number }): string => `${one.images} of class ${classes[one.label]}`;
  const named = (label: number): string => `class ${classes[label]}`;
  const texts = [
    ...listed('images missing', changes.missing.map(counted)),
    ...listed('new images', changes.added.map(counted)),
    ...listed('as many images under other names', changes.renamed.map(named)),
    ...listed('images replaced in place', changes.changed.map(named)),
    ...(changes.reordered ? ['the images are in another order'] : []),
  ];
  return `${part}: ${texts.join('; ')}`;
}

const LISTED = 3;

function listed(what: string, names: readonly string[]): string[] {
  if (names.length === 0) return [];
  const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : '';
  return [`${what}: ${names.slice(0, LISTED).join(', ')}${more}`];
}
