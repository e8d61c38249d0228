import { z } from 'zod';
import { upTo } from '../schema.js';
import { ModelError } from './errors.js';
import type { Network } from './network.js';

/** How the layers of a network are trained: one after the other by Algorithm 1, all at once by heads of their own, or as one network. */
export const SCHEDULES = ['layerwise', 'simultaneous', 'end-to-end'] as const;

export type TrainingSchedule = (typeof SCHEDULES)[number];

/** Whether every layer learns by a head of its own; `schedule` may be anything. */
export const trainsAllHeads = (schedule: unknown): boolean => schedule === 'layerwise' || schedule === 'simultaneous';

/** What a model's options may follow from. */
export interface ModelContext {
  /** The name of the data set that it is trained on. */
  readonly dataset: string;
  /** Whether the network is to be narrower than the literature's, so that a run takes minutes on a CPU. */
  readonly isNarrow: boolean;
}

/** What a network is to be built for. */
export interface NetworkRequest {
  readonly classes: number;
  /** [channels, height, width] of an image, or [length] of a vector. */
  readonly inputShape: readonly number[];
  /** Of the initial weights. */
  readonly seed: number;
}

/** A recipe's model and schedule under a name. */
export interface ModelPreset<Options> {
  readonly name: string;
  readonly schedule: TrainingSchedule;
  /** The name of the data set that it is for where no other is asked for. */
  readonly dataset: string;
  readonly options: (context: ModelContext) => Options;
  /** Values of a recipe's `augmentation` and `training` that it has in place of its data set's. */
  readonly augmentation?: Readonly<Record<string, unknown>>;
  readonly training?: Readonly<Record<string, unknown>>;
}

/** A model, declared once: all that recipes, presets, the command line and the documents know of it. */
export interface ModelDeclaration<Schema extends z.ZodObject = z.ZodObject> {
  /** As the literature writes it, all variants together, such as VGG. */
  readonly family: string;
  /** How a recipe names it: one name, or one for each variant. */
  readonly names: readonly string[];
  /** A name as the literature writes it. */
  readonly titleOf: (name: string) => string;
  /** The schema of a recipe's `model`: its `name` and its options, each with its meaning and, where it has one, its flag. */
  readonly schema: Schema;
  /** With another variant or schedule, a preset is replaced by the one for these. */
  readonly presets: readonly ModelPreset<z.output<Schema>>[];
  /** Throws ModelError for values that do not go together. */
  readonly build: (options: z.output<Schema>, request: NetworkRequest) => Network;
}

/** Keeps the type of each option. */
export const declareModel = <Schema extends z.ZodObject>(
  declaration: ModelDeclaration<Schema>,
): ModelDeclaration<Schema> => declaration;

/** Channels and size of the images that a network is to be built for. Throws ModelError for vectors. */
export function imagesOf(
  name: string,
  inputShape: NetworkRequest['inputShape'],
): { channels: number; imageSize: readonly [height: number, width: number] } {
  const [channels, height, width] = inputShape;
  if (channels === undefined || height === undefined || width === undefined) {
    throw new ModelError(`${name}: expected images, got vectors of ${channels} values`);
  }
  return { channels, imageSize: [height, width] };
}

// Schemas of options that several models have. No machine has use for more: a mistyped number is refused here, before it exhausts
// the machine.
export const channels = upTo(4_096);
export const layerCount = upTo(512);
export const convolutions = z.int().max(64);
