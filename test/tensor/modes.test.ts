import { describe, expect, it } from 'vitest';
import {
  autocast,
  buildInfo,
  clearGradients,
  type DType,
  enableGrad,
  inferenceMode,
  isGradEnabled,
  memoryStats,
  noGrad,
  ones,
  type SgdStep,
  scope,
  sgdStep,
  TensorError,
  tensor,
} from '../../lib/tensor/index.js';
import {
  convolutionSums,
  decode,
  type EncodedTensor,
  expectClose,
  libtorchAtLeast,
  readFixture,
} from '../support/fixtures.js';

/** The dtype of a matrix product of float32 operands: autocast's at work or not. */
const productDType = (): DType => scope(() => ones([2, 2]).matmul(ones([2, 2])).dtype);
const bf16 = { device: 'cpu', dtype: 'bfloat16' } as const;
const SGD: SgdStep = {
  ...{ learningRate: 1, momentum: 0, dampening: 0, weightDecay: 0 },
  ...{ nesterov: false, isFirstStep: true },
};

describe('gradient modes', () => {
  it('record, or do not, and nest', () => {
    scope(() => {
      const x = ones([2]);
      x.requiresGrad = true;
      expect(x.mul(2).requiresGrad).toBe(true);
      noGrad(() => {
        expect(isGradEnabled()).toBe(false);
        expect(x.mul(2).requiresGrad).toBe(false);
        enableGrad(() => {
          expect(isGradEnabled()).toBe(true);
          expect(x.mul(2).requiresGrad).toBe(true);
        });
        expect(isGradEnabled()).toBe(false);
      });
      expect(isGradEnabled()).toBe(true);
    });
  });

  it('give the result of their body back', () => {
    expect(noGrad(() => 7)).toBe(7);
    expect(inferenceMode(() => 'text')).toBe('text');
  });

  it('end when their body throws, and pass on its own error', () => {
    const failure = new Error('mine');
    const fail = () => {
      throw failure;
    };
    for (const mode of [noGrad, inferenceMode, (body: () => never) => autocast(bf16, body)]) {
      expect(() => mode(fail)).toThrow(failure);
      expect(() => mode(() => scope(() => ones([2]).add(ones([3]))) as never)).toThrow(TensorError);
      expect(isGradEnabled()).toBe(true);
      expect(productDType()).toBe('float32');
    }
    expect(() => noGrad(() => enableGrad(() => autocast(bf16, fail)))).toThrow(failure);
    expect(isGradEnabled()).toBe(true);
    const before = memoryStats();
    expect(() => scope(() => inferenceMode(() => [ones([2]), fail()]))).toThrow(failure);
    expect(memoryStats()).toEqual(before);
  });

  it('pass on what is thrown even if it is no Error', () => {
    expect(() =>
      noGrad(() => {
        throw 'text';
      }),
    ).toThrow('text');
    expect(isGradEnabled()).toBe(true);
  });

  it('refuse a body that returns a promise', async () => {
    for (const mode of [noGrad, enableGrad, inferenceMode]) {
      expect(() => mode(async () => 1)).toThrow(/synchronous/);
    }
    expect(isGradEnabled()).toBe(true);
    await Promise.resolve();
  });

  it('refuse what is no function', () => {
    expect(() => noGrad(undefined as unknown as () => void)).toThrow(TypeError);
    expect(isGradEnabled()).toBe(true);
  });

  it('make inference tensors that cannot enter the graph', () => {
    scope(() => {
      const weight = ones([2]);
      weight.requiresGrad = true;
      const made = inferenceMode(() => ones([2]).mul(2));
      expect(() => weight.mul(made)).toThrow(/[Ii]nference tensors/);
      expect(isGradEnabled()).toBe(true);
    });
  });
});

describe('backward', () => {
  it('adds up over calls until the gradients are cleared', () => {
    scope(() => {
      const x = tensor([1, 2]);
      x.requiresGrad = true;
      expect(x.grad).toBeNull();
      x.mul(3).sum().backward();
      x.mul(x).sum().backward();
      expect(x.grad!.toArray()).toEqual([3 + 2, 3 + 4]);
      clearGradients([x]);
      expect(x.grad).toBeNull();
    });
  });

  it('a second time through one graph is a typed error, unless the graph was retained', () => {
    scope(() => {
      const x = tensor([2]);
      x.requiresGrad = true;
      const y = x.mul(x).sum();
      y.backward({ retainGraph: true });
      y.backward();
      expect(x.grad!.item()).toBe(8);
      expect(() => y.backward()).toThrow(expect.objectContaining({ code: 'OPERATOR_FAILED', operator: 'backward' }));
    });
  });

  it('of no scalar, of nothing recorded, with a misshapen gradient: typed errors', () => {
    scope(() => {
      const x = ones([3]);
      expect(() => x.sum().backward()).toThrow(TensorError);
      x.requiresGrad = true;
      expect(() => x.mul(2).backward()).toThrow(/scalar/);
      expect(() => x.mul(2).backward({ gradient: ones([2]) })).toThrow(TensorError);
      expect(() => x.mul(2).backward({ gradient: {} as never })).toThrow(/a tensor or null for gradient/);
      expect(() => (tensor([1], { dtype: 'int64' }).requiresGrad = true)).toThrow(TensorError);
      expect(() => x.add_(1)).toThrow(TensorError);
    });
  });
});

describe('autocast on the CPU', () => {
  interface AutocastFixture {
    readonly dtype: 'bfloat16' | 'float16';
    readonly x: EncodedTensor;
    readonly weight: EncodedTensor;
    readonly bias: EncodedTensor;
    readonly convolved: EncodedTensor;
    readonly product: EncodedTensor;
    readonly loss: EncodedTensor;
    readonly gradients: readonly EncodedTensor[];
  }
  const fixtures = readFixture<AutocastFixture[]>('autocast.json');
  const supports = (dtype: string) => (dtype === 'float16' ? libtorchAtLeast('2.4') : convolutionSums() !== 'bfloat16');

  for (const fixture of fixtures) {
    const reason = fixture.dtype === 'float16' ? ' (LibTorch has it since 2.4)' : '';
    it.skipIf(!supports(fixture.dtype))(`equals PyTorch's in ${fixture.dtype}${reason}`, () => {
      // A sum of n products rounded to b bits: the rounding of the result, and of the operands, of the largest value.
      const rounding = { relative: fixture.dtype === 'bfloat16' ? 2 ** -7 : 2 ** -9, ofLargest: true };
      scope(() => {
        const [x, weight, bias] = [decode(fixture.x), decode(fixture.weight), decode(fixture.bias)];
        x.requiresGrad = true;
        weight.requiresGrad = true;
        const loss = autocast({ device: 'cpu', dtype: fixture.dtype }, () => {
          const convolved = x.conv2d(weight, bias, { padding: 1 });
          expectClose(convolved, fixture.convolved, 'convolution', rounding);
          const flat = x.flatten({ startDim: 1 });
          expectClose(flat.matmul(flat.transpose(0, 1)), fixture.product, 'product', rounding);
          return convolved.mean({ dims: [2, 3] }).crossEntropy(tensor([3, 11], { dtype: 'int64' }));
        });
        expectClose(loss, fixture.loss, 'loss', rounding);
        loss.backward();
        expectClose(x.grad!, fixture.gradients[0]!, 'gradient of the input', {
          ...rounding,
          relative: 4 * rounding.relative,
        });
        expectClose(weight.grad!, fixture.gradients[1]!, 'gradient of the weight', {
          ...rounding,
          relative: 4 * rounding.relative,
        });
      });
    });
  }

  it('ends with its body, and takes changed weights the next time', () => {
    scope(() => {
      const [x, weight] = [ones([1, 2]), ones([2, 2])];
      weight.requiresGrad = true;
      const product = () => autocast(bf16, () => x.matmul(weight).toArray());
      expect(productDType()).toBe('float32');
      expect(autocast(bf16, productDType)).toBe('bfloat16');
      expect(product()).toEqual([[2, 2]]);
      noGrad(() => weight.mul_(2));
      expect(product()).toEqual([[4, 4]]);
      expect(productDType()).toBe('float32');
    });
  });

  it('takes weights that change within its body: by an optimiser, in place, through a view', () => {
    scope(() => {
      const [x, weight] = [ones([1, 1]), ones([1, 1])];
      weight.requiresGrad = true;
      const found: number[] = [];
      autocast(bf16, () => {
        const look = () => found.push(x.matmul(weight).item());
        for (const step of [
          () => sgdStep([weight], [], SGD),
          () => noGrad(() => weight.fill_(5)),
          () => noGrad(() => weight.narrow(0, 0, 1).fill_(7)),
          () => noGrad(() => weight.copy_(ones([1, 1]))),
        ]) {
          clearGradients([weight]);
          look();
          x.matmul(weight).sum().backward();
          step();
        }
        look();
      });
      expect(found).toEqual([1, 0, 5, 7, 1]);
    });
  });

  it.skipIf(libtorchAtLeast('2.4'))('refuses float16 where LibTorch (before 2.4) has it not', () => {
    expect(() => autocast({ device: 'cpu', dtype: 'float16' }, () => 1)).toThrow(/2\.4/);
  });

  it('refuses other types by name', () => {
    expect(() => autocast({ device: 'cpu', dtype: 'float32' as never }, () => 1)).toThrow(/bfloat16 or float16/);
    expect(() => autocast({ device: 'cpu', dtype: 'half' as never }, () => 1)).toThrow(/half/);
  });
});

it.skipIf(buildInfo().cudaAvailable)('a mode for CUDA is refused where there is none', () => {
  expect(() => autocast({ device: 'cuda', dtype: 'float16' }, () => 1)).toThrow(
    expect.objectContaining({ code: 'DEVICE_UNAVAILABLE' }),
  );
});
