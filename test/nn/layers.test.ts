// Layers against torch.nn's of the same names and options, and wherever a training run has them: channels last, in bfloat16, frozen,
// rehearsed on meta.
import { describe, expect, it } from 'vitest';
import * as nn from '../../lib/nn/index.js';
import {
  Conv2d,
  Dropout,
  Dropout2d,
  drawFrom,
  FrozenBlocks,
  type Module,
  ModuleError,
  Sequential,
} from '../../lib/nn/index.js';
import {
  autocast,
  type Device,
  Generator,
  manualSeed,
  measurePeak,
  memoryStats,
  ones,
  randn,
  rehearse,
  scope,
  type Tensor,
} from '../../lib/tensor/index.js';
import { decode, type EncodedTensor, expectClose, libtorchAtLeast, readFixture } from '../support/fixtures.js';

interface Case {
  readonly name: string;
  readonly module: string;
  readonly options: object;
  readonly state: Readonly<Record<string, EncodedTensor>>;
  readonly input: EncodedTensor;
  readonly training: EncodedTensor;
  readonly cotangent: EncodedTensor;
  readonly inputGradient: EncodedTensor;
  readonly gradients: Readonly<Record<string, EncodedTensor>>;
  readonly stateAfterwards: Readonly<Record<string, EncodedTensor>>;
  readonly evaluation: EncodedTensor;
}

const cases = readFixture<Case[]>('modules.json').map((c) => [`${c.module}, ${c.name}`, c] as const);
/** Of sums over a few dozen products. */
const TOLERANCE = { relative: 1e-5, ofLargest: true };

const make = (name: string, options: object): Module =>
  new (nn as unknown as Record<string, new (options: object) => Module>)[name]!(options);

/** The module of a case with PyTorch's weights, laid out as a run has them; disposed after `body`. */
function withModule<T>({ module: name, options, state }: Case, body: (module: Module) => T): T {
  const module = make(name, options);
  try {
    return scope(() => {
      module.loadStateDict(new Map(Object.entries(state).map(([key, value]) => [key, decode(value)])));
      return body(module.to({ memoryFormat: 'channelsLast' }));
    });
  } finally {
    module.dispose();
  }
}

function leaf(encoded: EncodedTensor, device: Device = 'cpu'): Tensor {
  const input = decode(encoded).to({ device });
  input.requiresGrad = true;
  return input;
}

describe.each(cases)('%s', (_title, c) => {
  it("has PyTorch's state dict, outputs, gradients and statistics", () => {
    withModule(c, (module) => {
      expect([...module.stateDict().keys()]).toEqual(Object.keys(c.state));
      expect([...module.namedParameters().keys()]).toEqual(Object.keys(c.gradients));
      const input = leaf(c.input);
      const output = module.forward(input);
      expectClose(output, c.training, 'training', TOLERANCE);
      output.backward({ gradient: decode(c.cotangent) });
      expectClose(input.grad!, c.inputGradient, 'gradient of the input', TOLERANCE);
      for (const [name, parameter] of module.namedParameters()) {
        expectClose(parameter.grad!, c.gradients[name]!, `gradient of ${name}`, TOLERANCE);
      }
      for (const [name, value] of module.stateDict()) {
        expectClose(value, c.stateAfterwards[name]!, `${name} afterwards`, TOLERANCE);
      }
      expectClose(module.eval().forward(decode(c.input)), c.evaluation, 'evaluation', TOLERANCE);
    });
  });

  it('is the same frozen, and leaves its input as it was', () => {
    withModule(c, (module) => {
      module.loadStateDict(new Map(Object.entries(c.stateAfterwards).map(([key, value]) => [key, decode(value)])));
      for (const [dtype, tolerance] of [
        ['float32', TOLERANCE],
        ['bfloat16', { relative: 0.03, ofLargest: true }],
      ] as const) {
        // An in-place ReLU behind it must not reach the input.
        const frozen = new FrozenBlocks([new Sequential([['layer', module]]), new nn.ReLU()], dtype);
        const input = decode(c.input);
        const output = frozen.forward(input, 1);
        expect(output.dtype).toBe(dtype);
        expectClose(output.to({ dtype: 'float32' }), c.evaluation, dtype, tolerance);
        frozen.forward(input);
        expectClose(input, c.input, 'the input', { relative: 0 });
        frozen.dispose();
      }
    });
  });

  it('trains in bfloat16, with gradients near those of float32', () => {
    withModule(c, (module) => {
      const input = leaf(c.input);
      const output = autocast({ device: 'cpu', dtype: 'bfloat16' }, () =>
        module.forward(input.to({ dtype: 'bfloat16' })),
      );
      output.to({ dtype: 'float32' }).backward({ gradient: decode(c.cotangent) });
      // Where bfloat16 makes equal what was not, the maximum of a window is another.
      if (c.module !== 'MaxPool2d') {
        expectClose(input.grad!, c.inputGradient, 'gradient of the input', { relative: 0.05, ofLargest: true });
      }
      for (const [name, parameter] of module.namedParameters()) {
        expectClose(parameter.grad!, c.gradients[name]!, `gradient of ${name}`, { relative: 0.05, ofLargest: true });
      }
    });
  });

  it.skipIf(!libtorchAtLeast('2.4'))("makes tensors on meta like the CPU's, also in bfloat16", () => {
    withModule(c, (module) => {
      const run = (device: Device, isCast: boolean) => {
        const input = leaf(c.input, device);
        const forward = (): Tensor => module.forward(isCast ? input.to({ dtype: 'bfloat16' }) : input);
        const output = isCast ? autocast({ device: 'cpu', dtype: 'bfloat16' }, forward) : forward();
        output.sum().backward();
        const { shape, dtype } = output;
        return {
          ...{ shape, dtype, isChannelsLast: output.isContiguous('channelsLast') },
          gradients: [input, ...module.parameters()].map(({ grad }) => grad!.shape),
        };
      };
      const onCpu = [false, true].map((isCast) => run('cpu', isCast));
      module.to({ device: 'meta' });
      expect([false, true].map((isCast) => run('meta', isCast))).toEqual(onCpu);
    });
  });
});

describe('the memory of a training step, on meta and on the CPU, within 15 %:', () => {
  const SHAPE = [8, 16, 24, 24];
  const layers: [string, object][] = [
    ['Conv2d', { inChannels: 16, outChannels: 16, kernelSize: 3, padding: 1, groups: 4 }],
    ['Conv2d', { inChannels: 16, outChannels: 16, kernelSize: [1, 5], padding: [0, 2] }],
    ['MaxPool2d', { kernelSize: 3, stride: 2, padding: 1 }],
    ['AvgPool2d', { kernelSize: 3, stride: 2, padding: 1 }],
    ['GroupNorm', { numGroups: 4, numChannels: 16 }],
    ['LayerNorm', { normalizedShape: [16, 24, 24] }],
    ['LayerNorm', { normalizedShape: 24 }],
    ['GELU', {}],
    ['SiLU', {}],
    ['LeakyReLU', {}],
    ['Tanh', {}],
    ['Sigmoid', {}],
    ['Dropout2d', {}],
    ['Upsample', { scaleFactor: 2, mode: 'bilinear' }],
    ['Upsample', { scaleFactor: 2 }],
  ];

  it.skipIf(!libtorchAtLeast('2.4')).each(layers)('%s %j', (name, options) => {
    const step = (device: Device): number =>
      scope(() => {
        const module = make(name, options).to({ device, memoryFormat: 'channelsLast' });
        using generator = Generator.create({ seed: 1 });
        if (device === 'cpu') drawFrom(module, generator);
        const input = ones(SHAPE, { device }).contiguous({ memoryFormat: 'channelsLast' });
        input.requiresGrad = true;
        const measure = device === 'meta' ? rehearse : measurePeak;
        const { peakBytes } = measure(() => scope(() => module.forward(input).exp().sum().backward()));
        module.dispose();
        return peakBytes;
      });
    const [planned, real] = [step('meta'), step('cpu')];
    expect(planned / real).toBeGreaterThan(0.85);
    expect(planned / real).toBeLessThan(1.15);
  });
});

describe('Dropout2d', () => {
  it('drops whole maps in training and gives its input back in evaluation', () => {
    manualSeed(3);
    const dropout = new Dropout2d();
    scope(() => {
      const x = ones([50, 20, 3, 3]);
      const maps = dropout.forward(x).reshape([1000, 9]).toArray() as number[][];
      for (const map of maps) expect(new Set(map).size).toBe(1);
      const kept = maps.filter(([first]) => first === 2).length;
      expect(maps.filter(([first]) => first === 0)).toHaveLength(1000 - kept);
      expect(Math.abs(kept - 500)).toBeLessThan(5 * Math.sqrt(250));
      expect(dropout.eval().forward(x)).toBe(x);
    });
  });

  it('draws from the generator of the run, as Dropout does', () => {
    using generator = Generator.create({ seed: 3 });
    const [map, value] = [new Dropout2d(), new Dropout({ p: 0.3 })];
    const both = new Sequential([
      ['map', map],
      ['value', value],
    ]);
    drawFrom(both, generator);
    expect([map.generator, value.generator]).toEqual([generator, generator]);
    scope(() => {
      const x = randn([4, 8, 3, 3]);
      const state = generator.state();
      const first = both.forward(x).toArray();
      expect(both.forward(x).toArray()).not.toEqual(first);
      generator.setState(state);
      expect(both.forward(x).toArray()).toEqual(first);
    });
  });
});

describe('bad options', () => {
  const conv = { inChannels: 4, outChannels: 6, kernelSize: 3 };
  it.each<[string, object, string]>([
    ['Conv2d', { ...conv, groups: 4 }, 'expected a divisor of inChannels, 4, and outChannels, 6, for groups, got 4'],
    ['Conv2d', { ...conv, groups: 0 }, 'expected an integer of at least 1 for groups, got 0'],
    ['Conv2d', { ...conv, dilation: 0 }, 'expected an integer of at least 1 for dilation, got 0'],
    ['Conv2d', { ...conv, kernelSize: [3] }, 'expected one integer or [height, width] for kernelSize, got [3]'],
    ['Conv2d', { ...conv, kernelSize: [3, 0] }, 'expected an integer of at least 1 for kernelSize[1], got 0'],
    ['Conv2d', { ...conv, stride: [0.5, 1] }, 'expected an integer of at least 1 for stride[0], got 0.5'],
    ['Conv2d', { ...conv, padding: [0, -1] }, 'expected an integer of at least 0 for padding[1], got -1'],
    ['Conv2d', { ...conv, padding: 'valid' }, 'expected an integer of at least 0 for padding, got valid'],
    [
      'Conv2d',
      { ...conv, padding: 'same', stride: 2 },
      'expected numbers, with a stride above 1, for padding, got same',
    ],
    ['MaxPool2d', { kernelSize: 2, padding: 2 }, 'expected at most half of kernelSize, 2 x 2, for padding, got 2'],
    [
      'AvgPool2d',
      { kernelSize: [3, 1], padding: [1, 1] },
      'expected at most half of kernelSize, 3 x 1, for padding, got [1, 1]',
    ],
    ['AvgPool2d', { kernelSize: 2, stride: 0 }, 'expected an integer of at least 1 for stride, got 0'],
    [
      'AdaptiveAvgPool2d',
      { outputSize: [2, 2, 2] },
      'expected one integer or [height, width] for outputSize, got [2, 2, 2]',
    ],
    ['BatchNorm1d', { features: 0 }, 'expected an integer of at least 1 for features, got 0'],
    ['GroupNorm', { numGroups: 3, numChannels: 4 }, 'expected a divisor of numChannels, 4, for numGroups, got 3'],
    ['GroupNorm', { numGroups: 2, numChannels: 4, affine: 1 }, 'expected a boolean for affine, got 1'],
    ['Conv2d', { ...conv, bias: 'false' }, 'expected a boolean for bias, got false'],
    ['Linear', { inFeatures: 1, outFeatures: 1, bias: 0 }, 'expected a boolean for bias, got 0'],
    ['ReLU', { inPlace: 'false' }, 'expected a boolean for inPlace, got false'],
    ['LayerNorm', { normalizedShape: [] }, 'expected one size or more for normalizedShape, got []'],
    ['LayerNorm', { normalizedShape: [3, 0] }, 'expected an integer of at least 1 for normalizedShape, got 0'],
    ['LayerNorm', { normalizedShape: 3, eps: -1 }, 'expected a number of at least 0 for eps, got -1'],
    ['Dropout2d', { p: 1 }, 'expected 0 <= p < 1 for p, got 1'],
    ['GELU', { approximate: 'erf' }, 'expected none or tanh for approximate, got erf'],
    ['LeakyReLU', { negativeSlope: Number.NaN }, 'expected a finite number for negativeSlope, got NaN'],
    ['Upsample', {}, 'expected either size or scaleFactor, got neither'],
    ['Upsample', { size: 2, scaleFactor: 2 }, 'expected either size or scaleFactor, got both'],
    ['Upsample', { size: 0 }, 'expected an integer of at least 1 for size, got 0'],
    [
      'Upsample',
      { scaleFactor: [2, 0] },
      'expected a number above 0 or [height, width] of such for scaleFactor, got [2, 0]',
    ],
    ['Upsample', { size: 2, mode: 'bicubic' }, 'expected one of nearest, bilinear for mode, got bicubic'],
    ['Upsample', { size: 2, alignCorners: false }, 'expected none with mode nearest for alignCorners, got false'],
  ])('%s refuses %j before anything is allocated', (name, options, message) => {
    const before = memoryStats();
    expect(() => make(name, options)).toThrow(new ModuleError(`${name}: ${message}`));
    expect(memoryStats()).toEqual(before);
  });

  it('BatchNorm1d refuses images', () => {
    const norm = new nn.BatchNorm1d({ features: 2 });
    scope(() => {
      const refused = 'BatchNorm1d: expected [batch, features] or [batch, features, length], got [1, 2, 3, 3]';
      expect(() => norm.forward(ones([1, 2, 3, 3]))).toThrow(new ModuleError(refused));
    });
    norm.dispose();
  });
});

it('a convolution starts within 1 / sqrt(fan in) of its group, as PyTorch', () => {
  const conv = new Conv2d({ inChannels: 16, outChannels: 64, kernelSize: [3, 2], groups: 4 });
  const bound = 1 / Math.sqrt(4 * 6);
  for (const tensor of [conv.weight, conv.bias!]) {
    const most = Math.max(...tensor.toFloat32Array().map(Math.abs));
    expect(most).toBeLessThanOrEqual(bound);
    expect(most).toBeGreaterThan(0.9 * bound);
  }
  conv.dispose();
});
