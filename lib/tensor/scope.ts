import { TensorError } from './errors.js';
import { native } from './native.js';
import type { Tensor } from './tensor.js';

/**
 * The tensors made in the innermost running scope, or null outside every scope. A scope runs synchronously, so this
 * is a plain stack, one for each Node environment (each worker has a module instance of its own).
 */
let current: Tensor[] | null = null;

/** Frees native memory of tensors that escaped every scope and were then forgotten: a backstop, not the plan. */
const forgotten = new FinalizationRegistry<{ handle: number; bytes: number }>(({ handle, bytes }) => {
  native.dispose(handle);
  native.adjustExternalMemory(-bytes);
});

interface Escaped {
  bytes: number;
}
const escaped = new WeakMap<Tensor, Escaped>();

/** Called for every new tensor. */
export function register(tensor: Tensor): void {
  if (current === null) watch(tensor);
  else current.push(tensor);
}

function watch(tensor: Tensor): void {
  if (escaped.has(tensor)) return;
  const bytes = native.byteLength(tensor.handle);
  native.adjustExternalMemory(bytes);
  escaped.set(tensor, { bytes });
  forgotten.register(tensor, { handle: tensor.handle, bytes }, tensor);
}

/** Called when a tensor is disposed, before its handle is given back. */
export function unregister(tensor: Tensor): void {
  const entry = escaped.get(tensor);
  if (entry === undefined) return;
  forgotten.unregister(tensor);
  native.adjustExternalMemory(-entry.bytes);
  escaped.delete(tensor);
}

/** Called when a tensor's native handle was exchanged for another. */
export function rewatch(tensor: Tensor): void {
  if (!escaped.has(tensor)) return;
  unregister(tensor);
  watch(tensor);
}

const kept = new WeakSet<Tensor>();

/**
 * Takes a tensor out of every running scope: it lives until it is disposed (or garbage collected).
 * Returns the tensor.
 */
export function keep<T extends Tensor>(tensor: T): T {
  kept.add(tensor);
  watch(tensor);
  return tensor;
}

/** Collects the tensors in a value made of arrays, plain objects, maps and sets. */
function collectTensors(
  value: unknown,
  isTensor: (v: object) => v is Tensor,
  found: Set<Tensor>,
  seen: Set<object>,
): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return;
  if (isTensor(value)) {
    found.add(value);
    return;
  }
  seen.add(value);
  if (Array.isArray(value) || value instanceof Set) {
    for (const element of value) collectTensors(element, isTensor, found, seen);
  } else if (value instanceof Map) {
    for (const element of value.values()) collectTensors(element, isTensor, found, seen);
  } else if (Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null) {
    for (const element of Object.values(value)) collectTensors(element, isTensor, found, seen);
  }
}

let isTensor: (value: object) => value is Tensor = (_value): _value is Tensor => false;

/** @internal Tells this module how to know a tensor, without importing its class. */
export function setTensorTest(test: (value: object) => value is Tensor): void {
  isTensor = test;
}

/**
 * Runs `body` and frees every tensor made in it, except those it returns (alone, or inside arrays, plain objects, maps
 * and sets) and those given to `keep`. On a throw everything is freed. Scopes nest: what an inner scope returns belongs
 * to the outer one. `body` must be synchronous: a promise is refused, because other code would run inside the scope.
 */
export function scope<T>(body: () => T): T {
  const outer = current;
  const mine: Tensor[] = [];
  current = mine;
  let result: T;
  try {
    result = body();
    if (typeof (result as { then?: unknown } | null | undefined)?.then === 'function') {
      throw new TensorError({
        code: 'INVALID_ARGUMENT',
        operator: 'scope',
        message:
          'expected a synchronous function, got one that returns a promise; open a scope in each synchronous part',
      });
    }
  } catch (error) {
    current = outer;
    disposeAll(mine, null);
    throw error;
  }
  current = outer;
  const returned = new Set<Tensor>();
  collectTensors(result, isTensor, returned, new Set());
  disposeAll(mine, returned);
  for (const tensor of returned) {
    // A tensor that was there before the scope, or is kept, stays where it belongs.
    if (!tensor.isDisposed && !kept.has(tensor) && mine.includes(tensor)) register(tensor);
  }
  return result;
}

function disposeAll(tensors: readonly Tensor[], except: ReadonlySet<Tensor> | null): void {
  for (const tensor of tensors) {
    if (kept.has(tensor) || except?.has(tensor)) continue;
    tensor.dispose();
  }
}
