// Synchronised batch norm of this rank's part of a batch; prints output, gradients and statistics.
import { readFileSync } from 'node:fs';
import { BatchNorm1d, BatchNorm2d } from '../../../dist/nn/index.js';
import { noGrad, tensor } from '../../../dist/tensor/index.js';
import { join, options, print } from './rank.mjs';

/** @typedef {import('../../../dist/tensor/index.js').Tensor} Tensor */
/**
 * @typedef {object} Case
 * @property {'1d' | '2d' | 'relu'} layer
 * @property {readonly number[]} shape of all images
 * @property {readonly number[]} starts where each rank's images begin, and their end
 * @property {'float32' | 'bfloat16'} dtype
 * @property {boolean} channelsLast
 * @property {readonly number[]} values
 * @property {readonly number[]} gradient
 */

const { rank } = options;
const cases = /** @type {Case[]} */ (JSON.parse(readFileSync(process.env.CASES ?? '', 'utf8')));
/** @param {Tensor | null} x */
const listed = (x) => [.../** @type {Tensor} */ (x).to({ dtype: 'float64' }).toTypedArray()];

const group = await join();
for (const { layer, shape, starts, dtype, channelsLast, values, gradient } of cases) {
  const [first, end] = [starts[rank] ?? 0, starts[rank + 1] ?? 0];
  const part = (/** @type {readonly number[]} */ all) => {
    const own = tensor(Float32Array.from(all), { shape })
      .narrow(0, first, end - first)
      .to({ dtype });
    return channelsLast ? own.contiguous({ memoryFormat: 'channelsLast' }) : own.contiguous();
  };
  const features = shape[1] ?? 0;
  const norm = layer === '1d' ? new BatchNorm1d({ features }) : new BatchNorm2d({ features });
  noGrad(() => {
    for (let c = 0; c < features; c++) {
      norm.weight.narrow(0, c, 1).fill_(0.5 + c);
      norm.bias.narrow(0, c, 1).fill_(0.25 * c - 0.5);
    }
  });
  const input = part(values);
  input.requiresGrad = true;
  const output = group.synchronizedBatchNorm(() =>
    layer === 'relu' && norm instanceof BatchNorm2d ? norm.forwardRectified(input) : norm.forward(input),
  );
  output.backward({ gradient: part(gradient) });
  const { weight, bias, runningMean, runningVar } = norm;
  print({
    ...{ output: listed(output), dtype: output.dtype, input: listed(input.grad) },
    ...{ weight: listed(weight.grad), bias: listed(bias.grad) },
    ...{ runningMean: listed(runningMean), runningVar: listed(runningVar) },
  });
}
await group.leave();
