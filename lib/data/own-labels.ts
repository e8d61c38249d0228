import { shown } from '../schema.js';
import { DataError } from './errors.js';

interface LabelOptions {
  /** For messages: "data.train.labels". */
  readonly name: string;
  readonly count: number;
  /** What each is the label of. Default: an image. */
  readonly of?: string;
  readonly classes: readonly string[];
}

/** Labels as indices into the classes. Throws `DataError` (DATA_ARGUMENT) for another number of them, and for what is no class. */
export function labelsOf(
  labels: ArrayLike<number | string>,
  { name, count, of = 'an image', classes }: LabelOptions,
): Int32Array {
  if (typeof labels !== 'object' || labels === null || labels.length !== count) {
    const got = typeof labels === 'object' ? shown(labels?.length) : `${typeof labels} ${shown(labels)}`;
    throw new DataError('DATA_ARGUMENT', `${name}: expected ${count} labels, one ${of}, got ${got}`);
  }
  const indices = new Map(classes.map((name, index) => [name, index]));
  const all = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const label = labels[i];
    const index = typeof label === 'string' ? indices.get(label) : label;
    all[i] = isIndex(index, classes) ? index : refuseLabel(label, `${name}[${i}]`, classes);
  }
  return all;
}

/** The index of a class that is given so, or by its name. Throws `DataError` (DATA_ARGUMENT). */
export function labelOf(label: unknown, name: string, classes: readonly string[]): number {
  const index = typeof label === 'string' ? classes.indexOf(label) : label;
  return isIndex(index, classes) ? index : refuseLabel(label, name, classes);
}

const isIndex = (index: unknown, classes: readonly string[]): index is number =>
  typeof index === 'number' && Number.isInteger(index) && index >= 0 && index < classes.length;

function refuseLabel(label: unknown, name: string, classes: readonly string[]): never {
  throw new DataError(
    'DATA_ARGUMENT',
    `${name}: expected a label from 0 to ${classes.length - 1} or the name of a class, got ${shown(label)}`,
  );
}
