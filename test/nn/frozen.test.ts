// Blocks made ready to run forward only give what they give in evaluation mode.
import { describe, expect, it } from 'vitest';
import { disposeNetwork, type Network, placeNetwork, SimCnn, Vgg } from '../../lib/models/index.js';
import * as nn from '../../lib/nn/index.js';
import { AvgPool2d, BatchNorm2d, Conv2d, FrozenBlocks, foldBatchNorm, ReLU, Sequential } from '../../lib/nn/index.js';
import {
  canRehearse,
  manualSeed,
  measurePeak,
  memoryStats,
  noGrad,
  randn,
  scope,
  type Tensor,
} from '../../lib/tensor/index.js';
import { hashed } from '../support/fixtures.js';

/** Statistics and gains that are not those of a new network. */
function disturb(network: Network): void {
  scope(() =>
    noGrad(() => {
      for (const block of network.blocks) {
        for (const [name, value] of block.eval().stateDict()) {
          if (name.endsWith('running_var')) value.copy_(randn(value.shape).abs().add(0.3));
          else if (value.dim === 1) value.add_(randn(value.shape), { alpha: 0.3 });
        }
      }
    }),
  );
}

const networks: Record<string, () => Network> = {
  'SimCNN k = 2': () =>
    new SimCnn({ classes: 5, k: 2, layers: 3, width: 8, auxWidth: 4, downsampleAt: [0, 2], imageSize: 16, seed: 1 }),
  'SimCNN k = 1, without batch norm': () =>
    new SimCnn({ classes: 5, k: 1, layers: 3, width: 8, downsampleAt: [1], imageSize: 16, seed: 1 }),
  'SimCNN, strided': () =>
    new SimCnn({
      ...{ classes: 5, k: 2, layers: 2, width: 8, auxWidth: 4, downsampleAt: [1], imageSize: 16, seed: 1 },
      downsampling: 'stride',
    }),
  'VGG-11': () => new Vgg({ name: 'vgg11', classes: 5, imageSize: 32, width: 8, layers: 5, seed: 1 }),
};

/** |a - b| / |b|, Euclidean. */
function difference(a: Tensor, b: Tensor): number {
  return scope(() => {
    const [x, y] = [a.to({ dtype: 'float32' }), b.to({ dtype: 'float32' })];
    const norm = (v: Tensor): number => Math.sqrt(v.to({ dtype: 'float64' }).pow(2).sum().item());
    return norm(x.sub(y)) / norm(y);
  });
}

describe.each(Object.entries(networks))('frozen blocks of %s', (_, make) => {
  it('are equal to the blocks in evaluation mode: 1e-6 in float32, layer by layer and together', () => {
    manualSeed(3);
    const network = make();
    placeNetwork(network, { memoryFormat: 'channelsLast' });
    disturb(network);
    const frozen = new FrozenBlocks(network.blocks, 'float32');
    scope(() =>
      noGrad(() => {
        const images = randn([4, ...network.inputShape]).contiguous({ memoryFormat: 'channelsLast' });
        let expected = images;
        network.blocks.forEach((block, j) => {
          const alone = new FrozenBlocks([block], 'float32');
          const own = alone.forward(expected);
          expected = block.forward(expected);
          expect(difference(own, expected), `layer ${j + 1} alone`).toBeLessThan(1e-6);
          expect(difference(frozen.forward(images, j + 1), expected), `to layer ${j + 1}`).toBeLessThan(1e-6);
          const lower = frozen.between(images, { start: 0, end: j });
          const upper = frozen.between(lower, { start: j, end: j + 1 });
          expect(difference(upper, expected), `in two parts to layer ${j + 1}`).toBeLessThan(1e-6);
          alone.dispose();
        });
      }),
    );
    frozen.dispose();
    disposeNetwork(network);
  });

  it('in bfloat16 are within its rounding', () => {
    manualSeed(3);
    const network = make();
    disturb(network);
    const frozen = new FrozenBlocks(network.blocks, 'bfloat16');
    scope(() =>
      noGrad(() => {
        const images = randn([4, ...network.inputShape]);
        const expected = network.blocks.reduce((x, block) => block.forward(x), images);
        const got = frozen.forward(images);
        expect(got.dtype).toBe('bfloat16');
        // 8 bits of mantissa, a few roundings a layer.
        expect(difference(got, expected)).toBeLessThan(0.03);
      }),
    );
    frozen.dispose();
    disposeNetwork(network);
  });
});

describe('frozen blocks', () => {
  it('leave their input, the blocks and the memory as they were', () => {
    const relu = new Sequential([['relu', new ReLU()]]);
    const block = new Sequential([
      ['pool', new AvgPool2d({ kernelSize: 2 })],
      ['conv', new Conv2d({ inChannels: 3, outChannels: 2, kernelSize: 3, bias: false })],
      ['relu', new ReLU()],
    ]).eval();
    const before = memoryStats();
    const weight = [...block.parameters()[0]!.toFloat32Array()];
    const frozen = new FrozenBlocks([relu, block], 'float32');
    scope(() => {
      const images = randn([1, 3, 8, 8]);
      const values = [...images.toFloat32Array()];
      const features = frozen.forward(images);
      expect(features.requiresGrad).toBe(false);
      expect([...images.toFloat32Array()]).toEqual(values);
      expect(frozen.forward(images, 0)).toBe(images);
    });
    expect([...block.parameters()[0]!.toFloat32Array()]).toEqual(weight);
    frozen.dispose();
    expect(memoryStats()).toEqual(before);
    block.dispose();
  });
});

/** One of each module of lib/nn, for an input of this shape. */
const EACH: Record<string, { make: () => nn.Module; shape: readonly number[] }> = {
  AdaptiveAvgPool2d: { make: () => new nn.AdaptiveAvgPool2d({ outputSize: 4 }), shape: [2, 3, 4, 4] },
  AvgPool2d: { make: () => new AvgPool2d({ kernelSize: 1 }), shape: [2, 3, 4, 4] },
  BatchNorm1d: { make: () => new nn.BatchNorm1d({ features: 4 }), shape: [2, 4, 3] },
  BatchNorm2d: { make: () => new BatchNorm2d({ features: 3 }), shape: [2, 3, 4, 4] },
  Conv2d: { make: () => new Conv2d({ inChannels: 3, outChannels: 3, kernelSize: 1 }), shape: [2, 3, 4, 4] },
  Dropout: { make: () => new nn.Dropout({ p: 0.5 }), shape: [2, 3, 4, 4] },
  Dropout2d: { make: () => new nn.Dropout2d({ p: 0.5 }), shape: [2, 3, 4, 4] },
  Flatten: { make: () => new nn.Flatten(), shape: [2, 3, 4, 4] },
  GELU: { make: () => new nn.GELU(), shape: [2, 3, 4, 4] },
  GroupNorm: { make: () => new nn.GroupNorm({ numGroups: 1, numChannels: 3 }), shape: [2, 3, 4, 4] },
  Identity: { make: () => new nn.Identity(), shape: [2, 3, 4, 4] },
  // Of squares of one pixel a channel, a view.
  InvertibleDownsampling: { make: () => new nn.InvertibleDownsampling(), shape: [2, 1, 2, 2] },
  LayerNorm: { make: () => new nn.LayerNorm({ normalizedShape: 4 }), shape: [2, 3, 4, 4] },
  LeakyReLU: { make: () => new nn.LeakyReLU(), shape: [2, 3, 4, 4] },
  Linear: { make: () => new nn.Linear({ inFeatures: 4, outFeatures: 4 }), shape: [2, 3, 4, 4] },
  MaxPool2d: { make: () => new nn.MaxPool2d({ kernelSize: 1 }), shape: [2, 3, 4, 4] },
  ReLU: { make: () => new ReLU(), shape: [2, 3, 4, 4] },
  Residual: { make: () => new nn.Residual({ body: new ReLU() }), shape: [2, 3, 4, 4] },
  Scale: { make: () => new nn.Scale({ factor: 2 }), shape: [2, 3, 4, 4] },
  Sequential: { make: () => new Sequential([['flatten', new nn.Flatten()]]), shape: [2, 3, 4, 4] },
  SiLU: { make: () => new nn.SiLU(), shape: [2, 3, 4, 4] },
  Sigmoid: { make: () => new nn.Sigmoid(), shape: [2, 3, 4, 4] },
  Tanh: { make: () => new nn.Tanh(), shape: [2, 3, 4, 4] },
  Upsample: { make: () => new nn.Upsample({ scaleFactor: 1 }), shape: [2, 3, 4, 4] },
  Whitening: { make: () => new nn.Whitening({ channels: 3, size: 1 }), shape: [2, 3, 4, 4] },
};

describe('ReLU in frozen blocks does not write to what the caller gave', () => {
  it('is tried after every module', () => {
    const modules = Object.entries(nn).filter(
      ([, value]) => (value as { prototype?: object }).prototype instanceof nn.Module,
    );
    expect(Object.keys(EACH)).toEqual(modules.map(([name]) => name).sort());
  });

  /** Sends an input through frozen blocks and through the modules, and compares; the input must stay as it was. */
  function expectInputKept(modules: readonly nn.Module[], shape: readonly number[]): void {
    for (const module of modules) module.eval();
    const frozen = new FrozenBlocks(modules, 'float32');
    scope(() =>
      noGrad(() => {
        for (const memoryFormat of shape.length === 4
          ? (['contiguous', 'channelsLast'] as const)
          : ['contiguous' as const]) {
          const input = hashed(shape, 3).contiguous({ memoryFormat });
          const values = [...input.toFloat32Array()];
          const got = frozen.forward(input);
          expect([...input.toFloat32Array()]).toEqual(values);
          const expected = modules.reduce((x, module) => module.forward(x), input.clone());
          expect(difference(got, expected)).toBeLessThan(1e-6);
        }
      }),
    );
    frozen.dispose();
    for (const module of modules) module.dispose();
  }

  describe.each(Object.entries(EACH))('%s', (_, { make, shape }) => {
    it.each([false, true])('before it, in place: %s', (inPlace) => {
      expectInputKept(
        [
          new Sequential([
            ['first', make()],
            ['relu', new ReLU({ inPlace })],
          ]),
        ],
        shape,
      );
    });

    it('and in a nested Sequential', () => {
      const inner = new Sequential([['relu', new ReLU({ inPlace: true })]]);
      expectInputKept(
        [
          new Sequential([
            ['first', make()],
            ['inner', inner],
          ]),
        ],
        shape,
      );
    });

    it('as a block before its own', () => {
      expectInputKept([make(), new ReLU({ inPlace: true })], shape);
    });
  });

  it('at the very beginning', () => {
    expectInputKept([new Sequential([['relu', new ReLU({ inPlace: true })]])], [2, 3]);
  });

  it('after a module of one\u2019s own that gives its input back', () => {
    class Identity extends nn.Module {
      forward(input: Tensor): Tensor {
        return input;
      }
    }
    class Unchanged extends AvgPool2d {
      override forward(input: Tensor): Tensor {
        return input;
      }
    }
    expectInputKept(
      [
        new Sequential([
          ['same', new Identity()],
          ['relu', new ReLU()],
        ]),
      ],
      [2, 3],
    );
    expectInputKept(
      [
        new Sequential([
          ['same', new Unchanged({ kernelSize: 1 })],
          ['relu', new ReLU()],
        ]),
      ],
      [2, 3],
    );
  });

  it('but saves the memory where it was made on the way', () => {
    const modules = (relus: number) => [
      new Sequential([
        ['conv', new Conv2d({ inChannels: 1, outChannels: 64, kernelSize: 1 })],
        ...Array.from({ length: relus }, (_, i) => [`relu${i}`, new ReLU()] as const),
      ]),
    ];
    const peaks = [0, 3].map((relus) => {
      const blocks = modules(relus);
      const frozen = new FrozenBlocks(blocks, 'float32');
      const peak = scope(() => {
        const input = hashed([1, 1, 128, 128], 3);
        frozen.forward(input);
        return measurePeak(() => scope(() => void frozen.forward(input))).peakBytes;
      });
      frozen.dispose();
      for (const block of blocks) block.dispose();
      return peak;
    });
    // 64 x 128 x 128 float32 are 4 MiB.
    expect(peaks[0]).toBeGreaterThanOrEqual(4 * 2 ** 20);
    expect(peaks[1]).toBeLessThan(peaks[0]! + 2 ** 20);
  });
});

it('a subclass is run by its own forward, frozen or not', () => {
  class Doubled extends Conv2d {
    override forward(input: Tensor): Tensor {
      return super.forward(input).mul(2);
    }
  }
  class Shifted extends ReLU {
    override forward(input: Tensor): Tensor {
      return super.forward(input).add(1);
    }
  }
  class Centred extends BatchNorm2d {
    override forward(input: Tensor): Tensor {
      return super.forward(input).sub(3);
    }
  }
  class Negated extends Sequential {
    override forward(input: Tensor): Tensor {
      return super.forward(input).neg();
    }
  }
  const inner = new Negated([['relu', new Shifted({ inPlace: true })]]);
  const modules = [
    ['conv', new Doubled({ inChannels: 3, outChannels: 3, kernelSize: 1 })],
    ['bn', new Centred({ features: 3 })],
    ['relu', new ReLU({ inPlace: true })],
    ['inner', inner],
  ] as const;
  const block = new Sequential(modules);
  scope(() =>
    noGrad(() => {
      const input = hashed([2, 3, 4, 4], 3);
      const one = () => modules.reduce((x, [, module]) => module.forward(x), input);
      expect(difference(block.forward(input), one())).toBeLessThan(1e-6);
      block.eval();
      const frozen = new FrozenBlocks([block], 'float32');
      expect(difference(frozen.forward(input), one())).toBeLessThan(1e-6);
      frozen.dispose();
    }),
  );
  block.dispose();
});

it.each([1, 31, 33, 70])('frozen blocks send %i images through in parts, to the same features', (batch) => {
  manualSeed(3);
  // 64 x 32 x 32 float32 are 256 KiB of an image: some 32 images at a time on a CPU.
  const network = new SimCnn({ classes: 5, k: 2, layers: 3, width: 64, auxWidth: 4, downsampleAt: [2], seed: 1 });
  placeNetwork(network, { memoryFormat: 'channelsLast' });
  disturb(network);
  // Of three blocks, and of blocks with a head, whose output is a row.
  const modules = [...network.blocks, network.heads[2]!.eval()];
  const frozen = new FrozenBlocks(modules, 'float32');
  scope(() =>
    noGrad(() => {
      const images = randn([batch, ...network.inputShape]).contiguous({ memoryFormat: 'channelsLast' });
      for (const count of [3, 4]) {
        const expected = modules.slice(0, count).reduce((x, module) => module.forward(x), images);
        const { result: got, peakBytes } = measurePeak(() => frozen.forward(images, count));
        expect(got.shape).toEqual(expected.shape);
        expect(difference(got, expected)).toBeLessThan(1e-6);
        for (const image of [0, batch - 1]) {
          expect(difference(got.narrow(0, image, 1), expected.narrow(0, image, 1))).toBeLessThan(2e-6);
        }
        if (count === 3) expect(got.isContiguous('channelsLast')).toBe(true);
        // The output, and of a part its input and output and what convolutions need besides.
        expect(peakBytes).toBeLessThan(got.byteLength + 5 * 8 * 2 ** 20);
      }
    }),
  );
  frozen.dispose();
  disposeNetwork(network);
});

it('folds batch norm by its formula', () => {
  const conv = new Conv2d({ inChannels: 1, outChannels: 2, kernelSize: 1 });
  const bn = new BatchNorm2d({ features: 2, eps: 0.75 });
  scope(() =>
    noGrad(() => {
      const set = (tensor: Tensor, values: number[]) =>
        values.forEach((v, i) => void tensor.detach().flatten().select(0, i).fill_(v));
      set(conv.weight, [2, -1]);
      set(conv.bias!, [0.5, 1]);
      set(bn.weight, [3, 0.5]);
      set(bn.bias, [0.25, -2]);
      set(bn.runningMean, [1, 4]);
      set(bn.runningVar, [0.25, 3.25]);
      // Gains 3 / sqrt(1) and 0.5 / sqrt(4).
      const { weight, bias } = foldBatchNorm(conv, bn);
      expect([...weight.toFloat32Array()]).toEqual([6, -0.25]);
      expect([...bias.toFloat32Array()]).toEqual([(0.5 - 1) * 3 + 0.25, (1 - 4) * 0.25 - 2]);
    }),
  );
  conv.dispose();
  bn.dispose();
});

it('frozen blocks are the modules in evaluation mode, in whatever mode those are, and leave them so', () => {
  class Noisy extends nn.Module {
    readonly inner = this.child('inner', new nn.Dropout({ p: 0.5 }));
    forward(input: Tensor): Tensor {
      return this.training ? input.mul(100) : this.inner.forward(input);
    }
  }
  const bn = new BatchNorm2d({ features: 3 });
  const noisy = new Noisy();
  noisy.inner.eval();
  const blocks = [
    new Sequential([
      ['relu', new ReLU()],
      ['bn', bn],
      ['dropout', new nn.Dropout({ p: 0.5 })],
    ]),
    noisy,
  ];
  scope(() =>
    noGrad(() => {
      bn.runningMean.add_(0.5);
      const images = randn([4, 3, 5, 5]);
      const frozen = new FrozenBlocks(blocks, 'float32');
      const got = frozen.forward(images);
      expect([bn.training, noisy.training, noisy.inner.training]).toEqual([true, true, false]);
      expect(bn.runningMean.toArray()).toEqual([0.5, 0.5, 0.5]);
      expect(bn.numBatchesTracked.item()).toBe(0);
      const expected = images
        .relu()
        .sub(0.5)
        .mul(1 / Math.sqrt(1 + 1e-5));
      expect(difference(got, expected)).toBeLessThan(1e-6);
      frozen.dispose();
    }),
  );
  for (const block of blocks) block.dispose();
});

it('a linear layer in a shorter type has its weights converted, once', () => {
  const linear = new nn.Linear({ inFeatures: 3, outFeatures: 2 });
  scope(() =>
    noGrad(() => {
      const input = randn([4, 3]);
      const frozen = new FrozenBlocks([linear], 'bfloat16');
      const got = frozen.forward(input);
      expect(got.dtype).toBe('bfloat16');
      expect(difference(got, linear.forward(input))).toBeLessThan(2e-2);
      const before = memoryStats().liveTensors;
      frozen.forward(input).dispose();
      expect(memoryStats().liveTensors).toBe(before);
      frozen.dispose();
    }),
  );
  linear.dispose();
});

// A convolution of LibTorch 1.13 takes no empty batch that lies channels-last.
it.runIf(canRehearse())('a batch without images is one without features', () => {
  const network = new SimCnn({ classes: 5, k: 2, layers: 2, width: 8, auxWidth: 4, downsampleAt: [1], seed: 1 });
  const frozen = new FrozenBlocks([...network.blocks, network.heads[1]!], 'float32');
  scope(() => {
    const got = frozen.forward(randn([0, ...network.inputShape]));
    expect([got.shape, got.dtype]).toEqual([[0, 5], 'float32']);
  });
  frozen.dispose();
  disposeNetwork(network);
});

it.each([-1, 3, 0.5, Number.NaN, '1'])('the count %s of two blocks is refused', (count) => {
  const frozen = new FrozenBlocks([new ReLU(), new ReLU()], 'float32');
  scope(() => {
    const run = () => frozen.forward(randn([1, 3]), count as number);
    expect(run).toThrow(new nn.ModuleError(`FrozenBlocks: expected an integer from 0 to 2 for count, got ${count}`));
    const between = () => frozen.between(randn([1, 3]), { start: count as number, end: 2 });
    expect(between).toThrow(
      new nn.ModuleError(`FrozenBlocks: expected an integer from 0 to 2 for start, got ${count}`),
    );
  });
});

it('a range of blocks that ends before it starts is refused', () => {
  const frozen = new FrozenBlocks([new ReLU(), new ReLU()], 'float32');
  scope(() => {
    expect(() => frozen.between(randn([1, 3]), { start: 2, end: 1 })).toThrow(
      new nn.ModuleError('FrozenBlocks: expected at least 2 for end, got 1'),
    );
  });
});

it.each(['int64', 'float64', undefined])('the dtype %s is refused', (dtype) => {
  expect(() => new FrozenBlocks([], dtype as never)).toThrow(
    new nn.ModuleError(`FrozenBlocks: expected one of float32, bfloat16, float16 for dtype, got ${dtype}`),
  );
});
