// Residual blocks, against PyTorch's arithmetic.
import { describe, expect, it } from 'vitest';
import { BatchNorm2d, Conv2d, Dropout, FrozenBlocks, Module, ReLU, Residual, Sequential } from '../../lib/nn/index.js';
import { measurePeak, noGrad, scope, type Tensor } from '../../lib/tensor/index.js';
import { decode, type EncodedTensor, expectClose, fillByHash, hashed, readFixture } from '../support/fixtures.js';

interface Case {
  readonly name: 'identity' | 'projection' | 'opened by ReLU';
  readonly names: readonly string[];
  readonly output: EncodedTensor;
  readonly gradient: EncodedTensor;
  readonly gradients: Readonly<Record<string, EncodedTensor>>;
  readonly running: Readonly<Record<string, EncodedTensor>>;
  readonly evaluated: EncodedTensor;
}

const CASES = readFixture<Case[]>('residual.json');

const conv = (inChannels: number, outChannels: number, kernelSize: number) =>
  new Conv2d({ inChannels, outChannels, kernelSize, padding: (kernelSize - 1) / 2, bias: false });

/** Modules named by their positions, as those of PyTorch's Sequential are. */
const sequential = (...modules: Module[]): Sequential =>
  new Sequential(modules.map((module, i) => [String(i), module] as const));

const body = (inputs: number, out: number, stride: number, ...before: Module[]): Sequential =>
  sequential(
    ...before,
    new Conv2d({ inChannels: inputs, outChannels: out, kernelSize: 3, stride, padding: 1, bias: false }),
    new BatchNorm2d({ features: out }),
    new ReLU({ inPlace: true }),
    conv(out, out, 3),
    new BatchNorm2d({ features: out }),
  );

const MAKE: Record<Case['name'], () => { module: Residual; inputs: number }> = {
  identity: () => ({ module: new Residual({ body: body(4, 4, 1) }), inputs: 4 }),
  projection: () => ({
    module: new Residual({
      body: body(3, 5, 2),
      shortcut: sequential(
        new Conv2d({ inChannels: 3, outChannels: 5, kernelSize: 1, stride: 2, bias: false }),
        new BatchNorm2d({ features: 5 }),
      ),
    }),
    inputs: 3,
  }),
  'opened by ReLU': () => ({ module: new Residual({ body: body(4, 4, 1, new ReLU({ inPlace: true })) }), inputs: 4 }),
};

const TOLERANCE = { relative: 1e-4, ofLargest: true };

describe.each(CASES)('a residual block: $name', (expected) => {
  it("has PyTorch's names, values, gradients and statistics", () => {
    const { module, inputs } = MAKE[expected.name]();
    expect([...module.stateDict().keys()]).toEqual(expected.names);
    fillByHash(module.stateDict(), 7);
    scope(() => {
      const input = hashed([3, inputs, 6, 6], 100).mul(4);
      input.requiresGrad = true;
      const output = module.forward(input);
      expectClose(output, expected.output, 'output', TOLERANCE);
      output.backward({ gradient: hashed(output.shape, 200) });
      expectClose(input.grad!, expected.gradient, 'gradient of the input', TOLERANCE);
      for (const [name, parameter] of module.namedParameters()) {
        expectClose(parameter.grad!, expected.gradients[name]!, name, TOLERANCE);
      }
      for (const [name, value] of Object.entries(expected.running)) {
        expectClose(module.stateDict().get(name)!, value, name, TOLERANCE);
      }
      expectClose(module.eval().forward(input), expected.evaluated, 'in evaluation', TOLERANCE);
    });
    module.dispose();
  });

  it('is the same frozen, and leaves its input as it was', () => {
    const { module, inputs } = MAKE[expected.name]();
    fillByHash(module.stateDict(), 7);
    scope(() => {
      // The statistics after one step of training.
      for (const [name, value] of Object.entries(expected.running)) {
        noGrad(() => module.stateDict().get(name)!.copy_(decode(value)));
      }
      const input = hashed([3, inputs, 6, 6], 100).mul(4);
      const before = [...input.toFloat32Array()];
      const frozen = new FrozenBlocks([module], 'float32');
      expectClose(frozen.forward(input), expected.evaluated, 'frozen', TOLERANCE);
      expect([...input.toFloat32Array()]).toEqual(before);
      expect(module.training).toBe(true);
      frozen.dispose();
    });
    module.dispose();
  });
});

describe('the branches of a residual block', () => {
  it('see the same input, whatever the body writes into it', () => {
    class Doubling extends Module {
      forward(input: Tensor): Tensor {
        return input.mul_(2);
      }
    }
    const branches: [Module, Module | null][] = [
      [new Doubling(), null],
      [sequential(new Dropout({ p: 0.5 }).eval(), new Doubling()), null],
      [new ReLU(), new Doubling()],
    ];
    const values = [-1, 2];
    // 2x + x; 2x + x; max(x, 0) + 2x.
    const sums = [
      [-3, 6],
      [-3, 6],
      [-2, 6],
    ];
    for (const [i, [body, shortcut]] of branches.entries()) {
      const module = new Residual({ body, shortcut }).eval();
      const frozen = new FrozenBlocks([module], 'float32');
      scope(() =>
        noGrad(() => {
          const input = hashed([1, 2], 1).fill_(0);
          input.narrow(1, 0, 1).fill_(values[0]!);
          input.narrow(1, 1, 1).fill_(values[1]!);
          expect([...module.forward(input).toFloat32Array()]).toEqual(sums[i]);
          expect([...frozen.forward(input).toFloat32Array()]).toEqual(sums[i]);
          expect([...input.toFloat32Array()]).toEqual(values);
        }),
      );
      frozen.dispose();
      module.dispose();
    }
  });

  it('must give one shape', () => {
    const module = new Residual({ body: conv(4, 1, 1) });
    const frozen = new FrozenBlocks([module], 'float32');
    scope(() => {
      const message = 'Residual: expected one shape of body and shortcut, got [2, 1, 3, 3] and [2, 4, 3, 3]';
      expect(() => module.forward(hashed([2, 4, 3, 3], 1))).toThrow(message);
      expect(() => frozen.forward(hashed([1, 4, 3, 3], 1))).toThrow(message.replaceAll('[2', '[1'));
    });
    frozen.dispose();
    module.dispose();
  });

  it('are modules', () => {
    expect(() => new Residual({ body: 5 as never })).toThrow('Residual: expected a module for body, got number');
    expect(() => new Residual({ body: null as never })).toThrow('Residual: expected a module for body, got null');
    const relu = new ReLU();
    expect(() => new Residual({ body: relu, shortcut: 'identity' as never })).toThrow('for shortcut, got string');
    expect(() => new Residual({ body: relu, shortCut: relu } as never)).toThrow('Residual: ');
  });

  it('are let go, frozen and in evaluation', () => {
    const wide = () => [conv(4, 4, 1), conv(4, 4, 1), conv(4, 4, 1), conv(4, 4, 1)];
    const modules = [new Residual({ body: sequential(...wide()), shortcut: sequential(...wide()) })];
    const frozen = new FrozenBlocks(modules, 'float32');
    scope(() =>
      noGrad(() => {
        const input = hashed([1, 4, 256, 256], 1);
        frozen.forward(input);
        // 1 MiB each: of a branch the result before and the next, and the body's result while the shortcut is computed.
        for (const forward of [() => frozen.forward(input), () => modules[0]!.forward(input)]) {
          expect(measurePeak(() => scope(() => void forward())).peakBytes).toBeLessThan(5.5 * 2 ** 20);
        }
      }),
    );
    frozen.dispose();
    modules[0]!.dispose();
  });
});

it('a residual block goes through in parts that fit what is computed within it', () => {
  // 512 x 32 x 32 float32 are 2 MiB of an image, beside 16 KiB that go in and out.
  const module = new Residual({ body: sequential(conv(4, 512, 1), new ReLU(), conv(512, 4, 1)) }).eval();
  const frozen = new FrozenBlocks([module], 'float32');
  scope(() =>
    noGrad(() => {
      const input = hashed([64, 4, 32, 32], 1);
      const { result, peakBytes } = measurePeak(() => frozen.forward(input));
      expect(peakBytes).toBeLessThan(40 * 2 ** 20);
      const expected = module.forward(input);
      const largest = (x: Tensor): number =>
        x
          .abs()
          .flatten()
          .amax({ dims: [0] })
          .item();
      expect(largest(result.sub(expected))).toBeLessThan(1e-5 * largest(expected));
    }),
  );
  frozen.dispose();
  module.dispose();
});
