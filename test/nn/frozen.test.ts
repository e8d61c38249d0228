// Blocks made ready to run forward only give what they give in evaluation mode.
import { describe, expect, it } from 'vitest';
import { disposeNetwork, type Network, placeNetwork, SimCnn, Vgg } from '../../lib/models/index.js';
import { AvgPool2d, BatchNorm2d, Conv2d, FrozenBlocks, foldBatchNorm, ReLU, Sequential } from '../../lib/nn/index.js';
import { manualSeed, measurePeak, memoryStats, noGrad, randn, scope, type Tensor } from '../../lib/tensor/index.js';

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
