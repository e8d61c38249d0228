import { describe, expect, it } from 'vitest';
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout,
  defaultInit,
  Flatten,
  Linear,
  MaxPool2d,
  Module,
  ModuleError,
  ReLU,
  Sequential,
  StateDictError,
  Whitening,
} from '../../lib/nn/index.js';
import {
  clearGradients,
  Generator,
  memoryStats,
  noGrad,
  ones,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/tensor/index.js';
import { hashed } from '../support/fixtures.js';

function network(): Sequential {
  return new Sequential([
    ['conv', new Conv2d({ inChannels: 3, outChannels: 4, kernelSize: 3, padding: 1 })],
    ['bn', new BatchNorm2d({ features: 4 })],
    ['relu', new ReLU()],
    ['pool', new AdaptiveAvgPool2d({ outputSize: 2 })],
    ['flatten', new Flatten()],
    ['linear', new Linear({ inFeatures: 16, outFeatures: 5 })],
  ]);
}

function withModule<M extends Module, T>(module: M, body: (module: M) => T): T {
  try {
    return scope(() => body(module));
  } finally {
    module.dispose();
  }
}

const valuesOf = (module: Module): Record<string, number[]> =>
  Object.fromEntries([...module.stateDict()].map(([name, value]) => [name, Array.from(value.toTypedArray(), Number)]));

describe('Module', () => {
  it("lists parameters and buffers with PyTorch's names and order", () => {
    withModule(network(), (module) => {
      expect([...module.stateDict()].map(([name, value]) => [name, value.shape, value.dtype])).toEqual([
        ['conv.weight', [4, 3, 3, 3], 'float32'],
        ['conv.bias', [4], 'float32'],
        ['bn.weight', [4], 'float32'],
        ['bn.bias', [4], 'float32'],
        ['bn.running_mean', [4], 'float32'],
        ['bn.running_var', [4], 'float32'],
        ['bn.num_batches_tracked', [], 'int64'],
        ['linear.weight', [5, 16], 'float32'],
        ['linear.bias', [5], 'float32'],
      ]);
      expect([...module.namedParameters().keys()]).toHaveLength(6);
      expect(module.parameterCount()).toBe(4 * 27 + 4 + 8 + 80 + 5);
      expect(module.parameters().every((parameter) => parameter.requiresGrad)).toBe(true);
      expect(module.stateDict().get('bn.running_mean')!.requiresGrad).toBe(false);
    });
  });

  it('turns training on and off in all its children', () => {
    withModule(network(), (module) => {
      const modes = () => [module, ...module.children.values()].map(({ training }) => training);
      expect(new Set(modes())).toEqual(new Set([true]));
      module.eval();
      expect(new Set(modes())).toEqual(new Set([false]));
      module.train();
      expect(new Set(modes())).toEqual(new Set([true]));
    });
  });

  it('frees everything on dispose', () => {
    const before = memoryStats();
    network().dispose();
    expect(memoryStats()).toEqual(before);
  });

  it('outlives a scope that it was made in', () => {
    let made: Linear | undefined;
    scope(() => {
      made = new Linear({ inFeatures: 2, outFeatures: 1 });
    });
    expect(made!.weight.isDisposed).toBe(false);
    made!.dispose();
    expect(made!.weight.isDisposed).toBe(true);
  });
});

describe('loadStateDict', () => {
  it('copies the values, converting the dtype, into the same tensors', () => {
    withModule(network(), (module) => {
      const own = module.stateDict();
      const source = new Map(
        [...own].map(([name, value]) => [name, hashed(value.shape, name.length).to({ dtype: 'float64' })]),
      );
      source.set('bn.num_batches_tracked', tensor([7], { shape: [], dtype: 'int64' }));
      module.loadStateDict(source);
      for (const [name, value] of own) {
        expect(value.isDisposed).toBe(false);
        expect(module.stateDict().get(name)).toBe(value);
        expect(Array.from(value.toTypedArray(), Number)).toEqual(Array.from(source.get(name)!.toTypedArray(), Number));
      }
      expect(module.parameters().every((parameter) => parameter.requiresGrad)).toBe(true);
    });
  });

  it('names every missing, unexpected and misshapen key and changes nothing', () => {
    withModule(network(), (module) => {
      const before = valuesOf(module);
      const source = new Map<string, Tensor>(
        [...module.stateDict()].map(([name, value]) => [name, zeros(value.shape)]),
      );
      source.delete('conv.bias');
      source.delete('bn.running_var');
      source.set('conv.weight', zeros([4, 3, 5, 5]));
      source.set('linear.weight', zeros([16, 5]));
      source.set('extra.weight', zeros([1]));
      let error: unknown;
      try {
        module.loadStateDict(source);
      } catch (caught) {
        error = caught;
      }
      expect(error).toBeInstanceOf(StateDictError);
      expect(error).toMatchObject({
        code: 'STATE_DICT_MISMATCH',
        missing: ['conv.bias', 'bn.running_var'],
        unexpected: ['extra.weight'],
        misshapen: [
          { name: 'conv.weight', expected: [4, 3, 3, 3], got: [4, 3, 5, 5] },
          { name: 'linear.weight', expected: [5, 16], got: [16, 5] },
        ],
      });
      for (const name of ['conv.bias', 'bn.running_var', 'extra.weight', 'conv.weight', 'linear.weight']) {
        expect((error as Error).message).toContain(name);
      }
      expect(valuesOf(module)).toEqual(before);
    });
  });

  it.each<[string, (source: Map<string, Tensor>) => unknown]>([
    ['missing: bn.bias', (source) => source.delete('bn.bias')],
    ['unexpected: bn.gain', (source) => source.set('bn.gain', ones([4]))],
    // A copy would broadcast it.
    ['bn.bias: expected [4], got [1]', (source) => source.set('bn.bias', ones([1]))],
  ])('refuses one key that does not fit: %s', (problem, spoil) => {
    withModule(network(), (module) => {
      const before = valuesOf(module);
      const source = new Map<string, Tensor>([...module.stateDict()].map(([name, value]) => [name, ones(value.shape)]));
      spoil(source);
      expect(() => module.loadStateDict(source)).toThrow(problem);
      expect(valuesOf(module)).toEqual(before);
    });
  });

  it('refuses integers for floating-point numbers, as of quantised weights, and takes floats for a counter', () => {
    withModule(network(), (module) => {
      const before = valuesOf(module);
      const source = new Map<string, Tensor>([...module.stateDict()].map(([name, value]) => [name, ones(value.shape)]));
      source.set('linear.weight', ones([5, 16], { dtype: 'uint8' }));
      source.set('conv.bias', ones([4], { dtype: 'int64' }));
      expect(() => module.loadStateDict(source)).toThrow(
        'module; conv.bias: expected float32, got int64, linear.weight: expected float32, got uint8',
      );
      expect(valuesOf(module)).toEqual(before);
      source.set('linear.weight', ones([5, 16]));
      source.set('conv.bias', ones([4]));
      module.loadStateDict(source);
      expect(module.stateDict().get('bn.num_batches_tracked')!.item()).toBe(1);
    });
  });

  it('changes nothing when a source tensor has been disposed', () => {
    withModule(network(), (module) => {
      const before = valuesOf(module);
      const source = new Map<string, Tensor>([...module.stateDict()].map(([name, value]) => [name, ones(value.shape)]));
      expect(source.get('linear.bias')!.shape).toEqual([5]);
      source.get('linear.bias')!.dispose();
      expect(() => module.loadStateDict(source)).toThrow(/disposed/);
      expect(valuesOf(module)).toEqual(before);
    });
  });
});

describe('to', () => {
  it('is not made of integers, which would cut its weights off, and is left as it was', () => {
    const module = new Whitening({ channels: 1, size: 2 });
    const before = [...module.stateDict().values()].map((value) => value.toArray());
    expect(() => module.to({ dtype: 'int64' })).toThrow(
      'Module.to: expected one of float16, bfloat16, float32, float64 for dtype, got int64',
    );
    expect([...module.stateDict().values()].map((value) => value.toArray())).toEqual(before);
    module.dispose();
  });

  it('converts in place: the same tensors, still wanting gradients, counters still integers', () => {
    withModule(network(), (module) => {
      const before = [...module.stateDict().values()];
      module.to({ dtype: 'float64', memoryFormat: 'channelsLast' });
      const after = [...module.stateDict().values()];
      expect(after.every((value, i) => value === before[i])).toBe(true);
      expect(after.map(({ dtype }) => dtype)).toEqual(before.map((_, i) => (i === 6 ? 'int64' : 'float64')));
      expect(after.map(({ requiresGrad }) => requiresGrad)).toEqual([
        true,
        true,
        true,
        true,
        false,
        false,
        false,
        true,
        true,
      ]);
      expect(after[0]!.isContiguous('channelsLast')).toBe(true);
      expect(after[0]!.isContiguous()).toBe(false);
      const output = module.forward(hashed([2, 3, 4, 4], 1).to({ dtype: 'float64' }));
      output.sum().backward();
      expect(after[0]!.grad!.shape).toEqual([4, 3, 3, 3]);
    });
  });

  it('keeps the gradients of a backward pass, converted and laid out like the parameters', () => {
    withModule(network(), (module) => {
      module
        .forward(hashed([2, 3, 4, 4], 1))
        .sum()
        .backward();
      const gradients = () => module.parameters().map((parameter) => parameter.grad?.toArray());
      const before = gradients();
      expect(before).not.toContain(undefined);
      const untouched = module.stateDict().get('linear.weight')!;
      // Half of the gradients have been let go, as an optimiser does.
      clearGradients([untouched]);
      const expected = before.map((values, i) => (i === 4 ? undefined : values));
      module.to({ dtype: 'float64', memoryFormat: 'channelsLast' });
      expect(gradients()).toEqual(expected);
      const { grad } = module.parameters()[0]!;
      expect([grad!.dtype, grad!.isContiguous('channelsLast'), grad!.requiresGrad]).toEqual(['float64', true, false]);
      module.to({ dtype: 'float32' }).to({});
      expect(gradients()).toEqual(expected);
      // Another backward pass adds to them, as before.
      module.parameters()[1]!.sum().backward();
      expect(gradients()[1]).toEqual((expected[1] as number[]).map((value) => Math.fround(value + 1)));
    });
  });

  it('keeps the values, and changes nothing when there is nothing to change', () => {
    withModule(network(), (module) => {
      const before = valuesOf(module);
      module.to({ memoryFormat: 'channelsLast' }).to({ dtype: 'float64' }).to({ dtype: 'float32' }).to({});
      expect(valuesOf(module)).toEqual(before);
    });
  });
});

describe('layers', () => {
  it('batch norm counts and tracks batches in training only', () => {
    withModule(new BatchNorm2d({ features: 2, momentum: 0.5 }), (norm) => {
      const x = tensor([1, 3, 10, 20], { shape: [1, 2, 1, 2] });
      norm.forward(x);
      // By hand: means 2 and 15; unbiased variances 2 and 50; half of them and half of the 0 and 1 before.
      expect(norm.runningMean.toArray()).toEqual([1, 7.5]);
      expect(norm.runningVar.toArray()).toEqual([1.5, 25.5]);
      expect(norm.numBatchesTracked.item()).toBe(1);
      norm.eval().forward(x);
      expect(norm.runningMean.toArray()).toEqual([1, 7.5]);
      expect(norm.numBatchesTracked.item()).toBe(1);
    });
  });

  it('dropout drops in training and is the identity in evaluation', () => {
    const dropout = new Dropout({ p: 0.25 });
    scope(() => {
      const x = ones([10_000]);
      const values = dropout.forward(x).toFloat32Array();
      const dropped = values.filter((value) => value === 0).length;
      expect(new Set(values)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
      expect(Math.abs(dropped - 2500)).toBeLessThan(5 * Math.sqrt(10_000 * 0.25 * 0.75));
      expect(dropout.eval().forward(x)).toBe(x);
    });
  });

  it('max pooling moves by its own size and flatten keeps the batch', () => {
    scope(() => {
      const x = tensor(Float32Array.from({ length: 36 }, (_, i) => i)).reshape([1, 1, 6, 6]);
      expect(new MaxPool2d({ kernelSize: 3 }).forward(x).toArray()).toEqual([
        [
          [
            [14, 17],
            [32, 35],
          ],
        ],
      ]);
      expect(new Flatten().forward(ones([2, 3, 4, 5])).shape).toEqual([2, 60]);
    });
  });

  it("start from PyTorch's default: uniform within 1 / sqrt(fan in), for weight and bias", () => {
    const generator = Generator.create({ seed: 5 });
    const init = defaultInit(generator);
    const check = (layer: Conv2d | Linear, fanIn: number) => {
      const bound = 1 / Math.sqrt(fanIn);
      for (const value of [layer.weight, layer.bias!]) {
        const values = [...value.toFloat32Array()];
        expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(bound);
        expect(Math.max(...values)).toBeGreaterThan(0.9 * bound);
        expect(Math.min(...values)).toBeLessThan(-0.9 * bound);
      }
    };
    withModule(new Conv2d({ inChannels: 8, outChannels: 200, kernelSize: 3, init }), (layer) => check(layer, 72));
    withModule(new Linear({ inFeatures: 50, outFeatures: 200, init }), (layer) => check(layer, 50));
    generator.dispose();
  });

  it.each([
    ['Conv2d', 'inChannels', () => new Conv2d({ inChannels: 0, outChannels: 1, kernelSize: 3 })],
    ['Conv2d', 'kernelSize', () => new Conv2d({ inChannels: 1, outChannels: 1, kernelSize: 1.5 })],
    ['Conv2d', 'stride', () => new Conv2d({ inChannels: 1, outChannels: 1, kernelSize: 3, stride: -1 })],
    ['Linear', 'outFeatures', () => new Linear({ inFeatures: 1, outFeatures: Number.NaN })],
    ['BatchNorm2d', 'features', () => new BatchNorm2d({ features: -2 })],
    ['MaxPool2d', 'kernelSize', () => new MaxPool2d({ kernelSize: 0 })],
    ['AdaptiveAvgPool2d', 'outputSize', () => new AdaptiveAvgPool2d({ outputSize: 0.5 })],
    ['AdaptiveAvgPool2d', 'outputSize\\[1\\]', () => new AdaptiveAvgPool2d({ outputSize: [2, 0] })],
    ['Dropout', 'p', () => new Dropout({ p: 1 })],
    ['Dropout', 'p', () => new Dropout({ p: '0.5' as never })],
    ['BatchNorm2d', 'eps', () => new BatchNorm2d({ features: 1, eps: Number.NaN })],
    ['BatchNorm2d', 'momentum', () => new BatchNorm2d({ features: 1, momentum: 'x' as never })],
    ['Conv2d', 'padding', () => new Conv2d({ inChannels: 1, outChannels: 1, kernelSize: 3, padding: 0.5 })],
    ['Conv2d', 'padding', () => new Conv2d({ inChannels: 1, outChannels: 1, kernelSize: 3, padding: -1 })],
  ])('%s refuses a bad %s before anything is allocated', (layer, option, make) => {
    const before = memoryStats();
    expect(make).toThrow(ModuleError);
    expect(make).toThrow(new RegExp(`${layer}: .* for ${option}`));
    expect(memoryStats()).toEqual(before);
  });

  it('a name that is taken, has a dot or is empty is refused: its tensors would not be in the state dict', () => {
    const [weight, statistic] = [zeros([1]), zeros([1])];
    class Named extends Module {
      constructor(names: readonly [parameter: string, buffer: string, child: string]) {
        super();
        this.parameter(names[0], weight);
        this.buffer(names[1], statistic);
        this.child(names[2], new ReLU());
      }
      forward(input: Tensor): Tensor {
        return input;
      }
    }
    const refused = (make: () => Module, message: string) => expect(make).toThrow(new ModuleError(message));
    const twice = 'expected another name for each parameter, buffer and child, got';
    refused(
      () =>
        new Sequential([
          ['fc', new ReLU()],
          ['fc', new ReLU()],
        ]),
      `Sequential: ${twice} fc twice`,
    );
    const expected = 'expected a text without dots for the name of a parameter, buffer or child, got';
    refused(() => new Named(['a.weight', 'b', 'a']), `Named: ${expected} "a.weight"`);
    refused(() => new Named(['', 'b', 'a']), `Named: ${expected} ""`);
    refused(() => new Named([7 as never, 'b', 'a']), `Named: ${expected} 7`);
    for (const [names, name] of [
      [['a', 'a', 'c'], 'a'],
      [['a', 'b', 'a'], 'a'],
      [['a', 'b', 'b'], 'b'],
    ] as const) {
      refused(() => new Named(names), `Named: ${twice} ${name} twice`);
    }
    for (const tensor of [weight, statistic]) tensor.dispose();
  });

  it('a model of one’s own composes them', () => {
    class Residual extends Module {
      readonly #inner = this.child('inner', new Linear({ inFeatures: 2, outFeatures: 2, bias: false }));
      forward(input: Tensor): Tensor {
        return input.add(this.#inner.forward(input));
      }
    }
    withModule(new Residual(), (module) => {
      module.loadStateDict(new Map([['inner.weight', tensor([0, 1, 2, 0], { shape: [2, 2] })]]));
      expect(noGrad(() => module.forward(tensor([3, 5], { shape: [1, 2] }))).toArray()).toEqual([[8, 11]]);
    });
  });
});
