// Where features of many images are kept: in memory or in a file, a row of equal length for each image.
import { constants } from 'node:buffer';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { PrefetchPass } from '../data/index.js';
import { readRegion, writeRegion } from '../files.js';
import { type Device, type DType, elementSize, empty, keep, scope, type Tensor, tensor } from '../tensor/index.js';
import { FeatureCacheError } from './errors.js';

/** The shape of one image's features, such as [channels, height, width], and what they are kept in. */
export interface RowFormat {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

export const rowBytes = ({ shape, dtype }: RowFormat): number =>
  shape.reduce((product, size) => product * size, 1) * elementSize(dtype);

/** Gives some of the features that were read, [length, ...shape] on the training device. Call it in a scope. */
export type GiveFeatures = (start: number, length: number) => Tensor;

/** One row of features for each image, in any format of `rowBytes` bytes. */
export interface FeatureRows {
  readonly rowBytes: number;
  /** The rows of images that follow each other. */
  read(first: number, count: number, format: RowFormat): Promise<GiveFeatures>;
  /** Writes features [n, ...shape] from an image on; the tensor is read before this returns. */
  write(start: number, features: Tensor): Promise<void>;
  /** The rows of one batch after another, until a batch has no indices. */
  gather(
    indicesOf: (batch: number) => Int32Array,
    options: { first: number; format: RowFormat },
  ): AsyncIterable<GiveFeatures>;
  dispose(): Promise<void>;
}

/** Rows in the memory of the host or of a GPU. */
export class MemoryRows implements FeatureRows {
  /** [count, elements of a row]; maps lie in their row channels last, as convolutions want it. */
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
    scope(() => this.#rows.narrow(0, start, count).copy_(mapsAsRows(features).reshape([count, -1])));
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
    return featuresOf(rows.to({ device: this.device }), format);
  }

  async dispose(): Promise<void> {
    this.#rows.dispose();
  }
}

/** Maps [n, channels, height, width] as [n, height, width, channels]; features of another shape as they are. */
const mapsAsRows = (features: Tensor): Tensor => (features.dim === 4 ? features.permute([0, 2, 3, 1]) : features);

/** Features [n, ...shape] of rows [n, elements], in which maps lie channels last. */
function featuresOf(rows: Tensor, { shape }: RowFormat): Tensor {
  const count = rows.shape[0]!;
  if (shape.length !== 3) return rows.reshape([count, ...shape]);
  const [channels, height, width] = shape as readonly [number, number, number];
  return rows.reshape([count, height, width, channels]).permute([0, 3, 1, 2]);
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
    const values = scope(() => mapsAsRows(features).toTypedArray());
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
    const pass = new PrefetchPass({
      indicesOf,
      first,
      read: async (index) => {
        const row = Buffer.allocUnsafeSlow(this.rowBytes);
        await this.#fill(row, index, 1);
        return row;
      },
      sampleBytes: this.rowBytes,
      ahead: AHEAD,
      concurrency: READS_AT_ONCE,
    });
    try {
      for (let batch = await pass.next(); batch !== null; batch = await pass.next()) {
        const { bytes } = batch;
        yield (start, length) => this.#give(bytes, start, length, format);
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
    return featuresOf(tensor(values, { shape, dtype: format.dtype, device: this.device }), format);
  }

  async dispose(): Promise<void> {
    await this.#file.close();
    await rm(this.path, { force: true });
  }
}
