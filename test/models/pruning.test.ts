import { describe, expect, it } from 'vitest';
import { disposeNetwork, keepFilters, SimCnn, type SimCnnOptions } from '../../lib/models/index.js';
import { noGrad, randn, scope, type Tensor, tensor } from '../../lib/tensor/index.js';

const options: SimCnnOptions = {
  classes: 5,
  k: 2,
  layers: 2,
  width: 4,
  auxWidth: 3,
  downsampleAt: [],
  imageSize: 8,
  seed: 3,
};

function withNetworks(change: Partial<SimCnnOptions>, kept: number, use: (full: SimCnn, small: SimCnn) => void): void {
  const full = new SimCnn({ ...options, ...change });
  const small = new SimCnn({ ...options, ...change, widths: [4, kept], seed: 9 });
  try {
    for (const network of [full, small]) for (const module of [...network.blocks, ...network.heads]) module.eval();
    use(full, small);
  } finally {
    disposeNetwork(full);
    disposeNetwork(small);
  }
}

const logitsOf = (network: SimCnn, features: Tensor): Tensor => network.heads[1]!.forward(features);

describe('keepFilters', () => {
  it.each([
    ['a head of convolutions', {}],
    ['a linear head without batch norm', { k: 1 }],
    ['a linear head with batch norm', { lastHead: { convolutions: 0, width: 1 } }],
  ])('gives the network that remains when the other filters give 0: %s', (_, change) => {
    withNetworks(change, 2, (full, small) =>
      scope(() =>
        noGrad(() => {
          // Running statistics of the head that are not those of a new one.
          for (const [name, value] of full.heads[1]!.stateDict()) {
            if (/running_mean|bias/.test(name)) value.copy_(randn(value.shape));
          }
          const { block, head } = keepFilters(full, [1, 3]);
          small.blocks[1]!.loadStateDict(block);
          small.heads[1]!.loadStateDict(head);
          const inputs = randn([3, 4, 8, 8]);
          const features = full.blocks[1]!.forward(inputs);
          const kept = small.blocks[1]!.forward(inputs);
          expect([...kept.toFloat32Array()]).toEqual([
            ...features.indexSelect(1, tensor([1, 3], { dtype: 'int64' })).toFloat32Array(),
          ]);
          const hasConvolutions = full.heads[1]!.stateDict().has('conv0.weight');
          // Batch norm straight on the features makes something else of a 0: then compare what it sends on.
          if (!hasConvolutions && full.heads[1]!.stateDict().has('bn.weight')) {
            for (const channel of [0, 2]) silence(full, channel);
          }
          const masked = features.clone();
          for (const channel of [0, 2]) masked.select(1, channel).fill_(0);
          const [expected, got] = [logitsOf(full, masked), logitsOf(small, kept)].map((logits) => [
            ...logits.toFloat32Array(),
          ]);
          for (const [i, value] of got!.entries()) expect(value).toBeCloseTo(expected![i]!, 5);
        }),
      ),
    );
  });

  it.each([[[]], [[2, 1]], [[1, 1]], [[4]], [[-1]], [[0.5]]])('refuses the indices %j', (indices) => {
    withNetworks({}, 2, (full) => {
      expect(() => scope(() => keepFilters(full, indices))).toThrow(
        `keepFilters: expected rising indices from 0 to 3, got ${indices.join(', ')}`,
      );
    });
  });
});

function silence(network: SimCnn, channel: number): void {
  const { weight, bias } = Object.fromEntries(
    [...network.heads[1]!.children.get('bn')!.stateDict()].map(([name, value]) => [name, value]),
  ) as { weight: Tensor; bias: Tensor };
  weight.detach().select(0, channel).fill_(0);
  bias.detach().select(0, channel).fill_(0);
}
