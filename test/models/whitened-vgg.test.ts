// The whitened VGG: its structure and its counts by hand, and what is refused.
import { describe, expect, it } from 'vitest';
import {
  disposeNetwork,
  multiplyAddsOf,
  placeNetwork,
  WhitenedVgg,
  type WhitenedVggOptions,
} from '../../lib/models/index.js';
import type { Sequential } from '../../lib/nn/index.js';
import { canRehearse, noGrad, randn, scope } from '../../lib/tensor/index.js';

const OPTIONS: WhitenedVggOptions = {
  ...{ classes: 10, whitening: 2, width: 4, layers: 3, convolutions: 2 },
  ...{ auxConvolutions: 2, headPool: 3, logitScale: 0.125, seed: 1 },
};

function withNetwork<T>(options: Partial<WhitenedVggOptions>, test: (network: WhitenedVgg) => T): T {
  const network = new WhitenedVgg({ ...OPTIONS, ...options });
  try {
    return test(network);
  } finally {
    disposeNetwork(network);
  }
}

const modulesOf = (sequence: unknown): string[] =>
  [...(sequence as Sequential).children].map(([name, module]) => `${name}: ${module.constructor.name}`);

const shapesOf = (module: { stateDict(): Map<string, { shape: readonly number[] }> }): Record<string, string> =>
  Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [name, shape.join(' x ')]));

it('has layers of two convolutions, the first with whitened patches before them', () =>
  withNetwork({}, ({ blocks, heads }) => {
    const layer = ['conv0: Conv2d', 'pool: MaxPool2d', 'bn0: BatchNorm2d', 'relu0: ReLU'];
    const two = [...layer, 'conv1: Conv2d', 'bn1: BatchNorm2d', 'relu1: ReLU'];
    expect(blocks.map(modulesOf)).toEqual([['whitening: Whitening', 'relu: ReLU', ...two], two, two]);
    const reading = [
      'average: AdaptiveAvgPool2d',
      'bn: BatchNorm2d',
      'flatten: Flatten',
      'linear: Linear',
      'scale: Scale',
    ];
    expect(heads.map(modulesOf)).toEqual([
      [...two, ...reading],
      [...two, ...reading],
      ['pool: MaxPool2d', 'flatten: Flatten', 'linear: Linear', 'scale: Scale'],
    ]);
    expect(shapesOf(blocks[0]!)).toMatchObject({
      'whitening.weight': '24 x 3 x 2 x 2',
      'conv0.weight': '4 x 24 x 3 x 3',
    });
    expect(shapesOf(blocks[1]!)).toMatchObject({ 'conv0.weight': '16 x 4 x 3 x 3', 'conv1.weight': '16 x 16 x 3 x 3' });
    expect(shapesOf(heads[0]!)).toMatchObject({ 'conv0.weight': '4 x 4 x 3 x 3', 'linear.weight': '10 x 36' });
    expect(shapesOf(heads[2]!)).toEqual({ 'linear.weight': '10 x 16', 'linear.bias': '10' });
  }));

it.each([
  { options: {}, sizes: [15, 7, 3] },
  { options: { whitening: 0 }, sizes: [16, 8, 4] },
  { options: { whitening: 0, layers: 5 }, sizes: [16, 8, 4, 2, 1] },
  {
    options: { imageSize: [20, 33] as const, channels: 1 },
    sizes: [
      [9, 16],
      [4, 8],
      [2, 4],
    ],
  },
])('halves the resolution in each layer, and gives logits: %j', ({ options, sizes }) =>
  withNetwork(options, ({ blocks, heads, inputShape }) =>
    noGrad(() =>
      scope(() => {
        let x = randn([2, ...inputShape]);
        for (const [j, size] of sizes.entries()) {
          x = blocks[j]!.eval().forward(x);
          expect(x.shape).toEqual([2, j === 0 ? 4 : 16, ...(typeof size === 'number' ? [size, size] : size)]);
          expect(heads[j]!.eval().forward(x).shape).toEqual([2, 10]);
        }
      }),
    ),
  ),
);

it.runIf(canRehearse())('has the multiply-adds that its convolutions have', () =>
  withNetwork({ width: 64 }, (network) => {
    const conv = (side: number, from: number, to: number) => side ** 2 * from * to * 9;
    const whitening = 31 ** 2 * 24 * 12;
    placeNetwork(network, { device: 'meta' });
    const [first, second, third] = multiplyAddsOf(network);
    expect(first!.block).toBe(whitening + conv(31, 24, 64) + conv(15, 64, 64));
    expect(second).toEqual({
      block: conv(15, 64, 256) + conv(7, 256, 256),
      head: conv(7, 256, 256) + conv(3, 256, 256) + 9 * 256 * 10,
    });
    expect(third).toEqual({ block: conv(7, 256, 256) + conv(3, 256, 256), head: 256 * 10 });
  }),
);

it("scales its logits, and a layer's weights do not depend on how many layers there are", () =>
  withNetwork({}, (network) =>
    withNetwork({ logitScale: 1, layers: 4 }, (other) =>
      noGrad(() =>
        scope(() => {
          const x = randn([2, 3, 32, 32]);
          const logits = ({ blocks, heads }: WhitenedVgg) => heads[0]!.eval().forward(blocks[0]!.eval().forward(x));
          expect(logits(network).div(logits(other)).sub(0.125).abs().amax().item()).toBeLessThan(1e-6);
        }),
      ),
    ),
  ));

describe('is refused', () => {
  it.each([
    [{ layers: 6 }, 'an image that is left after every pooling for imageSize, got 32'],
    [{ imageSize: 3 }, 'an image that is left after every pooling for imageSize, got 3'],
    [{ whitening: -1 }, 'an integer of at least 0 for whitening, got -1'],
    [{ convolutions: 0 }, 'an integer of at least 1 for convolutions, got 0'],
    [{ headPool: 0.5 }, 'an integer of at least 1 for headPool, got 0.5'],
    [{ logitScale: 0 }, 'a number above 0 for logitScale, got 0'],
    [{ width: Number.NaN }, 'an integer of at least 1 for width, got NaN'],
    [{ channels: 0 }, 'an integer of at least 1 for channels, got 0'],
  ])('%j', (options, expected) => {
    expect(() => new WhitenedVgg({ ...OPTIONS, ...options })).toThrow(`whitened-vgg: expected ${expected}`);
  });
});
