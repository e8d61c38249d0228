import { describe, expect, it } from 'vitest';
import { disposeNetwork, ModelError, SimCnn, type SimCnnOptions } from '../../lib/models/index.js';
import type { BatchNorm2d, Module } from '../../lib/nn/index.js';
import { memoryStats, noGrad, randn, scope } from '../../lib/tensor/index.js';

function withSimCnn<T>(options: SimCnnOptions, body: (network: SimCnn) => T): T {
  const network = new SimCnn(options);
  try {
    return body(network);
  } finally {
    disposeNetwork(network);
  }
}

const counts = (modules: readonly Module[]): number[] => modules.map((module) => module.parameterCount());

const cifar = (k: number, auxWidth = 128): SimCnnOptions => ({
  classes: 10,
  k,
  layers: 4,
  width: 128,
  auxWidth,
  downsampleAt: [2],
  seed: 1,
});

const small: SimCnnOptions = {
  classes: 10,
  k: 3,
  layers: 3,
  width: 4,
  auxWidth: 6,
  downsampleAt: [1],
  imageSize: 16,
  seed: 1,
};

describe('SimCnn', () => {
  it.each([
    [128, [300_810, 300_810, 1_191_434, 1_191_434]],
    [256, [896_522, 896_522, 3_562_506, 3_562_506]],
  ])('has the parameters that the paper gives for CIFAR-10, k = 3, heads of %i', (auxWidth, heads) => {
    withSimCnn(cifar(3, auxWidth), (network) => {
      expect(counts(network.blocks)).toEqual([3_712, 147_712, 1_180_160, 590_336]);
      expect(counts(network.heads)).toEqual(heads);
    });
  });

  it('takes images of any channels and sides that its downsampling allows', () => {
    const wide = { ...small, channels: 2, imageSize: [12, 20] as const, downsampleAt: [0, 1] };
    withSimCnn(wide, (network) => {
      expect(network.inputShape).toEqual([2, 12, 20]);
      // 4 x 2 channels come of the downsampling; widths 4, 8, 8.
      expect(counts(network.blocks)).toEqual([4 * 8 * 9 + 8, 8 * 16 * 9 + 16, 8 * 8 * 9 + 16]);
      scope(() =>
        noGrad(() => {
          let x = randn([3, 2, 12, 20]);
          const shapes = network.blocks.map((block, j) => {
            x = block.eval().forward(x);
            expect(network.heads[j]!.eval().forward(x).shape).toEqual([3, 10]);
            return x.shape;
          });
          expect(shapes).toEqual([
            [3, 4, 6, 10],
            [3, 8, 3, 5],
            [3, 8, 3, 5],
          ]);
        }),
      );
    });
  });

  it('has no batch norm and a bias in every convolution for k = 1', () => {
    withSimCnn({ ...small, k: 1 }, (network) => {
      // Widths 4, 8, 8; layer 1 reads 16 channels after its downsampling.
      expect(counts(network.blocks)).toEqual([4 * 3 * 9 + 4, 8 * 16 * 9 + 8, 8 * 8 * 9 + 8]);
      expect(counts(network.heads)).toEqual([4 * 4 * 10 + 10, 4 * 8 * 10 + 10, 4 * 8 * 10 + 10]);
      expect([...network.stateDict().keys()].filter((name) => name.includes('running'))).toEqual([]);
    });
    withSimCnn({ ...small, k: 1, bias: 'first' }, (network) => {
      expect(counts(network.blocks)).toEqual([4 * 3 * 9 + 4, 8 * 16 * 9, 8 * 8 * 9]);
    });
  });

  it.each(['invertible', 'stride', 'average', 'max'] as const)(
    'halves the size at each downsampling: %s',
    (downsampling) => {
      withSimCnn({ ...small, downsampling }, (network) => {
        scope(() =>
          noGrad(() => {
            let features = randn([2, 3, 16, 16]);
            const shapes = network.blocks.map((block, j) => {
              features = block.forward(features);
              expect(network.heads[j]!.forward(features).shape).toEqual([2, 10]);
              return features.shape;
            });
            expect(shapes).toEqual([
              [2, 4, 16, 16],
              [2, 8, 8, 8],
              [2, 8, 8, 8],
            ]);
          }),
        );
        expect(network.notes.length).toBe(downsampling === 'invertible' ? 0 : 1);
      });
    },
  );

  it('has the channels of `widths` instead of the doubling ones', () => {
    withSimCnn({ ...small, widths: [3, 5, 2] }, (network) => {
      const channels = network.blocks.map((block) => block.namedParameters().get('conv.weight')!.shape.slice(0, 2));
      expect(channels).toEqual([
        [3, 3],
        [5, 12],
        [2, 5],
      ]);
      // Of the heads only the inputs change: 6 channels, then 12.
      expect(network.heads.map((head) => head.namedParameters().get('conv0.weight')!.shape.slice(0, 2))).toEqual([
        [6, 3],
        [12, 5],
        [12, 2],
      ]);
    });
  });

  it.each([
    ['k = 3, narrower', 3, { convolutions: 2, width: 5 }, ['5,8,3,3', '5,5,3,3', '10,20'], 3],
    ['k = 3, linear', 3, { convolutions: 0, width: 1 }, ['10,32'], 1],
    ['k = 1, two convolutions', 1, { convolutions: 2, width: 5 }, ['5,8,3,3', '5,5,3,3', '10,20'], 3],
    ['k = 1, linear', 1, { convolutions: 0, width: 1 }, ['10,32'], 0],
  ] as const)('has another last head where asked: %s', (_, k, lastHead, weights, batchNorms) => {
    withSimCnn({ ...small, k, lastHead }, (network) => {
      const own = [...network.heads.at(-1)!.stateDict()].map(([name, { shape }]) => [name, shape.join()] as const);
      const isWeight = (name: string) => /^(conv\d|linear)\.weight$/.test(name);
      expect(own.filter(([name]) => isWeight(name)).map(([, shape]) => shape)).toEqual(weights);
      expect(own.filter(([name]) => name.endsWith('running_mean')).length).toBe(batchNorms);
    });
    const below = (options: SimCnnOptions) => withSimCnn(options, (network) => counts(network.heads.slice(0, -1)));
    expect(below({ ...small, k, lastHead })).toEqual(below({ ...small, k }));
  });

  it('does not widen at a downsampling of the input', () => {
    withSimCnn({ ...small, downsampleAt: [0, 2] }, (network) => {
      const channels = network.blocks.map((block) => block.namedParameters().get('conv.weight')!.shape.slice(0, 2));
      expect(channels).toEqual([
        [4, 12],
        [4, 4],
        [8, 16],
      ]);
    });
  });

  it('starts batch norm at 1, or from U(0, 1) where asked, and a layer from (seed, layer) alone', () => {
    const weights = (options: SimCnnOptions, layer: number) =>
      withSimCnn(options, (network) => {
        const bn = network.blocks[layer]!.children.get('bn') as BatchNorm2d;
        return [bn.weight.toTypedArray(), network.blocks[layer]!.parameters()[0]!.toTypedArray()].map((a) =>
          Array.from(a, Number),
        );
      });
    expect(weights(small, 1)[0]).toEqual(Array(8).fill(1));
    const uniform = weights({ ...small, batchNormInit: 'uniform' }, 1)[0]!;
    expect(uniform.every((w) => w >= 0 && w < 1)).toBe(true);
    expect(new Set(uniform).size).toBe(8);
    expect(weights({ ...small, layers: 2 }, 1)).toEqual(weights(small, 1));
    expect(weights({ ...small, seed: 2 }, 1)[1]).not.toEqual(weights(small, 1)[1]);
  });

  it.each([
    [{ k: 0 }, /at least 1 for k, got 0/],
    [{ layers: 0 }, /at least 1 for layers, got 0/],
    [{ width: 0 }, /at least 1 for width, got 0/],
    [{ auxWidth: 0 }, /at least 1 for auxWidth, got 0/],
    [{ classes: 1 }, /at least 2 for classes, got 1/],
    [{ downsampleAt: [3] }, /layers from 0 to 2 for downsampleAt, got 3/],
    [{ downsampleAt: [1, 1] }, /rising layers for downsampleAt, got 1, 1/],
    [
      { imageSize: 30, downsampleAt: [0, 1] },
      /even size at the downsampling of layer 1 for imageSize, got 30, 15 there/,
    ],
    [{ imageSize: 2, downsampleAt: [0] }, /at least 2 after every downsampling for imageSize/],
    [
      { imageSize: [12, 10] as const, downsampleAt: [0, 1] },
      /even size at the downsampling of layer 1 for imageSize, got 12 x 10, 6 x 5 there/,
    ],
    [{ imageSize: [12, 1] as const }, /an integer of at least 2 for imageSize, got 1/],
    [{ channels: 0 }, /an integer of at least 1 for channels, got 0/],
    [{ downsampling: 'none' as never }, /one of invertible, stride, average, max for downsampling, got none/],
    [{ seed: -1 }, /2\^53 - 1 for seed, got -1/],
  ])('refuses %o by name, and leaves no tensor behind', (change, message) => {
    const before = memoryStats();
    expect(() => new SimCnn({ ...small, ...change })).toThrow(ModelError);
    expect(() => new SimCnn({ ...small, ...change })).toThrow(message);
    expect(memoryStats()).toEqual(before);
  });
});
