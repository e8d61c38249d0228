// Values of flags: each parser refuses what it cannot be, with what was expected.
import { InvalidArgumentError, Option } from 'commander';
import type { z } from 'zod';
import { CACHE_TIERS, type CacheBudget, type CacheTier } from '../features/index.js';
import { recipeSchema } from '../recipe/index.js';
import { TextFileError } from '../text-file.js';
import { UsageError } from './exit.js';

export function integer(minimum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < minimum || !Number.isSafeInteger(value)) {
      throw new InvalidArgumentError(`Expected an integer of at least ${minimum}, got "${text}".`);
    }
    return value;
  };
}

export function positiveNumber(text: string): number {
  const value = Number(text);
  if (!/^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) || !(value > 0) || !Number.isFinite(value)) {
    throw new InvalidArgumentError(`Expected a number above 0, got "${text}".`);
  }
  return value;
}

/** What a file that a flag names holds. Throws UsageError with the flag, the file and what is wrong with it. */
export async function readGiven<T>(flag: string, file: string, read: (file: string) => Promise<T>): Promise<T> {
  try {
    return await read(file);
  } catch (error) {
    throw error instanceof TextFileError ? new UsageError(`${flag}: ${error.message}`) : error;
  }
}

/** A value that is left out is not the flag behind it; an empty one, as of an unset variable of a shell, is none. */
export function refuseMissingValue(option: Option): void {
  if (!option.required) return;
  const { parseArg } = option;
  option.argParser((text: string, previous: unknown) => {
    if (text.startsWith('--')) throw new InvalidArgumentError(`Expected a value, got the flag ${text}.`);
    if (text === '') throw new InvalidArgumentError('Expected a value, got an empty one.');
    return parseArg === undefined ? text : parseArg(text, previous);
  });
}

/** A text that a schema checks, such as a value of a recipe. */
export function textOf(schema: z.ZodString): (text: string) => string {
  return (text) => {
    const { success, error } = schema.safeParse(text);
    if (success) return text;
    const expected = error.issues[0]!.message;
    throw new InvalidArgumentError(`${expected[0]!.toUpperCase()}${expected.slice(1)}, got "${text}".`);
  };
}

export const device = textOf(recipeSchema.shape.device);

/** Of the commands that open a finished run, as is `precisionOption`. */
export const deviceOption = (): Option =>
  new Option('--device <name>', "auto, cpu, cuda or cuda:N (default: the run's own, where it is there)").argParser(
    device,
  );

export const precisionOption = (): Option =>
  new Option('--precision <name>', "auto, fp32, bf16 or fp16 (default: the run's own)").choices(
    recipeSchema.shape.precision.options,
  );

/** A million: a pebibyte. Beyond it bytes are no exact number. */
const MAX_GIB = 2 ** 20;

/** Bytes by tier, of GiB such as device=8,host=16,disk=100. */
export function cacheBudget(text: string): Partial<CacheBudget> | 'none' {
  if (text === 'none') return text;
  const refuse = (): never => {
    throw new InvalidArgumentError(`Expected none, or GiB such as ${CACHE_TIERS.join('=8,')}=8, got "${text}".`);
  };
  const budget: Partial<Record<CacheTier, number>> = {};
  for (const part of text.split(',')) {
    const [, name, gib] = /^(\w+)=(\d+(?:\.\d+)?)$/.exec(part.trim()) ?? refuse();
    const tier = CACHE_TIERS.find((one) => one === name) ?? refuse();
    if (budget[tier] !== undefined || Number(gib) > MAX_GIB) refuse();
    budget[tier] = Number(gib) * 2 ** 30;
  }
  return budget;
}
