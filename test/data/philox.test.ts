import { describe, expect, it } from 'vitest';
import { DataError } from '../../lib/data/errors.js';
import { multiplyHigh, philox4x32, seedWords } from '../../lib/data/philox.js';

type Words = readonly [number, number, number, number];

function block(counter: Words, key: readonly [number, number]): number[] {
  const out = new Uint32Array(4);
  philox4x32(...counter, ...key, out);
  return Array.from(out);
}

describe('philox4x32', () => {
  // The authors' known-answer tests: kat_vectors of Random123, philox4x32 10.
  it.each<{ counter: Words; key: readonly [number, number]; expected: number[] }>([
    { counter: [0, 0, 0, 0], key: [0, 0], expected: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
    {
      counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      key: [0xffffffff, 0xffffffff],
      expected: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    },
    {
      counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      key: [0xa4093822, 0x299f31d0],
      expected: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    },
  ])('gives the published block for counter $counter', ({ counter, key, expected }) => {
    expect(block(counter, key)).toEqual(expected);
  });

  it('writes only the four words from the given place', () => {
    const out = new Uint32Array(7).fill(9);
    philox4x32(0, 0, 0, 0, 0, 0, out, 2);
    expect(Array.from(out)).toEqual([9, 9, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8, 9]);
  });
});

describe('multiplyHigh', () => {
  it('equals exact multiplication', () => {
    const values = [0, 1, 2, 9, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xdeadbeef, 0xffffffff];
    for (const a of values) {
      for (const b of values) expect(multiplyHigh(a, b)).toBe(Number((BigInt(a) * BigInt(b)) >> 32n));
    }
  });
});

describe('seedWords', () => {
  it('uses both halves of a seed', () => {
    expect(seedWords(7)).toEqual({ low: 7, high: 0 });
    expect(seedWords(2 ** 32 + 7)).toEqual({ low: 7, high: 1 });
    expect(seedWords(Number.MAX_SAFE_INTEGER)).toEqual({ low: 0xffffffff, high: 0x1fffff });
  });

  it.each([-1, 0.5, Number.NaN, 2 ** 53])('refuses %s', (seed) => {
    expect(() => seedWords(seed)).toThrow(DataError);
  });
});
