// Where a data set lies: in a folder, or on a web server.
import { join, resolve } from 'node:path';
import { shown } from '../format.js';
import { DataError } from './errors.js';

/** Whether a data set, or a file of it, is given by its address on a web server. */
export const isUrl = (location: string): boolean => /^https?:\/\//i.test(location);

/** The whole path of a folder; an address as it is. */
export const wholeLocation = (location: string): string => (isUrl(location) ? location : resolve(location));

/** A file in a folder, or below an address. */
export const fileIn = (location: string, name: string): string =>
  isUrl(location) ? `${location.replace(/\/+$/, '')}/${name}` : join(location, name);

/**
 * Throws `DataError` (DATA_ARGUMENT) for an address that names more than a folder: what stands in it is recorded with a run, and
 * the names of files are put behind it.
 */
export function requirePlainUrl(location: string): void {
  const url = URL.canParse(location) ? new URL(location) : null;
  const hasMore = url === null || url.username !== '' || url.password !== '' || /[?#]/.test(location);
  if (!hasMore) return;
  // A password must not come to lie in a log.
  const got = url === null ? shown(location) : `one of ${url.host}`;
  throw new DataError(
    'DATA_ARGUMENT',
    `dataDir: expected an address without user, password, ? and #, such as https://host/folder, got ${got}`,
  );
}
