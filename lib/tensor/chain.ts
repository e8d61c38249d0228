import { isOwnedHere, scope } from './scope.js';
import type { Tensor } from './tensor.js';

/**
 * Applies functions one after another. What lies between them is let go as soon as the next has used it, so that only
 * what autograd needs of it stays in memory.
 */
export function chain(input: Tensor, functions: readonly ((input: Tensor) => Tensor)[]): Tensor {
  return scope(() => {
    let output = input;
    for (const apply of functions) {
      const before = output;
      output = scope(() => apply(before));
      // A function may give back what it was given, or what it did not make, such as a weight.
      if (before !== output && isOwnedHere(before)) before.dispose();
    }
    return output;
  });
}
