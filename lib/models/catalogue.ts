// All models. A new one is a file with its declaration, and a line here.

import { z } from 'zod';
import type { ModelDeclaration, ModelPreset, NetworkRequest } from './declaration.js';
import type { Network } from './network.js';
import { own } from './own.js';
import { simcnn } from './simcnn.js';
import { vgg } from './vgg.js';
import { whitenedVgg } from './whitened-vgg.js';

const MODELS = [vgg, simcnn, whitenedVgg, own] as const;

type SchemasOf<Models extends readonly { readonly schema: z.ZodObject }[]> = {
  -readonly [I in keyof Models]: Models[I]['schema'];
};

/** Which network, with its sizes; `name` decides what else there is. */
export const modelSchema = z.discriminatedUnion(
  'name',
  MODELS.map(({ schema }) => schema) as unknown as SchemasOf<typeof MODELS>,
);

/** A recipe's `model`. */
export type ModelOptions = z.output<typeof modelSchema>;

/** A preset with the model that it is one of. */
export interface ModelPresetOf {
  readonly model: Pick<ModelDeclaration, 'family' | 'names'>;
  readonly preset: ModelPreset<ModelOptions>;
}

export const MODEL_PRESETS: readonly ModelPresetOf[] = MODELS.flatMap((model) =>
  (model.presets as readonly ModelPreset<ModelOptions>[]).map((preset) => ({ model, preset })),
);

/** The names of all models, as recipes have them. */
export const MODEL_NAMES: readonly string[] = MODELS.flatMap(({ names }) => names);

const declarationOf = (name: string): ModelDeclaration | undefined =>
  (MODELS as readonly unknown[] as readonly ModelDeclaration[]).find(({ names }) => names.includes(name));

/** A model's name as the literature writes it, such as VGG-11; any other as it is. */
export const modelTitle = (name: string): string => declarationOf(name)?.titleOf(name) ?? name;

/** The network of a recipe's `model`. Throws ModelError for values that do not go together. */
export function buildModel(options: ModelOptions, request: NetworkRequest): Network {
  return declarationOf(options.name)!.build(options, request);
}
