// What the options of layers are checked by. Names, what was expected and what came are in each error.
import { requireOptions } from '../options.js';
import { ModuleError } from './errors.js';

/** One number for both dimensions, or [height, width]. */
export type Pair = number | readonly [height: number, width: number];

/** Throws ModuleError for options that are no object, or not `known`. */
export function optionsOf<T extends object>(layer: string, options: T, known: readonly (keyof T & string)[]): T {
  requireOptions(options, 'options', (problem) => new ModuleError(`${layer}: ${problem}`), known);
  return options;
}

export function refuse(layer: string, expected: string, name: string, got: unknown): never {
  const shown = Array.isArray(got) ? `[${got.join(', ')}]` : String(got);
  throw new ModuleError(`${layer}: expected ${expected} for ${name}, got ${shown}`);
}

export function checkSizes(layer: string, sizes: Record<string, number>, least = 1): void {
  for (const [name, size] of Object.entries(sizes)) {
    if (!Number.isInteger(size) || size < least) refuse(layer, `an integer of at least ${least}`, name, size);
  }
}

export function checkNotNegative(layer: string, numbers: Record<string, number>): void {
  for (const [name, value] of Object.entries(numbers)) {
    if (!Number.isFinite(value) || value < 0) refuse(layer, 'a number of at least 0', name, value);
  }
}

export function checkBooleans(layer: string, values: Record<string, boolean>): void {
  for (const [name, value] of Object.entries(values)) {
    if (typeof value !== 'boolean') refuse(layer, 'a boolean', name, value);
  }
}

/** Sizes of height and width: one integer, or two. */
export function checkPairs(layer: string, pairs: Record<string, Pair>, least = 1): void {
  for (const [name, pair] of Object.entries(pairs)) {
    if (!Array.isArray(pair)) checkSizes(layer, { [name]: pair as number }, least);
    else if (pair.length !== 2) refuse(layer, 'one integer or [height, width]', name, pair);
    else checkSizes(layer, { [`${name}[0]`]: pair[0]!, [`${name}[1]`]: pair[1]! }, least);
  }
}

/** [height, width]; of a checked pair. */
export const bothOf = (pair: Pair): readonly [height: number, width: number] =>
  typeof pair === 'number' ? [pair, pair] : pair;
