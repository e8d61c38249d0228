// Parsers of flag values. Each refuses an invalid value and says what was expected.
import { InvalidArgumentError, Option } from 'commander';
import type { z } from 'zod';
import { CACHE_TIERS, type CacheBudget, type CacheTier } from '../features/index.js';
import { recipeSchema } from '../recipe/index.js';
import { parseJson, TextFileError } from '../text-file.js';
import { UsageError } from './exit.js';

export function integer(minimum: number, maximum?: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < minimum || value > (maximum ?? value) || !Number.isSafeInteger(value)) {
      const range = maximum === undefined ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`;
      throw new InvalidArgumentError(`Expected an integer ${range}, got "${text}".`);
    }
    return value;
  };
}

/** An integer, as 4, or a list of them, as 2,1; a list of one has a comma at its end, as 2,. */
export function integerOrList(minimum: number): (text: string) => number | number[] {
  return (text) => {
    const parts = text.replace(/,$/, '').split(',');
    const values = parts.map(Number);
    const isOne = (part: string, i: number): boolean =>
      /^\d+$/.test(part) && values[i]! >= minimum && Number.isSafeInteger(values[i]);
    if (!parts.every(isOne)) {
      throw new InvalidArgumentError(
        `Expected an integer of at least ${minimum} such as 4, or a list of them such as 2,1, got "${text}".`,
      );
    }
    return text.includes(',') ? values : values[0]!;
  };
}

/** Pixels a side, as 32, or height x width, as 32x48. */
export function imageSize(minimum: number): (text: string) => number | [height: number, width: number] {
  return (text) => {
    const sides = text.split('x');
    const values = sides.map(Number);
    const isSide = (i: number): boolean =>
      /^\d+$/.test(sides[i]!) && values[i]! >= minimum && Number.isSafeInteger(values[i]);
    if (sides.length > 2 || !sides.every((_, i) => isSide(i))) {
      const atLeast = minimum > 1 ? ` of at least ${minimum}` : '';
      throw new InvalidArgumentError(
        `Expected pixels a side${atLeast} such as 64, or height x width such as 64x96, got "${text}".`,
      );
    }
    const [height, width] = values;
    return width === undefined ? height! : [height!, width];
  };
}

/** One of the numbers that a schema names. */
export function numberOf(values: readonly number[]): (text: string) => number {
  return (text) => {
    const value = values.find((one) => String(one) === text);
    if (value !== undefined) return value;
    throw new InvalidArgumentError(`Expected ${values.join(' or ')}, got "${text}".`);
  };
}

export function positiveNumber(text: string): number {
  const value = decimal(text);
  if (value > 0) return value;
  throw new InvalidArgumentError(`Expected a number above 0, got "${text}".`);
}

export function notNegativeNumber(text: string): number {
  const value = decimal(text);
  if (value >= 0) return value;
  throw new InvalidArgumentError(`Expected a number of at least 0, got "${text}".`);
}

/** A finite number without a sign; NaN for any other text. */
function decimal(text: string): number {
  const value = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
  return Number.isFinite(value) ? value : Number.NaN;
}

/** The content of a file that a flag names. Throws UsageError with the flag, the file and what is wrong with it. */
export async function readGiven<T>(flag: string, file: string, read: (file: string) => Promise<T>): Promise<T> {
  try {
    return await read(file);
  } catch (error) {
    throw error instanceof TextFileError ? new UsageError(`${flag}: ${error.message}`) : error;
  }
}

/** Refuses a missing value, for which the next flag would be taken, and an empty one, such as an unset shell variable. */
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

/** A JSON object, such as '{"depth": 32}'. */
export function jsonObject(text: string): Record<string, unknown> {
  const refuse = (problem: string): never => {
    const got = text.length > 200 ? `${text.slice(0, 200)}...` : text;
    throw new InvalidArgumentError(`Expected a JSON object such as '{"depth": 32}', got ${got}${problem}.`);
  };
  let value: unknown;
  try {
    value = parseJson(text, 'the value');
  } catch (error) {
    if (!(error instanceof TextFileError)) throw error;
    return refuse(`: ${error.message}`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  return refuse('');
}

export const device = textOf(recipeSchema.shape.device);

/** For the commands that open a finished run, like `precisionOption`. */
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

/** The flag of an option that commander calls `name`: `testLimit` is --test-limit. */
export const flagOf = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
