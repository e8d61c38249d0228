// The bytes of image files. Decoders get bytes and no names: by name they may give an image from a cache of theirs, and may read
// a part of the name as options.
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

/** Where something lies in a file, in bytes. */
export interface FilePart {
  readonly offset: number;
  readonly length: number;
}

/**
 * Calls `use` with the bytes of a regular file, or of a part of it, which stay in memory until it has ended. Waits while too many
 * bytes are in memory. Throws `DataError`: as `openRegularFile` does, DATA_UNREADABLE, DATA_UNSUPPORTED for more than 2 GiB,
 * DATA_CORRUPT for a file that ends within the part.
 */
export async function withFileBytes<T>(
  path: string,
  use: (bytes: Uint8Array) => Promise<T>,
  part?: FilePart,
): Promise<T> {
  const file = await openRegularFile(path);
  return budget.during(part?.length ?? file.size, async () => use(await readAndClose(path, file, part)));
}

async function readAndClose(path: string, { descriptor, size }: OpenFile, part?: FilePart): Promise<Uint8Array> {
  const { offset, length } = part ?? { offset: 0, length: size };
  try {
    if (length > MAX_FILE_BYTES) {
      const expected = `expected an image file of at most ${byteSize(MAX_FILE_BYTES)}`;
      throw new DataError('DATA_UNSUPPORTED', `${shown(path)} has ${byteSize(length)}: ${expected}`, { path });
    }
    const bytes = Buffer.allocUnsafeSlow(length);
    const came = await readRegion({ read: (...region) => readBytes(descriptor, ...region) }, bytes, offset);
    if (part !== undefined && came < length) {
      throw new DataError('DATA_CORRUPT', `${shown(path)} ends at ${size} bytes: expected ${offset + length}`, {
        path,
      });
    }
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
