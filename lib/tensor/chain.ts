import { isOwnedHere, scope } from './scope.js';
import type { Tensor } from './tensor.js';

/**
 * Applies functions one after another. Each intermediate result is freed as soon as the next function has used it, so that only
 * what autograd needs stays in memory.
 */
export function chain(input: Tensor, functions: readonly ((input: Tensor) => Tensor)[]): Tensor {
  return scope(() => {
    let output = input;
    for (const apply of functions) {
      const before = output;
      output = scope(() => apply(before));
      // A function may return its input, or a tensor that it did not make, such as a weight.
      if (before !== output && isOwnedHere(before)) before.dispose();
    }
    return output;
  });
}
