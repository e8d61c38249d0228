// Compiles only where the package's types are found, and are no `any`.
import { presetRecipe, type Recipe, type Tensor, type TrainingEvent, TrainingJob } from 'layerwise';

const recipe: Recipe = presetRecipe('vgg11-layerwise', { dataset: 'shapes', onCuda: false });
const job: TrainingJob = TrainingJob.train({ recipe });
job.on('event', (event: TrainingEvent) => {
  if (event.type === 'epoch') console.log(event.layer satisfies number);
});
export const shapeOf = (tensor: Tensor): readonly number[] => tensor.shape;
// @ts-expect-error: a preset has a name
presetRecipe(3);
