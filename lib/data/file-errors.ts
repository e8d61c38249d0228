// What the operating system says about a path, in words.
import { escapedByte, shown } from '../format.js';
import { DataError } from './errors.js';

/** What was to be read at a path. */
export type Expected = 'file' | 'folder';

/** The `DataError` of a failed call on `path`: DATA_NOT_FOUND where it is not there, else DATA_UNREADABLE. */
export function fileSystemError(path: string, error: unknown, expected: Expected): DataError {
  const { code, message } = error as NodeJS.ErrnoException;
  const options = { cause: error, path };
  const name = shown(path);
  switch (code) {
    case 'ENOENT':
      return new DataError('DATA_NOT_FOUND', `there is no ${expected} ${name}`, options);
    case 'ENOTDIR':
      return new DataError(
        'DATA_UNREADABLE',
        `${name} cannot be read: expected a folder, got a file (ENOTDIR)`,
        options,
      );
    case 'EISDIR':
      return new DataError(
        'DATA_UNREADABLE',
        `${name} cannot be read: expected a file, got a folder (EISDIR)`,
        options,
      );
    case 'EACCES':
    case 'EPERM':
      return new DataError('DATA_UNREADABLE', `${name} cannot be read: permission denied (${code})`, options);
    case 'ELOOP':
      return new DataError(
        'DATA_UNREADABLE',
        `${name} cannot be read: its symbolic links form a loop (ELOOP)`,
        options,
      );
    default:
      return new DataError('DATA_UNREADABLE', `${name} cannot be read: ${message}`, options);
  }
}

/** A name that is no UTF-8, for people: every byte outside of printable ASCII is escaped. */
export function shownBytes(name: Uint8Array): string {
  return Array.from(name, (byte) => (byte < 0x20 || byte > 0x7e ? escapedByte(byte) : String.fromCharCode(byte))).join(
    '',
  );
}
