// What routes take and give, from which come their checks and the OpenAPI document.
import { z } from 'zod';
import { DATASET_NAMES } from '../data/index.js';
import { presetNames } from '../recipe/index.js';
import { unfitPart } from '../schema.js';
import { RUN_ID } from './run-id.js';

/** What a client may name; data and recipes of one's own are modules. */
export const datasets = DATASET_NAMES.filter((name) => name !== 'own');
export const presets = presetNames.filter((name) => name !== 'own');

export const runId = z.string().regex(RUN_ID).describe('name of a run: letters, digits, ".", "_", "-"');

export const idParams = z.object({ id: runId });

export const trainingRequest = z.strictObject({
  id: runId.optional(),
  preset: z.enum(presets).optional().describe(`default: ${presets[0]}`),
  dataset: z.enum(datasets).optional().describe("default: the preset's"),
  recipe: z
    .record(z.string(), z.unknown())
    .superRefine((recipe, { addIssue }) => {
      const message = unfitPart(recipe);
      if (message !== null) addIssue({ code: 'custom', message });
    })
    .optional()
    .describe('values in place of the preset’s; dataset.dataDir is a path in the folder of the data'),
  startFrom: z
    .strictObject({ run: runId, layers: z.int().min(1).optional(), head: z.enum(['new', 'taken']).optional() })
    .optional()
    .describe('layers of a finished run that are taken instead of being trained'),
});

/** What a client asks to be trained. */
export type TrainingRequest = z.infer<typeof trainingRequest>;

export const problem = z.object({ code: z.string(), message: z.string() });

const percent = z.number().nullable();

const progress = z
  .object({
    layer: z.int(),
    epoch: z.int(),
    step: z.int(),
    stepsPerEpoch: z.int(),
    loss: z.number().nullable(),
    top1: percent,
    imagesPerSecond: z.number(),
    stepsDone: z.int(),
    stepsTotal: z.int(),
  })
  .nullable()
  .describe('of the training step done last; layer, epoch and step from 0');

export const runSummary = z.object({
  id: z.string(),
  state: z.enum(['queued', 'running', 'pausing', 'paused', 'finished', 'failed', 'cancelled', 'interrupted']),
  preset: z.string(),
  model: z.string(),
  dataset: z.string(),
  startedAt: z.string().nullable().describe('ISO 8601; null before it has begun'),
  layersDone: z.int().describe('how many have all their epochs, with those that were taken from another run'),
  testTop1: percent.describe('of the epoch done last'),
  ensembleTop1: percent.describe('of the epoch done last'),
  progress,
  error: problem.nullable(),
});

/** A run in a list. */
export type RunSummary = z.infer<typeof runSummary>;

/** What went wrong. */
export type RunFailure = z.infer<typeof problem>;

/** As a job's; `interrupted`: begun, not finished, and at work nowhere here. */
export type RunState = RunSummary['state'];

const figures = {
  trainLoss: z.number().nullable(),
  trainTop1: percent,
  testLoss: z.number().nullable(),
  testTop1: percent,
  testTop5: percent,
  ensembleTop1: percent,
  ensembleTop5: percent,
};

const epoch = z.object({
  ...{ layer: z.int(), epoch: z.int(), learningRate: z.number() },
  ...figures,
  ...{ seconds: z.number(), imagesPerSecond: z.number().nullable() },
});

const result = z.object({
  layers: z.array(
    z.object({
      layer: z.int(),
      ...figures,
      seconds: z.number().nullable(),
      parameters: z.object({ block: z.int(), head: z.int() }).nullable(),
    }),
  ),
  seconds: z.number(),
  notes: z.array(z.string()).optional(),
  confusion: z.array(z.array(z.int())).optional().describe('a row a true class, a column a predicted one'),
});

export const runDetail = runSummary.extend({
  classes: z.array(z.string()).describe('by label'),
  device: z.string().nullable(),
  precision: z.string().nullable(),
  recipe: z.record(z.string(), z.unknown()),
  epochs: z.array(epoch).describe('by layer and epoch, from 0'),
  result: result.nullable(),
});

/** A run with its epochs. */
export type RunDetail = z.infer<typeof runDetail>;

const prediction = z.object({ class: z.string(), index: z.int().describe('label'), probability: z.number() });

const layerPredictions = z.object({ layer: z.int(), predictions: z.array(prediction) });

/** What a layer's head says of an image. */
export type LayerPredictions = z.infer<typeof layerPredictions>;

export const classification = z.object({
  layers: z.array(layerPredictions).describe('of each layer that was asked, from 0; the likeliest class first'),
});

export const classifyQuery = z.object({
  top: z.coerce.number().int().min(1).max(1_000).default(5),
  layer: z
    .union([z.literal('every'), z.literal('last'), z.coerce.number().int().min(0)])
    .default('last')
    .describe('whose head answers: `last`, `every`, or the index of a layer, from 0'),
});

export const image = z.any().meta({ type: 'string', format: 'binary' });

/** A test image with what each layer takes it for. */
export const testImage = z.object({
  index: z.int().describe('in the test part'),
  class: z.string(),
  layers: z
    .array(z.object({ layer: z.int(), class: z.string(), probability: z.number() }))
    .describe('from the first layer that has a head, from 0'),
});

export type TestImage = z.infer<typeof testImage>;
