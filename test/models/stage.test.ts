// What of a block is trained, and what only makes the features that it reads.
import { describe, expect, it } from 'vitest';
import { layeredNetwork, layerwiseStages, matricesAndOthers, SimCnn, Vgg } from '../../lib/models/index.js';
import {
  AdaptiveAvgPool2d,
  AvgPool2d,
  Conv2d,
  Dropout,
  Flatten,
  InvertibleDownsampling,
  LayerNorm,
  Linear,
  MaxPool2d,
  Module,
  ReLU,
  Residual,
  Sequential,
} from '../../lib/nn/index.js';
import { scope, type Tensor, zeros } from '../../lib/tensor/index.js';

const sequential = (...modules: Module[]): Sequential =>
  new Sequential(modules.map((module, i) => [`part${i}`, module] as const));

/** The names of the classes of what the only layer's stage freezes. */
function frozenOf(block: Module): string[] {
  const head = new Linear({ inFeatures: 1, outFeatures: 2 });
  const network = layeredNetwork({ classes: 2, inputShape: [1, 4, 4], blocks: [block], heads: [head] });
  const [stage] = layerwiseStages(network);
  const frozen = stage!.frozen.map((module) => module.constructor.name);
  expect(stage!.trained).toHaveLength(1);
  // Nothing is lost, and nothing is in both.
  const names = [...block.stateDict().keys()];
  expect(stage!.trained.flatMap((module) => [...module.stateDict().keys()])).toEqual(names);
  if (frozen.length === 0) expect(stage!.trained[0]).toBe(block);
  for (const module of [block, head]) module.dispose();
  return frozen;
}

const conv = () => new Conv2d({ inChannels: 1, outChannels: 1, kernelSize: 1 });
const pool = () => new MaxPool2d({ kernelSize: 2 });

/** Says of itself that it is one function always. */
class Squares extends Module {
  override get isFixed(): boolean {
    return true;
  }
  forward(input: Tensor): Tensor {
    return input.mul(input);
  }
}
class Silent extends Module {
  forward(input: Tensor): Tensor {
    return this.training ? input.mul(2) : input;
  }
}
class Noisy extends MaxPool2d {
  override forward(input: Tensor): Tensor {
    return super.forward(input).mul(this.training ? 2 : 1);
  }
}
class Claiming extends Squares {
  readonly mean = this.buffer('mean', zeros([1]));
}
class Dropping extends Squares {
  readonly dropout = this.child('dropout', new Dropout({ p: 0.5 }));
}
class Own extends Sequential {
  override forward(input: Tensor): Tensor {
    return super.forward(input).neg();
  }
}

describe('the modules that open a block and are one function always are frozen', () => {
  it.each<[string, () => Module[], string[]]>([
    ['pooling', () => [pool(), conv()], ['MaxPool2d']],
    ['pooling in a Sequential with weights', () => [sequential(pool(), conv()), conv()], ['MaxPool2d']],
    [
      'pooling before dropout',
      () => [pool(), sequential(pool(), new Dropout({ p: 0.5 })), conv()],
      ['MaxPool2d', 'MaxPool2d'],
    ],
    ['average pooling', () => [new AvgPool2d({ kernelSize: 2 }), conv()], ['AvgPool2d']],
    ['the invertible downsampling', () => [new InvertibleDownsampling(), conv()], ['InvertibleDownsampling']],
    [
      'several, of every kind',
      () => [new ReLU({ inPlace: true }), new AdaptiveAvgPool2d({ outputSize: 2 }), new Flatten(), conv(), pool()],
      ['ReLU', 'AdaptiveAvgPool2d', 'Flatten'],
    ],
    ['a Sequential of such', () => [sequential(pool(), new ReLU()), conv()], ['Sequential']],
    ['a residual block of such', () => [new Residual({ body: new ReLU() }), conv()], ['Residual']],
    ['a module that says so', () => [new Squares(), pool(), conv()], ['Squares', 'MaxPool2d']],
  ])('%s', (_, make, expected) => {
    expect(frozenOf(sequential(...make()))).toEqual(expected);
  });

  it.each<[string, () => Module]>([
    ['weights', () => sequential(conv(), pool())],
    ['dropout', () => sequential(new Dropout({ p: 0.5 }), conv())],
    ['what follows weights in a Sequential', () => sequential(sequential(conv(), pool()), pool(), conv())],
    ['a residual block with weights', () => sequential(new Residual({ body: conv() }), pool())],
    ['a module that says nothing', () => sequential(new Silent(), conv())],
    ['a pooling with a forward of its own', () => sequential(new Noisy({ kernelSize: 2 }), conv())],
    ['a module that says so, but has a buffer', () => sequential(new Claiming(), conv())],
    ['a module that says so, but has dropout', () => sequential(new Dropping(), conv())],
  ])('but not %s', (_, make) => {
    expect(frozenOf(make())).toEqual([]);
  });

  it('but not those of a block with a forward of its own', () => {
    const parts = [
      ['pool', pool()],
      ['conv', conv()],
    ] as const;
    expect(frozenOf(new Own(parts))).toEqual([]);
    const block = sequential(pool(), conv());
    const forward = block.forward.bind(block);
    Object.defineProperty(block, 'forward', { value: (x: Tensor) => forward(x).neg() });
    expect(frozenOf(block)).toEqual([]);
  });

  it('but not all of a block with nothing to learn', () => {
    expect(frozenOf(sequential(pool(), new Flatten()))).toEqual([]);
    expect(frozenOf(new ReLU())).toEqual([]);
  });
});

it("today's networks freeze their downsampling, and give the names of their tensors as they were", () => {
  scope(() => {
    const vgg = new Vgg({ name: 'vgg11', classes: 2, width: 1, imageSize: 32, layers: 3, seed: 1 });
    expect(layerwiseStages(vgg).map(({ frozen }) => frozen.length)).toEqual([0, 2, 4]);
    expect([...layerwiseStages(vgg)[1]!.trained[0]!.stateDict().keys()][0]).toBe('4.weight');
    const simcnn = new SimCnn({ classes: 2, k: 2, layers: 3, width: 2, auxWidth: 2, downsampleAt: [0, 2], seed: 1 });
    expect(layerwiseStages(simcnn).map(({ frozen }) => frozen.length)).toEqual([1, 2, 4]);
    for (const network of [vgg, simcnn]) {
      for (const module of [...network.blocks, ...network.heads]) module.dispose();
    }
  });
});

describe('matricesAndOthers', () => {
  it('has filters that read all channels, and weights of linear layers of blocks; heads keep theirs, and norms', () => {
    const conv = (groups = 1) => new Conv2d({ inChannels: 4, outChannels: 4, kernelSize: 3, padding: 1, groups });
    const block = new Sequential([
      ['conv', conv()],
      ['depthwise', conv(4)],
      ['norm', new LayerNorm({ normalizedShape: [4, 5, 5] })],
      ['inner', new Sequential([['linear', new Linear({ inFeatures: 5, outFeatures: 5 })]])],
    ]);
    const head = new Sequential([
      ['conv', conv()],
      ['flatten', new Flatten()],
      ['linear', new Linear({ inFeatures: 100, outFeatures: 3 })],
    ]);
    const network = layeredNetwork({ name: 'n', classes: 3, inputShape: [4, 5, 5], blocks: [block], heads: [head] });
    const [stage] = layerwiseStages(network);
    const { matrices, others } = matricesAndOthers(stage!);
    const names = new Map(
      [block, head].flatMap((module, i) =>
        [...module.namedParameters()].map(
          ([name, tensor]) => [tensor, `${i === 0 ? 'block' : 'head'}.${name}`] as const,
        ),
      ),
    );
    expect(matrices.map((tensor) => names.get(tensor))).toEqual([
      ...['block.conv.weight', 'block.inner.linear.weight', 'head.conv.weight'],
    ]);
    expect(others.map((tensor) => names.get(tensor))).toEqual([
      ...['block.conv.bias', 'block.depthwise.weight', 'block.depthwise.bias', 'block.norm.weight', 'block.norm.bias'],
      ...['block.inner.linear.bias', 'head.conv.bias', 'head.linear.weight', 'head.linear.bias'],
    ]);
    for (const module of [block, head]) module.dispose();
  });
});
