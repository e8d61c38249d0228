// Writes docs/recipe.md from the schema of recipes, as it is compiled in dist/: node scripts/recipe-document.mjs

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { MODEL_PRESETS } from '../dist/models/index.js';
import { presetRecipe, recipeSchema } from '../dist/recipe/index.js';
import { isMain } from './support/main.mjs';
import { root } from './support/paths.mjs';

/** @import { Recipe } from '../dist/recipe/index.js' */
/** @typedef {{ key: string, values: string, meaning: string, path: string[], flag: string }} Row */

/** The data sets whose values are shown. */
const COLUMNS = /** @type {const} */ (['shapes', 'cifar10', 'imagenet']);
const FILLED_IN = ['dataset.title', 'dataset.inputShape', 'dataset.trainCount', 'dataset.testCount'];
/** These are in a preset's name. */
const WITHOUT_DEFAULT = ['preset', 'training.schedule'];

/** The whole document. */
export function recipeDocument() {
  const { model, ...shared } = recipeSchema.shape;
  const sections = model.options.map((option) => {
    const { family, preset } = exampleOf(option);
    return [
      `## \`model\` of a ${family}`,
      '',
      `Values of \`${preset}\`; where there is a GPU, \`shapes\` has the widths of \`cifar10\`.`,
      '',
      ...tableOf(rowsOf(option, ['model']), preset),
      '',
    ];
  });
  return [
    '# The recipe',
    '',
    "All that decides a run's result, but for the machine. `--config FILE` takes a JSON file with any of these keys, nested as their",
    'names are: `{"training": {"learningRate": 0.02}, "threads": 2}`. What the file leaves out keeps the preset\'s value. Those that',
    'have a flag can be given on the command line, which comes before the file. A run records its whole recipe in `config.json`,',
    'under `recipe`.',
    '',
    'The columns of data sets are the values of `vgg11-layerwise`; `folder` has those of `cifar10`. Other presets of a data set share',
    "them, but for `training.schedule`, which is in the preset's name, and for what is listed below the table.",
    '',
    ...tableOf(rowsOf(z.strictObject(shared), []), 'vgg11-layerwise'),
    '',
    `${FILLED_IN.map((key) => `\`${key}\``).join(', ')} are filled in when the data is loaded.`,
    '',
    ...presetsWithValuesOfTheirOwn(),
    '',
    'An image file is scaled until it just covers height and width of `dataset.imageSize`, and what is beyond them is cut off on both',
    'sides alike. In evaluation `dataset.testResize`, R, comes first: the image is scaled until it covers the rectangle of the same',
    'proportions whose shorter side is R, and height x width are cut out of its centre. With equal sides that is the usual: the shorter',
    'side of the image becomes R. A random resized crop is scaled to height and width, each by itself. Grey, `dataset.channels` 1, is',
    'the luma of ITU-R BT.601, as of Pillow and torchvision; images of a folder are then normalised with mean and deviation of the training images.',
    '',
    ...sections.flat(),
  ].join('\n');
}

/** A line for each preset that has values of its own. */
function presetsWithValuesOfTheirOwn() {
  return MODEL_PRESETS.flatMap(({ preset: { name, augmentation, training } }) => {
    const own = Object.entries({ augmentation, training }).flatMap(([group, values = {}]) =>
      Object.entries(values).map(([key, value]) => `\`${group}.${key}\` \`${JSON.stringify(value)}\``),
    );
    return own.length === 0 ? [] : [`- \`${name}\`, whatever the data set: ${own.join(', ')}.`];
  });
}

/** The last preset that trains the first variant of a model layer by layer. @param {z.ZodObject} option */
function exampleOf(option) {
  const { name } = option.shape;
  const [first] = name instanceof z.ZodEnum ? name.options : name instanceof z.ZodLiteral ? [...name.values] : [];
  const presets = MODEL_PRESETS.filter(
    ({ preset }) =>
      preset.schedule === 'layerwise' && preset.options({ dataset: preset.dataset, isNarrow: false }).name === first,
  );
  const example = presets.at(-1);
  if (example === undefined) throw new Error(`expected a layerwise preset of ${first}, got none`);
  return { family: example.model.family, preset: example.preset.name };
}

/** @param {z.ZodObject} schema @param {string[]} path @returns {Row[]} */
function rowsOf(schema, path) {
  return Object.entries(schema.shape).flatMap(([name, part]) => {
    const at = [...path, name];
    const key = at.join('.');
    if (FILLED_IN.includes(key)) return [];
    const { description = '', values, flag } = z.globalRegistry.get(part) ?? {};
    if (part instanceof z.ZodObject && values === undefined) return rowsOf(part, at);
    const text = typeof values === 'string' ? values : valuesOf(part);
    return [{ key, values: text, meaning: description, path: at, flag: flag === undefined ? '' : `\`--${flag}\`` }];
  });
}

/** @param {z.core.$ZodType} schema @returns {string} */
function valuesOf(schema) {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodOptional) return valuesOf(schema.def.innerType);
  if (schema instanceof z.ZodNullable) return `${valuesOf(schema.def.innerType)}, null`;
  if (schema instanceof z.ZodEnum || schema instanceof z.ZodLiteral) {
    const options = schema instanceof z.ZodEnum ? schema.options : [...schema.values];
    return options.map((option) => `\`${option}\``).join(', ');
  }
  if (schema instanceof z.ZodBoolean) return 'true, false';
  if (schema instanceof z.ZodNumber) return rangeOf(schema);
  throw new Error(`expected \`values\` in the meta of a ${schema._zod.def.type}`);
}

/** @param {z.ZodNumber} schema */
function rangeOf(schema) {
  const { minimum, exclusiveMinimum, maximum, exclusiveMaximum } = z.toJSONSchema(schema);
  const shown = (/** @type {number} */ value) => value.toLocaleString('en-US');
  if (schema.format === 'safeint') return `${shown(minimum ?? 0)} to ${shown(maximum ?? Number.MAX_SAFE_INTEGER)}`;
  const from = exclusiveMinimum === undefined ? `from ${minimum}` : `more than ${exclusiveMinimum}`;
  const to = exclusiveMaximum === undefined ? maximum : exclusiveMaximum;
  return to === undefined ? from : `${from}, ${exclusiveMaximum === undefined ? 'at most' : 'less than'} ${to}`;
}

/** @param {Row[]} rows @param {string} preset */
function tableOf(rows, preset) {
  const recipes = COLUMNS.map((dataset) => presetRecipe(preset, { dataset, onCuda: false }));
  const cells = rows.map(({ key, values, meaning, path, flag }) => [
    `\`${key}\``,
    values,
    ...recipes.map((recipe) => {
      const value = WITHOUT_DEFAULT.includes(key) ? undefined : JSON.stringify(valueAt(recipe, path));
      return value === undefined ? '' : `\`${value}\``;
    }),
    flag,
    meaning,
  ]);
  const all = [['key', 'values', ...COLUMNS, 'flag', 'meaning'], ...cells];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length))) ?? [];
  const line = (/** @type {string[]} */ row) => `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`;
  const [head = [], ...body] = all;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)];
}

/** @param {Recipe} recipe @param {string[]} path @returns {unknown} */
function valueAt(recipe, path) {
  return path.reduce(
    (/** @type {unknown} */ part, name) =>
      typeof part === 'object' && part !== null ? Reflect.get(part, name) : undefined,
    recipe,
  );
}

if (isMain(import.meta.url)) writeFileSync(join(root, 'docs', 'recipe.md'), recipeDocument());
