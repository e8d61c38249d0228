import type { FileHandle } from 'node:fs/promises';

/** The system refused a change on disk. The message names the path, what was to be done and why it could not be. */
export declare class WriteError extends Error {
  readonly code: 'WRITE_FAILED';
  readonly path: string;
  constructor(path: string, cause: unknown, action?: string);
}

/** An error of the system as a WriteError; any other as it is. `action`: a participle (default: "written"). */
export declare function asWriteError(path: string, error: unknown, action?: string): unknown;

/**
 * Writes a file that appears whole or not at all, and is on the disk when this resolves; until then an older one stays.
 * A function writes the content to the FileHandle that it is given. Rejects with WriteError.
 */
export declare function writeWhole(
  path: string,
  content: string | Uint8Array | ((file: FileHandle) => Promise<void>),
): Promise<void>;

/** The files under a folder, sorted, as full paths; none when the folder is missing. */
export declare function filesUnder(folder: string, accept?: (name: string) => boolean): string[];
