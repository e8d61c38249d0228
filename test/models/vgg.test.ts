import { describe, expect, it } from 'vitest';
import {
  disposeNetwork,
  ModelError,
  placeNetwork,
  VGG_NAMES,
  Vgg,
  type VggName,
  type VggOptions,
  vggLayerCount,
} from '../../lib/models/index.js';
import type { Module } from '../../lib/nn/index.js';
import { memoryStats, noGrad, scope, type Tensor } from '../../lib/tensor/index.js';
import { type EncodedTensor, expectClose, fillByHash, hashed, readFixture } from '../support/fixtures.js';

interface VggFixture {
  readonly full: {
    readonly stateDict: readonly (readonly [name: string, shape: readonly number[]])[];
    readonly parameters: number;
    readonly inputSalt: number;
    readonly logits: EncodedTensor;
  };
  readonly small: readonly {
    readonly imageSize: number;
    readonly width: number;
    readonly classes: number;
    readonly inputSalt: number;
    readonly logits: readonly EncodedTensor[];
    readonly blockParameters: readonly number[];
    readonly headParameters: readonly number[];
  }[];
}

const fixture = readFixture<VggFixture>('vgg11.json');

/** The paper's table for 1000 classes at 224 x 224. */
const PAPER_BLOCKS = [1920, 74112, 295680, 590592, 1181184, 2360832, 2360832, 2360832];
const PAPER_HEADS = [734952, 1911272, 5591016, 5591016, 18258920, 18258920, 18258920, 123642856];
const PAPER_OUTPUTS = [
  [64, 224],
  [128, 112],
  [256, 56],
  [256, 56],
  [512, 28],
  [512, 28],
  [512, 14],
  [512, 14],
];
const PAPER_HEAD_SIZES = [
  [112, 110, 108, 2],
  [56, 54, 52, 2],
  [28, 26, 24, 2],
  [28, 26, 24, 2],
  [14, 12, 10, 2],
  [14, 12, 10, 2],
  [7, 5, 3, 2],
];

/** VGG-11 unless told. */
function withVgg<T>(options: Partial<VggOptions> & { classes: number }, body: (network: Vgg) => T): T {
  const network = new Vgg({ name: 'vgg11', seed: 1, ...options });
  try {
    return body(network);
  } finally {
    disposeNetwork(network);
  }
}

const counts = (modules: readonly Module[]): number[] => modules.map((module) => module.parameterCount());
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** The output of each child of a sequential module, by name. */
function trace(module: Module, input: Tensor): [name: string, output: Tensor][] {
  let output = input;
  return [...module.children].map(([name, child]) => {
    output = child.forward(output);
    return [name, output];
  });
}

describe('VGG-11 at full size', () => {
  it("has the paper's parameters, torchvision's state dict and PyTorch's logits", () => {
    withVgg({ classes: 1000, seed: 1 }, (network) => {
      expect(counts(network.blocks)).toEqual(PAPER_BLOCKS);
      expect(counts(network.heads)).toEqual(PAPER_HEADS);
      expect(sum(counts(network.blocks)) + network.heads.at(-1)!.parameterCount()).toBe(132_868_840);
      expect(fixture.full.parameters).toBe(132_868_840);

      const state = network.stateDict();
      expect([...state].map(([name, value]) => [name, value.shape])).toEqual(fixture.full.stateDict);

      fillByHash(state);
      const logits = scope(() =>
        noGrad(() => {
          let output = hashed([2, 3, 224, 224], fixture.full.inputSalt).mul_(4);
          for (const module of [...network.blocks, network.heads.at(-1)!]) output = module.eval().forward(output);
          return output;
        }),
      );
      expectClose(logits, fixture.full.logits, 'logits', { relative: 1e-4, ofLargest: true });
      logits.dispose();
      expect([...network.notes, ...network.auxiliaryNotes]).toEqual([]);
    });
  }, 120_000);
});

describe.each(fixture.small)('VGG-11 of width $width at $imageSize', (small) => {
  it('equals PyTorch at every head, in both memory formats', () => {
    withVgg({ ...small, seed: 1 }, (network) => {
      expect(counts(network.blocks)).toEqual(small.blockParameters);
      expect(counts(network.heads)).toEqual(small.headParameters);
      network.blocks.forEach((block, j) => {
        fillByHash(block.stateDict(), 1000 * j);
        fillByHash(network.heads[j]!.stateDict(), 1000 * j + 500);
      });
      for (const memoryFormat of ['contiguous', 'channelsLast'] as const) {
        placeNetwork(network, { memoryFormat });
        scope(() =>
          noGrad(() => {
            let features = hashed([2, 3, small.imageSize, small.imageSize], small.inputSalt).mul_(4);
            features = features.contiguous({ memoryFormat });
            network.blocks.forEach((block, j) => {
              features = block.eval().forward(features);
              const logits = network.heads[j]!.eval().forward(features);
              expectClose(logits, small.logits[j]!, `${memoryFormat}, layer ${j}`, { relative: 1e-4, ofLargest: true });
            });
          }),
        );
      }
    });
  });
});

interface SizedFixture {
  readonly imageSize: readonly [height: number, width: number];
  readonly channels: number;
  readonly layers: number;
  readonly width: number;
  readonly classes: number;
  readonly inputSalt: number;
  readonly logits: readonly EncodedTensor[];
}

describe.each(readFixture<SizedFixture[]>('vgg11-sizes.json'))(
  'VGG-11 of $layers layers for $channels x $imageSize',
  ({ inputSalt, logits, ...options }) => {
    it('equals PyTorch at every head', () => {
      withVgg(options, (network) => {
        expect(network.inputShape).toEqual([options.channels, ...options.imageSize]);
        network.blocks.forEach((block, j) => {
          fillByHash(block.stateDict(), 1000 * j);
          fillByHash(network.heads[j]!.stateDict(), 1000 * j + 500);
        });
        scope(() =>
          noGrad(() => {
            let features = hashed([2, ...network.inputShape], inputSalt).mul(4);
            network.blocks.forEach((block, j) => {
              features = block.eval().forward(features);
              const got = network.heads[j]!.eval().forward(features);
              expectClose(got, logits[j]!, `layer ${j}`, { relative: 1e-4, ofLargest: true });
            });
          }),
        );
        const size = options.imageSize.join(' x ');
        expect(network.auxiliaryNotes[0]).toContain(`padded by 1 for ${size} images`);
      });
    });
  },
);

it.each<[number | readonly [number, number], number, string]>([
  [48, 8, 'an even size at the pooling of the last head for imageSize, got 48, 3 there'],
  [28, 8, 'an even size at the pooling of layer 5 for imageSize, got 28, 7 there'],
  [[64, 40], 8, 'an even size at the pooling of layer 7 for imageSize, got 64 x 40, 8 x 5 there'],
  [31, 1, 'an even size at the pooling of the last head for imageSize, got 31, 31 there'],
  [[32, 1], 1, 'sides of at least 2 for imageSize, got 1'],
  [[32, 32.5], 1, 'sides of at least 2 for imageSize, got 32.5'],
  [16, 8, 'an even size at the pooling of the last head for imageSize, got 16, 1 there'],
])('VGG-11 names where images of %s cannot be pooled, with %i layers', (imageSize, layers, message) => {
  expect(() => new Vgg({ name: 'vgg11', classes: 2, seed: 1, imageSize, layers })).toThrow(
    new ModelError(`vgg11: expected ${message}`),
  );
});

describe('the shapes inside VGG-11', () => {
  it("are the paper's at 224 x 224, in the blocks and along each head", () => {
    // Sizes do not depend on the width; channels scale with it.
    withVgg({ classes: 10, width: 2, seed: 1 }, (network) => {
      scope(() =>
        noGrad(() => {
          let features = hashed([1, 3, 224, 224], 1);
          network.blocks.forEach((block, j) => {
            features = block.eval().forward(features);
            const [channels, size] = PAPER_OUTPUTS[j]!;
            expect(features.shape).toEqual([1, channels! / 32, size, size]);
            const steps = new Map(trace(network.heads[j]!.eval(), features));
            if (j === 7) {
              expect(steps.get('flatten')!.shape).toEqual([1, (512 / 32) * 7 * 7]);
              expect(['0', '3', '6'].map((name) => steps.get(name)!.shape)).toEqual([
                [1, 128],
                [1, 128],
                [1, 10],
              ]);
              return;
            }
            const sizes = ['pool', 'conv0', 'conv1', 'average'].map((name) => steps.get(name)!.shape[2]);
            expect(sizes).toEqual(PAPER_HEAD_SIZES[j]);
            expect(steps.get('average')!.shape[1]).toBe((2 * channels!) / 32);
          });
        }),
      );
    });
  });

  it('keep their size along the padded heads of small images, whatever the number of layers', () => {
    for (const layers of [2, 8]) {
      withVgg({ classes: 10, imageSize: 32, width: 2, layers, seed: 1 }, (network) => {
        const head = network.heads[0]!.eval();
        const sizes = scope(() => noGrad(() => trace(head, hashed([1, 2, 32, 32], 1)).map(([, t]) => t.shape[2])));
        expect(sizes.slice(0, 8)).toEqual([16, 16, 16, 16, 16, 16, 16, 2]);
        expect(network.auxiliaryNotes.join()).toContain('padded by 1');
      });
    }
  });

  it('drop only with the dropout of the end-to-end baseline, at the positions of torchvision', () => {
    withVgg({ classes: 10, imageSize: 32, width: 1, seed: 1, dropout: 0.5 }, (network) => {
      expect([...network.heads.at(-1)!.children.keys()]).toEqual(['pool', 'flatten', ...'0123456']);
    });
    withVgg({ classes: 10, imageSize: 32, width: 1, seed: 1 }, (network) => {
      expect([...network.heads.at(-1)!.children.keys()]).toEqual(['pool', 'flatten', ...'01346']);
    });
  });
});

describe('the initial weights of VGG-11', () => {
  const options = { classes: 10, imageSize: 32, width: 16, seed: 3 };

  function moments(value: Tensor): { mean: number; std: number } {
    return scope(() => {
      const flat = value.detach();
      const mean = flat.mean().item();
      return { mean, std: Math.sqrt(flat.sub(mean).pow(2).mean().item()) };
    });
  }

  it('are kaiming normal by fan-out in convolutions, N(0, 0.01) in linear layers, biases zero, batch norm 1 and 0', () => {
    withVgg(options, (network) => {
      for (const [name, value] of [...network.stateDict(), ...network.auxiliaryStateDict()]) {
        if (value.dim < 2) {
          const expected = name.endsWith('weight') || name.endsWith('running_var') ? 1 : 0;
          expect(new Set(value.toFloat32Array()), name).toEqual(new Set([expected]));
          continue;
        }
        const { mean, std } = moments(value);
        const expected = value.dim === 4 ? Math.sqrt(2 / (value.shape[0]! * 9)) : 0.01;
        // Five standard errors of the mean and of the standard deviation of n normal draws.
        expect(Math.abs(mean), `${name}: mean`).toBeLessThan((5 * expected) / Math.sqrt(value.numel));
        expect(Math.abs(std / expected - 1), `${name}: std`).toBeLessThan(5 / Math.sqrt(2 * value.numel));
      }
    });
  });

  it('of a layer are the same however many layers follow, and differ by layer and by seed', () => {
    const weights = (more: Partial<VggOptions>) =>
      withVgg({ ...options, ...more }, ({ blocks, heads }) =>
        [...blocks, ...heads.slice(0, -1)].map((module) => [...module.parameters()[0]!.toFloat32Array().slice(0, 8)]),
      );
    const all = weights({});
    const three = weights({ layers: 3 });
    expect(three.slice(0, 3)).toEqual(all.slice(0, 3));
    expect(three.slice(3)).toEqual(all.slice(8, 10));
    expect(weights({})).toEqual(all);
    expect(new Set(all.map((values) => values[0])).size).toBe(15);
    expect(weights({ seed: 4 }).map((w) => w[0])).not.toEqual(all.map((w) => w[0]));
  });
});

/** The state dicts and parameter counts of the plain PyTorch definition in test/fixtures/torchvision_vgg.py. */
const torchvision = readFixture<{
  readonly parameters: Record<VggName, number>;
  readonly networks: readonly {
    readonly model: VggName;
    readonly imageSize: number;
    readonly width: number;
    readonly classes: number;
    readonly stateDict: readonly (readonly [name: string, shape: readonly number[]])[];
  }[];
}>('torchvision.json');

describe('VGG-13, 16 and 19', () => {
  // Simonyan and Zisserman 2015, table 1: B, D and E; the parameters are those of torchvision's documentation.
  const SISTERS = [
    { name: 'vgg13', layers: 10, parameters: 133_053_736, pooledAt: [2, 4, 6, 8] },
    { name: 'vgg16', layers: 13, parameters: 138_365_992, pooledAt: [2, 4, 7, 10] },
    { name: 'vgg19', layers: 16, parameters: 143_678_248, pooledAt: [2, 4, 8, 12] },
  ] as const;
  const CHANNELS = [64, 128, 256, 512, 512];

  it.each(SISTERS)(
    "$name has torchvision's parameters at 224 x 224",
    ({ name, layers, parameters }) => {
      // Of 1000 classes; the auxiliary heads, which are not counted, are small for 2.
      withVgg({ name, classes: 2 }, (network) => {
        expect(network.blocks).toHaveLength(layers);
        expect(vggLayerCount(name)).toBe(layers);
        const lastLinear = 4097 * (1000 - 2);
        expect(sum(counts(network.blocks)) + network.heads.at(-1)!.parameterCount() + lastLinear).toBe(parameters);
        expect(torchvision.parameters[name]).toBe(parameters);
        expect([...network.notes, ...network.auxiliaryNotes]).toEqual([]);
      });
    },
    120_000,
  );

  it.each(SISTERS)('$name pools before the layers $pooledAt, and doubles its channels there up to 512', (sister) => {
    const { name, layers, pooledAt } = sister;
    withVgg({ name, classes: 2, imageSize: 32 }, ({ blocks, heads }) => {
      const kinds = blocks.map((block) => [...block.children.values()].map((child) => child.constructor.name));
      const plain = ['Conv2d', 'BatchNorm2d', 'ReLU'];
      const steps = (j: number): number => pooledAt.filter((at) => at <= j).length;
      expect(kinds).toEqual(
        Array.from({ length: layers }, (_, j) => (pooledAt.includes(j as never) ? ['MaxPool2d', ...plain] : plain)),
      );
      blocks.forEach((block, j) => {
        const [channels, inputs] = [CHANNELS[steps(j)]!, j === 0 ? 3 : CHANNELS[steps(j - 1)]!];
        expect(block.parameters()[0]!.shape).toEqual([channels, inputs, 3, 3]);
        // The rule of VGG-11's heads: two convolutions of twice the channels.
        if (j === layers - 1) return;
        expect(heads[j]!.stateDict().get('conv0.weight')!.shape).toEqual([2 * channels, channels, 3, 3]);
        expect(heads[j]!.stateDict().get('linear.weight')!.shape).toEqual([2, 8 * channels]);
      });
    });
  });

  it.each(torchvision.networks.filter(({ imageSize }) => imageSize === 224))(
    "$model has the names and shapes of torchvision's state dict",
    ({ model: name, stateDict, ...options }) => {
      withVgg({ ...options, name }, (network) => {
        expect([...network.stateDict()].map(([key, value]) => [key, value.shape])).toEqual(stateDict);
      });
    },
  );

  it('say in their notes which VGG they are a part of', () => {
    withVgg({ name: 'vgg16', classes: 10, imageSize: 32, width: 2, layers: 9 }, ({ notes, auxiliaryNotes }) => {
      expect(notes).toEqual(['Width 2: VGG-16 itself has 64.', "The first 9 of VGG-16's 13 layers."]);
      expect(auxiliaryNotes.join()).toContain('padded by 1 for 32 x 32 images');
    });
  });

  it('refuse more layers than they have', () => {
    for (const name of VGG_NAMES) {
      const layers = vggLayerCount(name);
      expect(() => new Vgg({ name, classes: 10, seed: 0, layers: layers + 1 })).toThrow(
        `${name}: expected an integer from 1 to ${layers} for layers, got ${layers + 1}`,
      );
    }
  });
});

describe('bad options of VGG', () => {
  it('a network that there is not is refused by name', () => {
    for (const name of ['vgg12', 'VGG11', 'toString', undefined]) {
      const make = () => new Vgg({ name: name as VggName, classes: 10, seed: 0 });
      expect(make).toThrow(ModelError);
      expect(make).toThrow(`vgg: expected one of vgg11, vgg13, vgg16, vgg19 for name, got ${name}`);
    }
  });

  it.each([
    ['classes', { classes: 1 }],
    ['classes', { classes: Number.NaN }],
    ['imageSize', { imageSize: 33 }],
    ['imageSize', { imageSize: 0 }],
    ['channels', { channels: 0 }],
    ['channels', { channels: 1.5 }],
    ['width', { width: 0.5 }],
    ['width', { width: -64 }],
    ['layers', { layers: 0 }],
    ['layers', { layers: 9 }],
    ['seed', { seed: -1 }],
    ['seed', { seed: 1.5 }],
    ['seed', { seed: undefined as unknown as number }],
    ['dropout', { dropout: 1 }],
    ['dropout', { dropout: -0.5 }],
    ['dropout', { dropout: Number.NaN }],
  ])('are refused with the name %s before anything is allocated: %o', (name, bad) => {
    const before = memoryStats();
    const make = () => new Vgg({ name: 'vgg11', classes: 10, seed: 0, ...bad });
    expect(make).toThrow(ModelError);
    expect(make).toThrow(new RegExp(`for ${name}, got `));
    expect(memoryStats()).toEqual(before);
  });
});
