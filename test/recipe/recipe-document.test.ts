// docs/recipe.md has the keys, the values and the ranges that recipes have.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { overrideRecipe, presetRecipe, type Recipe } from '../../lib/recipe/index.js';
import { recipeSchema } from '../../lib/recipe/recipe.js';

interface Row {
  readonly key: string;
  readonly values: string;
  readonly defaults: readonly string[];
}

const DATASETS = ['shapes', 'cifar10', 'imagenet'] as const;

const [shared, vgg, simcnn] = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'recipe.md'), 'utf8')
  .split(/^## /m)
  .map((section): Row[] =>
    section
      .split('\n')
      .map((line) => line.split('|').map((cell) => cell.trim()))
      .filter(([, key]) => key?.startsWith('`'))
      .map(([, key, values, ...rest]) => ({
        ...{ key: bare(key!), values: values! },
        defaults: rest.slice(0, DATASETS.length).map(bare),
      })),
  ) as [Row[], Row[], Row[]];

function bare(cell: string): string {
  return cell.replaceAll('`', '');
}

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly oneOf?: readonly JsonSchema[];
}

const keysOf = ({ properties }: JsonSchema, prefix = ''): string[] =>
  Object.entries(properties ?? {}).flatMap(([name, part]) =>
    part.properties === undefined ? [prefix + name] : keysOf(part, `${prefix}${name}.`),
  );

const schema = z.toJSONSchema(recipeSchema, { io: 'input' }) as JsonSchema;
const FILLED_IN = ['dataset.title', 'dataset.trainCount', 'dataset.testCount'];

describe('docs/recipe.md', () => {
  it('has every key, and no other', () => {
    const keys = keysOf(schema).filter((key) => key !== 'model' && !FILLED_IN.includes(key));
    expect(shared.map(({ key }) => key).sort()).toEqual(keys.sort());
    for (const [i, rows] of [vgg, simcnn].entries()) {
      const own = keysOf(schema.properties!.model!.oneOf![i]!, 'model.');
      expect(rows.map(({ key }) => key).sort()).toEqual(own.sort());
    }
  });

  const valueAt = (recipe: Recipe, key: string): unknown =>
    key.split('.').reduce<unknown>((part, name) => (part as Record<string, unknown>)[name], recipe);

  it.each(
    DATASETS.flatMap((dataset, column) => [
      ['vgg11-layerwise', dataset, column, [...shared, ...vgg]] as const,
      ['vgg16-end-to-end', dataset, column, shared] as const,
      ['simcnn-k3', dataset, column, [...shared, ...simcnn]] as const,
      ['simcnn-k1', dataset, column, shared] as const,
    ]),
  )('has the values of %s for %s', (preset, dataset, column, rows) => {
    const recipe = presetRecipe(preset, { dataset, onCuda: false });
    for (const { key, defaults } of rows) {
      if (defaults[column] !== '') expect(JSON.stringify(valueAt(recipe, key)), key).toBe(defaults[column]);
    }
  });

  it('has the range of every whole number', () => {
    const rangesOf = (rows: readonly Row[], preset: string): void => {
      const recipe = presetRecipe(preset, { dataset: 'imagenet', onCuda: false });
      let ranges = 0;
      for (const { key, values } of rows) {
        const [, least, most] = /^([\d,]+) to ([\d,]+)(, null)?$/.exec(values) ?? [];
        if (least === undefined) continue;
        const withValue = (value: number): unknown => {
          const nested = key.split('.').reduceRight<unknown>((inner, name) => ({ [name]: inner }), value);
          return valueAt(overrideRecipe(recipe, nested), key);
        };
        const [from, to] = [least, most!].map((text) => Number(text.replaceAll(',', ''))) as [number, number];
        expect(withValue(from), key).toBe(from);
        expect(() => withValue(from - 1), key).toThrow(key);
        // Padding is less than the image, too.
        if (key !== 'augmentation.cropPadding') expect(withValue(to), key).toBe(to);
        expect(() => withValue(to + 1), key).toThrow(key);
        ranges++;
      }
      expect(ranges).toBeGreaterThan(1);
    };
    rangesOf([...shared, ...vgg], 'vgg11-layerwise');
    rangesOf(simcnn, 'simcnn-k3');
  });
});
