import type { Module } from './module.js';
import { Sequential } from './sequential.js';
import { isExactly, traitsOf } from './traits.js';

/** Whether a module is no more than its modules one after another: a Sequential itself, whose forward pass is its class's. */
export const isSequential = (module: Module): module is Sequential => isExactly(module, Sequential);

/**
 * Whether a module always computes the same function: it has no parameters or buffers, draws nothing, and is the same in training
 * and in evaluation. A module with a forward pass of its own says so by `isFixed`.
 */
export function isFixed(module: Module): boolean {
  if (module.stateDict().size > 0) return false;
  const isItself = traitsOf(module)?.fixed ?? module.isFixed;
  return isItself && [...module.children.values()].every(isFixed);
}
