// What is wrong with data of one's own, by the name of the value.
import { shown } from '../schema.js';
import { DataError } from './errors.js';

/** Throws `DataError` (DATA_ARGUMENT). `name` is that of a value of the data, '' all of them. */
export function refuse(name: string, expected: string, got: unknown): never {
  throw new DataError(
    'DATA_ARGUMENT',
    `${name === '' ? 'data' : `data.${name}`}: expected ${expected}, got ${shown(got)}`,
  );
}

/** The value, before it is taken apart. Throws `DataError` (DATA_ARGUMENT) for anything but an object. */
export function requireObject<T>(name: string, value: T, expected: string): T {
  return typeof value === 'object' && value !== null ? value : refuse(name, expected, value);
}
