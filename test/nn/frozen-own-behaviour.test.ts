// Frozen blocks run a module that may have behaviour of its own as it is: whatever it does, they are the modules in evaluation mode.
import { describe, expect, it } from 'vitest';
import {
  AvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout,
  Flatten,
  FrozenBlocks,
  Linear,
  MaxPool2d,
  Module,
  ModuleError,
  modulesIn,
  ReLU,
  Residual,
  Sequential,
} from '../../lib/nn/index.js';
import { cat, memoryStats, noGrad, scope, type Tensor, zeros } from '../../lib/tensor/index.js';
import { fillByHash, hashed } from '../support/fixtures.js';

const sequential = (...modules: Module[]): Sequential =>
  new Sequential(modules.map((module, i) => [String(i), module] as const));

const conv = (): Conv2d => new Conv2d({ inChannels: 3, outChannels: 3, kernelSize: 3, padding: 1 });
const norm = (features = 3): BatchNorm2d => new BatchNorm2d({ features });
const relu = (): ReLU => new ReLU({ inPlace: true });

class Own extends Module {
  readonly #forward: (input: Tensor) => Tensor;

  constructor(forward: (input: Tensor) => Tensor) {
    super();
    this.#forward = forward;
  }

  forward(input: Tensor): Tensor {
    return this.#forward(input);
  }
}

/** What it gives is a weight, whatever it is given. */
class Learned extends Module {
  readonly weight = this.parameter('weight', zeros([1, 3, 4, 4]));

  forward(_: Tensor): Tensor {
    return this.weight;
  }
}

/** One method of a module that is its own. */
function patched<M extends Module>(
  module: M,
  name: string,
  wrap: (original: (...given: never[]) => Tensor) => unknown,
): M {
  const original = (Reflect.get(module, name) as (...given: never[]) => Tensor).bind(module);
  Object.defineProperty(module, name, { value: wrap(original) });
  return module;
}

const plusOne =
  (original: (...given: never[]) => Tensor) =>
  (...given: never[]): Tensor =>
    original(...given).add(1);

class ScaledConv extends Conv2d {
  override forward(input: Tensor): Tensor {
    return super.forward(input).mul(3);
  }
}
class StandardizedConv extends Conv2d {
  override convolve(input: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
    return super.convolve(input, weight.sub(0.25), bias);
  }
}
class ShiftedLinear extends Linear {
  override forward(input: Tensor): Tensor {
    return super.forward(input).add(1);
  }
}
class CentredNorm extends BatchNorm2d {
  override forward(input: Tensor): Tensor {
    return super.forward(input).sub(2);
  }
}
class LeakyReLU extends ReLU {
  override forward(input: Tensor): Tensor {
    return input.gt(0).where(input, input.mul(0.1));
  }
}
class Reversed extends Sequential {
  override forward(input: Tensor): Tensor {
    return [...this.children.values()].reverse().reduce((x, module) => module.forward(x), input);
  }
}
class Passing extends MaxPool2d {
  override forward(input: Tensor): Tensor {
    return input;
  }
}
class Difference extends Residual {
  override forward(input: Tensor): Tensor {
    return this.body.forward(input).sub(input);
  }
}
class Doubling extends Module {
  forward(input: Tensor): Tensor {
    return input.mul_(2);
  }
}

const options = { inChannels: 3, outChannels: 3, kernelSize: 3, padding: 1 };

/** Each a list of blocks for [n, 3, 4, 4]. */
const BLOCKS: Record<string, () => Module[]> = {
  'a convolution with a forward of its own before batch norm': () => [
    sequential(new ScaledConv(options), norm(), relu()),
  ],
  'a convolution with a convolve of its own': () => [sequential(new StandardizedConv(options), norm(), relu())],
  'a batch norm with a forward of its own': () => [sequential(conv(), new CentredNorm({ features: 3 }), relu())],
  'a ReLU with a forward of its own': () => [sequential(conv(), norm(), new LeakyReLU({ inPlace: true }))],
  'a linear layer with a forward of its own': () => [
    sequential(conv(), new ShiftedLinear({ inFeatures: 4, outFeatures: 4 }), relu()),
  ],
  'a Sequential with a forward of its own': () => [
    new Reversed([
      ['relu', relu()],
      ['bn', norm()],
      ['conv', conv()],
    ]),
    sequential(conv(), new Reversed([['bn', norm()]]), relu()),
  ],
  'a residual block with a forward of its own': () => [new Difference({ body: sequential(relu(), conv()) }), relu()],
  'a forward on a convolution itself': () => [sequential(patched(conv(), 'forward', plusOne), norm(), relu())],
  'a convolve on a convolution itself': () => [sequential(patched(conv(), 'convolve', plusOne), norm(), relu())],
  'a forward on a batch norm itself': () => [sequential(conv(), patched(norm(), 'forward', plusOne), relu())],
  'a forwardRectified on a batch norm itself': () => [
    sequential(conv(), patched(norm(), 'forwardRectified', plusOne), relu()),
  ],
  'a forward on a ReLU itself': () => [sequential(conv(), norm(), patched(relu(), 'forward', plusOne))],
  'a forward on a Sequential itself': () => [
    sequential(conv(), patched(sequential(norm(), relu()), 'forward', plusOne), relu()),
  ],
  'a forward on a residual block itself': () => [patched(new Residual({ body: conv() }), 'forward', plusOne), relu()],
  'one convolution and one batch norm in two places': () => {
    const [one, bn] = [conv(), norm()];
    return [sequential(one, bn, relu(), one, bn, relu(), one), sequential(bn, one)];
  },
  'a block in two places': () => {
    const block = sequential(conv(), norm(), relu());
    return [block, new Residual({ body: block }), block];
  },
  'a batch norm that opens a Sequential after a convolution': () => [sequential(conv(), sequential(norm(), relu()))],
  'a batch norm that opens the next block': () => [conv(), sequential(norm(), relu())],
  'two batch norms': () => [sequential(conv(), norm(), norm(), relu())],
  'a batch norm without a convolution': () => [sequential(norm(), relu(), norm())],
  'a block that gives its input back, then ReLU': () => [new Own((x) => x), relu()],
  'a module that gives its input back, then ReLU': () => [sequential(new Own((x) => x), relu())],
  'a pooling that gives its input back, then ReLU': () => [sequential(new Passing({ kernelSize: 2 }), relu())],
  'a pooling whose own forward gives its input back': () => [
    sequential(
      patched(new AvgPool2d({ kernelSize: 2 }), 'forward', () => (x: Tensor) => x),
      relu(),
    ),
  ],
  'a view of the input, then ReLU': () => [sequential(new Own((x) => x.narrow(1, 0, 2)), relu())],
  'flattened, then ReLU': () => [sequential(new Flatten(), relu(), relu())],
  'dropout, then ReLU': () => [sequential(new Dropout({ p: 0.5 }), relu())],
  'a module that writes to its input': () => [new Doubling(), new Doubling()],
  'a module that writes to its input, after one that gives its input back': () => [
    sequential(new Own((x) => x), new Doubling()),
  ],
  'the input beside its negative half, then ReLU': () => [
    sequential(new Own((x) => x), new Residual({ body: new Own((x) => x.mul(-0.5)) }), relu()),
  ],
  'residual blocks in residual blocks': () => [
    new Residual({
      body: new Residual({ body: sequential(relu(), conv(), norm()), shortcut: sequential(relu(), conv()) }),
      shortcut: new Residual({ body: new ReLU() }),
    }),
    sequential(new Residual({ body: sequential(conv(), norm()) }), relu()),
  ],
  'a residual block whose body gives its input': () => [new Residual({ body: new Own((x) => x) }), relu()],
  'a residual block whose shortcut gives a view': () => [
    new Residual({ body: sequential(new Flatten(), relu()), shortcut: sequential(new Flatten(), relu()) }),
  ],
  'a residual block whose branches give views of the input': () => [
    new Residual({ body: new Flatten(), shortcut: new Flatten() }),
  ],
  'a residual block whose body is nothing in evaluation': () => [
    new Residual({ body: new Dropout({ p: 0.5 }) }),
    relu(),
  ],
  'an empty Sequential': () => [sequential(), sequential(sequential(), relu())],
  'a module of sequences, whose first dimension is not the batch for a while': () => [
    sequential(new Own((x) => x.reshape([-1, 4, 4])), relu(), new Own((x) => x.reshape([-1, 3, 4, 4]))),
  ],
};

const copyOf = (tensor: Tensor): number[] => [...tensor.detach().clone().toFloat32Array()];

/** |a - b| / |b|, Euclidean. */
function difference(a: Tensor, b: Tensor): number {
  const norm = (v: Tensor): number => Math.sqrt(v.to({ dtype: 'float64' }).pow(2).sum().item());
  return norm(a.sub(b)) / norm(b);
}

describe.each(Object.entries(BLOCKS))('%s', (_, make) => {
  it('is the same frozen as in evaluation mode, in batches of any size, and leaves all as it was', () => {
    const blocks = make();
    const all = blocks.flatMap(modulesIn);
    for (const block of blocks) fillByHash(block.stateDict(), 3);
    // Modes of all kinds.
    for (const [i, module] of all.entries()) if (module.children.size === 0) module.train(i % 2 === 0);
    const modes = all.map(({ training }) => training);
    const weights = all.map((module) => [...module.stateDict().values()].map(copyOfAny));
    const before = memoryStats();
    const frozen = new FrozenBlocks(blocks, 'float32');
    scope(() =>
      noGrad(() => {
        const input = hashed([5, 3, 4, 4], 11).mul(4);
        const values = copyOf(input);
        const got = frozen.forward(input);
        expect(copyOf(input)).toEqual(values);
        expect(all.map(({ training }) => training)).toEqual(modes);
        expect(all.map((module) => [...module.stateDict().values()].map(copyOfAny))).toEqual(weights);
        const one = cat([0, 1, 2, 3, 4].map((i) => frozen.forward(input.narrow(0, i, 1).clone())));
        expect(difference(one, got)).toBeLessThan(1e-6);
        for (const block of blocks) block.eval();
        const expected = blocks.reduce((x, block) => block.forward(x), input.clone());
        expect(got.shape).toEqual(expected.shape);
        expect(difference(got, expected)).toBeLessThan(1e-6);
      }),
    );
    frozen.dispose();
    expect(memoryStats()).toEqual(before);
    for (const block of blocks) block.dispose();
  });

  it('is within the rounding of bfloat16 in it', () => {
    const blocks = make();
    for (const block of blocks) fillByHash(block.eval().stateDict(), 3);
    const frozen = new FrozenBlocks(blocks, 'bfloat16');
    scope(() =>
      noGrad(() => {
        const input = hashed([5, 3, 4, 4], 11).mul(4);
        const got = frozen.forward(input);
        expect(got.dtype).toBe('bfloat16');
        const expected = blocks.reduce((x, block) => block.forward(x), input.clone());
        expect(difference(got.to({ dtype: 'float32' }), expected)).toBeLessThan(0.03);
      }),
    );
    frozen.dispose();
    for (const block of blocks) block.dispose();
  });
});

const copyOfAny = (tensor: Tensor): number[] => scope(() => copyOf(tensor.to({ dtype: 'float32' })));

describe('a method that a class was given afterwards', () => {
  it.each<[string, new (options: never) => Module, string]>([
    ['Conv2d', Conv2d as never, 'forward'],
    ['Conv2d', Conv2d as never, 'convolve'],
    ['BatchNorm2d', BatchNorm2d as never, 'forward'],
    ['ReLU', ReLU as never, 'forward'],
    ['Sequential', Sequential as never, 'forward'],
    ['Residual', Residual as never, 'forward'],
  ])('is run: %s.%s', (_, type, name) => {
    const block = sequential(conv(), sequential(norm()), relu(), new Residual({ body: conv() })).eval();
    fillByHash(block.stateDict(), 3);
    const original: (...given: unknown[]) => Tensor = Reflect.get(type.prototype, name);
    const frozen = new FrozenBlocks([block], 'float32');
    scope(() =>
      noGrad(() => {
        const input = hashed([5, 3, 4, 4], 11).mul(4);
        const before = block.forward(input.clone());
        type.prototype[name as 'forward'] = function (this: Module, ...given: unknown[]): Tensor {
          return original.apply(this, given).mul(1.5);
        };
        try {
          const expected = block.forward(input.clone());
          expect(difference(before, expected)).toBeGreaterThan(0.1);
          expect(difference(frozen.forward(input), expected)).toBeLessThan(1e-6);
        } finally {
          type.prototype[name as 'forward'] = original;
        }
      }),
    );
    frozen.dispose();
    block.dispose();
  });
});

it('a batch norm of other channels than the convolution before it fails as it does by itself', () => {
  // As many gains as one, or one gain for all, would multiply without an error.
  for (const [channels, features] of [
    [1, 3],
    [3, 1],
  ] as const) {
    const block = sequential(
      new Conv2d({ inChannels: 3, outChannels: channels, kernelSize: 1 }),
      new BatchNorm2d({ features }),
    ).eval();
    const frozen = new FrozenBlocks([block], 'float32');
    scope(() => {
      const input = hashed([2, 3, 4, 4], 1);
      expect(() => noGrad(() => block.forward(input))).toThrow(/batchNorm/);
      expect(() => frozen.forward(input)).toThrow(/batchNorm/);
    });
    frozen.dispose();
    block.dispose();
  }
});

it('what a block gives of its own is a tensor of the caller: it may be let go', () => {
  const block = new Learned().eval();
  const frozen = new FrozenBlocks([block], 'float32');
  scope(() => {
    const given = frozen.forward(hashed([1, 3, 4, 4], 1));
    expect(given.requiresGrad).toBe(false);
    given.dispose();
    expect(block.weight.shape).toEqual([1, 3, 4, 4]);
  });
  // And what writes after it does not write to the weight.
  const writing = new FrozenBlocks([sequential(block, new Doubling(), relu())], 'float32');
  noGrad(() => block.weight.fill_(-1));
  scope(() => {
    expect(new Set(writing.forward(hashed([1, 3, 4, 4], 1)).toFloat32Array())).toEqual(new Set([0]));
    expect(new Set(copyOf(block.weight))).toEqual(new Set([-1]));
  });
  frozen.dispose();
  writing.dispose();
  block.dispose();
});

describe('a block whose output is not one of each image', () => {
  it.each<[string, (input: Tensor) => Tensor, string]>([
    ['the mean of the batch', (x) => x.mean({ dims: [0], keepDim: true }), '[5, ...] of 5 images'],
    ['one row for all', (x) => x.reshape([1, -1]), '[5, ...] of 5 images'],
    ['the batch as the second dimension', (x) => x.transpose(0, 1), '[1, ...] of 1 image'],
    ['a number', (x) => x.sum(), '[1, ...] of 1 image'],
  ])('is refused by name: %s', (_, forward, expected) => {
    class Mixing extends Module {
      forward(input: Tensor): Tensor {
        return forward(input);
      }
    }
    const frozen = new FrozenBlocks([relu(), new Mixing()], 'float32');
    scope(() => {
      const run = () => frozen.forward(hashed([5, 3, 4, 4], 1));
      expect(run).toThrow(ModuleError);
      expect(run).toThrow(`FrozenBlocks: expected ${expected} from block 2 (Mixing), got [`);
    });
    frozen.dispose();
  });
});
