// Run directories of earlier versions, whose files have names that have been replaced since.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { resolveRecipe } from '../../lib/cli/recipe.js';
import { TrainedRun } from '../../lib/finished/index.js';
import { overrideRecipe } from '../../lib/recipe/index.js';
import { renderReport } from '../../lib/report/index.js';
import { readRunRecord, recipeOfRun } from '../../lib/run/index.js';
import { resume, train } from '../../lib/training/index.js';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();
const recipe = smallRecipe({ augmentation: { sharedDraws: true } });

/** A copy of a run as an earlier version left it. */
function ofEarlier(name: string): string {
  const copy = at(`${name}-of-earlier`);
  cpSync(at(name), copy, { recursive: true });
  renameIn(join(copy, 'metrics.jsonl'), 'learningRate', 'lr');
  renameIn(join(copy, 'config.json'), 'sharedDraws', 'sameViewsForAllLayers');
  return copy;
}

function renameIn(file: string, name: string, earlier: string): void {
  const text = readFileSync(file, 'utf8');
  expect(text).toContain(`"${name}":`);
  writeFileSync(file, text.replaceAll(`"${name}":`, `"${earlier}":`));
}

beforeAll(() => train({ recipe, out: at('whole') }));

describe('a finished run of an earlier version', () => {
  let directory: string;
  beforeAll(() => {
    directory = ofEarlier('whole');
  });

  it('has the record, the recipe and the report of one with the names of today', async () => {
    const record = await readRunRecord(directory);
    expect(record).toEqual(await readRunRecord(at('whole')));
    expect(record.epochs.map(({ learningRate }) => learningRate)).toEqual([0.05, 0.05 * 0.2, 0.05, 0.05 * 0.2]);
    expect((await recipeOfRun(directory)).augmentation).toEqual(recipe.augmentation);
    expect(renderReport(record)).toBe(renderReport(await readRunRecord(at('whole'))));
  });

  it('is opened, and its config.json is taken by --config', async () => {
    using run = await TrainedRun.open(directory);
    expect(run.recipe.augmentation.sharedDraws).toBe(true);
    const { augmentation } = await resolveRecipe({ config: join(directory, 'config.json') } as object);
    expect(augmentation).toEqual(recipe.augmentation);
  });
});

it('a run that an earlier version began is resumed to the same bits, and has the names of today in all its lines', async () => {
  await startAndStop(
    { recipe, out: at('stopped') },
    (event) => event.type === 'step' && event.layer === 1 && event.epoch === 1 && event.step === 2,
  );
  const directory = ofEarlier('stopped');
  await resume(directory);
  expect(productOf(directory)).toEqual(productOf(at('whole')));
  expect(readFileSync(join(directory, 'metrics.jsonl'), 'utf8')).not.toContain('"lr"');
});

it('an earlier name in a recipe that is given is an unknown key', () => {
  expect(() => overrideRecipe(recipe, { augmentation: { sameViewsForAllLayers: true } })).toThrow(
    'unknown key augmentation.sameViewsForAllLayers',
  );
  const { sharedDraws, ...augmentation } = recipe.augmentation;
  const earlier = { ...recipe, augmentation: { ...augmentation, sameViewsForAllLayers: sharedDraws } };
  return expect(train({ recipe: earlier as never, out: at('refused') })).rejects.toThrow(
    'unknown key augmentation.sameViewsForAllLayers',
  );
});

it('an earlier name beside the new one is an unknown key of the recorded recipe', async () => {
  const directory = at('both');
  cpSync(at('whole'), directory, { recursive: true });
  const file = join(directory, 'config.json');
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace('"sharedDraws":', '"sameViewsForAllLayers": false, "sharedDraws":'));
  await expect(recipeOfRun(directory)).rejects.toThrow('unknown key augmentation.sameViewsForAllLayers');
});
