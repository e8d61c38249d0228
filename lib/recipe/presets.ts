import { DATASET_NAMES, type DatasetName } from '../data/index.js';
import { VGG_NAMES, type VggName, vggLayerCount } from '../models/index.js';
import { RecipeError } from './errors.js';
import { type Recipe, recipeSchema } from './recipe.js';

type ScheduleName = Recipe['training']['schedule'];

/** What is asked of a preset. */
export interface PresetOptions {
  /** Default: the preset's own. */
  readonly dataset?: DatasetName;
  /** Another VGG in place of the preset's: `vgg11-layerwise` with vgg16 is `vgg16-layerwise`. */
  readonly model?: Recipe['model']['name'];
  /** In place of the preset's: `vgg11-layerwise` with end-to-end is `vgg11-end-to-end`. */
  readonly schedule?: ScheduleName;
  /** Whether the full network is affordable. */
  readonly onCuda: boolean;
}

/** What a preset may depend on. */
type PresetContext = Pick<PresetOptions, 'onCuda'> & { readonly dataset: DatasetName };

const common = {
  seed: 1,
  device: 'auto',
  // The paper trains VGG-11 on ImageNet in fp16 with a dynamic loss scale (`fp16` here), the others in fp32; bf16 needs no scale.
  precision: 'auto',
  threads: null,
} as const;

const dataset = (name: DatasetName, imageSize: number): Recipe['dataset'] => ({
  name,
  dataDir: null,
  trainLimit: null,
  testLimit: null,
  imageSize,
  testResize: null,
  maxPixels: null,
  onBadImage: 'fail',
});

/** The project's own recipe for the embedded data set: minutes on two cores. */
const shapesTraining: Recipe['training'] = {
  schedule: 'layerwise',
  epochs: 6,
  batchSize: 64,
  microBatchSize: null,
  learningRate: 0.05,
  milestones: [4, 5],
  decay: 0.2,
  momentum: 0.9,
  weightDecay: 5e-4,
  resetMomentumAtDrops: true,
};

/** Paper, appendix, CIFAR-10: 0.1, times 0.2 at 15, 30, 45; 50 epochs a layer; batch 128; weight decay 5e-4. */
const cifarTraining: Recipe['training'] = {
  schedule: 'layerwise',
  epochs: 50,
  batchSize: 128,
  microBatchSize: null,
  learningRate: 0.1,
  milestones: [15, 30, 45],
  decay: 0.2,
  momentum: 0.9,
  weightDecay: 5e-4,
  resetMomentumAtDrops: true,
};

/** Paper, section 4.2, ImageNet: 0.1, times 0.1 at 20, 40; 45 epochs a layer; batch 256; weight decay 1e-4. */
const imagenetTraining: Recipe['training'] = {
  schedule: 'layerwise',
  epochs: 45,
  batchSize: 256,
  microBatchSize: null,
  learningRate: 0.1,
  milestones: [20, 40],
  decay: 0.1,
  momentum: 0.9,
  weightDecay: 1e-4,
  resetMomentumAtDrops: true,
};

/** Zero-pad 4 and crop, mirror: the paper's augmentation of small images. */
const smallImageAugmentation: Recipe['augmentation'] = {
  cropPadding: 4,
  randomResizedCrop: false,
  horizontalFlip: true,
  sameViewsForAllLayers: false,
  views: null,
};

/** All of a recipe but its network. */
type Protocol = Omit<Recipe, 'preset' | 'model'>;

function protocolOf(name: DatasetName): Protocol {
  switch (name) {
    case 'shapes':
      return {
        ...common,
        dataset: dataset('shapes', 32),
        augmentation: smallImageAugmentation,
        training: shapesTraining,
        evaluation: { batchSize: 500, ensemble: 'logits' },
      };
    case 'cifar10':
    case 'folder':
      return {
        ...common,
        dataset: dataset(name, 32),
        augmentation: smallImageAugmentation,
        training: cifarTraining,
        evaluation: { batchSize: 500, ensemble: 'logits' },
      };
    case 'imagenet':
      return {
        ...common,
        // Paper, section 4.2: random resized crops of 224 in training; shorter side to 256, centre crop in evaluation.
        dataset: { ...dataset('imagenet', 224), testResize: 256 },
        augmentation: {
          cropPadding: 0,
          randomResizedCrop: true,
          horizontalFlip: true,
          sameViewsForAllLayers: false,
          views: null,
        },
        training: imagenetTraining,
        evaluation: { batchSize: 256, ensemble: 'probabilities' },
      };
  }
}

/** On the embedded data set and the CPU the networks are narrower, so that a run takes minutes. */
const isNarrow = (context: PresetContext): boolean => context.dataset === 'shapes' && !context.onCuda;

function vgg(name: VggName, context: PresetContext): Extract<Recipe['model'], { dropout: number }> {
  return { name, width: isNarrow(context) ? 16 : 64, layers: vggLayerCount(name), dropout: 0 };
}

/** Paper, section 4.1 and appendix; where its text and its code differ, the code. */
function simcnn(k: number, context: PresetContext): Recipe['model'] {
  const shared = {
    name: 'simcnn',
    k,
    widths: null,
    lastHead: null,
    downsampling: 'invertible',
    batchNormInit: 'ones',
    bias: 'all',
  } as const;
  if (context.dataset === 'imagenet') {
    return k === 1
      ? { ...shared, layers: 8, width: 256, auxWidth: 256, downsampleAt: [0, 2, 3, 4, 6] }
      : { ...shared, layers: 8, width: 128, auxWidth: 256, downsampleAt: [0, 2, 4, 6] };
  }
  const [width, auxWidth] = isNarrow(context) ? [32, 32] : [k === 1 ? 256 : 128, 128];
  // The text downsamples k = 1 at 1 and 3, and gives k > 1 heads of 256.
  return k === 1
    ? { ...shared, layers: 5, width, auxWidth, downsampleAt: [2, 3] }
    : { ...shared, layers: 4, width, auxWidth, downsampleAt: [2] };
}

interface Preset {
  readonly defaultDataset: DatasetName;
  /** Of the presets that are a VGG and a schedule. */
  readonly vgg?: { readonly model: VggName; readonly schedule: ScheduleName };
  readonly recipe: (context: PresetContext) => Omit<Recipe, 'preset'>;
}

const simcnnPreset = (k: number): Preset => ({
  defaultDataset: 'cifar10',
  recipe: (context) => ({ ...protocolOf(context.dataset), model: simcnn(k, context) }),
});

/** Paper, section 4.3; end to end, the same blocks with torchvision's classifier, dropout 0.5, trained as one network. */
const vggPreset = (model: VggName, schedule: ScheduleName): Preset => ({
  defaultDataset: 'shapes',
  vgg: { model, schedule },
  recipe: (context) => {
    const protocol = protocolOf(context.dataset);
    return {
      ...protocol,
      model: { ...vgg(model, context), dropout: schedule === 'end-to-end' ? 0.5 : 0 },
      training: { ...protocol.training, schedule },
    };
  },
});

const SCHEDULES: readonly ScheduleName[] = recipeSchema.shape.training.shape.schedule.options;

const vggPresetName = (model: VggName, schedule: ScheduleName): string => `${model}-${schedule}`;

const PRESETS: Record<string, Preset> = {
  ...Object.fromEntries(
    VGG_NAMES.flatMap((model) =>
      SCHEDULES.map((schedule) => [vggPresetName(model, schedule), vggPreset(model, schedule)]),
    ),
  ),
  'simcnn-k1': simcnnPreset(1),
  'simcnn-k2': simcnnPreset(2),
  'simcnn-k3': simcnnPreset(3),
};

/** The names that `presetRecipe` takes. */
export const presetNames: readonly string[] = Object.keys(PRESETS);

const isOneOf = <T>(known: readonly T[], value: unknown): value is T => known.includes(value as T);

/**
 * The whole recipe of a preset for its data set, or for another. With another model or schedule it is, and is called, the
 * preset of these, where there is one. Throws RecipeError for an unknown one of any of them.
 */
export function presetRecipe(preset: string, options: PresetOptions): Recipe {
  const { model, schedule, onCuda } = options;
  const named = presetOf(preset);
  const dataset = options.dataset ?? named.defaultDataset;
  const refuse = (key: string, expected: string, got: unknown): never => {
    throw new RecipeError(`${key}: expected ${expected}, got ${JSON.stringify(got)}`);
  };
  if (!isOneOf(DATASET_NAMES, dataset)) refuse('dataset.name', `one of ${DATASET_NAMES.join(', ')}`, dataset);
  if (schedule !== undefined && !isOneOf(SCHEDULES, schedule)) {
    refuse('training.schedule', `one of ${SCHEDULES.join(', ')}`, schedule);
  }
  if (named.vgg === undefined) {
    if (model !== undefined && model !== 'simcnn') refuse('model.name', `simcnn for the preset ${preset}`, model);
    const recipe = named.recipe({ dataset, onCuda });
    return { preset, ...recipe, training: { ...recipe.training, schedule: schedule ?? recipe.training.schedule } };
  }
  if (model !== undefined && !isOneOf(VGG_NAMES, model)) {
    return refuse('model.name', `one of ${VGG_NAMES.join(', ')} for the preset ${preset}`, model);
  }
  const name = vggPresetName(model ?? named.vgg.model, schedule ?? named.vgg.schedule);
  return { preset: name, ...PRESETS[name]!.recipe({ dataset, onCuda }) };
}

function presetOf(name: string): Preset {
  if (Object.hasOwn(PRESETS, name)) return PRESETS[name]!;
  throw new RecipeError(`preset: expected one of ${presetNames.join(', ')}, got ${JSON.stringify(name)}`);
}
