// Gradients against central differences in float64, independently of PyTorch's own derivative formulas.
import { describe, it } from 'vitest';
import { scope, type Tensor, tensor } from '../../lib/tensor/index.js';
import { expectNumbersClose, scatter } from '../support/fixtures.js';

const STEP = 1e-6;

/** Inputs of the given shapes; `spread` multiplies values that are all different and never near another. */
function makeInputs(shapes: readonly (readonly number[])[]): { shape: readonly number[]; values: Float64Array }[] {
  return shapes.map((shape, i) => {
    const count = shape.reduce((product, size) => product * size, 1);
    return { shape, values: scatter(count, i + 1) };
  });
}

/** sum(output * weights), with weights that make every output element count differently. */
function probe(output: Tensor): Tensor {
  return output.mul(tensor(scatter(output.numel, 99), { shape: output.shape })).sum();
}

function checkGradients(
  inputs: readonly { shape: readonly number[]; values: Float64Array }[],
  body: (...inputs: Tensor[]) => Tensor,
): void {
  const make = () => inputs.map(({ shape, values }) => tensor(values, { shape }));
  const analytic = scope(() => {
    const leaves = make();
    for (const leaf of leaves) leaf.requiresGrad = true;
    probe(body(...leaves)).backward();
    return leaves.map((leaf) => Array.from(leaf.grad!.toTypedArray(), Number));
  });
  inputs.forEach(({ values }, i) => {
    const numeric = Array.from(values, (value, k) => {
      const at = (x: number) => {
        values[k] = x;
        const result = scope(() => probe(body(...make())).item());
        values[k] = value;
        return result;
      };
      return (at(value + STEP) - at(value - STEP)) / (2 * STEP);
    });
    expectNumbersClose(analytic[i]!, numeric, `gradient of input ${i}`, { relative: 1e-6, absolute: 1e-7 });
  });
}

describe('gradients equal finite differences in float64', () => {
  const cases: [string, number[][], (...inputs: Tensor[]) => Tensor][] = [
    ['conv2d', [[2, 2, 5, 4], [3, 2, 3, 2], [3]], (x, w, b) => x!.conv2d(w!, b!, { stride: [2, 1], padding: [1, 0] })],
    [
      'conv2d in groups, dilated',
      [[1, 4, 5, 5], [2, 2, 2, 2], [2]],
      (x, w, b) => x!.conv2d(w!, b!, { groups: 2, dilation: 2 }),
    ],
    [
      'conv2d, channels last',
      [
        [1, 2, 4, 4],
        [2, 2, 3, 3],
      ],
      (x, w) =>
        x!
          .contiguous({ memoryFormat: 'channelsLast' })
          .conv2d(w!.contiguous({ memoryFormat: 'channelsLast' }), null, { padding: 1 }),
    ],
    [
      'batchNorm in training',
      [[3, 2, 2, 2], [2], [2]],
      (x, w, b) => x!.batchNorm(w!, b!, null, null, { training: true }),
    ],
    [
      'batchNorm in evaluation',
      [[3, 2, 2, 2], [2], [2]],
      (x, w, b) => x!.batchNorm(w!, b!, tensor(Float64Array.of(0.2, -0.3)), tensor(Float64Array.of(0.5, 1.5))),
    ],
    [
      'batchNormRelu',
      [[3, 2, 2, 2], [2], [2]],
      (x, w, b) => x!.batchNormRelu(w!, b!, tensor(Float64Array.of(0, 0)), tensor(Float64Array.of(1, 1))),
    ],
    ['adaptiveAvgPool2d, whole windows', [[1, 2, 6, 4]], (x) => x!.adaptiveAvgPool2d([3, 2])],
    ['maxPool2d', [[1, 2, 5, 6]], (x) => x!.maxPool2d([2, 3], { stride: [2, 1], padding: [0, 1] })],
    ['avgPool2d', [[1, 2, 5, 6]], (x) => x!.avgPool2d(3, { stride: 2, padding: 1 })],
    ['adaptiveAvgPool2d', [[1, 2, 7, 5]], (x) => x!.adaptiveAvgPool2d([3, 2])],
    ['linear', [[2, 3, 4], [5, 4], [5]], (x, w, b) => x!.linear(w!, b!)],
    [
      'matmul',
      [
        [2, 1, 3, 4],
        [2, 4, 2],
      ],
      (x, y) => x!.matmul(y!),
    ],
    ['softmax', [[3, 5]], (x) => x!.softmax(-1)],
    ['logSoftmax', [[3, 5]], (x) => x!.logSoftmax(0)],
    ['groupNorm', [[2, 4, 3, 2], [4], [4]], (x, w, b) => x!.groupNorm(2, w!, b!)],
    [
      'groupNorm, channels last',
      [[2, 4, 3, 2], [4], [4]],
      (x, w, b) => x!.contiguous({ memoryFormat: 'channelsLast' }).groupNorm(2, w!, b!),
    ],
    [
      'layerNorm',
      [
        [2, 3, 4],
        [3, 4],
        [3, 4],
      ],
      (x, w, b) => x!.layerNorm([3, 4], w!, b!),
    ],
    ['upsampleNearest2d', [[1, 2, 3, 2]], (x) => x!.upsampleNearest2d([5, 4])],
    ['upsampleBilinear2d', [[1, 2, 3, 2]], (x) => x!.upsampleBilinear2d([5, 4])],
    ['upsampleBilinear2d, aligned', [[1, 2, 3, 2]], (x) => x!.upsampleBilinear2d([5, 4], { alignCorners: true })],
    ['gelu', [[3, 4]], (x) => x!.gelu()],
    ['gelu by tanh', [[3, 4]], (x) => x!.gelu({ approximate: 'tanh' })],
    ['silu', [[3, 4]], (x) => x!.silu()],
    ['leakyRelu', [[3, 4]], (x) => x!.leakyRelu({ negativeSlope: 0.3 })],
    ['tanh', [[3, 4]], (x) => x!.tanh()],
    ['crossEntropy', [[3, 5]], (x) => x!.crossEntropy(tensor(BigInt64Array.of(4n, 0n, 2n)))],
    [
      'crossEntropy with smoothed labels',
      [[3, 5]],
      (x) => x!.crossEntropy(tensor(BigInt64Array.of(4n, 0n, 2n)), { labelSmoothing: 0.3 }),
    ],
    [
      'crossEntropy without reduction',
      [[3, 5]],
      (x) => x!.crossEntropy(tensor(BigInt64Array.of(1n, 1n, 3n)), { reduction: 'none' }),
    ],
  ];
  it.each(cases)('%s', (_name, shapes, body) => checkGradients(makeInputs(shapes), body));
});
