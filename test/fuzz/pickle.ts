// Pickles of CIFAR-10's Python layout, and small ones of the opcodes that are read.
import { DataError } from '../../lib/data/errors.js';
import { type PickleValue, unpickle } from '../../lib/data/pickle.js';
import { pickleBatch } from '../data/cifar10-files.js';
import type { FuzzedFormat } from './format.js';

const text = (opcodes: string): Buffer => Buffer.from(`\x80\x02${opcodes}.`, 'latin1');

/** Values in a value, with those in its lists and dictionaries, up to `most`. */
function valuesIn(value: PickleValue, most: number): number {
  let count = 1;
  const inner = value instanceof Map ? value.values() : Array.isArray(value) ? value : [];
  for (const item of inner) {
    if (count > most) break;
    count += valuesIn(item, most - count);
  }
  return count;
}

export const pickle: FuzzedFormat = {
  name: 'pickle',
  seeds: async () => [
    pickleBatch({ labels: [3], data: Buffer.alloc(3072, 7), records: 1 }),
    // Half of all damage is near the beginning: here that is everywhere.
    text('}q\x01(U\x01aq\x02](K\x01K\x02eU\x01b}q\x03U\x01c]q\x04K\x05au'),
    text('](K\x00M\x01\x02J\x01\x02\x03\x04T\x02\x00\x00\x00xyq\x05h\x05r\x06\x00\x00\x00j\x06\x00\x00\x00}]e'),
    // Lists that hold one another.
    text(']q\x00](h\x00K\x01eq\x01](h\x01K\x02eq\x02'),
  ],
  // One value for each byte at most: work and memory are those of the file.
  run: async (damaged) => {
    try {
      const values = valuesIn(unpickle(damaged, 'the file'), damaged.length);
      if (values > damaged.length) throw new Error(`more values than the ${damaged.length} bytes of the file`);
    } catch (error) {
      if (error instanceof DataError && error.message.startsWith('the file')) return;
      throw error;
    }
  },
};
