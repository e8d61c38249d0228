// Values that no trained network has: with them every output is NaN, or has nothing to do with what was learned.
import type { StateDict } from '../nn/index.js';
import { scope, type Tensor } from '../tensor/index.js';

/** The tensors that a message names. */
const NAMED = 3;

/**
 * Describes the tensors that hold values that weights cannot have, with what was expected and how many came; null where there are
 * none. Every value must be finite; batch norm's `running_var` and AdamW's `exp_avg_sq`, whose roots are taken, must not be below
 * 0.
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
  const kind = /(^|\.)running_var$/.test(name) ? 'variances' : /^exp_avg_sq\.\d+$/.test(name) ? 'squares' : null;
  if (kind === null) return null;
  const negative = count(() => tensor.lt(0));
  return negative === 0 ? null : `${name}: expected ${kind} of at least 0, got ${negative} of ${numel} below`;
}

/** How often a condition holds. */
const count = (condition: () => Tensor): number => scope(() => Number(condition().sum().item()));
