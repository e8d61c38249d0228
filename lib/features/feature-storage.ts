// Where features of many images are kept: in memory or in a file, a row of equal length for each image.
import { constants } from 'node:buffer';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { DecodingPass } from '../data/index.js';
import { readRegion, writeRegion } from '../files.js';
import { type Device, type DType, elementSize, empty, keep, scope, type Tensor, tensor } from '../tensor/index.js';
import { FeatureCacheError } from './errors.js';

/** [channels, height, width] of an image's features, and what they are kept in. */
export interface RowFormat {
  readonly shape: readonly [number, number, number];
  readonly dtype: DType;
}

export const rowBytes = ({ shape, dtype }: RowFormat): number =>
  shape.reduce((product, size) => product * size, 1) * elementSize(dtype);

/** Some of the features that were read, to be asked for in a scope: [length, channels, height, width] on the training device. */
export type GiveFeatures = (start: number, length: number) => Tensor;

/** One row of features for each of some images. The rows of any format with as many bytes fit. */
export interface FeatureRows {
  readonly rowBytes: number;
  /** The rows of images that follow each other. */
  read(first: number, count: number, format: RowFormat): Promise<GiveFeatures>;
  /** Writes [n, channels, height, width] from an image on; the tensor is read before this returns. */
  write(start: number, features: Tensor): Promise<void>;
  /** The rows of the indices of one batch after another, until there are none. */
  gather(
    indicesOf: (batch: number) => Int32Array,
    options: { first: number; format: RowFormat },
  ): AsyncIterable<GiveFeatures>;
  dispose(): Promise<void>;
}

/** Rows in the memory of the host or of a GPU. */
export class MemoryRows implements FeatureRows {
  /** [count, elements of a row], each row channels last, as convolutions want it. */
  readonly #rows: Tensor;

  private constructor(
    rows: Tensor,
    readonly rowBytes: number,
    readonly device: Device,
  ) {
    this.#rows = rows;
  }

  /** `at` is where the rows lie, `device` where they are used. */
  static create(format: RowFormat, count: number, { at, device }: { at: Device; device: Device }): MemoryRows {
    const size = rowBytes(format);
    const rows = scope(() =>
      keep(empty([count, size / elementSize(format.dtype)], { dtype: format.dtype, device: at })),
    );
    return new MemoryRows(rows, size, device);
  }

  async read(first: number, _count: number, format: RowFormat): Promise<GiveFeatures> {
    return (start, length) => this.#give(this.#rows.narrow(0, first + start, length), format);
  }

  async write(start: number, features: Tensor): Promise<void> {
    const count = features.shape[0]!;
    scope(() => this.#rows.narrow(0, start, count).copy_(features.permute([0, 2, 3, 1]).reshape([count, -1])));
  }

  async *gather(
    indicesOf: (batch: number) => Int32Array,
    { first, format }: { first: number; format: RowFormat },
  ): AsyncGenerator<GiveFeatures> {
    for (let batch = first; ; batch++) {
      const indices = indicesOf(batch);
      if (indices.length === 0) return;
      yield (start, length) => {
        const chosen = tensor(indices.subarray(start, start + length), { device: this.#rows.device });
        return this.#give(this.#rows.indexSelect(0, chosen), format);
      };
    }
  }

  #give(rows: Tensor, format: RowFormat): Tensor {
    return channelsFirst(rows.to({ device: this.device }), format);
  }

  async dispose(): Promise<void> {
    this.#rows.dispose();
  }
}

/** [n, channels, height, width] of rows [n, elements] that lie channels last. */
function channelsFirst(rows: Tensor, { shape: [channels, height, width] }: RowFormat): Tensor {
  return rows.reshape([rows.shape[0]!, height, width, channels]).permute([0, 3, 1, 2]);
}

/** Batches that are read beyond the one in use, and rows read at once. */
const AHEAD = 3;
const READS_AT_ONCE = 8;

/** Rows in a file. */
export class FileRows implements FeatureRows {
  readonly #file: FileHandle;

  private constructor(
    readonly path: string,
    file: FileHandle,
    readonly rowBytes: number,
    readonly device: Device,
  ) {
    this.#file = file;
  }

  /** `device` is where the rows are used. */
  static async create(format: RowFormat, path: string, device: Device): Promise<FileRows> {
    return new FileRows(path, await open(path, 'w+'), rowBytes(format), device);
  }

  async read(first: number, count: number, format: RowFormat): Promise<GiveFeatures> {
    // A Uint8Array could not have as many bytes as a large batch.
    const rows = new DataView(new ArrayBuffer(count * this.rowBytes));
    await this.#fill(rows, first, count);
    return (start, length) => this.#give(rows, start, length, format);
  }

  async write(start: number, features: Tensor): Promise<void> {
    const values = scope(() => features.permute([0, 2, 3, 1]).toTypedArray());
    try {
      await writeRegion(this.#file, values, start * this.rowBytes);
    } catch (error) {
      throw new FeatureCacheError(
        'CACHE_FILE',
        `${this.path}: the features could not be written: ${(error as Error).message}`,
        {
          cause: error,
        },
      );
    }
  }

  async *gather(
    indicesOf: (batch: number) => Int32Array,
    { first, format }: { first: number; format: RowFormat },
  ): AsyncGenerator<GiveFeatures> {
    const batchBytes = indicesOf(first).length * this.rowBytes;
    if (batchBytes > constants.MAX_LENGTH) {
      throw new FeatureCacheError(
        'CACHE_FILE',
        `${this.path}: expected batches of at most ${constants.MAX_LENGTH} bytes of features, got ${batchBytes}; ` +
          'take a smaller --batch-size, or keep them in memory (--cache host=GIB)',
      );
    }
    const pass = new DecodingPass({
      indicesOf,
      first,
      decode: async (index) => {
        const row = Buffer.allocUnsafeSlow(this.rowBytes);
        await this.#fill(row, index, 1);
        return row;
      },
      imageLength: this.rowBytes,
      ahead: AHEAD,
      concurrency: READS_AT_ONCE,
    });
    try {
      for (let batch = await pass.next(); batch !== null; batch = await pass.next()) {
        const { pixels } = batch;
        yield (start, length) => this.#give(pixels, start, length, format);
      }
    } finally {
      await pass.stop();
    }
  }

  /** Reads the rows of images that follow each other. */
  async #fill(rows: ArrayBufferView, start: number, count: number): Promise<void> {
    const got = await readRegion(this.#file, rows, start * this.rowBytes);
    if (got === rows.byteLength) return;
    const images = count === 1 ? `image ${start}` : `images ${start} to ${start + count - 1}`;
    throw new FeatureCacheError(
      'CACHE_FILE',
      `${this.path}: expected ${rows.byteLength} bytes for the features of ${images}, got ${got}`,
    );
  }

  #give(rows: ArrayBufferView, start: number, count: number, format: RowFormat): Tensor {
    const buffer = rows.buffer as ArrayBuffer;
    const at = rows.byteOffset + start * this.rowBytes;
    const values =
      format.dtype === 'float32'
        ? new Float32Array(buffer, at, (count * this.rowBytes) / 4)
        : new Uint16Array(buffer, at, (count * this.rowBytes) / 2);
    const shape = [count, values.length / count];
    return channelsFirst(tensor(values, { shape, dtype: format.dtype, device: this.device }), format);
  }

  async dispose(): Promise<void> {
    await this.#file.close();
    await rm(this.path, { force: true });
  }
}
