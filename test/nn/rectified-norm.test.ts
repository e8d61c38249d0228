// Batch norm with its ReLU as one operation, and pooling that keeps nothing, against LibTorch's operators.
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { BatchNorm2d, ReLU, Sequential } from '../../lib/nn/index.js';
import {
  type DType,
  getThreads,
  manualSeed,
  measurePeak,
  noGrad,
  randn,
  scope,
  setThreads,
  type Tensor,
} from '../../lib/tensor/index.js';

const MOMENTUM = 0.1;
const EPS = 1e-5;

interface Passed {
  readonly output: Tensor;
  readonly gradients: { input: Tensor; weight: Tensor; bias: Tensor };
  readonly running: { mean: Tensor; variance: Tensor };
}

/** Runs a batch norm with ReLU forward and backward on copies of the same tensors. */
function pass(
  input: Tensor,
  outputGradient: Tensor,
  how: (bn: BatchNorm2d) => (x: Tensor) => Tensor,
  dtype: DType = 'float32',
): Passed {
  const channels = input.shape[1]!;
  const bn = new BatchNorm2d({ features: channels, momentum: MOMENTUM, eps: EPS });
  try {
    return scope(() => {
      noGrad(() => {
        bn.weight.copy_(randn([channels], {}).abs().add(0.2));
        bn.bias.copy_(randn([channels]).mul(0.5));
        bn.runningMean.copy_(randn([channels]));
        bn.runningVar.copy_(randn([channels]).abs());
      });
      if (dtype === 'float64') bn.to({ dtype });
      const x = input.detach().to({ dtype }).clone();
      x.requiresGrad = true;
      const output = how(bn)(x);
      output.backward({ gradient: outputGradient.to({ dtype }) });
      const copy = (tensor: Tensor): Tensor => tensor.detach().clone();
      return {
        output: copy(output),
        gradients: { input: copy(x.grad!), weight: copy(bn.weight.grad!), bias: copy(bn.bias.grad!) },
        running: { mean: copy(bn.runningMean), variance: copy(bn.runningVar) },
      };
    });
  } finally {
    for (const parameter of bn.parameters()) parameter.grad?.dispose();
    bn.dispose();
  }
}

const asOne = (bn: BatchNorm2d) => (x: Tensor) => bn.forwardRectified(x);
const inParts = (bn: BatchNorm2d) => (x: Tensor) => bn.forward(x).relu();

/** |a - b| / |b|, Euclidean. */
const difference = (a: Tensor, b: Tensor): number =>
  scope(() => {
    const [x, y] = [a.to({ dtype: 'float64' }), b.to({ dtype: 'float64' })];
    return Math.sqrt(x.sub(y).pow(2).sum().item() / y.pow(2).sum().item());
  });

const channelsLast = (shape: readonly number[]): Tensor => randn(shape).contiguous({ memoryFormat: 'channelsLast' });

function parts(passed: Passed): [string, Tensor][] {
  const { output, gradients, running } = passed;
  return [
    ['output', output],
    ...Object.entries(gradients).map(([name, value]): [string, Tensor] => [`gradient of ${name}`, value]),
    ...Object.entries(running).map(([name, value]): [string, Tensor] => [`running ${name}`, value]),
  ];
}

describe('batch norm with ReLU as one operation', () => {
  // Less than a block of rows, many blocks with a last one that is smaller, odd numbers of channels.
  const shapes = [
    [2, 3, 2, 2],
    [4, 128, 16, 16],
    [3, 7, 41, 43],
    [2, 1, 300, 200],
    [1, 4096, 3, 3],
  ];
  it.each(shapes)('is equal to its parts to 1e-6 in float32: [%i, %i, %i, %i]', (...shape) => {
    manualSeed(7);
    scope(() => {
      const input = channelsLast(shape).mul(2).add(1.5);
      const gradient = channelsLast(shape);
      manualSeed(8);
      const expected = pass(input, gradient, inParts);
      manualSeed(8);
      const got = pass(input, gradient, asOne);
      manualSeed(8);
      const exact = pass(input, gradient, inParts, 'float64');
      for (const [i, [name, value]] of parts(got).entries()) {
        const [reference, separately] = [parts(exact)[i]![1], parts(expected)[i]![1]];
        // With few values a channel the gradients are small differences, in float32 whoever computes them.
        const tolerance = Math.max(1e-6, 3 * difference(separately, reference));
        expect(difference(value, reference), name).toBeLessThan(tolerance);
      }
    });
  });

  it('does not lose digits where the mean is large beside the deviations', () => {
    manualSeed(9);
    scope(() => {
      const input = channelsLast([4, 16, 32, 32]).add(1000);
      const gradient = channelsLast([4, 16, 32, 32]);
      manualSeed(8);
      const wide = pass(input, gradient, inParts, 'float64');
      manualSeed(8);
      const got = pass(input, gradient, asOne);
      // The float32 input itself has 1000 * 2^-24 = 6e-5 of noise on deviations of 1.
      expect(difference(got.running.variance, wide.running.variance)).toBeLessThan(1e-5);
      expect(difference(got.output, wide.output)).toBeLessThan(1e-3);
    });
  });

  it('in bfloat16 is no further from float64 than its parts are', () => {
    manualSeed(7);
    scope(() => {
      const shape = [8, 64, 16, 16];
      // Values that bfloat16 holds exactly, so that all three see the same.
      const exact = (): Tensor => channelsLast(shape).to({ dtype: 'bfloat16' }).to({ dtype: 'float64' });
      const [input, gradient] = [exact(), exact()];
      const run = (how: typeof asOne, dtype: DType): [string, Tensor][] => {
        manualSeed(8);
        return parts(pass(input, gradient, how, dtype));
      };
      const exactly = run(inParts, 'float64');
      const separately = run(inParts, 'bfloat16');
      for (const [i, [name, value]] of run(asOne, 'bfloat16').entries()) {
        const reference = exactly[i]![1];
        expect(value.dtype, name).toBe(separately[i]![1].dtype);
        expect(difference(value, reference), name).toBeLessThan(1.1 * difference(separately[i]![1], reference) + 1e-6);
      }
    });
  });

  it('gives the same bits with any number of threads', () => {
    const threads = getThreads();
    manualSeed(7);
    scope(() => {
      const [input, gradient] = [channelsLast([8, 32, 24, 24]), channelsLast([8, 32, 24, 24])];
      const [one, two] = [1, 2].map((count) => {
        setThreads(count);
        manualSeed(8);
        return parts(pass(input, gradient, asOne)).map(([, value]) =>
          createHash('sha256').update(value.toFloat32Array()).digest('hex'),
        );
      });
      setThreads(threads);
      expect(two).toEqual(one);
    });
  });

  it('lets NaN through, as its parts do', () => {
    manualSeed(7);
    scope(() => {
      const input = channelsLast([2, 3, 4, 4]);
      input.select(0, 0).select(0, 1).fill_(Number.NaN);
      const gradient = channelsLast([2, 3, 4, 4]);
      for (const how of [asOne, inParts]) {
        manualSeed(8);
        const { output, gradients } = pass(input, gradient, how);
        const isNaNAt = (tensor: Tensor, channel: number) =>
          [...scope(() => tensor.select(1, channel).toFloat32Array())].every(Number.isNaN);
        expect([0, 1, 2].map((channel) => isNaNAt(output, channel))).toEqual([false, true, false]);
        expect([0, 1, 2].map((channel) => isNaNAt(gradients.input, channel))).toEqual([false, true, false]);
      }
    });
  });

  it.each([
    ['rows first', (shape: number[]) => randn(shape)],
    [
      'an input that is a view',
      (shape: number[]) => channelsLast([shape[0]! * 2, ...shape.slice(1)]).narrow(0, 0, shape[0]!),
    ],
    [
      'every second image',
      (shape: number[]) => channelsLast([shape[0]!, 2 * shape[1]!, ...shape.slice(2)]).narrow(1, 0, shape[1]!),
    ],
  ])('takes %s', (_, make) => {
    manualSeed(7);
    scope(() => {
      const input = make([4, 6, 5, 5]);
      const gradient = randn([4, 6, 5, 5]);
      manualSeed(8);
      const expected = pass(input, gradient, inParts);
      manualSeed(8);
      const got = pass(input, gradient, asOne);
      for (const [i, [name, value]] of parts(got).entries()) {
        expect(difference(value, parts(expected)[i]![1]), name).toBeLessThan(1e-6);
      }
    });
  });

  it('stands for the two in a Sequential, in training and in evaluation', () => {
    manualSeed(7);
    const bn = new BatchNorm2d({ features: 4 });
    const both = new Sequential([
      ['bn', bn],
      ['relu', new ReLU({ inPlace: true })],
    ]);
    scope(() => {
      const input = channelsLast([2, 4, 6, 6]);
      const trained = both.forward(input);
      expect(bn.numBatchesTracked.item()).toBe(1);
      expect(scope(() => trained.lt(0).sum().item())).toBe(0);
      both.eval();
      const expected = noGrad(() => bn.forward(input).relu());
      expect(noGrad(() => both.forward(input)).toArray()).toEqual(expected.toArray());
      expect(bn.numBatchesTracked.item()).toBe(1);
    });
    both.dispose();
  });

  it('refuses one value a channel', () => {
    const bn = new BatchNorm2d({ features: 2 });
    scope(() => expect(() => bn.forwardRectified(randn([1, 2, 1, 1]))).toThrow('more than one value a channel'));
    bn.dispose();
  });
});

describe('average pooling with whole windows', () => {
  it.each([
    [[2, 3, 8, 8], 4],
    [[1, 5, 6, 9], 3],
    [[2, 4, 108, 108], 2],
    [[2, 4, 7, 7], 2], // not whole: LibTorch's own
  ] as const)('of %o to %i has the gradients of its definition', (shape, size) => {
    manualSeed(3);
    scope(() => {
      const input = channelsLast(shape);
      input.requiresGrad = true;
      const output = input.adaptiveAvgPool2d(size);
      const gradient = channelsLast(output.shape);
      output.backward({ gradient });
      const [, , height, width] = shape;
      // Window i of n goes from floor(i * n / size) to ceil((i + 1) * n / size).
      const from = (i: number, n: number): number => Math.floor((i * n) / size);
      const to = (i: number, n: number): number => Math.ceil(((i + 1) * n) / size);
      const expected = noGrad(() => {
        const sum = input.detach().mul(0);
        for (let i = 0; i < size; i++) {
          for (let j = 0; j < size; j++) {
            const rows = to(i, height) - from(i, height);
            const columns = to(j, width) - from(j, width);
            const share = gradient
              .narrow(2, i, 1)
              .narrow(3, j, 1)
              .div(rows * columns);
            sum.narrow(2, from(i, height), rows).narrow(3, from(j, width), columns).add_(share);
          }
        }
        return sum;
      });
      expect(difference(input.grad!, expected)).toBeLessThan(1e-6);
      input.grad!.dispose();
    });
  });

  it('keeps no input for the backward pass, nor does batch norm keep its output', () => {
    manualSeed(3);
    const bn = new BatchNorm2d({ features: 8 });
    const bytes = 4 * 8 * 128 * 128 * 4;
    scope(() => {
      const images = channelsLast([4, 8, 128, 128]);
      const { peakBytes } = measurePeak(() => {
        const pooled = scope(() => bn.forwardRectified(images.mul(1)).adaptiveAvgPool2d(64));
        // Alive: batch norm's input, and a quarter of it pooled. What is made now finds the output's room free.
        scope(() => void images.mul(1));
        pooled.dispose();
      });
      expect(peakBytes).toBeLessThan(2.6 * bytes);
    });
    bn.dispose();
  });
});
