import { types } from 'node:util';
import { TensorError } from './errors.js';
import { native } from './native.js';
import type { Tensor } from './tensor.js';

let tensorTest: (value: object) => boolean = () => false;

/** @internal Tells this module how to know a tensor, without importing its class. */
export function setTensorTest(test: (value: object) => boolean): void {
  tensorTest = test;
}

/** Whether a value of any kind is a tensor. */
export const isTensor = (value: unknown): value is Tensor =>
  typeof value === 'object' && value !== null && tensorTest(value);

/**
 * The tensors made in the innermost running scope, or null outside every scope. A scope runs synchronously, so this
 * is a plain stack, one for each Node environment (each worker has a module instance of its own).
 */
let current: Tensor[] | null = null;

/** Frees native memory of tensors that escaped every scope and were then forgotten: a backstop, not the plan. */
const forgotten = new FinalizationRegistry<number>((handle) => {
  native.unwatch(handle);
  native.dispose(handle);
});

const escaped = new WeakSet<Tensor>();

/** Called for every new tensor. */
export function register(tensor: Tensor): void {
  if (current === null) watch(tensor);
  else current.push(tensor);
}

/** V8 hears of the memory, so that it looks for garbage in time; that of a storage once, whatever views there are. */
function watch(tensor: Tensor): void {
  if (escaped.has(tensor)) return;
  native.watch(tensor.handle);
  escaped.add(tensor);
  forgotten.register(tensor, tensor.handle, tensor);
}

/** Called when a tensor is disposed, before its handle is given back. */
export function unregister(tensor: Tensor): void {
  if (!escaped.delete(tensor)) return;
  forgotten.unregister(tensor);
  native.unwatch(tensor.handle);
}

/** Exchanges a tensor's native handle for another, by `exchange`. */
export function exchanging(tensor: Tensor, exchange: () => void): void {
  const wasEscaped = escaped.has(tensor);
  unregister(tensor);
  exchange();
  if (wasEscaped) watch(tensor);
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

/** The tensors in a value made of arrays, plain objects, maps and sets, however deep. */
function tensorsIn(value: unknown): Set<Tensor> {
  const found = new Set<Tensor>();
  const seen = new Set<object>();
  const waiting: unknown[] = [value];
  while (waiting.length > 0) {
    const next = waiting.pop();
    if (typeof next !== 'object' || next === null || seen.has(next)) continue;
    seen.add(next);
    if (isTensor(next)) found.add(next);
    else for (const part of partsOf(next)) waiting.push(part);
  }
  return found;
}

/** Of any realm: a vm context, a test runner's. */
function partsOf(value: object): Iterable<unknown> {
  if (Array.isArray(value)) return value;
  if (types.isSet(value)) return Set.prototype.values.call(value);
  if (types.isMap(value)) return Map.prototype.values.call(value);
  return isPlainObject(value) ? Object.values(value) : [];
}

/** Whether nothing stands above it but a realm's Object.prototype, which has a constructor of its own and nothing above it. */
function isPlainObject(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return true;
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype as object, 'hasOwnProperty');
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
  let returned: ReadonlySet<Tensor>;
  try {
    result = body();
    requireSynchronous('scope', result, '; open a scope in each synchronous part');
    // Reading the result can run the caller's code, a getter, which may throw or make tensors: it is part of the scope.
    returned = tensorsIn(result);
  } catch (error) {
    current = outer;
    free(mine, NOTHING);
    throw error;
  }
  current = outer;
  free(mine, returned);
  return result;
}

const NOTHING: ReadonlySet<Tensor> = new Set();

/** Frees tensors of a scope that has ended in one native call; those `returned` go to the scope around it. */
function free(tensors: readonly Tensor[], returned: ReadonlySet<Tensor>): void {
  const handles = new Int32Array(tensors.length);
  let count = 0;
  for (const tensor of tensors) {
    if (kept.has(tensor) || tensor.isDisposed) continue;
    if (returned.size > 0 && returned.has(tensor)) register(tensor);
    else handles[count++] = tensor.release();
  }
  if (count > 0) native.disposeAll(handles, count);
}

/** Whether the innermost running scope will free this tensor: it was made there, or returned to there. */
export const isOwnedHere = (tensor: Tensor): boolean => current?.includes(tensor) === true && !kept.has(tensor);

/** Throws TensorError for the result of an asynchronous function, whose rest would run after its caller has ended. */
export function requireSynchronous(operator: string, result: unknown, mend = ''): void {
  if (typeof (result as { then?: unknown } | null | undefined)?.then !== 'function') return;
  throw new TensorError({
    code: 'INVALID_ARGUMENT',
    operator,
    message: `expected a synchronous function, got one that returns a promise${mend}`,
  });
}
