import { TensorError } from './errors.js';

/** The handle that stands for "no tensor" in an optional argument. */
export const NONE = 0;

/** The handle of a disposed tensor: the native side knows no tensor by it. */
export const DISPOSED = -1;

interface TensorLike {
  readonly handle: number;
}

function refuse(expected: string, got: unknown, argument: string, operator: string): never {
  const kind = got === null ? 'null' : typeof got === 'object' ? 'an object' : typeof got;
  throw new TensorError({
    code: 'INVALID_ARGUMENT',
    operator,
    message: `expected ${expected} for ${argument}, got ${kind}`,
  });
}

/** The handle of a tensor. Callers without types may pass anything: what is no tensor is refused by its argument's name. */
export function handleOf(tensor: TensorLike, argument: string, operator: string): number {
  const handle = (tensor as TensorLike | null | undefined)?.handle;
  if (typeof handle !== 'number') refuse('a tensor', tensor, argument, operator);
  return handle;
}

/** The handles of a list of tensors, as the native side takes them. */
export function handlesOf(tensors: readonly TensorLike[], argument: string, operator: string): Int32Array {
  if (!Array.isArray(tensors)) refuse('an array of tensors', tensors, argument, operator);
  const handles = new Int32Array(tensors.length);
  for (let i = 0; i < tensors.length; i++) {
    const handle = (tensors[i] as TensorLike | null | undefined)?.handle;
    if (typeof handle !== 'number') refuse('a tensor', tensors[i], `${argument}[${i}]`, operator);
    handles[i] = handle;
  }
  return handles;
}

/** The handle of an optional tensor. */
export function handleOrNone(tensor: TensorLike | null, argument: string, operator: string): number {
  if (tensor === null) return NONE;
  const handle = (tensor as TensorLike | undefined)?.handle;
  if (typeof handle !== 'number') refuse('a tensor or null', tensor, argument, operator);
  return handle;
}

/** The handle of an optional generator. Its property has a name of its own, so that no tensor passes for a generator. */
export function generatorOrNone(
  generator: { readonly generatorHandle: number } | null,
  argument: string,
  operator: string,
): number {
  if (generator === null) return NONE;
  const handle = (generator as { readonly generatorHandle: number } | undefined)?.generatorHandle;
  if (typeof handle !== 'number') refuse('a generator or null', generator, argument, operator);
  return handle;
}

/** The code of an optional name. */
export function codeOrNull<T>(value: T | null, code: (value: T) => number): number | null {
  return value === null ? null : code(value);
}
