// What the public types promise. The compiler checks this file (`npm run typecheck`); a value of another type fails there.
import { expect, expectTypeOf, test } from 'vitest';
import {
  type DataError,
  type LayerwiseError,
  type Module,
  type Network,
  presetRecipe,
  type Recipe,
  type RunEvaluation,
  Sequential,
  scope,
  type Tensor,
  TrainedRun,
  type TrainingEvent,
  type TrainingJob,
  type TrainingOutcome,
  tensor,
  train,
} from '../lib/index.js';

test('a recipe is made of names that there are', () => {
  const recipe = presetRecipe('vgg11-layerwise', { dataset: 'shapes', onCuda: false });
  expectTypeOf(recipe).toEqualTypeOf<Recipe>();
  expectTypeOf(recipe.training.epochs).toEqualTypeOf<number>();
  // @ts-expect-error: no such data set
  expect(() => presetRecipe('vgg11-layerwise', { dataset: 'mnist', onCuda: false })).toThrow();
});

test('training takes a recipe, tells events by type, and gives a result', () => {
  expectTypeOf(train).parameter(0).toHaveProperty('recipe');
  expectTypeOf(train).returns.resolves.toEqualTypeOf<TrainingOutcome>();
  expectTypeOf<TrainingOutcome['result']['layers'][number]['testTop1']>().toEqualTypeOf<number | null>();
  expectTypeOf<Extract<TrainingEvent, { type: 'epoch' }>['epoch']>().toEqualTypeOf<number>();
  type NoEvent = Extract<TrainingEvent, { type: 'no such event' }>;
  expectTypeOf<NoEvent>().toEqualTypeOf<never>();
  expectTypeOf<{ signal: number }>().not.toExtend<Parameters<typeof train>[0]>();
});

test('a job takes what can be cloned, and modules by URL alone', () => {
  type Options = Parameters<typeof TrainingJob.train>[0];
  expectTypeOf<{ recipe: Recipe; network: URL }>().toExtend<Options>();
  expectTypeOf<{ recipe: Recipe; network: () => Network }>().not.toExtend<Options>();
  expectTypeOf<TrainingJob['outcome']>().resolves.toEqualTypeOf<TrainingOutcome>();
});

test('a finished run is opened and evaluated', () => {
  expectTypeOf(TrainedRun.open).returns.resolves.toEqualTypeOf<TrainedRun>();
  expectTypeOf<TrainedRun['evaluate']>().returns.resolves.toEqualTypeOf<RunEvaluation>();
  expectTypeOf<Parameters<TrainedRun['evaluate']>[1]>().toEqualTypeOf<number | 'ensemble'>();
});

test('tensors are typed, and scopes give what their function gives', () => {
  const shape = scope(() => {
    const sum = tensor([1, 2, 3]).add(1);
    expectTypeOf(sum).toEqualTypeOf<Tensor>();
    return sum.shape;
  });
  expectTypeOf(shape).toEqualTypeOf<readonly number[]>();
  expect(shape).toEqual([3]);
  // @ts-expect-error: the dtype is called float32
  expect(() => tensor([1], { dtype: 'float' })).toThrow();
  expectTypeOf(Sequential).instance.toExtend<Module>();
});

test('errors have a code, of those of their class', () => {
  expectTypeOf<DataError>().toExtend<LayerwiseError>();
  expectTypeOf<LayerwiseError['code']>().toEqualTypeOf<string>();
  expectTypeOf<DataError['code']>().not.toBeAny();
  expectTypeOf<'NO_SUCH_CODE'>().not.toExtend<DataError['code']>();
});
