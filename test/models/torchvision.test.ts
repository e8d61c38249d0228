import { describe, expect, it } from 'vitest';
import { disposeNetwork, ModelError, SimCnn, torchvisionStateDict, Vgg } from '../../lib/models/index.js';
import {
  kronecker,
  leftInverse,
  pooledClassifierWeight,
  poolingMatrix,
  unpooledClassifierWeight,
} from '../../lib/models/torchvision.js';
import { memoryStats, noGrad, scope } from '../../lib/tensor/index.js';
import {
  type EncodedTensor,
  expectClose,
  expectNumbersClose,
  fillByHash,
  hashed,
  readFixture,
} from '../support/fixtures.js';

const fixture = readFixture<{
  readonly pooledWeights: readonly { readonly size: number; readonly salt: number; readonly weight: EncodedTensor }[];
}>('torchvision.json');

describe('the matrix of an adaptive average', () => {
  it('is what a hand calculation gives', () => {
    expect(poolingMatrix(1, 3)).toEqual([[1], [1], [1]]);
    expect(poolingMatrix(2, 3)).toEqual([
      [1, 0],
      [0.5, 0.5],
      [0, 1],
    ]);
    expect(poolingMatrix(4, 2)).toEqual([
      [0.5, 0.5, 0, 0],
      [0, 0, 0.5, 0.5],
    ]);
    expect(poolingMatrix(3, 3)).toEqual([
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
    ]);
  });

  it("is that of LibTorch's operator, up and down", () => {
    for (let from = 1; from <= 10; from++) {
      scope(() => {
        const image = hashed([1, 1, from, 1], from);
        const expected = [...image.adaptiveAvgPool2d([7, 1]).toFloat32Array()];
        const values = image.toFloat32Array();
        const got = poolingMatrix(from, 7).map((row) => row.reduce((sum, a, p) => sum + a * values[p]!, 0));
        expectNumbersClose(got, expected, `${from} to 7`, { relative: 1e-6, absolute: 1e-7 });
      });
    }
  });
});

describe('the left inverse', () => {
  it('is what a hand calculation gives', () => {
    expect(leftInverse([[1], [1], [1], [1]])).toEqual([[0.25, 0.25, 0.25, 0.25]]);
    // A^T A = [[5, 1], [1, 5]] / 4, whose inverse is [[5, -1], [-1, 5]] / 6.
    const got = leftInverse(poolingMatrix(2, 3)).flat();
    expectNumbersClose(got, [5 / 6, 2 / 6, -1 / 6, -1 / 6, 2 / 6, 5 / 6], 'inverse', { relative: 1e-12 });
  });

  it('takes back an average to 7 from any size up to 7', () => {
    for (let size = 1; size <= 7; size++) {
      const pooling = poolingMatrix(size, 7);
      const inverse = leftInverse(pooling);
      const product = inverse.flatMap((row) =>
        Array.from({ length: size }, (_, q) => row.reduce((sum, value, i) => sum + value * pooling[i]![q]!, 0)),
      );
      const identity = product.map((_, i) => (i % (size + 1) === 0 ? 1 : 0));
      expectNumbersClose(product, identity, `size ${size}`, { relative: 0, absolute: 1e-12 });
    }
  });

  it('is refused for columns that are not independent', () => {
    expect(() => leftInverse(poolingMatrix(8, 7))).toThrow('expected a matrix of full column rank 8, got rank 7');
    const twins = [
      [1, 1],
      [2, 2],
    ];
    expect(() => leftInverse(twins)).toThrow(ModelError);
  });
});

it('the Kronecker product has a row for each pair of rows', () => {
  expect(
    kronecker(
      [
        [1, 2],
        [3, 4],
      ],
      [[5, 6]],
    ),
  ).toEqual([
    [5, 6, 10, 12],
    [15, 18, 20, 24],
  ]);
});

describe('a classifier weight behind the average to 7 x 7', () => {
  it('of features of 1 x 1 is its 49th part, 49 times', () => {
    scope(() => {
      const got = pooledClassifierWeight(hashed([2, 3], 1), 1);
      expect(got.shape).toEqual([2, 147]);
      const expected = [...hashed([2, 3], 1).toFloat32Array()].flatMap((value) => Array(49).fill(value / 49));
      expectNumbersClose([...got.toFloat32Array()], expected, 'weight', { relative: 1e-6 });
    });
  });

  it.each(fixture.pooledWeights)("of features of $size x $size is the one by NumPy's pseudo-inverse", (one) => {
    scope(() => {
      const weight = hashed([2, 3 * one.size ** 2], one.salt);
      expectClose(pooledClassifierWeight(weight, one.size), one.weight, 'weight', { relative: 1e-5, ofLargest: true });
    });
  });

  it.each([1, 2, 3, 4, 5, 6, 7])('gives on averaged features of size %i what it gave on them', (size) => {
    scope(() => {
      const features = hashed([3, 5, size, size], 10);
      const weight = hashed([4, 5 * size ** 2], 11);
      const averaged = features.adaptiveAvgPool2d(7).flatten({ startDim: 1 });
      const got = averaged.linear(pooledClassifierWeight(weight, size), null).toFloat32Array();
      const expected = features.flatten({ startDim: 1 }).linear(weight, null).toFloat32Array();
      expectNumbersClose([...got], [...expected], 'outputs', { relative: 1e-5, ofLargest: true });
    });
  });

  it.each([1, 2, 3, 5, 6, 7, 8, 9, 14])('is taken back to features of size %i', (size) => {
    scope(() => {
      const features = hashed([3, 5, size, size], 10);
      const weight = hashed([4, 5 * 49], 12);
      const averaged = features.adaptiveAvgPool2d(7).flatten({ startDim: 1 });
      const got = features
        .flatten({ startDim: 1 })
        .linear(unpooledClassifierWeight(weight, size), null)
        .toFloat32Array();
      expectNumbersClose([...got], [...averaged.linear(weight, null).toFloat32Array()], 'outputs', {
        relative: 1e-5,
        ofLargest: true,
      });
    });
  });
});

describe("torchvision's state dict of a network", () => {
  const withNetwork = <N extends Vgg | SimCnn>(network: N, body: (network: N) => void): void => {
    try {
      body(network);
    } finally {
      disposeNetwork(network);
    }
  };

  it('on 64 x 64 images has another first classifier weight, and gives the same logits', () => {
    withNetwork(new Vgg({ name: 'vgg11', classes: 3, imageSize: 64, seed: 1 }), (network) => {
      fillByHash(network.stateDict());
      using converted = torchvisionStateDict(network);
      const own = network.stateDict();
      expect([...converted.tensors.keys()]).toEqual([...own.keys()]);
      const changed = [...own.keys()].filter((name) => own.get(name) !== converted.tensors.get(name));
      expect(changed).toEqual(['classifier.0.weight']);
      scope(() =>
        noGrad(() => {
          const features = network.blocks.reduce((x, block) => block.eval().forward(x), hashed([2, 3, 64, 64], 7));
          const weights = (index: number): [ReturnType<typeof hashed>, ReturnType<typeof hashed>] => [
            converted.tensors.get(`classifier.${index}.weight`)!,
            converted.tensors.get(`classifier.${index}.bias`)!,
          ];
          let x = features.maxPool2d(2).adaptiveAvgPool2d(7).flatten({ startDim: 1 });
          x = x.linear(...weights(0)).relu();
          x = x.linear(...weights(3)).relu();
          const expected = network.heads.at(-1)!.eval().forward(features).toFloat32Array();
          expectNumbersClose([...x.linear(...weights(6)).toFloat32Array()], [...expected], 'logits', {
            relative: 1e-5,
            ofLargest: true,
          });
        }),
      );
    });
  });

  it('on 224 x 224 images is its own', () => {
    withNetwork(new Vgg({ name: 'vgg11', classes: 2, seed: 1 }), (network) => {
      const before = memoryStats();
      {
        using converted = torchvisionStateDict(network);
        expect([...converted.tensors]).toEqual([...network.stateDict()]);
      }
      expect(memoryStats()).toEqual(before);
      expect(network.stateDict().get('classifier.0.weight')!.isDisposed).toBe(false);
    });
  }, 120_000);

  it('is refused where torchvision has no such network', () => {
    const vgg = { name: 'vgg16', classes: 2, imageSize: 32, width: 2, seed: 1 } as const;
    const expectRefused = (network: Vgg | SimCnn, message: string): void =>
      withNetwork(network, () => {
        expect(() => torchvisionStateDict(network)).toThrow(ModelError);
        expect(() => torchvisionStateDict(network)).toThrow(message);
      });
    expectRefused(
      new SimCnn({ classes: 2, k: 1, layers: 1, width: 2, downsampleAt: [], seed: 1 }),
      'torchvision: expected a VGG, got simcnn-k1',
    );
    expectRefused(new Vgg(vgg), 'torchvision: expected VGG-16 of width 64, got width 2');
    expectRefused(
      new Vgg({ ...vgg, width: 64, layers: 2 }),
      'torchvision: expected all 13 layers of VGG-16, got the first 2',
    );
    expectRefused(
      new Vgg({ ...vgg, name: 'vgg11', width: 64, imageSize: [32, 64] }),
      'torchvision: expected images of 3 channels and equal sides, got 3 x 32 x 64',
    );
    expectRefused(
      new Vgg({ ...vgg, name: 'vgg11', width: 64, imageSize: 256 }),
      'torchvision: expected images of at most 224 x 224, got 256',
    );
  }, 120_000);
});
