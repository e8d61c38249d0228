// Required before a training: the first loss on real data does not come back from LibTorch. (Node gives --require to workers
// whose program is text, and not --import.)

const { writeFileSync } = require('node:fs');
const { isMainThread } = require('node:worker_threads');

if (!isMainThread) {
  const { ones, Tensor } = require('../../../dist/index.js');
  const crossEntropy = Tensor.prototype.crossEntropy;
  Tensor.prototype.crossEntropy = function (...args) {
    if (this.device === 'meta') return crossEntropy.apply(this, args); // The plan, which comes before the first step.
    writeFileSync(String(process.env.LAYERWISE_TEST_BEGAN), '');
    // One value, read again and again: no memory, and hours on any machine.
    return ones([1])
      .expand([2 ** 45])
      .sum();
  };
}
