import { z } from 'zod';
import { upTo } from '../schema.js';
import { ModelError } from './errors.js';
import type { Network } from './network.js';

/** How the layers of a network are trained: one after the other by Algorithm 1, or all as one network. */
export const SCHEDULES = ['layerwise', 'end-to-end'] as const;

export type TrainingSchedule = (typeof SCHEDULES)[number];

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
  /** [channels, height, width] of an image. */
  readonly inputShape: readonly [number, number, number];
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
}

/** A model, declared once: all that recipes, presets, the command line and the documents know of it. */
export interface ModelDeclaration<Schema extends z.ZodObject = z.ZodObject> {
  /** As the literature writes it, all variants together, such as VGG. */
  readonly family: string;
  /** How a recipe names it: one name, or one for each variant. */
  readonly names: readonly string[];
  /** A name as the literature writes it. */
  readonly titleOf: (name: string) => string;
  /** What a recipe says of it under `model`: its `name` and its options, each with what it means and, where it has one, a flag. */
  readonly schema: Schema;
  /** Those of the same model and another variant or schedule stand in for each other. */
  readonly presets: readonly ModelPreset<z.output<Schema>>[];
  /** Throws ModelError for values that do not go together. */
  readonly build: (options: z.output<Schema>, request: NetworkRequest) => Network;
}

/** Keeps the type of each option. */
export const declareModel = <Schema extends z.ZodObject>(
  declaration: ModelDeclaration<Schema>,
): ModelDeclaration<Schema> => declaration;

/** Height and width of images of three channels and equal sides. Throws ModelError for others. */
export function sideOf(name: string, [channels, height, width]: NetworkRequest['inputShape']): number {
  if (channels === 3 && height === width) return height;
  throw new ModelError(
    `${name}: expected images of 3 channels and equal sides, got ${channels} x ${height} x ${width}`,
  );
}

// What options of several models are. No machine has use for more: a mistyped number is refused here, and not by what it does
// to the machine.
export const channels = upTo(4_096);
export const layerCount = upTo(512);
export const convolutions = z.int().max(64);
