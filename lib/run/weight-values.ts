// Values that no trained network has: with them every answer is NaN, or one that nothing was learned for.
import type { StateDict } from '../nn/index.js';
import { scope, type Tensor } from '../tensor/index.js';

/** The tensors that a message names. */
const NAMED = 3;

/**
 * Which tensors hold values that weights cannot have, with what was expected and how many came; null where all are fit: every
 * value is finite, and a `running_var` of batch norm, whose root is taken, is not below 0.
 */
export function describeUnfitValues(tensors: StateDict): string | null {
  const unfit = [...tensors].map(([name, tensor]) => unfitOf(name, tensor)).filter((problem) => problem !== null);
  if (unfit.length === 0) return null;
  const more = unfit.length > NAMED ? `; and ${unfit.length - NAMED} more tensors` : '';
  return `${unfit.slice(0, NAMED).join('; ')}${more}`;
}

function unfitOf(name: string, tensor: Tensor): string | null {
  const { dtype, numel } = tensor;
  const finite = count(() => tensor.isfinite());
  if (finite < numel) {
    return `${name}: expected finite ${dtype} numbers, got ${numel - finite} of ${numel} that are not`;
  }
  if (!/(^|\.)running_var$/.test(name)) return null;
  const negative = count(() => tensor.lt(0));
  return negative === 0 ? null : `${name}: expected variances of at least 0, got ${negative} of ${numel} below`;
}

/** How often a condition holds. */
const count = (condition: () => Tensor): number => scope(() => Number(condition().sum().item()));
