// Tensors of every kind that a caller can have: dtypes, layouts, values, gradients, devices.
import { type DType, empty, inferenceMode, noGrad, type Tensor, tensor, zeros } from '../../lib/tensor/index.js';
import type { Choices } from './choices.js';

const FLOATING: readonly DType[] = ['float32', 'float64', 'bfloat16', 'float16'];
const DTYPES: readonly DType[] = [...FLOATING, 'int64', 'uint8', 'bool'];
const SIZES = [0, 1, 1, 2, 2, 3, 4, 5, 7, 8, 16, 33];
/** More elements than this only cost time. */
const MOST_ELEMENTS = 20_000;

export const isFloating = (dtype: DType): boolean => FLOATING.includes(dtype);

export const elements = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

export const anyDType = (choices: Choices): DType => (choices.chance(0.6) ? 'float32' : choices.of(DTYPES));

export function anyShape(choices: Choices, rank = choices.below(6)): number[] {
  const shape = choices.list(rank, () => choices.of(SIZES));
  while (elements(shape) > MOST_ELEMENTS) shape[shape.indexOf(Math.max(...shape))] = 1;
  return shape;
}

/** Values that matter to kernels: around zero, of any size, now and then none. */
const FLOATS = [0, -0, 1, -1, 0.5, -2.5, 3, 1e-3, -7.25, 100, 1e-30, -1e30, Infinity, NaN];
const INTEGERS = [0, 1, 2, 0, 3, 1, -1, 5, 2 ** 40, -(2 ** 53 - 1)];
const BYTES = [0, 1, 2, 3, 7, 255];

function values(choices: Choices, count: number, pool: readonly number[]): number[] {
  // Mostly of the beginning of the pool, where the harmless ones are.
  const harmless = choices.chance(0.7) ? Math.ceil(pool.length * 0.6) : pool.length;
  const pattern = choices.list(7, () => pool[choices.below(harmless)]!);
  return Array.from({ length: count }, (_, i) => pattern[(i + (i >> 4)) % pattern.length]!);
}

/** A tensor of a shape and dtype that lies in row-major order. */
export function plain(choices: Choices, shape: readonly number[], dtype: DType): Tensor {
  const count = elements(shape);
  if (isFloating(dtype)) return tensor(values(choices, count, FLOATS), { shape }).to({ dtype });
  const pool = dtype === 'int64' ? INTEGERS : BYTES;
  return tensor(values(choices, count, pool), { shape, dtype });
}

/** A tensor of a shape and dtype that lies in some way. */
export function laidOut(choices: Choices, shape: readonly number[], dtype: DType): Tensor {
  const dim = choices.below(Math.max(1, shape.length));
  const withSize = (size: number): number[] => shape.map((own, i) => (i === dim ? size : own));
  switch (shape.length === 0 ? 0 : choices.below(8)) {
    case 1:
      return shape.length === 4
        ? plain(choices, shape, dtype).contiguous({ memoryFormat: 'channelsLast' })
        : plain(choices, shape, dtype);
    case 2: {
      const other = choices.below(shape.length);
      const swapped = [...shape];
      [swapped[dim], swapped[other]] = [shape[other]!, shape[dim]!];
      return plain(choices, swapped, dtype).transpose(dim, other);
    }
    case 3:
      return plain(choices, withSize(shape[dim]! + 3), dtype).narrow(dim, 2, shape[dim]!);
    case 4:
      return plain(choices, withSize(1), dtype).expand(shape);
    case 5:
      return plain(choices, [...shape, 3], dtype).select(shape.length, 1);
    default:
      return plain(choices, shape, dtype);
  }
}

/** A tensor as callers have them: most are plain, some track gradients, have no values, or cannot be recorded. */
export function anyTensor(choices: Choices, shape: readonly number[], dtype: DType): Tensor {
  const kind = choices.below(40);
  if (kind === 0) return empty(shape, { dtype, device: 'meta' });
  if (kind === 1) return inferenceMode(() => laidOut(choices, shape, dtype));
  const made = noGrad(() => laidOut(choices, shape, dtype));
  if (kind < 14 && isFloating(dtype)) {
    made.requiresGrad = true;
    return kind < 5 ? made.mul(1) : made;
  }
  if (kind === 14) {
    const disposed = zeros([2]);
    disposed.dispose();
    return disposed;
  }
  return made;
}
