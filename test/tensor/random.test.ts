import { describe, expect, it } from 'vitest';
import {
  empty,
  Generator,
  manualSeed,
  memoryStats,
  ones,
  rand,
  randn,
  scope,
  type Tensor,
  TensorError,
  tensor,
} from '../../lib/tensor/index.js';
import { type EncodedTensor, expectClose, readFixture } from '../support/fixtures.js';

interface Draws {
  readonly seed: number;
  readonly uniform: EncodedTensor;
  readonly normal: EncodedTensor;
  readonly fewNormal: EncodedTensor;
  readonly scaledNormal: EncodedTensor;
  readonly rangedUniform: EncodedTensor;
}

const fixtures = readFixture<Draws[]>('random.json');

/** The same calls as in the fixture's script, in the same order. */
function expectDraws(draws: Draws, generator?: Generator): void {
  const options = generator === undefined ? {} : { generator };
  scope(() => {
    expectClose(rand([4, 5], options), draws.uniform, 'rand');
    expectClose(randn([64], options), draws.normal, 'randn');
    expectClose(randn([5], options), draws.fewNormal, 'randn of few');
    expectClose(empty([40]).normal_({ mean: 3, std: 0.5, ...options }), draws.scaledNormal, 'normal_');
    expectClose(empty([7]).uniform_({ from: -2, to: 6, ...options }), draws.rangedUniform, 'uniform_');
  });
}

describe.each(fixtures)('the seed $seed', (draws) => {
  it('gives the draws of torch.manual_seed on the CPU', () => {
    manualSeed(draws.seed);
    expectDraws(draws);
  });

  it('gives a generator of its own the same draws, and leaves the default one alone', () => {
    manualSeed(fixtures[1]!.seed);
    const generator = Generator.create({ seed: draws.seed });
    expectDraws(draws, generator);
    expectDraws(fixtures[1]!);
    generator.dispose();
  });
});

describe('Generator', () => {
  const values = (generator: Generator): number[] => scope(() => [...randn([20], { generator }).toFloat32Array()]);

  it('repeats its draws from a saved state', () => {
    scope(() => {
      using generator = Generator.create({ seed: 9 });
      values(generator);
      const state = generator.state();
      expect(state.dtype).toBe('uint8');
      const first = values(generator);
      expect(values(generator)).not.toEqual(first);
      generator.setState(state);
      expect(values(generator)).toEqual(first);
      using other = Generator.create({ seed: 1 });
      other.setState(state);
      expect(values(other)).toEqual(first);
    });
  });

  it('default() is the one that operators draw from', () => {
    scope(() => {
      using generator = Generator.default();
      manualSeed(3);
      const state = generator.state();
      const dropped = () => ones([100]).dropout({ p: 0.5 }).toArray();
      const first = dropped();
      expect(dropped()).not.toEqual(first);
      generator.setState(state);
      expect(dropped()).toEqual(first);
    });
  });

  it('is counted, may be disposed twice, and is refused afterwards', () => {
    const before = memoryStats().liveGenerators;
    const generator = Generator.create({ seed: 1 });
    expect(memoryStats().liveGenerators).toBe(before + 1);
    generator.dispose();
    generator.dispose();
    expect(memoryStats().liveGenerators).toBe(before);
    for (const use of [() => scope(() => randn([2], { generator })), () => generator.state()]) {
      expect(use).toThrow(expect.objectContaining({ code: 'TENSOR_DISPOSED' }));
    }
  });

  it('refuses bad seeds and states', () => {
    for (const seed of [-1, 0.5, 2 ** 53, Number.NaN, undefined as unknown as number, '1' as unknown as number]) {
      expect(() => Generator.create({ seed })).toThrow(/seed/);
      expect(() => manualSeed(seed)).toThrow(TensorError);
    }
    scope(() => {
      using generator = Generator.create({ seed: 1 });
      const before = values(generator);
      expect(() => generator.setState(tensor(Uint8Array.of(1, 2, 3)))).toThrow(TensorError);
      expect(() => generator.setState(ones([5056]))).toThrow(TensorError);
      expect(() => generator.setState(undefined as unknown as Tensor)).toThrow(/a tensor for state/);
      expect(values(generator)).not.toEqual(before);
    });
  });

  it('is no tensor, and a tensor is no generator', () => {
    scope(() => {
      using generator = Generator.create({ seed: 1 });
      const x = ones([1]);
      expect(() => x.add(generator as unknown as Tensor)).toThrow(/a tensor for other/);
      expect(() => x.normal_({ generator: x as unknown as Generator })).toThrow(/a generator or null for generator/);
    });
  });
});

describe('what is drawn', () => {
  // Bounds of five standard errors, with a fixed seed: chance cannot fail them.
  const n = 40_000;

  function moments(x: Tensor): { mean: number; variance: number; least: number; most: number } {
    const values = x.toFloat32Array();
    const mean = values.reduce((sum, value) => sum + value, 0) / n;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n;
    return { mean, variance, least: Math.min(...values), most: Math.max(...values) };
  }

  it('normal_ has its mean and standard deviation', () => {
    scope(() => {
      manualSeed(11);
      const { mean, variance } = moments(empty([n]).normal_({ mean: -2, std: 3 }));
      expect(Math.abs(mean + 2)).toBeLessThan((5 * 3) / Math.sqrt(n));
      expect(Math.abs(variance / 9 - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
    });
  });

  it('uniform_ fills its range evenly', () => {
    scope(() => {
      manualSeed(12);
      const { mean, variance, least, most } = moments(empty([n]).uniform_({ from: -1, to: 3 }));
      expect(Math.abs(mean - 1)).toBeLessThan((5 * (4 / Math.sqrt(12))) / Math.sqrt(n));
      expect(Math.abs(variance / (16 / 12) - 1)).toBeLessThan(0.05);
      expect(least).toBeGreaterThanOrEqual(-1);
      expect(least).toBeLessThan(-0.999);
      expect(most).toBeLessThan(3);
      expect(most).toBeGreaterThan(2.999);
    });
  });

  it('dropout2d drops whole maps, as often as it says, by the generator it is given', () => {
    scope(() => {
      using generator = Generator.create({ seed: 13 });
      const x = ones([20, 100, 3, 2]).contiguous({ memoryFormat: 'channelsLast' });
      x.requiresGrad = true;
      const state = generator.state();
      const y = x.dropout2d({ p: 0.25, generator });
      const maps = y.flatten({ startDim: 2 }).reshape([2000, 6]).toArray() as number[][];
      for (const [i, map] of maps.entries()) expect(new Set(map).size, `map ${i}`).toBe(1);
      const kept = maps.filter(([first]) => first !== 0);
      for (const [first] of kept) expect(first).toBeCloseTo(4 / 3, 6);
      expect(Math.abs(kept.length / 2000 - 0.75)).toBeLessThan(5 * Math.sqrt((0.25 * 0.75) / 2000));
      y.sum().backward();
      expect(x.grad!.toArray()).toEqual(y.toArray());
      expect(x.dropout2d({ p: 0.25, generator }).toArray()).not.toEqual(y.toArray());
      generator.setState(state);
      expect(x.dropout2d({ p: 0.25, generator }).toArray()).toEqual(y.toArray());
    });
  });

  it('dropout keeps the expectation, and its gradient passes where it kept', () => {
    scope(() => {
      manualSeed(13);
      const x = ones([n]);
      x.requiresGrad = true;
      const y = x.dropout({ p: 0.2 });
      const { mean } = moments(y);
      expect(Math.abs(mean - 1)).toBeLessThan((5 * Math.sqrt(0.2 / 0.8)) / Math.sqrt(n));
      y.sum().backward();
      expect(x.grad!.toArray()).toEqual(y.toArray());
    });
  });
});
