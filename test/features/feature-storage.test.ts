// Rows of features in a file.
import { truncate } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { FileRows, type RowFormat } from '../../lib/features/feature-storage.js';
import { scope, type Tensor } from '../../lib/tensor/index.js';
import { hashed } from '../support/fixtures.js';
import { temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();
const FORMAT: RowFormat = { shape: [2, 3, 3], dtype: 'float32' };

async function withRows(name: string, count: number, body: (rows: FileRows, features: Tensor) => Promise<void>) {
  const rows = await FileRows.create(FORMAT, at(name), 'cpu');
  const features = hashed([count, ...FORMAT.shape], 1);
  try {
    await rows.write(0, features);
    await body(rows, features);
  } finally {
    features.dispose();
    await rows.dispose();
  }
}

describe('rows in a file', () => {
  it('are read as they were written, some of them and whole', async () => {
    await withRows('whole', 5, async (rows, features) => {
      const give = await rows.read(1, 4, FORMAT);
      scope(() => {
        expect(give(0, 4).toArray()).toEqual(features.narrow(0, 1, 4).toArray());
        expect(give(2, 1).toArray()).toEqual(features.narrow(0, 3, 1).toArray());
      });
    });
  });

  it('that are not there any more are told with what was expected and what came', async () => {
    await withRows('cut', 5, async (rows) => {
      await truncate(at('cut'), 4 * 72 + 10);
      await expect(rows.read(2, 3, FORMAT)).rejects.toThrow(
        `${at('cut')}: expected 216 bytes for the features of images 2 to 4, got 154`,
      );
      const batches = rows.gather((batch) => (batch === 0 ? Int32Array.of(4) : new Int32Array()), {
        first: 0,
        format: FORMAT,
      });
      await expect(batches[Symbol.asyncIterator]().next()).rejects.toMatchObject({
        code: 'CACHE_FILE',
        message: `${at('cut')}: expected 72 bytes for the features of image 4, got 10`,
      });
    });
  });

  it('of a batch that is larger than any buffer are refused with the way out', async () => {
    // Nothing is written, and nothing is allocated: 2^54 bytes an image, more than any Node.js has in a buffer.
    const format: RowFormat = { shape: [1, 2 ** 26, 2 ** 26], dtype: 'float32' };
    const rows = await FileRows.create(format, at('huge'), 'cpu');
    const batches = rows.gather(() => Int32Array.of(0, 1), { first: 0, format });
    await expect(batches[Symbol.asyncIterator]().next()).rejects.toThrow('take a smaller --batch-size');
    await rows.dispose();
  });
});
