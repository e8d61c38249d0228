import { mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { extract, list, type ReadEntry } from 'tar';
import { type DownloadProgress, download } from '#scripts/download.mjs';
import { asWriteError } from '#scripts/support/files.mjs';
import { makeDirectory } from '#scripts/support/make-directory.mjs';
import { CIFAR10_BINARY_FOLDER, requireCifar10Binary } from './cifar10.js';
import { DataError } from './errors.js';

/** The authors' archive of the binary version. Its page publishes the MD5 c32a1d4ab5d03f1284b67883e8d87530 for it. */
const OFFICIAL = {
  url: 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
  sha256: 'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
  size: 170_052_171,
} as const;

export interface DownloadCifar10Options {
  /** Made where it is missing; the images come to lie in its folder `cifar-10-batches-bin`. */
  readonly dataDir: string;
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Stops the transfer and rejects with the signal's reason; the next call goes on from there. */
  readonly signal?: AbortSignal;
  /** A mirror of the archive: the same file, under another address. */
  readonly url?: string;
  /** Of another archive than the official one, for tests: its checksum, its bytes, its images a file. */
  readonly archive?: { readonly sha256: string; readonly size: number; readonly recordsPerBatch: number };
}

/**
 * Fetches the official CIFAR-10 archive, checks its SHA-256 and unpacks it; resolves with the path of the folder. The folder
 * appears whole or not at all. Where it is there and whole, nothing is fetched.
 *
 * Throws `DownloadError` when the archive cannot be had, and `DataError`: DATA_CORRUPT for a damaged archive or a folder that
 * is there but not whole, DATA_UNSUPPORTED for an archive that holds links or would write outside its folder.
 */
export async function downloadCifar10(options: DownloadCifar10Options): Promise<string> {
  const { dataDir, onProgress, signal, url = OFFICIAL.url, archive } = options;
  const { sha256, size } = archive ?? OFFICIAL;
  const target = join(dataDir, CIFAR10_BINARY_FOLDER);
  if (await exists(target)) {
    await requireCifar10Binary(target, archive?.recordsPerBatch).catch((error: Error) => {
      throw new DataError('DATA_CORRUPT', `${error.message}; remove ${target} to fetch it anew`, { cause: error });
    });
    return target;
  }
  await makeDirectory(dataDir);
  const file = join(dataDir, 'cifar-10-binary.tar.gz');
  await download({ url, to: file, sha256, size, onProgress, signal });
  await unpack(file, target, { recordsPerBatch: archive?.recordsPerBatch, signal });
  await rm(file);
  return target;
}

interface UnpackOptions {
  readonly recordsPerBatch: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Unpacks beside the target, checks what came out, and renames it into place. */
async function unpack(archive: string, target: string, { recordsPerBatch, signal }: UnpackOptions): Promise<void> {
  await requireHarmless(archive);
  signal?.throwIfAborted();
  const temporary = await mkdtemp(`${target}.partial-`);
  try {
    await readingArchive(archive, () => extract({ file: archive, cwd: temporary, strict: true }));
    signal?.throwIfAborted();
    const unpacked = join(temporary, CIFAR10_BINARY_FOLDER);
    await requireCifar10Binary(unpacked, recordsPerBatch);
    await rename(unpacked, target);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Looks at every entry before any is written. */
async function requireHarmless(archive: string): Promise<void> {
  let fault: string | undefined;
  const look = (entry: ReadEntry) => {
    fault ??= faultOf(entry);
  };
  await readingArchive(archive, () => list({ file: archive, strict: true, onReadEntry: look }));
  if (fault !== undefined) throw new DataError('DATA_UNSUPPORTED', `${archive} was not unpacked: ${fault}`);
}

function faultOf({ path, type }: ReadEntry): string | undefined {
  const parts = path.split(/[\\/]/);
  if (parts[0] !== CIFAR10_BINARY_FOLDER || parts.includes('..')) {
    return `its entry '${path}' lies outside ${CIFAR10_BINARY_FOLDER}`;
  }
  if (type !== 'File' && type !== 'OldFile' && type !== 'Directory') return `its entry '${path}' is a ${type}`;
  return undefined;
}

async function readingArchive(archive: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (isDiskFull(error)) throw asWriteError(`what ${archive} holds`, error);
    const reason = error instanceof Error ? error.message : String(error);
    throw new DataError('DATA_CORRUPT', `${archive} cannot be unpacked: ${reason}`, { cause: error });
  }
}

const isDiskFull = (error: unknown): boolean =>
  ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '');

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
