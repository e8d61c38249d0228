import { RecipeError } from './errors.js';
import { type Recipe, recipeSchema } from './recipe.js';

export type DatasetName = Recipe['dataset']['name'];

/** What a preset may depend on: its data set, and whether the full network is affordable. */
export interface PresetContext {
  readonly dataset: DatasetName;
  readonly onCuda: boolean;
}

const common = {
  seed: 1,
  device: 'auto',
  precision: 'auto',
  threads: null,
} as const;

const dataset = (name: DatasetName, imageSize: number): Recipe['dataset'] => ({
  name,
  dataDir: null,
  trainLimit: null,
  testLimit: null,
  imageSize,
});

/** The project's own recipe for the embedded data set: minutes on two cores. */
const shapesTraining: Recipe['training'] = {
  schedule: 'layerwise',
  epochs: 6,
  batchSize: 64,
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
  horizontalFlip: true,
  sameViewsForAllLayers: false,
};

function vgg11(context: PresetContext): Omit<Recipe, 'preset'> {
  const model = { name: 'vgg11', width: 64, layers: 8, dropout: 0 } as const;
  switch (context.dataset) {
    case 'shapes':
      return {
        ...common,
        model: { ...model, width: context.onCuda ? 64 : 16 },
        dataset: dataset('shapes', 32),
        augmentation: smallImageAugmentation,
        training: shapesTraining,
        evaluation: { batchSize: 500, ensemble: 'logits' },
      };
    case 'cifar10':
    case 'folder':
      return {
        ...common,
        model,
        dataset: dataset(context.dataset, 32),
        augmentation: smallImageAugmentation,
        training: cifarTraining,
        evaluation: { batchSize: 500, ensemble: 'logits' },
      };
    case 'imagenet':
      return {
        ...common,
        model,
        dataset: dataset('imagenet', 224),
        augmentation: { cropPadding: 0, horizontalFlip: true, sameViewsForAllLayers: false },
        training: imagenetTraining,
        evaluation: { batchSize: 256, ensemble: 'probabilities' },
      };
  }
}

const PRESETS: Record<
  string,
  { defaultDataset: DatasetName; recipe: (context: PresetContext) => Omit<Recipe, 'preset'> }
> = {
  'vgg11-layerwise': { defaultDataset: 'shapes', recipe: vgg11 },
  'vgg11-end-to-end': {
    defaultDataset: 'shapes',
    recipe: (context) => {
      const layerwise = vgg11(context);
      // Paper, section 4.3: the same blocks with torchvision's classifier, dropout 0.5, trained as one network.
      return {
        ...layerwise,
        model: { ...layerwise.model, dropout: 0.5 },
        training: { ...layerwise.training, schedule: 'end-to-end' },
      };
    },
  },
};

export const presetNames: readonly string[] = Object.keys(PRESETS);

const DATASETS: readonly DatasetName[] = recipeSchema.shape.dataset.shape.name.options;

/** The whole recipe of a preset for its data set, or for another. Throws RecipeError for an unknown one of either. */
export function presetRecipe(preset: string, context: { dataset?: DatasetName; onCuda: boolean }): Recipe {
  const entry = Object.hasOwn(PRESETS, preset) ? PRESETS[preset] : undefined;
  if (entry === undefined) {
    throw new RecipeError(`preset: expected one of ${presetNames.join(', ')}, got ${JSON.stringify(preset)}`);
  }
  const dataset = context.dataset ?? entry.defaultDataset;
  if (!DATASETS.includes(dataset)) {
    throw new RecipeError(`dataset.name: expected one of ${DATASETS.join(', ')}, got ${JSON.stringify(dataset)}`);
  }
  return { preset, ...entry.recipe({ dataset, onCuda: context.onCuda }) };
}
