// Errors on their way between threads.

import { WriteError } from '#scripts/support/files.mjs';
import { LockLostError } from '#scripts/support/lock.mjs';
import { DataError } from '../data/index.js';
import { DistributedError } from '../distributed/index.js';
import { LogisticRegressionError, MetricError } from '../evaluation/index.js';
import { FeatureCacheError } from '../features/index.js';
import { WeightsError } from '../finished/index.js';
import { ModelError } from '../models/index.js';
import { ModuleError, SafetensorsError, StateDictError } from '../nn/index.js';
import { OptimizerError } from '../optim/index.js';
import { RecipeError } from '../recipe/index.js';
import { ChartError } from '../report/index.js';
import { ModuleFileError, RunDirectoryError, RunRecordError } from '../run/index.js';
import { TensorError } from '../tensor/index.js';
import { TextFileError } from '../text-file.js';
import { NonFiniteLossError, OutOfMemoryError, TrainingInterrupted } from '../training/index.js';

/** The classes that errors get back after they were sent. */
export const SENT_CLASSES = [
  ...[TensorError, ModuleError, StateDictError, SafetensorsError, OptimizerError, ModelError, DataError],
  ...[MetricError, LogisticRegressionError, RecipeError, FeatureCacheError, RunDirectoryError, RunRecordError],
  ...[ChartError, WeightsError, NonFiniteLossError, OutOfMemoryError, TrainingInterrupted, TextFileError],
  ...[WriteError, LockLostError, ModuleFileError, DistributedError],
] as const;

/** An error in a form that can be cloned. Cloning an Error itself would lose its class, its code and its other fields. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly stack: string;
  /** The error's other fields that can be cloned, such as its code and `at`, the layer and the epoch. */
  readonly fields: Readonly<Record<string, unknown>>;
  readonly cause?: SentError;
}

/** How many causes of causes are sent: an error may be its own. */
const MOST_CAUSES = 8;

export function toSend(error: unknown, depth = 0): SentError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), stack: '', fields: {} };
  const { name, message, stack = '', cause } = error;
  const fields = Object.entries(error).filter(([key, value]) => key !== 'name' && isCloneable(value));
  return {
    ...{ name, message, stack, fields: Object.fromEntries(fields) },
    ...(cause === undefined || depth === MOST_CAUSES ? {} : { cause: toSend(cause, depth + 1) }),
  };
}

/** The error again, of its class where that is one of layerwise's. */
export function fromSent({ name, message, stack, fields, cause }: SentError): Error & Record<string, unknown> {
  const error = new Error(message, cause === undefined ? undefined : { cause: fromSent(cause) });
  const sentClass = SENT_CLASSES.find((one) => one.name === name);
  if (sentClass !== undefined) Object.setPrototypeOf(error, sentClass.prototype);
  Object.assign(error, fields);
  for (const [key, value] of Object.entries({ name, stack })) {
    Object.defineProperty(error, key, { value, configurable: true, writable: true });
  }
  return error as Error & Record<string, unknown>;
}

function isCloneable(value: unknown): boolean {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}
