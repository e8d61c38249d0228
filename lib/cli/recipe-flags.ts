// The flags of a recipe's values, from its schema: those whose `meta` has a `flag`.
import { type Command, Option } from 'commander';
import { z } from 'zod';
import { recipeSchema } from '../recipe/index.js';
import {
  imageSize,
  integer,
  integerOrList,
  jsonObject,
  notNegativeNumber,
  numberOf,
  positiveNumber,
  textOf,
} from './options.js';

interface RecipeFlag {
  /** Where a recipe has the value, such as ['training', 'epochs']. */
  readonly path: readonly string[];
  readonly option: Option;
}

/** In the order of the schema; a value that several models have is one flag. */
function recipeFlags(): RecipeFlag[] {
  const flags = new Map<string, RecipeFlag>();
  const visit = (schema: z.core.$ZodType, path: readonly string[]): void => {
    const { flag, description, choices } = z.globalRegistry.get(schema) ?? {};
    if (typeof flag === 'string') {
      if (flags.has(flag)) return;
      const option = optionOf(flag, description ?? '', valueSchema(schema));
      flags.set(flag, { path, option: Array.isArray(choices) ? option.choices(choices.map(String)) : option });
    } else if (schema instanceof z.ZodObject) {
      for (const [name, part] of Object.entries(schema.shape)) visit(part, [...path, name]);
    } else if (schema instanceof z.ZodUnion) {
      for (const part of schema.options) visit(part, path);
    }
  };
  visit(recipeSchema, []);
  return [...flags.values()];
}

/** A schema without the wrappers that let a value be left out or null. */
function valueSchema(schema: z.core.$ZodType): z.core.$ZodType {
  const isWrapper =
    schema instanceof z.ZodNullable || schema instanceof z.ZodDefault || schema instanceof z.ZodOptional;
  return isWrapper ? valueSchema(schema.def.innerType) : schema;
}

/** The range of a number above 1 is left to the schema, whose message names the recipe's value. */
function optionOf(flag: string, description: string, schema: z.core.$ZodType): Option {
  const option = (value: string): Option => new Option(`--${flag} <${value}>`, description.replaceAll('`', ''));
  if (schema instanceof z.ZodEnum) return option('name').choices(schema.options.map(String));
  if (schema instanceof z.ZodNumber) {
    return schema.format === 'safeint'
      ? option('n').argParser(integer(Math.max(0, schema.minValue ?? 0)))
      : option('x').argParser(takesZero(schema) ? notNegativeNumber : positiveNumber);
  }
  if (schema instanceof z.ZodLiteral) return option('n').argParser(numberOf([...schema.values].map(Number)));
  // The two values of several types.
  if (flag === 'image-size') return option('n|hxw').argParser(imageSize(1));
  if (flag === 'blocks') return option('n|n,n').argParser(integerOrList(1));
  if (schema instanceof z.ZodRecord) return option('json').argParser(jsonObject);
  if (schema instanceof z.ZodString) return option(flag.endsWith('-dir') ? 'dir' : 'name').argParser(textOf(schema));
  throw new Error(
    `--${flag}: expected a number, a text or a choice for the value of a flag, got ${schema._zod.def.type}`,
  );
}

const takesZero = (schema: z.ZodNumber): boolean => schema.safeParse(0).success;

/** Gives a command the flags of all values that have one. */
export function addRecipeFlags(command: Command): Command {
  for (const { option } of recipeFlags()) command.addOption(option);
  return command;
}

/** Recipe values, nested as a recipe has them. */
export type RecipeValues = Readonly<Record<string, unknown>>;

/** The recipe values that a command's flags set. */
export function recipeValuesOf(flags: object): RecipeValues {
  const values: Record<string, unknown> = {};
  for (const { path, option } of recipeFlags()) {
    const value: unknown = Reflect.get(flags, option.attributeName());
    if (value === undefined) continue;
    let group: Record<string, unknown> = values;
    for (const name of path.slice(0, -1)) {
      group[name] ??= {};
      group = group[name] as Record<string, unknown>;
    }
    group[path.at(-1)!] = value;
  }
  return values;
}
