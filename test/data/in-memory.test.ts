// Data in memory that are no data: refused by name, before they are taken apart.
import { expect, it } from 'vitest';
import { inMemoryDataset } from '../../lib/data/index.js';

const classes = ['a', 'b'];
const part = { images: new Uint8Array(2), labels: [0, 1] };

it.each<[unknown, string]>([
  [null, 'data: expected an object with classes, train and test, got null'],
  [3, 'data: expected an object with classes, train and test, got 3'],
  [{ classes, imageShape: [1, 1, 1] }, 'data.train: expected pixels { images, labels }, got nothing'],
  [
    { classes, imageShape: [1, 1, 1], train: part, test: 'no' },
    'data.test: expected pixels { images, labels }, got "no"',
  ],
  [{ classes, vectorLength: 1 }, 'data.train: expected vectors { vectors, labels }, got nothing'],
])('%o', (data, message) => {
  expect(() => inMemoryDataset(data as never)).toThrow(expect.objectContaining({ code: 'DATA_ARGUMENT', message }));
});
