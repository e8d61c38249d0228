import { expect, it } from 'vitest';
import { unpickle } from '../../lib/data/pickle.js';
import { pickle } from './pickle.js';

it('the good ones are read, so that the errors come from the damage', async () => {
  const [batch, dictionary, list, nested] = (await pickle.seeds()).map((bytes) => unpickle(bytes, 'file'));
  expect((batch as Map<string, unknown>).get('labels')).toEqual([3]);
  expect(dictionary).toEqual(
    new Map<string, unknown>([
      ['a', [1, 2]],
      ['b', new Map()],
      ['c', [5]],
    ]),
  );
  expect(list).toEqual([0, 513, 0x04030201, Buffer.from('xy'), Buffer.from('xy'), Buffer.from('xy'), new Map(), []]);
  expect(nested).toEqual([[[], 1], 2]);
});
