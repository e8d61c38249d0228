// What a rehearsal on meta tells, against sums done by hand.
import { describe, expect, it } from 'vitest';
import {
  autocast,
  measurePeak,
  memoryStats,
  noGrad,
  onDevice,
  ones,
  rehearse,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/tensor/index.js';
import { libtorchAtLeast } from '../support/fixtures.js';

const meta = (shape: readonly number[]): Tensor => zeros(shape, { device: 'meta' });

describe.skipIf(!libtorchAtLeast('2.4'))('rehearse', () => {
  it('tells the most bytes that tensors would take at one time', () => {
    const { peakBytes, result } = rehearse(() => {
      scope(() => {
        meta([1000]);
        scope(() => void meta([500]));
        meta([300]);
      });
      return 'done';
    });
    expect(result).toBe('done');
    expect(peakBytes).toBe(4 * 1500);
  });

  it('counts what only autograd holds', () => {
    scope(() => {
      const weight = meta([1000]);
      weight.requiresGrad = true;
      // Each exp keeps its result for the backward pass, which makes one or two gradients of that size at a time.
      const { peakBytes } = rehearse(() => scope(() => scope(() => weight.exp().exp().sum()).backward()));
      expect(peakBytes).toBeGreaterThanOrEqual(4 * 3000);
      expect(peakBytes).toBeLessThanOrEqual(4 * 4000 + 8);
      weight.grad?.dispose();
    });
  });

  it('hears of no tensor on the CPU, and measurePeak of none on meta', () => {
    expect(rehearse(() => scope(() => void zeros([1000]))).peakBytes).toBe(0);
    expect(measurePeak(() => scope(() => void meta([2 ** 40]))).peakBytes).toBe(0);
  });

  it('counts the multiply-adds of products', () => {
    const count = (body: () => unknown): number => rehearse(() => scope(() => void body())).multiplyAdds;
    expect(count(() => meta([2, 3, 8, 8]).conv2d(meta([4, 3, 3, 3]), meta([4]), { padding: 1 }))).toBe(2 * 4 * 64 * 27);
    expect(count(() => meta([2, 6, 8, 8]).conv2d(meta([4, 3, 3, 3]), null, { stride: 2, groups: 2 }))).toBe(
      2 * 4 * 9 * 27,
    );
    expect(count(() => meta([5, 7]).linear(meta([3, 7]), null))).toBe(5 * 3 * 7);
    expect(count(() => meta([2, 5, 7]).matmul(meta([7, 3])))).toBe(2 * 5 * 3 * 7);
    expect(count(() => meta([5, 7]).add(1).relu())).toBe(0);
    expect(count(() => zeros([5, 7]).linear(zeros([3, 7]), null))).toBe(0);
  });

  it('counts for the rehearsals around it, too', () => {
    const product = (): void => scope(() => void meta([5, 7]).matmul(meta([7, 3])));
    let inner = 0;
    const outer = rehearse(() => {
      product();
      inner = rehearse(product).multiplyAdds;
    });
    expect([inner, outer.multiplyAdds]).toEqual([105, 210]);
  });

  it('lets autocast act as on the CPU, so that tensors take as much', () => {
    const step = (device: 'meta' | 'cpu') =>
      scope(() => {
        const [x, weight, bias] = [[4, 3, 8, 8], [5, 3, 3, 3], [5]].map((shape) => ones(shape, { device })) as [
          Tensor,
          Tensor,
          Tensor,
        ];
        weight.requiresGrad = true;
        const dtypes = autocast({ device, dtype: 'bfloat16' }, () => {
          const convolved = x.conv2d(weight, bias);
          const rows = convolved.flatten({ startDim: 1 });
          const wide = ones([2, rows.shape[1]!], { device });
          return [convolved, rows.linear(wide, null), rows.matmul(wide.transpose(0, 1)), convolved.relu()].map(
            ({ dtype }) => dtype,
          );
        });
        return dtypes;
      });
    expect(step('meta')).toEqual(['bfloat16', 'bfloat16', 'bfloat16', 'bfloat16']);
    expect(step('meta')).toEqual(step('cpu'));
    expect(scope(() => noGrad(() => meta([2, 3]).linear(meta([4, 3]), null).dtype))).toBe('float32');
  });

  it('lets an error through, and takes no asynchronous function', () => {
    expect(() =>
      rehearse(() => {
        throw new Error('stop');
      }),
    ).toThrow('stop');
    expect(() => rehearse(async () => {})).toThrow(/synchronous/);
  });
});

describe('onDevice', () => {
  it('is where tensors are created that name no device, and ends with the function', () => {
    const before = memoryStats().cpuBytes;
    scope(() => {
      onDevice('meta', () => {
        expect([zeros([2]).device, tensor([1, 2]).device, tensor([1, 2], { dtype: 'float64' }).device]).toEqual([
          'meta',
          'meta',
          'meta',
        ]);
        expect(ones([2], { device: 'cpu' }).device).toBe('cpu');
        expect(memoryStats().cpuBytes - before).toBe(8);
        expect(onDevice('cpu', () => zeros([2]).device)).toBe('cpu');
        expect(zeros([2]).device).toBe('meta');
      });
      expect(() =>
        onDevice('meta', () => {
          throw new Error('stop');
        }),
      ).toThrow('stop');
      expect(zeros([2]).device).toBe('cpu');
    });
    expect(() => onDevice('meta', async () => {})).toThrow(/synchronous/);
  });
});
