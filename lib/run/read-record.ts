import { existsSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { type Blocks, blockCount } from '../models/index.js';
import { describeIssue, isAtLeastSum } from '../schema.js';
import { parseJson, readTextFile, TextFileError } from '../text-file.js';
import { currentConfig, currentMetrics } from './earlier-names.js';
import { RunRecordError } from './errors.js';
import type { EarlyExitRecord, EpochRecord, RecordedRecipe, RunConfig, RunRecord, RunResult } from './record.js';

/** The files of a run directory that its record is read from. */
export const RECORD_FILES = ['config.json', 'metrics.jsonl', 'result.json', 'early-exit.json'] as const;

/**
 * Reads the files of RECORD_FILES. All but the first may be absent, and the last line of `metrics.jsonl` may be incomplete.
 *
 * @throws {RunRecordError} where `config.json` is missing, a file does not hold what it should, or two of them do not fit.
 */
export async function readRunRecord(runDir: string): Promise<RunRecord> {
  const files = RECORD_FILES.map((name) => path.join(runDir, name)) as [string, string, string, string];
  const [configFile, metricsFile, resultFile, earlyExitFile] = files;
  const [config, metrics, result, earlyExit] = await Promise.all(files.map(readIfPresent));
  if (config === undefined) {
    throw new RunRecordError('RUN_FILE_MISSING', { file: configFile }, 'not found; expected a run directory');
  }
  const checked = check(configSchema, currentConfig(parseFile(config, configFile)), { file: configFile });
  const { schedule } = (checked.recipe.training ?? {}) as { schedule?: unknown };
  const record: RunRecord = {
    config: checked,
    ...parseMetrics(metrics ?? '', metricsFile, schedule === 'simultaneous' ? misplacedAtOnce : misplaced),
    ...(result !== undefined && { result: check(resultSchema, parseFile(result, resultFile), { file: resultFile }) }),
    ...(earlyExit !== undefined && { earlyExit: parseEarlyExit(earlyExit, earlyExitFile) }),
  };
  const misfit = misfitOf(record);
  if (misfit !== null) {
    throw new RunRecordError('RUN_FILE_CORRUPTED', { file: path.join(runDir, misfit.file) }, misfit.problem);
  }
  return record;
}

/** The configuration of a run that another file holds, as text. Throws RunRecordError, naming that file. */
export function parseRunConfig(text: string, file: string): RunConfig {
  const config = check(configSchema, parseFile(text, file), { file });
  const misfit = misfitOf({ config });
  if (misfit !== null) throw new RunRecordError('RUN_FILE_CORRUPTED', { file }, misfit.problem);
  return config;
}

/** What early exit of a run comes to, as text of a file. Throws RunRecordError, naming that file. */
export const parseEarlyExit = (text: string, file: string): EarlyExitRecord =>
  check(earlyExitSchema, parseFile(text, file), { file });

/** The first of a run's figures that is in range by itself, and contradicts another. */
function misfitOf({ config, result, earlyExit }: Omit<RunRecord, 'epochs'>): { file: string; problem: string } | null {
  const { recipe, classes, data } = config;
  const { seed, preset } = recipe;
  const precision = recipe.precision === 'auto' ? undefined : recipe.precision;
  const { layers } = (recipe.model ?? {}) as { layers?: number };
  const { blocks } = (recipe.training ?? {}) as { blocks?: Blocks | null };
  const stages = blocks == null ? layers : blockCount(blocks);
  const stagesAt = blocks == null ? 'of recipe.model.layers' : 'of recipe.training.blocks';
  const tested = result?.confusion?.flat().reduce((sum, count) => sum + count, 0);
  const dataset = recipe.dataset as { trainCount?: number; testCount?: number } | undefined;
  const facts: [file: string, name: string, expected: unknown, source: string, got: unknown][] = [
    ['config.json', 'seed', seed, 'recipe.seed', config.seed],
    ['config.json', 'preset', preset, 'recipe.preset', config.preset],
    ['config.json', 'precision', precision, 'recipe.precision', config.precision],
    ['config.json', 'data.train.count', dataset?.trainCount, 'recipe.dataset.trainCount', data?.train.count],
    ['config.json', 'data.test.count', dataset?.testCount, 'recipe.dataset.testCount', data?.test.count],
    ['config.json', 'data.train.images', classes?.length, 'the number of classes', data?.train.images.length],
    ['config.json', 'data.test.images', classes?.length, 'the number of classes', data?.test.images.length],
    ['result.json', 'confusion', classes?.length, 'one row a class of config.json', result?.confusion?.length],
    ['result.json', 'the sum of confusion', data?.test.count, 'the number of test images', tested],
    ['result.json', 'the last layer', stages && stages - 1, stagesAt, result?.layers.at(-1)?.layer],
    ['early-exit.json', 'the last of layers', result?.layers.at(-1)?.layer, 'of result.json', earlyExit?.layers.at(-1)],
  ];
  for (const [file, name, expected, source, got] of facts) {
    if (expected === undefined || got === undefined || expected === got) continue;
    return { file, problem: `${name}: expected ${expected}, ${source}, got ${got}` };
  }
  return null;
}

function parseMetrics(
  text: string,
  file: string,
  problemOf: typeof misplaced,
): Pick<RunRecord, 'epochs' | 'incompleteLine'> {
  const lines = text.split('\n');
  const last = lines.pop() ?? '';
  const record: Pick<RunRecord, 'epochs' | 'incompleteLine'> = { epochs: [] };
  // A killed run can leave the start of an object without its end of line; a truncated object is never valid JSON.
  if (isJson(last)) lines.push(last);
  else if (last.trim() !== '') record.incompleteLine = lines.length + 1;

  for (const [index, line] of lines.entries()) {
    const position = { file, line: index + 1 };
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw new RunRecordError('RUN_FILE_CORRUPTED', position, `not JSON (${(error as Error).message})`);
    }
    const metrics = check(epochSchema, currentMetrics(value), position);
    const problem = problemOf(metrics, record.epochs.at(-1));
    if (problem !== null) throw new RunRecordError('RUN_FILE_CORRUPTED', position, problem);
    record.epochs.push(metrics);
  }
  return record;
}

/** Layers rise, and the epochs of each count from 0. */
function misplaced({ layer, epoch }: EpochRecord, before: EpochRecord | undefined): string | null {
  if (before === undefined || layer > before.layer) {
    return epoch === 0 ? null : `epoch: expected 0, the first of layer ${layer}, got ${epoch}`;
  }
  if (layer < before.layer)
    return `layer: expected at least ${before.layer}, the layer of the line before, got ${layer}`;
  return epoch === before.epoch + 1
    ? null
    : `epoch: expected ${before.epoch + 1}, the next of layer ${layer}, got ${epoch}`;
}

/** Of layers that are trained at once: epochs rise, and in each the layers count from 0. */
function misplacedAtOnce({ layer, epoch }: EpochRecord, before: EpochRecord | undefined): string | null {
  const isSame = before !== undefined && layer === before.layer + 1;
  const expectedEpoch = before === undefined ? 0 : isSame ? before.epoch : before.epoch + 1;
  if (layer !== 0 && !isSame) {
    return `layer: expected ${before === undefined ? 0 : `${before.layer + 1} or 0`}, got ${layer}`;
  }
  return epoch === expectedEpoch ? null : `epoch: expected ${expectedEpoch}, of layer ${layer}, got ${epoch}`;
}

function parseFile(text: string, file: string): unknown {
  try {
    return parseJson(text, file);
  } catch (error) {
    throw asRecordError(error);
  }
}

function asRecordError(error: unknown): unknown {
  if (!(error instanceof TextFileError)) return error;
  const { file, problem, position } = error;
  return new RunRecordError('RUN_FILE_CORRUPTED', { file, ...(position !== null && { line: position.line }) }, problem);
}

function check<T>(schema: z.ZodType<T>, value: unknown, position: { file: string; line?: number }): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new RunRecordError('RUN_FILE_CORRUPTED', position, describeIssue(parsed.error.issues[0]!, value));
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

async function readIfPresent(file: string): Promise<string | undefined> {
  if (!existsSync(file)) return undefined;
  try {
    return await readTextFile(file);
  } catch (error) {
    throw asRecordError(error);
  }
}

const index = z.int().min(0);
const text = z.string().min(1);
/** A figure that an older version, or another program, left out counts as not taken. */
const orNull = <T>(schema: z.ZodType<T>): z.ZodType<T | null> => schema.nullish().transform((value) => value ?? null);

const percentage = orNull(z.number().min(0).max(100));
const loss = orNull(z.number().min(0));
const seconds = z.number().min(0);

const figures = {
  trainLoss: loss,
  trainTop1: percentage,
  testLoss: loss,
  testTop1: percentage,
  testTop5: percentage,
  ensembleTop1: percentage,
  ensembleTop5: percentage,
};

const digests = z.array(z.string().regex(/^[0-9a-f]{12}$/, 'expected 12 hexadecimal digits')).optional();

const partSchema = z
  .object({
    count: z.int().min(1),
    digest: z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits'),
    images: z.array(index),
    names: digests,
    sizes: digests,
    pixels: digests,
    values: digests,
  })
  .refine(({ count, images }) => images.reduce((sum, one) => sum + one, 0) === count, {
    path: ['count'],
    error: 'expected the sum of images',
  })
  .refine(
    ({ images, ...ofClasses }) =>
      [ofClasses.names, ofClasses.sizes, ofClasses.pixels, ofClasses.values].every(
        (one) => one === undefined || one.length === images.length,
      ),
    'expected as many digests as classes',
  );

const moduleSchema = z.object({
  path: z.string().refine(path.isAbsolute, 'expected a whole path'),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits'),
});

const recipeSchema = z.custom<RecordedRecipe>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'expected an object',
);

/** Keys that other versions add are kept. */
const configSchema: z.ZodType<RunConfig> = z.looseObject({
  package: z.literal('layerwise'),
  formatVersion: z.literal(1, 'expected 1, the format of this version of layerwise'),
  preset: z.string(),
  recipe: recipeSchema,
  classes: z.array(text).min(1).optional(),
  normalization: z
    .object({ mean: z.array(z.number()).min(1), std: z.array(z.number().positive()).min(1) })
    .refine(({ mean, std }) => mean.length === std.length, 'expected as many means as standard deviations')
    .optional(),
  modules: z.object({ network: moduleSchema.optional(), data: moduleSchema.optional() }).optional(),
  data: z.object({ train: partSchema, test: partSchema }).optional(),
  seed: index,
  device: z.string().regex(/^(cpu|cuda:\d+)$/, 'expected cpu or cuda:N'),
  deviceName: z.string().nullish(),
  precision: z.enum(['fp32', 'bf16', 'fp16']),
  threads: z.int().min(1).max(4_096).nullish(),
  processes: z.int().min(1).optional(),
  versions: z.record(z.string(), z.string()),
  startedAt: z.string().refine((value) => !Number.isNaN(Date.parse(value)), 'expected a date and time'),
  startedFrom: z.object({ runDirectory: text, layers: z.int().min(1), head: z.enum(['new', 'taken']) }).optional(),
  notes: z.array(z.string()).optional(),
});

const epochSchema: z.ZodType<EpochRecord> = z.object({
  layer: index,
  epoch: index,
  learningRate: z.number().min(0),
  ...figures,
  seconds,
  imagesPerSecond: orNull(z.number().min(0)),
});

const resultSchema: z.ZodType<RunResult> = z
  .object({
    layers: z
      .array(
        z.object({
          layer: index,
          ...figures,
          seconds: orNull(seconds),
          parameters: orNull(z.object({ block: index, head: index })),
        }),
      )
      .min(1)
      .refine(
        (layers) => layers.every(({ layer }, i) => i === 0 || layer > layers[i - 1]!.layer),
        'expected rising layers',
      ),
    seconds,
    notes: z.array(z.string()).optional(),
    confusion: z
      .array(z.array(index))
      .min(1)
      .refine((rows) => rows.every((row) => row.length === rows.length), 'expected as many columns as rows')
      .optional(),
  })
  .refine(
    ({ layers, seconds }) =>
      isAtLeastSum(
        seconds,
        layers.map((layer) => layer.seconds ?? 0),
      ),
    {
      path: ['seconds'],
      error: 'expected at least the sum of the layers',
    },
  );

const probability = z.number().min(0).max(1);
const earlyExitFigures = {
  top1: z.number().min(0).max(100),
  multiplyAdds: z.number().min(0).nullable(),
  milliseconds: z.number().min(0),
};

const earlyExitSchema: z.ZodType<EarlyExitRecord> = z
  .object({
    layers: z
      .array(index)
      .min(1)
      .refine((layers) => layers.every((layer, i) => i === 0 || layer > layers[i - 1]!), 'expected rising layers'),
    threshold: probability,
    chosenOn: z.object({
      part: z.enum(['train', 'test']),
      images: z.int().min(1),
      top1: z.number().min(0).max(100),
      wholeTop1: z.number().min(0).max(100),
    }),
    tolerance: z.number().min(0).max(100),
    images: z.int().min(1),
    whole: z.object(earlyExitFigures),
    points: z
      .array(
        z.object({
          ...{ threshold: probability, ...earlyExitFigures },
          meanLayers: z.number().min(0),
          exits: z.array(index),
        }),
      )
      .min(1),
    timing: z.object({ batchSize: z.int().min(1), device: text, precision: text, threads: z.int().min(1) }),
  })
  .refine(({ points, threshold }) => points.some((point) => point.threshold === threshold), {
    path: ['threshold'],
    error: 'expected that of one of the points',
  })
  .refine(({ points, layers }) => points.every(({ exits }) => exits.length === layers.length), {
    path: ['points'],
    error: 'expected as many exits as layers',
  });
