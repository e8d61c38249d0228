// Vectors in memory: what is refused, what they are normalised with, what tells them apart.
import { describe, expect, it } from 'vitest';
import {
  applyTransforms,
  compareParts,
  type Dataset,
  type InMemoryVectorData,
  identifyDataset,
  inMemoryDataset,
  type LabelledVectors,
  loadOwnData,
  noDraws,
  openImages,
  standardize,
} from '../../lib/data/index.js';
import { scope, tensor } from '../../lib/tensor/index.js';

/** Three vectors of two values: the first 1, 2 and 6, the second 7 everywhere. */
const part = { vectors: Float32Array.of(1, 7, 2, 7, 6, 7), labels: [0, 1, 1] };
const data: InMemoryVectorData = { classes: ['a', 'b'], vectorLength: 2, train: part, test: part };

describe('vectors are normalised', () => {
  it('by mean and standard deviation of each value of the training part', () => {
    const test = { vectors: Float32Array.of(100, 100), labels: [0] };
    const { normalization, title, train } = inMemoryDataset({ ...data, test });
    expect(title).toBe("vectors of one's own");
    expect(normalization.mean).toEqual([3, 7]);
    // ((1 - 3)^2 + (2 - 3)^2 + (6 - 3)^2) / 3; what is the same everywhere has none.
    expect(normalization.std[0]).toBeCloseTo(Math.sqrt(14 / 3), 12);
    expect(normalization.std[1]).toBe(1);
    expect([train.count, train.vectorLength]).toEqual([3, 2]);
    scope(() => {
      const vectors = tensor(Float32Array.of(1, 8), { shape: [1, 2] });
      const [first, second] = applyTransforms([standardize(normalization)], vectors, noDraws).toFloat32Array();
      expect(first).toBeCloseTo(-2 / Math.sqrt(14 / 3), 6);
      expect(second).toBe(1);
    });
  });

  it('as it is said', () => {
    const normalization = { mean: [1, 2], std: [3, 4] };
    expect(inMemoryDataset({ ...data, normalization }).normalization).toBe(normalization);
  });

  it('where values are large and close to each other, and where they are hardly anything', () => {
    const vectors = Float32Array.of(16777216, 1e-40, 0.1, 16777218, 2e-40, 0.1, 16777220, 3e-40, 0.1);
    const one = { vectors, labels: [0, 1, 1] };
    const { normalization } = inMemoryDataset({ ...data, vectorLength: 3, train: one, test: one });
    // Squares of 2^24 have no room for 2^2 in a float.
    expect(normalization.std[0]).toBeCloseTo(Math.sqrt(8 / 3), 12);
    expect(normalization.std.slice(1)).toEqual([1, 1]);
    scope(() => {
      const all = applyTransforms([standardize(normalization)], tensor(vectors, { shape: [3, 3] }), noDraws);
      const values = [...all.toFloat32Array()];
      expect(values.every(Number.isFinite)).toBe(true);
      expect([values[0], values[3]].map((value) => Math.abs(value!) < 1e-6)).toEqual([false, true]);
      expect([values[2], values[5], values[8]]).toEqual([0, 0, 0]);
    });
  });
});

describe('vectors are refused', () => {
  const with_ = (train: object): object => ({ train: { ...part, ...train } });
  it.each<[string, object, string]>([
    [
      'of no length',
      { vectorLength: 0 },
      'data.vectorLength: expected the number of values of a vector, an integer from 1, got 0',
    ],
    ['of a length that is none', { vectorLength: '2' }, 'an integer from 1, got "2"'],
    [
      'of two lengths',
      { vectorLength: 4 },
      'data.train.vectors: expected a multiple of 4 values, those of a vector, got 6',
    ],
    ['that are none', with_({ vectors: new Float32Array(0), labels: [] }), 'expected a multiple of 2 values'],
    [
      'of doubles',
      with_({ vectors: new Float64Array(6) }),
      'data.train.vectors: expected a Float32Array, got "Float64Array"',
    ],
    ['of a list', with_({ vectors: [1, 2, 3, 4, 5, 6] }), 'data.train.vectors: expected a Float32Array, got "Array"'],
    ['without a part', { test: undefined }, 'data.test: expected vectors { vectors, labels }, got nothing'],
    ['that are missing', { test: { labels: [] } }, 'data.test.vectors: expected a Float32Array, got "Undefined"'],
    [
      'that are not finite',
      with_({ vectors: Float32Array.of(0, 0, 0, Number.NaN, 0, 0) }),
      'data.train.vectors[3]: expected a finite number for value 1 of vector 1, got NaN',
    ],
    [
      'that are infinite',
      { test: { ...part, vectors: Float32Array.of(0, 0, 0, 0, Number.NEGATIVE_INFINITY, 0) } },
      'data.test.vectors[4]: expected a finite number for value 0 of vector 2, got -Infinity',
    ],
    ['without a label', with_({ labels: [0, 1] }), 'data.train.labels: expected 3 labels, one a vector, got 2'],
    [
      'with another label',
      with_({ labels: [0, 1, 2] }),
      'data.train.labels[2]: expected a label from 0 to 1 or the name of a class, got 2',
    ],
    ['of one class', { classes: ['a'] }, 'data.classes: expected the names of at least two classes'],
    ['of images', { imageShape: [1, 1, 2] }, 'data.imageShape: expected none beside vectorLength, got [1,1,2]'],
    [
      'with a normalisation of others',
      { normalization: { mean: [0], std: [1] } },
      'data.normalization.mean: expected 2 numbers, one a value, got [0]',
    ],
    [
      'with a normalisation by nothing',
      { normalization: { mean: [0, 0], std: [1, 0] } },
      'data.normalization.std: expected 2 positive numbers',
    ],
  ])('%s', (_, change, message) => {
    expect(() => inMemoryDataset({ ...data, ...change })).toThrow(
      expect.objectContaining({ code: 'DATA_ARGUMENT', message: expect.stringContaining(message) }),
    );
  });
});

it('vectors are given out in batches, float32', async () => {
  const images = openImages(inMemoryDataset(data).train, { device: 'cpu' });
  const given: number[][] = [];
  for await (const batch of images.batches(2)) {
    scope(() => {
      const { images: vectors, labels } = batch.tensors();
      expect([vectors.dtype, vectors.shape, labels.dtype]).toEqual(['float32', [batch.indices.length, 2], 'int64']);
      given.push([...vectors.toFloat32Array()]);
    });
  }
  expect(given).toEqual([
    [1, 7, 2, 7],
    [6, 7],
  ]);
  images.dispose();
  expect(() => openImages(inMemoryDataset(data).train, { device: 'cpu', randomResizedCrop: true })).toThrow(
    'augmentation.randomResizedCrop: expected false',
  );
});

it('the first vectors of a part share its memory, and are what it is normalised by', async () => {
  const options = { imageSize: 32, trainLimit: 2, testLimit: 5 };
  const { train, test, normalization } = (await loadOwnData(data, options)) as Dataset<LabelledVectors>;
  expect([train.count, [...train.vectors], [...train.labels]]).toEqual([2, [1, 7, 2, 7], [0, 1]]);
  expect(train.vectors.buffer).toBe(part.vectors.buffer);
  expect(test.count).toBe(3);
  expect(normalization).toEqual({ mean: [1.5, 7], std: [0.5, 1] });
});

it('the training vectors may be missing where they are not read', async () => {
  const test = { ...data, train: undefined as never };
  const options = { imageSize: null, testOnly: true };
  await expect(loadOwnData(test, options)).rejects.toThrow(
    'data.normalization: expected a mean and std where the training vectors are not read',
  );
  const normalization = { mean: [0, 0], std: [1, 1] };
  const loaded = await loadOwnData(test, { ...options, normalization });
  expect([loaded.train.count, loaded.test.count, loaded.normalization]).toEqual([0, 3, normalization]);
});

it('vectors and images are not mixed up', async () => {
  const refusal = (text: string) => ({ code: 'DATA_ARGUMENT', message: expect.stringContaining(text) });
  const { vectorLength, ...others } = data;
  await expect(loadOwnData(others as never, { imageSize: 32 })).rejects.toMatchObject(
    refusal('data.test: expected pixels { images, labels }'),
  );
  await expect(loadOwnData(others as never, { imageSize: null })).rejects.toMatchObject(
    refusal('data.vectorLength: expected the number of values of a vector, for a recipe for vectors'),
  );
  await expect(loadOwnData({ ...data, keep: 'file' } as never, { imageSize: 32 })).rejects.toMatchObject(
    refusal('data: expected only title, classes, vectorLength, train, test, normalization, got "keep"'),
  );
  expect(vectorLength).toBe(2);
});

it('vectors are told apart class by class, by all of their bits', async () => {
  const { train } = await identifyDataset(inMemoryDataset(data));
  expect(train).toMatchObject({ count: 3, images: [1, 2] });
  expect(train.values).toHaveLength(2);
  const other = async (vectors: Float32Array) =>
    compareParts(train, (await identifyDataset(inMemoryDataset({ ...data, train: { ...part, vectors } }))).train);
  expect(await other(part.vectors.slice())).toBeNull();
  // Of a part of a larger memory.
  expect(await other(Float32Array.of(9, ...part.vectors, 9).subarray(1, 7))).toBeNull();
  const nearly = part.vectors.slice();
  nearly[5] = 7.0000005;
  expect(await other(nearly)).toMatchObject({ changed: [1], renamed: [], missing: [], added: [] });
});
