import { requireOptions } from '../options.js';
import { TensorError } from './errors.js';
import { isTensor } from './scope.js';
import type { Tensor } from './tensor.js';

/** The handle that stands for "no tensor" in an optional argument. */
export const NONE = 0;

/** The handle of a disposed tensor: the native side knows no tensor by it. */
export const DISPOSED = -1;

/** Sizes and axes of one argument: more than any tensor has dimensions, with two values each. */
const MOST_INTEGERS = 128;

function refuse(expected: string, got: unknown, argument: string, operator: string): never {
  const kind = got === null ? 'null' : typeof got === 'object' ? 'an object' : typeof got;
  throw new TensorError({
    code: 'INVALID_ARGUMENT',
    operator,
    message: `expected ${expected} for ${argument}, got ${kind}`,
  });
}

function handleIn(tensor: unknown, expected: string, argument: string, operator: string): number {
  if (!isTensor(tensor)) refuse(expected, tensor, argument, operator);
  return tensor.handle;
}

/** The handle of a tensor. Callers without types may pass anything: what is no tensor is refused by its argument's name. */
export function handleOf(tensor: Tensor, argument: string, operator: string): number {
  return handleIn(tensor, 'a tensor', argument, operator);
}

/** Refuses options that are no object, or a tensor, by the name that the caller knows them by, and options that are not `known`. */
export function checkOptions<Options extends object>(
  options: Options,
  operator: string,
  known: readonly (keyof Options & string)[],
  name = 'options',
): void {
  if (isTensor(options)) refuseText(`expected an object for ${name}, got a tensor`, operator);
  requireOptions(options, name, (message) => new TensorError({ code: 'INVALID_ARGUMENT', operator, message }), known);
}

/** A copy of a list of tensors: reading an element can run the caller's code (a getter). */
export function tensorsOf(tensors: readonly Tensor[], argument: string, operator: string): readonly Tensor[] {
  if (!Array.isArray(tensors)) refuse('an array of tensors', tensors, argument, operator);
  const copy: Tensor[] = [];
  for (let i = 0; i < tensors.length; i++) {
    const tensor: unknown = tensors[i];
    if (!isTensor(tensor)) refuse('a tensor', tensor, `${argument}[${i}]`, operator);
    copy.push(tensor);
  }
  return copy;
}

/** The handles of tensors that `tensorsOf` gave, as the native side takes them. */
export function handlesOf(tensors: readonly Tensor[]): Int32Array {
  const handles = new Int32Array(tensors.length);
  for (let i = 0; i < handles.length; i++) handles[i] = tensors[i]!.handle;
  return handles;
}

/** The handle of an optional tensor. */
export function handleOrNone(tensor: Tensor | null, argument: string, operator: string): number {
  return tensor === null ? NONE : handleIn(tensor, 'a tensor or null', argument, operator);
}

/** The handle of an optional generator. Its property has a name of its own, so that no tensor passes for a generator. */
export function generatorOrNone(
  generator: { readonly generatorHandle: number } | null,
  argument: string,
  operator: string,
): number {
  if (generator === null) return NONE;
  const handle = (generator as { readonly generatorHandle: number } | undefined)?.generatorHandle;
  if (!Number.isInteger(handle) || handle === NONE) refuse('a generator or null', generator, argument, operator);
  return handle as number;
}

/**
 * A list of integers, as the native side takes it: a copy, since reading an element can run the caller's code (a getter),
 * which must not happen in the middle of a native call.
 */
export function integersOf(list: readonly number[], argument: string, operator: string): Float64Array {
  if (!Array.isArray(list)) {
    if (typeof list === 'number') refuseText(`expected an array of integers for ${argument}, got ${list}`, operator);
    refuse('an array of integers', list, argument, operator);
  }
  if (list.length > MOST_INTEGERS) {
    refuseText(`expected at most ${MOST_INTEGERS} integers for ${argument}, got ${list.length}`, operator);
  }
  const copy = new Float64Array(list.length);
  for (let i = 0; i < copy.length; i++) {
    const value: unknown = list[i];
    if (!Number.isSafeInteger(value)) {
      const got = typeof value === 'number' ? String(value) : value === null ? 'null' : typeof value;
      refuseText(`expected an integer for ${argument}[${i}], got ${got}`, operator);
    }
    copy[i] = value as number;
  }
  return copy;
}

/** An optional list of integers. */
export function integersOrNull(
  list: readonly number[] | null,
  argument: string,
  operator: string,
): Float64Array | null {
  return list === null ? null : integersOf(list, argument, operator);
}

/** One integer, which the native side checks, or a list of them. */
export function numberOrIntegers(
  value: number | readonly number[],
  argument: string,
  operator: string,
): number | Float64Array {
  return Array.isArray(value) ? integersOf(value, argument, operator) : (value as number);
}

function refuseText(message: string, operator: string): never {
  throw new TensorError({ code: 'INVALID_ARGUMENT', operator, message });
}

/** The code of an optional name. */
export function codeOrNull<T>(value: T | null, code: (value: T) => number): number | null {
  return value === null ? null : code(value);
}
