import { DATASET_NAMES, type DatasetName, datasetOf } from '../data/index.js';
import { MODEL_PRESETS, type ModelPresetOf, SCHEDULES } from '../models/index.js';
import { requireOptions } from '../options.js';
import { shown } from '../schema.js';
import { RecipeError } from './errors.js';
import type { Recipe } from './recipe.js';
import { ADAMW_BETAS, ADAMW_EPS, SGD_BESIDE_MUON } from './training-rules.js';

/** What is asked of a preset. */
export interface PresetOptions {
  /** Default: the preset's own. */
  readonly dataset?: DatasetName;
  /** Another variant in place of the preset's: `vgg11-layerwise` with vgg16 is `vgg16-layerwise`. */
  readonly model?: Recipe['model']['name'];
  /** In place of the preset's: `vgg11-layerwise` with end-to-end is `vgg11-end-to-end`. */
  readonly schedule?: Recipe['training']['schedule'];
  /** Whether the full network is affordable. */
  readonly onCuda: boolean;
}

const OPTIONS: readonly (keyof PresetOptions)[] = ['dataset', 'model', 'schedule', 'onCuda'];

/** The names that `presetRecipe` takes. */
export const presetNames: readonly string[] = MODEL_PRESETS.map(({ preset }) => preset.name);

const isOneOf = <T>(known: readonly T[], value: unknown): value is T => known.includes(value as T);

/**
 * The whole recipe of a preset, for its own data set or another. With another model or schedule it is the preset of these, with
 * its name, where there is one. Throws RecipeError for an unknown preset, data set, model or schedule.
 */
export function presetRecipe(preset: string, options: PresetOptions): Recipe {
  requireOptions(options, 'options', (problem) => new RecipeError(`presetRecipe: ${problem}`), OPTIONS);
  const named = MODEL_PRESETS.find((one) => one.preset.name === preset);
  if (named === undefined) return refuse('preset', presetNames, preset);
  const { dataset = named.preset.dataset, model, schedule, onCuda } = options;
  if (!isOneOf(DATASET_NAMES, dataset)) return refuse('dataset.name', DATASET_NAMES, dataset);
  if (schedule !== undefined && !isOneOf(SCHEDULES, schedule)) return refuse('training.schedule', SCHEDULES, schedule);
  const { names } = named.model;
  if (model !== undefined && !isOneOf(names, model))
    return refuse('model.name', names, model, ` for the preset ${preset}`);
  const { preset: found } = siblingOf(named, { model, schedule }) ?? named;
  // On images that the program draws and the CPU the networks are narrower, so that a run takes minutes.
  const isNarrow = datasetOf(dataset).source === 'program' && !onCuda;
  const recipe = protocolOf(dataset);
  return {
    preset: found.name,
    model: found.options({ dataset, isNarrow }),
    ...recipe,
    augmentation: { ...recipe.augmentation, ...structuredClone(found.augmentation) },
    training: { ...recipe.training, ...structuredClone(found.training), schedule: schedule ?? found.schedule },
  };
}

function refuse(key: string, expected: readonly string[], got: unknown, where = ''): never {
  const choice = expected.length === 1 ? expected[0] : `one of ${expected.join(', ')}`;
  throw new RecipeError(`${key}: expected ${choice}${where}, got ${shown(got)}`);
}

/** The preset of the same model with another variant or schedule, where there is one. */
function siblingOf(
  { model, preset }: ModelPresetOf,
  asked: Pick<PresetOptions, 'model' | 'schedule'>,
): ModelPresetOf | undefined {
  const variantOf = (one: ModelPresetOf): string =>
    one.preset.options({ dataset: preset.dataset, isNarrow: false }).name;
  const [variant, schedule] = [asked.model ?? variantOf({ model, preset }), asked.schedule ?? preset.schedule];
  if (asked.model === undefined && asked.schedule === undefined) return undefined;
  return MODEL_PRESETS.find(
    (one) => one.model === model && variantOf(one) === variant && one.preset.schedule === schedule,
  );
}

/** All of a recipe but its network, its name and its schedule. */
type Protocol = Omit<Recipe, 'preset' | 'model' | 'training'> & { training: Omit<Recipe['training'], 'schedule'> };

function protocolOf(name: DatasetName): Protocol {
  const { imageSize, testResize, augmentation, training, evaluation } = datasetOf(name).protocol;
  return {
    dataset: {
      ...{ name, dataDir: null, trainLimit: null, testLimit: null, imageSize, channels: 3, testResize },
      ...{ maxPixels: null, onBadImage: 'fail' },
    },
    augmentation: { ...augmentation, cropPaddingMode: 'zeros', sharedDraws: false, views: null },
    training: {
      ...{ blocks: null, optimizer: 'sgd', rateSchedule: 'multi-step', warmupEpochs: 0 },
      ...training,
      ...{ milestones: [...training.milestones], microBatchSize: null, labelSmoothing: 0, resetMomentumAtDrops: true },
      ...{ nesterov: false, betas: [...ADAMW_BETAS], eps: ADAMW_EPS, syncBatchNorm: 'auto', ...SGD_BESIDE_MUON },
    },
    evaluation: { ...evaluation },
    seed: 1,
    device: 'auto',
    // The paper trains VGG-11 on ImageNet in fp16 with a dynamic loss scale (`fp16` here), the others in fp32; bf16 needs no scale.
    precision: 'auto',
    threads: null,
  };
}
