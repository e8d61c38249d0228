// The bytes of image files. Decoders get these and no names: what they know a file by, they may keep from an earlier look at
// it, and they may take a part of a name for options.
import { closeSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { readRegion } from '../files.js';
import { byteSize, shown } from '../format.js';
import { DataError } from './errors.js';
import { fileSystemError } from './file-errors.js';
import { type OpenFile, openRegularFile } from './file-kind.js';

/** Bytes of files that are in memory at once; a larger file is there alone. */
const BYTES_AT_ONCE = 256 * 2 ** 20;

/** Of one file: an image of the most pixels that are decoded by default has 1.33 GiB at most, 16 bits a sample, not compressed. */
const MAX_FILE_BYTES = 2 ** 31;

const readBytes = promisify(read);

/**
 * Calls `use` with the bytes of a regular file, which are in memory until it has ended; waits where too many are. Throws
 * `DataError`: as `openRegularFile` does, DATA_UNREADABLE, DATA_UNSUPPORTED for a file of more than 2 GiB.
 */
export async function withFileBytes<T>(path: string, use: (bytes: Uint8Array) => Promise<T>): Promise<T> {
  const file = await openRegularFile(path);
  return budget.during(file.size, async () => use(await readAndClose(path, file)));
}

async function readAndClose(path: string, { descriptor, size }: OpenFile): Promise<Uint8Array> {
  try {
    if (size > MAX_FILE_BYTES) {
      const expected = `expected an image file of at most ${byteSize(MAX_FILE_BYTES)}`;
      throw new DataError('DATA_UNSUPPORTED', `${shown(path)} has ${byteSize(size)}: ${expected}`, { path });
    }
    const bytes = Buffer.allocUnsafeSlow(size);
    const came = await readRegion({ read: (...region) => readBytes(descriptor, ...region) }, bytes, 0);
    return bytes.subarray(0, came);
  } catch (error) {
    throw error instanceof DataError ? error : fileSystemError(path, error, 'file');
  } finally {
    closeSync(descriptor);
  }
}

/** Lets work begin, in order, while there is room for the bytes that it holds. */
export class ByteBudget {
  readonly #total: number;
  #free: number;
  readonly #waiting: { readonly bytes: number; readonly begin: () => void }[] = [];

  constructor(total: number) {
    this.#total = total;
    this.#free = total;
  }

  async during<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    const held = Math.min(bytes, this.#total);
    await new Promise<void>((begin) => {
      this.#waiting.push({ bytes: held, begin });
      this.#next();
    });
    try {
      return await work();
    } finally {
      this.#free += held;
      this.#next();
    }
  }

  #next(): void {
    for (let first = this.#waiting[0]; first !== undefined && first.bytes <= this.#free; first = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= first.bytes;
      first.begin();
    }
  }
}

const budget = new ByteBudget(BYTES_AT_ONCE);
