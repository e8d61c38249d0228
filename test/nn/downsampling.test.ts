import { describe, expect, it } from 'vitest';
import { invertibleDownsample, invertibleUpsample, ModuleError } from '../../lib/nn/index.js';
import { arange, randn, scope } from '../../lib/tensor/index.js';

describe('invertibleDownsample', () => {
  it('puts input channel c at offset (dy, dx) into output channel (dy * 2 + dx) * C + c', () => {
    const [batch, channels, height, width] = [2, 3, 4, 6];
    const at = (b: number, c: number, y: number, x: number) => ((b * channels + c) * height + y) * width + x;
    scope(() => {
      const input = arange(batch * channels * height * width).reshape([batch, channels, height, width]);
      const output = invertibleDownsample(input);
      expect(output.shape).toEqual([2, 12, 2, 3]);
      const values = output.toTypedArray() as BigInt64Array;
      let i = 0;
      for (let b = 0; b < batch; b++) {
        for (let dy = 0; dy < 2; dy++) {
          for (let dx = 0; dx < 2; dx++) {
            for (let c = 0; c < channels; c++) {
              for (let y = 0; y < height / 2; y++) {
                for (let x = 0; x < width / 2; x++) {
                  expect(Number(values[i++])).toBe(at(b, c, 2 * y + dy, 2 * x + dx));
                }
              }
            }
          }
        }
      }
    });
  });

  it('is undone by invertibleUpsample, in both memory formats', () => {
    scope(() => {
      for (const memoryFormat of ['contiguous', 'channelsLast'] as const) {
        const input = randn([2, 5, 8, 6]).contiguous({ memoryFormat });
        const back = invertibleUpsample(invertibleDownsample(input));
        expect(back.toTypedArray()).toEqual(input.toTypedArray());
      }
    });
  });

  it('refuses an odd height or width, and channels that are no multiple of 4, with the shape', () => {
    scope(() => {
      expect(() => invertibleDownsample(randn([1, 3, 5, 4]))).toThrow(ModuleError);
      expect(() => invertibleDownsample(randn([1, 3, 4, 7]))).toThrow(/even width.*\[1, 3, 4, 7\]/);
      expect(() => invertibleUpsample(randn([1, 6, 4, 4]))).toThrow(/multiple of 4.*\[1, 6, 4, 4\]/);
    });
  });
});
