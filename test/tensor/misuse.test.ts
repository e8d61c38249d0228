// What callers without types, or with the wrong tensors, get: typed errors that name the argument, never a crash.
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it } from 'vitest';
import {
  adamwStep,
  arange,
  buildInfo,
  cat,
  clearGradients,
  cudaMemoryStats,
  empty,
  full,
  getThreads,
  keep,
  memoryStats,
  muonStep,
  ones,
  type SgdStep,
  scope,
  setThreads,
  sgdStep,
  stack,
  synchronize,
  type Tensor,
  TensorError,
  tensor,
  zeros,
} from '../../lib/tensor/index.js';

function errorOf(body: () => unknown): TensorError {
  try {
    scope(body);
  } catch (error) {
    expect(error).toBeInstanceOf(TensorError);
    return error as TensorError;
  }
  throw new Error('expected a TensorError, nothing was thrown');
}

// The process goes on after every mistake.
afterEach(() => {
  expect(
    scope(() =>
      ones([2, 2])
        .matmul(ones([2, 2]))
        .sum()
        .item(),
    ),
  ).toBe(8);
});

/** A step that is in order. */
const STEP: SgdStep = {
  learningRate: 1,
  momentum: 0.9,
  dampening: 0,
  weightDecay: 0,
  nesterov: false,
  isFirstStep: true,
};

/** A value of any type, as a caller without types may pass it. */
const untyped = <T>(value: unknown): T => value as T;

describe('tensors that do not fit', () => {
  it('carry operator, shapes, dtypes, devices and a JavaScript stack', () => {
    const error = errorOf(() => ones([2, 3]).matmul(zeros([4, 5], { dtype: 'float64' })));
    expect(error.code).toBe('OPERATOR_FAILED');
    expect(error.operator).toBe('matmul');
    expect(error.tensors).toEqual([
      { shape: [2, 3], dtype: 'float32', device: 'cpu' },
      { shape: [4, 5], dtype: 'float64', device: 'cpu' },
    ]);
    expect(error.message).toContain('float32[2, 3] on cpu; float64[4, 5] on cpu');
    expect(error.message).not.toContain('C++');
    expect(error.stack).toContain('misuse.test');
    expect(error.name).toBe('TensorError');
  });

  it('name the tensors in the order of the arguments, missing ones left out', () => {
    const error = errorOf(() => ones([1, 2, 5, 5]).conv2d(ones([4, 3, 3, 3]), null));
    expect(error.tensors.map((t) => t.shape)).toEqual([
      [1, 2, 5, 5],
      [4, 3, 3, 3],
    ]);
    const listed = errorOf(() => cat([ones([2, 3]), ones([3, 2])], { dim: 1 }));
    expect(listed.tensors.map((t) => t.shape)).toEqual([
      [2, 3],
      [3, 2],
    ]);
  });

  it.each<[string, () => unknown]>([
    ['add', () => ones([2]).add(ones([3]))],
    ['reshape', () => ones([2, 3]).reshape([4])],
    ['crossEntropy', () => ones([2, 3]).crossEntropy(ones([5], { dtype: 'int64' }))],
    ['crossEntropy', () => ones([2, 3]).crossEntropy(tensor([0, 3], { dtype: 'int64' }))],
    ['where', () => ones([2]).where(ones([2]), ones([3]))],
    ['gather', () => ones([2, 2]).gather(1, ones([2, 2]))],
    ['indexSelect', () => ones([2]).indexSelect(0, tensor([2], { dtype: 'int64' }))],
    ['index', () => ones([2]).index([tensor([5], { dtype: 'int64' })])],
    ['select', () => ones([2]).select(0, 2)],
    ['narrow', () => ones([2]).narrow(0, 1, 2)],
    ['topk', () => ones([2]).topk(3)],
    ['mean', () => ones([2], { dtype: 'int64' }).mean()],
    ['maxPool2d', () => ones([1, 1, 2, 2]).maxPool2d(5)],
    ['dropout', () => ones([2]).dropout({ p: 2 })],
    ['normal_', () => ones([2]).normal_({ std: -1 })],
    ['cat', () => cat([])],
    ['stack', () => stack([])],
    ['stack', () => stack([ones([1]), ones([2])])],
    ['expand', () => ones([2]).expand([3])],
    ['arange', () => arange(-1)],
  ])('%s: an OPERATOR_FAILED error', (operator, body) => {
    const error = errorOf(body);
    expect([error.code, error.operator]).toEqual(['OPERATOR_FAILED', operator]);
    expect(error.message.length).toBeGreaterThan(operator.length + 2);
  });
});

describe('arguments of the wrong kind', () => {
  const hole = () => {
    const holey: number[] = [2];
    holey[2] = 1;
    return holey;
  };
  it.each<[string, RegExp, (x: Tensor) => unknown]>([
    ['undefined for a tensor', /^add: expected a tensor for other, got undefined/, (x) => x.add(untyped(undefined))],
    ['null for a tensor', /^matmul: expected a tensor for other, got null/, (x) => x.matmul(untyped(null))],
    ['text for a tensor', /^matmul: expected a tensor for other, got string/, (x) => x.matmul(untyped('x'))],
    ['an object for a tensor', /^copy_: expected a tensor for source, got an object/, (x) => x.copy_(untyped({}))],
    [
      'a number for an optional tensor',
      /^linear: expected a tensor or null for bias, got number/,
      (x) => x.linear(x, untyped(3)),
    ],
    [
      'undefined for an optional tensor',
      /^linear: expected a tensor or null for bias, got undefined/,
      (x) => x.linear(x, untyped(undefined)),
    ],
    [
      'no list of tensors',
      /^cat: expected an array of tensors for tensors, got undefined/,
      () => cat(untyped(undefined)),
    ],
    [
      'a tensor for a list of tensors',
      /^cat: expected an array of tensors for tensors, got an object/,
      (x) => cat(untyped(x)),
    ],
    [
      'a number in a list of tensors',
      /^stack: expected a tensor for tensors\[1\], got number/,
      (x) => stack([x, untyped(1)]),
    ],
    [
      'a hole in a list of tensors',
      /^cat: expected a tensor for tensors\[1\], got undefined/,
      (x) => {
        const list = [x];
        list[2] = x;
        return cat(list);
      },
    ],
    [
      'null among parameters',
      /^clearGradients: expected a tensor for tensors\[0\], got null/,
      () => clearGradients([untyped(null)]),
    ],
    ['undefined for a number', /^pow: expected a number for exponent, got undefined/, (x) => x.pow(untyped(undefined))],
    ['text for a number', /^fill_: expected a number for value, got a string/, (x) => x.fill_(untyped('1'))],
    ['a bigint for a number', /^pow: expected a number for exponent, got a bigint/, (x) => x.pow(untyped(2n))],
    ['a handle that is no number', /^add: expected a tensor for other/, (x) => x.add(untyped({ handle: Number.NaN }))],
    ['the handle of none', /^linear: expected a tensor or null for bias/, (x) => x.linear(x, untyped({ handle: 0 }))],
    [
      "another tensor's handle and 2^32",
      /^cat: expected a tensor for tensors\[0\]/,
      (x) => cat([untyped({ handle: x.handle + 2 ** 32 })]),
    ],
    [
      "another tensor's handle and a half",
      /^copy_: expected a tensor for source/,
      (x) => x.copy_(untyped({ handle: x.handle + 0.5 })),
    ],
    ['NaN for a generator', /generator/, (x) => x.normal_({ generator: untyped({ generatorHandle: Number.NaN }) })],
    ['a hundred and more axes', /at most 128 integers for dims, got 1000/, (x) => x.permute(new Array(1000).fill(0))],
    [
      'a fraction as an int64',
      /^full: expected an integer .* for value, got 1.5/,
      () => full([2], 1.5, { dtype: 'int64' }),
    ],
    ['NaN as an int64', /for value, got NaN/, () => full([2], Number.NaN, { dtype: 'int64' })],
    [
      '300 as a uint8',
      /^full: expected an integer from 0 to 255 for value, got 300/,
      () => full([2], 300, { dtype: 'uint8' }),
    ],
    ['-1 as a uint8', /from 0 to 255 for value, got -1/, () => full([2], -1, { dtype: 'uint8' })],
    [
      'a range that a uint8 does not hold',
      /^arange: expected an integer from 0 to 255 for the last element, got 256/,
      () => arange(257, { dtype: 'uint8' }),
    ],
    [
      'the statistics of a GPU of the CPU',
      /^cudaMemoryStats: expected a CUDA device for device, got cpu/,
      () => cudaMemoryStats('cpu'),
    ],
    ['a fraction in int64 elements', /^fill_: .* for value, got 0.5/, () => zeros([2], { dtype: 'int64' }).fill_(0.5)],
    [
      'padding that does not fit',
      /^pad: .* for value, got 256/,
      () => zeros([2], { dtype: 'uint8' }).pad([1, 1], { value: 256 }),
    ],
    ['fractions of floats for int64', /for data\[0\], got 0.5/, () => tensor(Float32Array.of(0.5), { dtype: 'int64' })],
    [
      'NaN of floats for uint8',
      /for data\[0\], got NaN/,
      () => tensor(Float64Array.of(Number.NaN), { dtype: 'uint8' }),
    ],
    ['large integers for uint8', /for data\[0\], got 300/, () => tensor(BigInt64Array.of(300n), { dtype: 'uint8' })],
    ['2^64 - 1', /for data\[0\], got 18446744073709551615/, () => tensor(BigUint64Array.of(2n ** 64n - 1n))],
    [
      'a weight of another rank to normalise',
      /^batchNorm: expected \[4\], a value a channel, for weight, got \[2, 2\]/,
      () => ones([2, 4, 2, 2]).batchNorm(ones([2, 2]), null, null, null, { training: true }),
    ],
    [
      'a bias of another length to normalise',
      /^batchNormRelu: expected \[4\], a value a channel, for bias, got \[3\]/,
      () => ones([2, 4, 2, 2]).batchNormRelu(ones([4]), ones([3]), zeros([4]), ones([4])),
    ],
    [
      'statistics that require a gradient',
      /^batchNormRelu: expected runningMean without a gradient/,
      () => {
        const mean = zeros([4]);
        mean.requiresGrad = true;
        return ones([2, 4, 2, 2]).batchNormRelu(ones([4]), ones([4]), mean, ones([4]));
      },
    ],
    ['20,000 threads', /^setThreads: expected an integer from 1 to \d+ .*, got 20000/, () => setThreads(20_000)],
    ['2^32 + 1 threads', /^setThreads: .*, got 4294967297/, () => setThreads(2 ** 32 + 1)],
    ...(
      [
        [
          [4, 2],
          [2, 2],
        ],
        [[100_000], [2]],
        [[4, 1], [8]],
      ] as const
    ).map(([shape, buffer]): [string, RegExp, () => unknown] => {
      const [expected, got] = [shape, buffer].map((sizes) => `\\[${sizes.join(', ')}\\]`);
      return [
        `a momentum buffer of ${buffer.join(' x ')} for ${shape.join(' x ')}`,
        new RegExp(
          `^sgdStep: expected ${expected}, the shape of parameters\\[0\\], for momentumBuffers\\[0\\], got ${got}`,
        ),
        () => {
          const parameter = ones(shape);
          parameter.requiresGrad = true;
          parameter.sum().backward();
          return sgdStep([parameter], [zeros(buffer)], STEP);
        },
      ];
    }),
    ['NaN for an integer', /^softmax: expected an integer for dim, got NaN/, (x) => x.softmax(Number.NaN)],
    ['a fraction for an integer', /^select: expected an integer for index, got 0\.5/, (x) => x.select(0, 0.5)],
    [
      'infinity for an integer',
      /^narrow: expected an integer for length, got Infinity/,
      (x) => x.narrow(0, 0, Number.POSITIVE_INFINITY),
    ],
    ['2^60 for an integer', /^select: expected an integer for index/, (x) => x.select(0, 2 ** 60)],
    ['text for an integer', /^softmax: expected an integer for dim, got a string/, (x) => x.softmax(untyped('0'))],
    [
      'text for a boolean',
      /^sum: expected a boolean for keepDim, got a string/,
      (x) => x.sum({ keepDim: untyped('yes') }),
    ],
    ['a number for a shape', /^reshape: expected an array of integers for shape, got 4/, (x) => x.reshape(untyped(4))],
    [
      'a typed array for a shape',
      /^reshape: expected an array of integers for shape/,
      (x) => x.reshape(untyped(Int32Array.of(4))),
    ],
    [
      'a sparse array for a shape',
      /^reshape: expected an integer for shape\[1\], got undefined/,
      (x) => x.reshape(hole()),
    ],
    ['NaN in a shape', /^expand: expected an integer for shape\[0\], got NaN/, (x) => x.expand([Number.NaN])],
    ['a fraction in a shape', /^full: expected an integer for shape\[1\]/, () => zeros([2, 0.5])],
    ['a negative size', /^full: expected sizes >= 0 in shape, got -2/, () => zeros([-2])],
    [
      'three numbers for a pair',
      /^maxPool2d: expected one integer or \[height, width\] for kernelSize/,
      (x) => x.maxPool2d(untyped([2, 2, 2])),
    ],
    [
      'text for a stride',
      /^conv2d: expected an integer for stride, got a string/,
      (x) => x.conv2d(x, null, { stride: untyped('2') }),
    ],
    [
      'an unknown dtype',
      /expected one of uint8, .* for dtype, got float13/,
      () => zeros([1], { dtype: untyped('float13') }),
    ],
    ...['constructor', '__proto__', 'toString'].flatMap((name): [string, RegExp, (x: Tensor) => unknown][] => [
      [`${name} as a dtype`, /for dtype, got \w+$/, () => zeros([1], { dtype: untyped(name) })],
      [`${name} as a dtype of data`, /for dtype, got \w+$/, () => tensor([1], { dtype: untyped(name) })],
      [
        `${name} as a memory format`,
        /for memoryFormat, got \w+$/,
        (x) => x.contiguous({ memoryFormat: untyped(name) }),
      ],
    ]),
    ['an unknown dtype of to()', /for dtype, got int4/, (x) => x.to({ dtype: untyped('int4') })],
    ['an unknown memory format', /for memoryFormat, got NHWC/, (x) => x.contiguous({ memoryFormat: untyped('NHWC') })],
    ['an unknown reduction', /for reduction, got max/, (x) => x.crossEntropy(x, { reduction: untyped('max') })],
    ['an unknown device', /for device, got gpu/, () => zeros([1], { device: untyped('gpu') })],
    ['a negative device', /for device, got cuda:-1/, () => zeros([1], { device: 'cuda:-1' })],
    [
      'no data',
      /^tensor: expected an array of numbers or a typed array for data, got undefined/,
      () => tensor(untyped(undefined)),
    ],
    ['null as data', /^tensor: .* for data, got null/, () => tensor(untyped(null))],
    ['a number as data', /^tensor: .* for data, got number/, () => tensor(untyped(3))],
    ['a DataView as data', /^tensor: .* for data/, () => tensor(untyped(new DataView(new ArrayBuffer(8))))],
    ['an ArrayBuffer as data', /^tensor: .* for data/, () => tensor(untyped(new ArrayBuffer(8)))],
    ['text in data', /^tensor: expected a number for data\[1\], got string/, () => tensor(untyped([1, '2']))],
    ['a hole in data', /^tensor: expected a number for data\[1\], got undefined/, () => tensor(hole())],
    ['nested data', /^tensor: expected a number for data\[0\], got object/, () => tensor(untyped([[1], [2]]))],
    [
      'NaN for int64',
      /^tensor: expected an integer .* for data\[0\], got NaN/,
      () => tensor([Number.NaN], { dtype: 'int64' }),
    ],
    [
      'a fraction for int64',
      /^tensor: expected an integer .* for data\[1\], got 1.5/,
      () => tensor([1, 1.5], { dtype: 'int64' }),
    ],
    [
      '256 for uint8',
      /^tensor: expected an integer from 0 to 255 for data\[0\], got 256/,
      () => tensor([256], { dtype: 'uint8' }),
    ],
    ['a negative number for uint8', /for data\[0\], got -1/, () => tensor(Int32Array.of(-1), { dtype: 'uint8' })],
    ['numbers for bfloat16', /^tensor: expected a Uint16Array/, () => tensor([1], { dtype: 'bfloat16' })],
    ['bits without a dtype', /^tensor: expected dtype float16 or bfloat16/, () => tensor(Uint16Array.of(1))],
    [
      'data that does not fill the shape',
      /^tensor: expected 24 bytes .* got 8/,
      () => tensor([1, 2], { shape: [2, 3] }),
    ],
    [
      'one value a channel to normalise',
      /^batchNorm: expected more than one value a channel/,
      () => ones([1, 3, 1, 1]).batchNorm(null, null, null, null, { training: true }),
    ],
    ['a tensor of two elements as a number', /^item: expected a tensor of one element, got 2/, () => ones([2]).item()],
    ['a tensor in arithmetic', /item\(\)/, (x) => untyped<number>(x) * 2],
    [
      'zero threads',
      /^setThreads: expected an integer from 1 to \d+ for threads on this machine, got 0/,
      () => setThreads(0),
    ],
    ['text for threads', /^setThreads: expected an integer for threads, got a string/, () => setThreads(untyped('2'))],
    ...(
      [
        [
          'a vector',
          [3],
          [3],
          {},
          'expected floating point of two or more dimensions, none of size 0, .* got Float \\[3\\]',
        ],
        ['a matrix without rows', [0, 3], [0, 3], {}, 'expected floating point of two or more .* got Float \\[0, 3\\]'],
        [
          'a buffer of another shape',
          [2, 3],
          [3],
          {},
          'expected \\[2, 3\\], the shape of parameters\\[0\\], for momentumBuffers',
        ],
        ['100 iterations', [2, 3], [2, 3], { iterations: 100 }, 'expected 0 to 99 for iterations, got 100'],
      ] as const
    ).map(([name, shape, buffer, changes, message]): [string, RegExp, () => unknown] => [
      `Muon: ${name}`,
      new RegExp(`^muonStep: ${message}`),
      () => {
        const parameter = zeros(shape);
        parameter.requiresGrad = true;
        parameter.sum().backward();
        const step = {
          learningRate: 1,
          momentum: 0.9,
          weightDecay: 0,
          nesterov: true,
          iterations: 5,
          eps: 1e-7,
          dtype: 'float32' as const,
        };
        return muonStep([parameter], [zeros(buffer)], { ...step, ...changes });
      },
    ]),
    [
      'Muon: a buffer of another dtype, with nothing stepped before it',
      /^muonStep: expected the dtype of parameters\[1\], Float, for momentumBuffers\[1\], got Double/,
      () => {
        const parameters = [ones([2, 3]), ones([2, 3])];
        for (const parameter of parameters) {
          parameter.requiresGrad = true;
          parameter.sum().backward();
        }
        const step = { learningRate: 1, momentum: 0, weightDecay: 0, nesterov: false, iterations: 1, eps: 1e-7 };
        try {
          const buffers = [zeros([2, 3]), zeros([2, 3], { dtype: 'float64' })];
          return muonStep(parameters, buffers, { ...step, dtype: 'float32' });
        } finally {
          expect(parameters[0]!.detach().eq(1).all().item()).toBe(1);
        }
      },
    ],
    ['momentum buffers missing', /one momentum buffer a parameter/, (x) => sgdStep([x], [], STEP)],
    ...(
      [
        ['an average too few', { expAvg: [] }, /^adamwStep: expected one tensor a parameter, 1, for expAvg, got 0/],
        [
          'an average of another shape',
          { expAvgSq: [[2]] },
          /^adamwStep: expected \[2, 2\], the shape of parameters\[0\], for expAvgSq\[0\], got \[2\]/,
        ],
        [
          'an average on another device',
          { expAvg: 'meta' },
          /^adamwStep: expected all tensors on one device, got meta for expAvg/,
        ],
        [
          'a count of steps too many',
          { step: [2] },
          /^adamwStep: expected float32 \[1\], a number a parameter, for step, got Float \[2\]/,
        ],
      ] as const
    ).map(([name, shapes, message]): [string, RegExp, (x: Tensor) => unknown] => [
      name,
      message,
      (x) => {
        const { expAvg = [[2, 2]], expAvgSq = [[2, 2]], step = [1] } = shapes as Record<string, readonly never[]>;
        const zerosOf = (all: readonly (readonly number[])[] | 'meta'): Tensor[] =>
          all === 'meta' ? [zeros([2, 2], { device: 'meta' })] : all.map((shape) => zeros(shape));
        const moments = { expAvg: zerosOf(expAvg), expAvgSq: zerosOf(expAvgSq), step: zeros(step) };
        return adamwStep([x], moments, { learningRate: 1, beta1: 0.9, beta2: 0.99, eps: 0, weightDecay: 0 });
      },
    ]),
    [
      'a learning rate of text',
      /^sgdStep: expected a number for learningRate, got a string/,
      (x) => sgdStep([x], [], { ...STEP, momentum: 0, learningRate: untyped('1') }),
    ],
  ])('%s', (_name, message, body) => {
    const error = errorOf(() => body(ones([2, 2])));
    expect(error.message).toMatch(message);
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.stack).toContain('misuse.test');
  });

  it('pass on what a getter in an array throws, and survive what it does', () => {
    const x = ones([4]);
    const failing = Object.defineProperty([0], 0, {
      get: () => {
        throw new Error('mine');
      },
    });
    expect(() => x.reshape(failing)).toThrow('mine');
    const crowding = Object.defineProperty([0], 0, {
      get: () => {
        // Many tensors, so that the native table of tensors has to grow in the middle of the call.
        for (let i = 0; i < 5000; i++) ones([1]);
        return 4;
      },
    });
    expect(scope(() => x.reshape(crowding).toArray())).toEqual([1, 1, 1, 1]);
    const disposing = Object.defineProperty([0], 0, {
      get: () => {
        x.dispose();
        return 4;
      },
    });
    expect(errorOf(() => x.reshape(disposing)).code).toBe('TENSOR_DISPOSED');
  });

  it('are read before the call begins: what a getter frees or moves is not in use', () => {
    scope(() => {
      const data = new Float32Array(8);
      const moving = Object.defineProperty([8], 0, {
        get: () => {
          structuredClone(data.buffer, { transfer: [data.buffer] });
          return 8;
        },
      });
      expect(errorOf(() => tensor(data, { shape: moving })).message).toMatch(/expected 32 bytes .* got 0/);
      // The tensor that is expanded is that of the call, not one that took its handle meanwhile.
      const x = keep(ones([1]));
      const replacing = Object.defineProperty([3], 0, {
        get: () => {
          x.dispose();
          zeros([1]);
          return 3;
        },
      });
      const before = memoryStats().liveTensors;
      expect(errorOf(() => x.expand(replacing)).code).toBe('TENSOR_DISPOSED');
      expect(memoryStats().liveTensors).toBe(before - 1);
    });
  });

  it('are read once: a getter that answers otherwise the second time changes nothing', () => {
    let reads = 0;
    const fickle = Object.defineProperty([0], 0, { get: () => (reads++ === 0 ? 1 : 0.5) });
    scope(() => expect(tensor(fickle, { dtype: 'int64' }).toArray()).toEqual([1]));
    expect(reads).toBe(1);
  });
});

describe('typed arrays', () => {
  it('of every kind become tensors of their kind', () => {
    scope(() => {
      const made = [
        tensor([1, -2]),
        tensor(Float64Array.of(1, 2)),
        tensor(Int32Array.of(1, -2)),
        tensor(BigInt64Array.of(1n, -2n)),
        tensor(Uint8Array.of(1, 2)),
        tensor(Buffer.from([1, 2])),
        tensor(Uint16Array.of(0x3c00, 0xc000), { dtype: 'float16' }),
        tensor(Float32Array.of(0, -2), { dtype: 'bool' }),
        tensor(Float32Array.of(1, 2), { dtype: 'bfloat16' }),
        tensor(Uint8Array.of(0, 2), { dtype: 'bool' }),
        tensor(Int32Array.of(1, 0), { dtype: 'bool' }),
      ];
      expect(made.map((t) => [t.dtype, t.toArray()])).toEqual([
        ['float32', [1, -2]],
        ['float64', [1, 2]],
        ['int64', [1, -2]],
        ['int64', [1, -2]],
        ['uint8', [1, 2]],
        ['uint8', [1, 2]],
        ['float16', [1, -2]],
        ['bool', [0, 1]],
        ['bfloat16', [1, 2]],
        ['bool', [0, 1]],
        ['bool', [1, 0]],
      ]);
    });
  });

  it('of another realm, and subclasses, are what they say they are', () => {
    class Pixels extends Uint8Array {}
    scope(() => {
      const made = [
        'Float32Array.of(0.5)',
        'Float64Array.of(0.1)',
        'BigInt64Array.of(2n)',
        'Uint8Array.of(3)',
        '[0.5]',
      ].map((text) => tensor(runInNewContext(text) as Float32Array));
      made.push(tensor(Pixels.of(4)), tensor(Int8Array.of(-1)), tensor(BigUint64Array.of(5n)));
      expect(made.map((t) => [t.dtype, t.toArray()])).toEqual([
        ['float32', [0.5]],
        ['float64', [0.1]],
        ['int64', [2]],
        ['uint8', [3]],
        ['float32', [0.5]],
        ['uint8', [4]],
        ['int64', [-1]],
        ['int64', [5]],
      ]);
    });
  });

  it('are copied in and out, also from the middle of a buffer and from shared memory', () => {
    scope(() => {
      const source = Float32Array.of(0, 1, 2, 3).subarray(1, 3);
      const copy = tensor(source);
      source[0] = 9;
      expect(copy.toArray()).toEqual([1, 2]);
      const out = copy.toTypedArray();
      out[0] = 7;
      expect(copy.toArray()).toEqual([1, 2]);
      const shared = new Float32Array(new SharedArrayBuffer(8));
      shared.set([5, 6]);
      expect(tensor(shared).toArray()).toEqual([5, 6]);
    });
  });

  it('come out exactly: float64, large int64, nested and empty shapes', () => {
    scope(() => {
      expect(tensor(Float64Array.of(0.1)).toArray()).toEqual([0.1]);
      expect(tensor(BigInt64Array.of(2n ** 62n + 1n)).toTypedArray()).toEqual(BigInt64Array.of(2n ** 62n + 1n));
      expect(tensor([1, 2, 3, 4], { shape: [2, 1, 2] }).toArray()).toEqual([[[1, 2]], [[3, 4]]]);
      expect(tensor([5], { shape: [] }).toArray()).toBe(5);
      expect(zeros([2, 0]).toArray()).toEqual([[], []]);
      expect(zeros([0, 2]).toArray()).toEqual([]);
      expect(arange(3).toArray()).toEqual([0, 1, 2]);
      expect(arange(256, { dtype: 'uint8' }).toTypedArray()).toEqual(Uint8Array.from({ length: 256 }, (_, i) => i));
      expect(ones([2]).add(1).to({ dtype: 'int64' }).toFloat32Array()).toEqual(Float32Array.of(2, 2));
    });
  });
});

describe('what JavaScript cannot hold', () => {
  it('is refused where a number would be another integer, and given where it is the same', () => {
    const odd = [2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 63n - 1n];
    const even = [2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 2n, -(2n ** 63n)];
    scope(() => {
      for (const value of odd) {
        const message = (operator: string) =>
          `${operator}: a number does not hold ${value} exactly; use toTypedArray()`;
        expect(errorOf(() => tensor(BigInt64Array.of(value)).item()).message).toBe(message('item'));
        expect(errorOf(() => tensor(BigInt64Array.of(1n, value)).toArray()).message).toBe(message('toArray'));
        expect(tensor(BigInt64Array.of(value)).toTypedArray()).toEqual(BigInt64Array.of(value));
      }
      for (const value of even) expect(BigInt(tensor(BigInt64Array.of(value)).item())).toBe(value);
      expect(tensor(BigInt64Array.from(even)).toArray()).toEqual(even.map(Number));
      // Floating-point values of any size are numbers.
      expect(full([], 1e300, { dtype: 'float64' }).item()).toBe(1e300);
    });
  });

  it('is refused by the name of what was asked for: a typed array, nested arrays', () => {
    const large = () => ones([1, 1]).expand([2 ** 31, 2 ** 31]);
    expect(errorOf(() => large().toTypedArray())).toMatchObject({ code: 'OUT_OF_MEMORY', operator: 'toTypedArray' });
    expect(errorOf(() => large().toFloat32Array())).toMatchObject({ code: 'OUT_OF_MEMORY', operator: 'toTypedArray' });
    expect(errorOf(() => large().toArray())).toMatchObject({ code: 'OUT_OF_MEMORY', operator: 'toArray' });
    expect(errorOf(() => empty([2 ** 30, 0]).toArray())).toMatchObject({ code: 'OUT_OF_MEMORY', operator: 'toArray' });
    const posing = new Proxy([1], { get: (array, key) => (key === 'length' ? 2 ** 50 : Reflect.get(array, key)) });
    expect(errorOf(() => tensor(posing))).toMatchObject({ code: 'OUT_OF_MEMORY', operator: 'tensor' });
  });

  it('has its bytes counted all the same', () => {
    // 2^62 elements of 4 bytes: more than an integer of 64 bits holds.
    expect(scope(() => ones([1, 1]).expand([2 ** 31, 2 ** 31]).byteLength)).toBe(2 ** 64);
  });
});

describe('devices and memory', () => {
  it.skipIf(buildInfo().cudaAvailable)(
    'a request for CUDA where there is none is refused, never served by the CPU',
    () => {
      const requests: (() => unknown)[] = [
        () => zeros([1], { device: 'cuda' }),
        () => empty([1], { device: 'cuda:1' }),
        () => tensor([1], { device: 'cuda' }),
        () => ones([1]).to({ device: 'cuda:0' }),
        () => synchronize('cuda'),
      ];
      for (const request of requests) {
        const error = errorOf(request);
        expect(error.code).toBe('DEVICE_UNAVAILABLE');
        expect(error.message).toMatch(/cuda:[01] was asked for/);
      }
      expect(buildInfo().cudaReason).not.toBe('');
    },
  );

  it.each<[string, () => unknown]>([
    ['empty', () => empty([2 ** 45])],
    ['full', () => ones([2 ** 25, 2 ** 20])],
    [
      'clone',
      () =>
        ones([1])
          .expand([2 ** 45])
          .clone(),
    ],
    ['empty', () => empty([2 ** 40, 2 ** 40])],
    ['pad', () => ones([1]).pad([0, 2 ** 45])],
  ])('%s beyond the memory is a typed error, and the process goes on', (operator, body) => {
    const before = memoryStats();
    const error = errorOf(body);
    expect([error.code, error.operator]).toEqual(['OUT_OF_MEMORY', operator]);
    expect(memoryStats()).toEqual(before);
  });

  it('says which LibTorch is built in and loaded, and how many threads it has', () => {
    const info = buildInfo();
    expect(info.libtorchBuilt).toMatch(/^\d+\.\d+\.\d+/);
    if (info.libtorchLoaded !== '') {
      expect(info.libtorchLoaded.split('+')[0]).toBe(info.libtorchBuilt.split('+')[0]);
    }
    const before = getThreads();
    setThreads(1);
    expect([getThreads(), buildInfo().threads]).toEqual([1, 1]);
    setThreads(before);
    expect(getThreads()).toBe(before);
  });
});

describe('numbers beside tensors', () => {
  it('are compared with bytes as what they are', () => {
    scope(() => {
      const bytes = tensor(new Uint8Array([0, 128, 200, 255]));
      expect(bytes.lt(256).toArray()).toEqual([1, 1, 1, 1]);
      expect(bytes.gt(-1).toArray()).toEqual([1, 1, 1, 1]);
      expect(bytes.gt(255).toArray()).toEqual([0, 0, 0, 0]);
      expect(bytes.eq(456).toArray()).toEqual([0, 0, 0, 0]);
      expect(bytes.eq(-56).toArray()).toEqual([0, 0, 0, 0]);
      expect(bytes.lt(200).toArray()).toEqual([1, 1, 0, 0]);
      expect(bytes.gt(127.5).toArray()).toEqual([0, 1, 1, 1]);
    });
  });

  it('keep integers integers, where they are exact, and are refused where not', () => {
    scope(() => {
      const integers = arange(2);
      expect(integers.mul(2 ** 53 - 1).dtype).toBe('int64');
      expect(integers.add(-0).dtype).toBe('int64');
      expect(integers.mul(0.5).dtype).toBe('float32');
      expect(errorOf(() => integers.mul(2 ** 53))).toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(
          'mul: expected an integer of at most 2^53 - 1 in size beside integers for other',
        ),
      });
    });
  });

  it('are minus zero, and as large as they are, beside floating-point numbers', () => {
    scope(() => {
      expect(ones([1]).div(-0).item()).toBe(Number.NEGATIVE_INFINITY);
      expect(
        ones([1], { dtype: 'float64' })
          .mul(2 ** 70)
          .item(),
      ).toBe(2 ** 70);
    });
  });
});

it('a computed tensor does not silently keep a gradient that it was told not to have', () => {
  scope(() => {
    const weight = ones([1]);
    weight.requiresGrad = true;
    const computed = weight.mul(2);
    expect(errorOf(() => (computed.requiresGrad = false)).message).toMatch(/detach\(\) gives it without/);
    computed.requiresGrad = true;
    weight.requiresGrad = false;
    expect([computed.requiresGrad, weight.requiresGrad, computed.detach().requiresGrad]).toEqual([true, false, false]);
    ones([1]).requiresGrad = false;
  });
});
