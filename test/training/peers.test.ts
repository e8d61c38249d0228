// Which images of a batch each process has.
import { describe, expect, it } from 'vitest';
import { givenOf } from '../../lib/features/features.js';
import { shareOf } from '../../lib/training/peers.js';

const sizes = Array.from({ length: 16 }, (_, i) => i + 1);

describe('shares of a batch', () => {
  it('are all of it, one after the other, and differ by one at most', () => {
    for (const size of sizes) {
      for (let count = 0; count < 100; count++) {
        const shares = Array.from({ length: size }, (_, rank) => shareOf(count, rank, size));
        let end = 0;
        for (const { start, length } of shares) {
          expect(start).toBe(end);
          end += length;
        }
        expect(end).toBe(count);
        const lengths = shares.map(({ length }) => length);
        expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThanOrEqual(1);
      }
    }
  });

  it('give each process as many batches as there are, of the images of one process', () => {
    for (const size of sizes) {
      for (const [images, batchSize] of [
        [127, 64],
        [64, 64],
        [115, 33],
        [16 * 20 + 16, 20],
      ] as const) {
        const order = Int32Array.from({ length: images }, (_, i) => (i * 37) % images);
        const ranks = Array.from({ length: size }, (_, rank) =>
          givenOf(order, { epoch: 0, batchSize, firstStep: 0, shareOf: (count) => shareOf(count, rank, size) }),
        );
        for (let batch = 0; batch * batchSize < images; batch++) {
          const parts = ranks.map((own) => own.order.subarray(batch * own.batchSize, (batch + 1) * own.batchSize));
          const whole = order.subarray(batch * batchSize, (batch + 1) * batchSize);
          expect(parts.flatMap((part) => [...part])).toEqual([...whole]);
        }
        for (const own of ranks) {
          expect(Math.ceil(own.order.length / own.batchSize)).toBe(Math.ceil(images / batchSize));
        }
      }
    }
  });
});
