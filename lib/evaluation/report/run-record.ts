import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

/** `config.json`: what was asked for, and of which machine and versions. */
export interface RunConfig {
  package: 'layerwise';
  formatVersion: 1;
  preset: string;
  /** The resolved recipe. The report prints whatever it holds; of the names below it makes use where they are there. */
  recipe: RecordedRecipe;
  /** The data set's classes, by label. */
  classes?: string[];
  /** Mean and standard deviation of each channel, of values 0 to 1, that images were normalised with. */
  normalization?: { mean: readonly number[]; std: readonly number[] };
  seed: number;
  device: string;
  deviceName?: string | null;
  precision: string;
  threads?: number | null;
  versions: Record<string, string>;
  /** ISO 8601. */
  startedAt: string;
  /** The finished run whose first layers were taken instead of being trained, how many, and whether their head was. */
  startedFrom?: { runDirectory: string; layers: number; head: 'new' | 'taken' };
}

export interface RecordedRecipe {
  model?: RecordedValue;
  dataset?: RecordedValue;
  training?: RecordedValue;
  [name: string]: RecordedValue | undefined;
}

export type RecordedValue = string | number | boolean | null | RecordedValue[] | { [name: string]: RecordedValue };

/** One line of `metrics.jsonl`. Accuracies are percentages; null is a figure that was not taken or not finite. */
export interface EpochMetrics {
  /** From 0. */
  layer: number;
  /** From 0, in each layer anew. */
  epoch: number;
  lr: number;
  trainLoss?: number | null;
  trainTop1?: number | null;
  testLoss?: number | null;
  testTop1?: number | null;
  testTop5?: number | null;
  ensembleTop1?: number | null;
  ensembleTop5?: number | null;
  seconds: number;
  imagesPerSecond?: number | null;
}

/** A finished layer in `result.json`: the figures of its last epoch. */
export interface LayerResult {
  /** From 0. */
  layer: number;
  trainLoss?: number | null;
  trainTop1?: number | null;
  testLoss?: number | null;
  testTop1?: number | null;
  testTop5?: number | null;
  ensembleTop1?: number | null;
  ensembleTop5?: number | null;
  seconds?: number | null;
  parameters?: { block: number; head: number } | null;
}

/** `result.json`, which a run writes when it has finished. An end-to-end run has one entry in `layers`. */
export interface RunResult {
  layers: LayerResult[];
  seconds: number;
  notes?: string[];
  /** Of the last layer's head on the test images, counts [classes][classes]: a row a true class, a column a predicted one. */
  confusion?: number[][];
}

/** A run directory, read and checked. */
export interface RunRecord {
  config: RunConfig;
  /** By layer, then by epoch, each once. */
  epochs: EpochMetrics[];
  /** Absent while training is unfinished. */
  result?: RunResult;
  /** The line of `metrics.jsonl` that a killed run left half written, counted from 1. It is not in `epochs`. */
  incompleteLine?: number;
}

export type RunRecordErrorCode = 'RUN_FILE_MISSING' | 'RUN_FILE_CORRUPTED';

/** A run directory that cannot be read: `file`, and `line` (from 1) in `metrics.jsonl`, name the place. */
export class RunRecordError extends Error {
  override readonly name = 'RunRecordError';
  readonly code: RunRecordErrorCode;
  readonly file: string;
  readonly line: number | undefined;

  constructor(code: RunRecordErrorCode, place: { file: string; line?: number }, problem: string) {
    super(`${place.file}${place.line === undefined ? '' : `:${place.line}`}: ${problem}`);
    this.code = code;
    this.file = place.file;
    this.line = place.line;
  }
}

/**
 * Reads `config.json`, `metrics.jsonl` and `result.json` of a run directory. The last two may be absent, and the last line of
 * `metrics.jsonl` may be incomplete.
 *
 * @throws {RunRecordError} where `config.json` is missing, or a file does not hold what it should.
 */
export async function readRunRecord(runDir: string): Promise<RunRecord> {
  const configFile = path.join(runDir, 'config.json');
  const resultFile = path.join(runDir, 'result.json');
  const metricsFile = path.join(runDir, 'metrics.jsonl');
  const [config, metrics, result] = await Promise.all([
    readIfPresent(configFile),
    readIfPresent(metricsFile),
    readIfPresent(resultFile),
  ]);
  if (config === undefined) {
    throw new RunRecordError('RUN_FILE_MISSING', { file: configFile }, 'not found; expected a run directory');
  }
  const record = {
    config: parseAs(configSchema, config, { file: configFile }),
    ...parseMetrics(metrics ?? '', metricsFile),
    ...(result !== undefined && { result: parseAs(resultSchema, result, { file: resultFile }) }),
  };
  const [rows, classes] = [record.result?.confusion?.length, record.config.classes?.length];
  if (rows !== undefined && classes !== undefined && rows !== classes) {
    const problem = `confusion: expected ${classes} rows, one a class of config.json, got ${rows}`;
    throw new RunRecordError('RUN_FILE_CORRUPTED', { file: resultFile }, problem);
  }
  return record;
}

function parseMetrics(text: string, file: string): Pick<RunRecord, 'epochs' | 'incompleteLine'> {
  const lines = text.split('\n');
  const last = lines.pop() ?? '';
  const record: Pick<RunRecord, 'epochs' | 'incompleteLine'> = { epochs: [] };
  // A killed run can leave the start of an object without its end of line; a truncated object is never valid JSON.
  if (isJson(last)) lines.push(last);
  else if (last.trim() !== '') record.incompleteLine = lines.length + 1;

  // A resumed run repeats the epochs after its checkpoint: the later line counts.
  const byEpoch = new Map<string, EpochMetrics>();
  for (const [index, line] of lines.entries()) {
    const metrics = parseAs(epochSchema, line, { file, line: index + 1 });
    byEpoch.set(`${metrics.layer}/${metrics.epoch}`, metrics);
  }
  record.epochs = [...byEpoch.values()].sort((a, b) => a.layer - b.layer || a.epoch - b.epoch);
  return record;
}

function parseAs<T>(schema: z.ZodType<T>, text: string, place: { file: string; line?: number }): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new RunRecordError('RUN_FILE_CORRUPTED', place, `not JSON (${(error as Error).message})`);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const name = issue?.path.join('.') || 'the whole';
  throw new RunRecordError('RUN_FILE_CORRUPTED', place, `${name}: ${issue?.message ?? 'not as expected'}`);
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
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

const index = z.int().min(0);
const percentage = z.number().min(0).max(100).nullish();
const loss = z.number().nullish();
const seconds = z.number().min(0);
const recipeValue: z.ZodType<RecordedValue> = z.lazy(() =>
  z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(recipeValue), z.record(z.string(), recipeValue)]),
);

const figures = {
  trainLoss: loss,
  trainTop1: percentage,
  testLoss: loss,
  testTop1: percentage,
  testTop5: percentage,
  ensembleTop1: percentage,
  ensembleTop5: percentage,
};

const configSchema: z.ZodType<RunConfig> = z.object({
  package: z.literal('layerwise'),
  formatVersion: z.literal(1),
  preset: z.string(),
  recipe: z.record(z.string(), recipeValue),
  classes: z.array(z.string()).optional(),
  normalization: z.object({ mean: z.array(z.number()), std: z.array(z.number()) }).optional(),
  seed: z.number(),
  device: z.string(),
  deviceName: z.string().nullish(),
  precision: z.string(),
  threads: index.nullish(),
  versions: z.record(z.string(), z.string()),
  startedAt: z.string(),
  startedFrom: z.object({ runDirectory: z.string(), layers: index, head: z.enum(['new', 'taken']) }).optional(),
});

const epochSchema: z.ZodType<EpochMetrics> = z.object({
  layer: index,
  epoch: index,
  lr: z.number().min(0),
  ...figures,
  seconds,
  imagesPerSecond: z.number().min(0).nullish(),
});

const resultSchema: z.ZodType<RunResult> = z.object({
  layers: z
    .array(
      z.object({
        layer: index,
        ...figures,
        seconds: seconds.nullish(),
        parameters: z.object({ block: index, head: index }).nullish(),
      }),
    )
    .min(1),
  seconds,
  notes: z.array(z.string()).optional(),
  confusion: z
    .array(z.array(index))
    .min(1)
    .refine((rows) => rows.every((row) => row.length === rows.length), 'expected as many columns as rows')
    .optional(),
});
