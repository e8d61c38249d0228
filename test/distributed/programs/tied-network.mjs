// A network of one's own: one batch norm in two places, and a statistic that is no batch norm's.
import {
  Conv2d,
  defaultInit,
  Flatten,
  Generator,
  Linear,
  layeredNetwork,
  Module,
  noGrad,
  Sequential,
  zeros,
} from '../../../dist/index.js';
import { AdaptiveAvgPool2d, BatchNorm2d } from '../../../dist/nn/index.js';

/** @typedef {import('../../../dist/index.js').Tensor} Tensor */

/** Subtracts the mean of the last images that it was trained on. */
class LastMean extends Module {
  last = this.buffer('last', zeros([]));

  /** @param {Tensor} input */
  forward(input) {
    if (this.training) noGrad(() => this.last.copy_(input.detach().mean()));
    return input.sub(this.last);
  }
}

class Tied extends Module {
  /** @param {import('../../../dist/index.js').Initializer} init */
  constructor(init) {
    super();
    this.conv = this.child('conv', new Conv2d({ inChannels: 3, outChannels: 4, kernelSize: 3, padding: 1, init }));
    this.norm = this.child('norm', new BatchNorm2d({ features: 4 }));
    this.again = this.child('again', new Sequential([['norm', this.norm]]));
    this.mean = this.child('mean', new LastMean());
  }

  /** @param {Tensor} input */
  forward(input) {
    return this.again.forward(this.norm.forward(this.mean.forward(this.conv.forward(input)))).relu();
  }
}

/** @type {import('../../../dist/index.js').NetworkBuilder} */
export const network = ({ classes, inputShape, seed }) => {
  const generator = Generator.create({ seed });
  const init = defaultInit(generator);
  const pool = new AdaptiveAvgPool2d({ outputSize: 2 });
  const head = new Sequential([
    ['pool', pool],
    ['flatten', new Flatten()],
    ['linear', new Linear({ inFeatures: 16, outFeatures: classes, init })],
  ]);
  const blocks = [new Tied(init)];
  generator.dispose();
  return layeredNetwork({ name: 'tied', classes, inputShape, blocks, heads: [head] });
};
