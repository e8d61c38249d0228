// Functions one after another: what lies between them is let go at once.
import { expect, it } from 'vitest';
import { chain, keep, measurePeak, memoryStats, noGrad, ones, scope, type Tensor } from '../../lib/tensor/index.js';

const LENGTH = 100_000;
const BYTES = 4 * LENGTH;

it('gives what the functions give, and leaves its input alone', () => {
  scope(() => {
    const input = ones([3]);
    const output = chain(input, [(x) => x.add(1), (x) => x.mul(3), (x) => x.reshape([1, 3])]);
    expect(output.toArray()).toEqual([[6, 6, 6]]);
    expect(input.toArray()).toEqual([1, 1, 1]);
    expect(chain(input, [])).toBe(input);
  });
});

it('keeps no more than a function needs', () => {
  scope(() => {
    const input = ones([LENGTH]);
    const functions = Array.from({ length: 10 }, () => (x: Tensor) => x.add(1));
    const before = memoryStats().liveTensors;
    const { peakBytes } = measurePeak(() => {
      const output = chain(input, functions);
      expect(memoryStats().liveTensors).toBe(before + 1);
      expect(output.toFloat32Array()[0]).toBe(11);
    });
    // What goes into a function and what comes out of it.
    expect(peakBytes).toBeLessThan(2.5 * BYTES);
  });
});

it('keeps what a function made besides no longer than the function', () => {
  scope(() => {
    const before = memoryStats().liveTensors;
    let seen = 0;
    chain(ones([2]), [
      (x) => {
        x.add(1);
        return x.mul(2);
      },
      (x) => {
        // The chain's input and this one.
        seen = memoryStats().liveTensors - before;
        return x.add(1);
      },
    ]);
    expect(seen).toBe(2);
  });
});

it('takes functions that give back their input, or change it', () => {
  scope(() => {
    const input = ones([2]);
    const same = (x: Tensor): Tensor => x;
    expect(chain(input, [same, same])).toBe(input);
    expect(chain(input, [same, (x) => x.add(1), same, (x) => x.mul_(5), same]).toArray()).toEqual([10, 10]);
    expect(input.toArray()).toEqual([1, 1]);
  });
});

it('frees nothing that it did not make', () => {
  const weight = ones([2]);
  const kept: Tensor[] = [];
  scope(() => {
    const output = chain(ones([2]), [
      (x) => x.add(1),
      () => weight,
      (w) => w.relu(),
      (x) => {
        kept.push(keep(x.mul(2)));
        return kept[0]!;
      },
      (x) => x.add(1),
    ]);
    expect(output.toArray()).toEqual([3, 3]);
  });
  expect(weight.toArray()).toEqual([1, 1]);
  expect(kept[0]!.toArray()).toEqual([2, 2]);
  for (const tensor of [weight, ...kept]) tensor.dispose();
});

it('keeps what autograd needs', () => {
  const weight = ones([2]);
  weight.requiresGrad = true;
  scope(() => {
    const loss = chain(weight, [(x) => x.mul(3), (x) => x.pow(2), (x) => x.sum()]);
    loss.backward();
    // d/dw sum (3 w)^2 = 18 w
    expect(noGrad(() => weight.grad!).toArray()).toEqual([18, 18]);
    weight.grad!.dispose();
  });
  weight.dispose();
});

it('frees everything when a function throws', () => {
  const input = ones([2]);
  const before = memoryStats();
  const broken = (): never => {
    throw new Error('broken');
  };
  expect(() => chain(input, [(x) => x.add(1), broken])).toThrow('broken');
  expect(memoryStats()).toEqual(before);
  input.dispose();
});
