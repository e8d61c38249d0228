// Collectives between real processes, against what they should give.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort, inFolder, startRanks } from './ranks.js';

const WORLD = 3;
const LENGTH = 1000;
const valuesOf = (rank: number): number[] => Array.from({ length: LENGTH }, (_, i) => (7 * i + 13 * rank) % 23);
const all = Array.from({ length: WORLD }, (_, rank) => valuesOf(rank));
const across = (reduce: (values: number[]) => number): number[] =>
  all[0]!.map((_, i) => reduce(all.map((values) => values[i]!)));
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** A number as a dtype holds it, to the nearest and ties to even: `bits` of its significand are kept. */
function rounded(value: number, bits: number): number {
  if (value === 0) return 0;
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) - bits);
  const whole = Math.floor(value / unit);
  const rest = value / unit - whole;
  return (rest > 0.5 || (rest === 0.5 && whole % 2 === 1) ? whole + 1 : whole) * unit;
}
const BITS: Record<string, number> = { float16: 10, bfloat16: 7, float32: 23, float64: 52 };

type Results = Record<string, number[]> & {
  scalar: number;
  bits: string;
  ticks: number;
  received: number[][];
  refused: string;
};
let results: readonly Results[];

beforeAll(async () => {
  await inFolder(async (folder) => {
    const options = [0, 1, 2].map((rank) => ({
      ...{ rank, worldSize: WORLD, timeoutMs: 30_000 },
      store: { file: `${folder}/store` },
    }));
    const ended = await startRanks('collectives.mjs', options).ended;
    for (const { code, stderr } of ended) expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    results = ended.map(({ lines }) => lines[0] as Results);
  });
});
afterAll(() => {
  results = [];
});

describe('three processes', () => {
  it.each(['uint8', 'int64', 'float16', 'bfloat16', 'float32', 'float64'])('form sums and maxima of %s', (dtype) => {
    for (const result of results) {
      expect(result[`sum ${dtype}`]).toEqual(across(sum));
      expect(result[`max ${dtype}`]).toEqual(across((values) => Math.max(...values)));
    }
  });

  it.each(['float16', 'bfloat16', 'float32', 'float64'])('form means of %s: the sum, divided', (dtype) => {
    const expected = across((values) => rounded(sum(values) / WORLD, BITS[dtype]!));
    for (const result of results) expect(result[`mean ${dtype}`]).toEqual(expected);
  });

  it.each(['uint8', 'int64', 'bool', 'float16', 'bfloat16', 'float32', 'float64'])(
    'broadcast and gather %s',
    (dtype) => {
      const held = (value: number): number => (dtype === 'bool' ? Number(value !== 0) : value);
      for (const result of results) {
        expect(result[`broadcast ${dtype}`]).toEqual(all[1]!.map(held));
        expect(result[`allGather ${dtype}`]).toEqual(all.flat().map(held));
      }
    },
  );

  it('take channels-last tensors, scalars and empty ones', () => {
    for (const { channelsLast, scalar } of results) {
      expect(channelsLast).toEqual(across(sum).slice(0, 24));
      expect(scalar).toBe(6);
    }
  });

  it('have the same bits', () => {
    for (const { bits } of results) expect(bits).toBe(results[0]!.bits);
  });

  it('begin collectives in the order of the calls, many at a time', () => {
    const order = Array.from({ length: 20 }, (_, i) => i);
    for (const { many, settled } of results) {
      expect(many).toEqual(order.map((i) => i + 1));
      expect(settled).toEqual(order);
    }
  });

  it('send and receive in the order of the calls, beside collectives', () => {
    for (const [rank, { late, received, taken, refused }] of results.entries()) {
      const before = (rank + WORLD - 1) % WORLD;
      expect(late).toEqual([before, 0 - before]);
      const sizes = [1, 10, 100, 1000, 1, 10];
      expect(received).toEqual(sizes.map((size) => all[before]!.slice(0, size)));
      expect(taken).toEqual(all[before]!.slice(0, 24));
      expect(refused).toContain('expected another rank, got this one');
    }
  });

  it('go on with their event loops while they wait', () => {
    // Two of them for 300 ms, at a tick each 5 ms.
    for (const { ticks } of results.slice(0, WORLD - 1)) expect(ticks).toBeGreaterThan(10);
  });
});

it('two processes meet by TCP, too', async () => {
  const port = await freePort();
  const options = [0, 1].map((rank) => ({
    ...{ rank, worldSize: 2, timeoutMs: 30_000 },
    store: { host: '127.0.0.1', port },
  }));
  const ended = await startRanks('sum.mjs', options).ended;
  for (const { code, lines, stderr } of ended)
    expect({ code, lines, stderr }).toEqual({ code: 0, lines: [3], stderr: '' });
});
