// What a predictor is opened with, checked where its caller is.
import { resolve } from 'node:path';
import type { EarlyExit, LayerSelection, OpenOptions } from '../finished/index.js';
import { requireOptions } from '../options.js';
import { shown } from '../schema.js';
import { addressesOf, LONGEST_DEADLINE_MS } from '../service/index.js';
import type { BatchingOptions } from './call-queue.js';
import { invalidArgument } from './errors.js';
import type { NetworkRequest } from './messages.js';

/** How a predictor answers, on what, and how many calls it holds. */
export interface PredictorOptions {
  /** The layer, from 0, whose head answers, or the ensemble of all; default: the last layer. */
  readonly layer?: LayerSelection;
  /**
   * In place of `layer`: an image is answered by the first layer that is sure enough, and those above do not run for it. 'chosen' takes
   * the layers and the threshold that `layerwise evaluate --early-exit` chose for the run.
   */
  readonly earlyExit?: EarlyExit | 'chosen';
  /** Answers each call by the head of every layer, too (`byLayer`); default: false. */
  readonly everyLayer?: boolean;
  /** Default: those that the run was trained with, as in `TrainedRun.open`. */
  readonly device?: OpenOptions['device'];
  readonly precision?: OpenOptions['precision'];
  /** Of the CPU's kernels; default: as many as this process may use. Give predictors that work at once their share. */
  readonly threads?: number;
  /** Inputs that are computed together, at most; default: 32. */
  readonly maxBatchSize?: number;
  /**
   * Milliseconds that an input waits for others while nothing is computed; default: 0. What comes while a batch is computed is the next
   * one all the same.
   */
  readonly maxWaitMs?: number;
  /** Calls that wait for their batch, at most; default: 256. One more is refused (QUEUE_FULL). */
  readonly maxQueue?: number;
  /** Width times height of the largest image that is decoded; default: that of the run. */
  readonly maxPixels?: number;
  /** The module of a network of one's own: its URL, since no thread can be given a function. */
  readonly network?: URL;
  /** In place of `network`. */
  readonly module?: URL;
}

/** The options, each with its value. */
export interface CheckedOptions extends BatchingOptions {
  readonly maxQueue: number;
  readonly maxPixels: number | undefined;
  readonly request: Omit<NetworkRequest, 'path'>;
}

const OPTIONS: readonly (keyof PredictorOptions)[] = [
  ...([
    'layer',
    'earlyExit',
    'everyLayer',
    'device',
    'precision',
    'threads',
    'maxBatchSize',
    'maxWaitMs',
    'maxQueue',
    'maxPixels',
  ] as const),
  ...(['network', 'module'] as const),
];

const refuse = (problem: string): Error => invalidArgument('Predictor.open', problem);

/** Throws PredictorError (INVALID_ARGUMENT). */
export function checkedOptions(options: PredictorOptions): CheckedOptions {
  requireOptions(options, 'options', refuse, OPTIONS);
  const {
    everyLayer = false,
    device,
    precision,
    threads,
    maxBatchSize = 32,
    maxWaitMs = 0,
    maxQueue = 256,
    maxPixels,
  } = options;
  if (threads !== undefined) requireInteger('threads', threads, 1);
  requireInteger('maxBatchSize', maxBatchSize, 1);
  requireInteger('maxQueue', maxQueue, 1);
  if (maxPixels !== undefined) requireInteger('maxPixels', maxPixels, 1);
  if (!(typeof maxWaitMs === 'number' && maxWaitMs >= 0 && maxWaitMs <= LONGEST_DEADLINE_MS)) {
    throw refuse(`maxWaitMs: expected milliseconds from 0 to ${LONGEST_DEADLINE_MS}, got ${shown(maxWaitMs)}`);
  }
  if (typeof everyLayer !== 'boolean') throw refuse(`everyLayer: expected true or false, got ${shown(everyLayer)}`);
  return {
    ...{ maxBatchSize, maxWaitMs, maxQueue, maxPixels },
    request: {
      by: answeredBy(options),
      everyLayer,
      device,
      precision,
      threads,
      code: addressesOf({ network: options.network, module: options.module }, refuse),
    },
  };
}

/** The working directory may be another one when the worker comes to the path. */
export function checkedPath(user: string, path: unknown): string {
  if (typeof path === 'string' && path !== '') return resolve(path);
  throw invalidArgument(user, `expected the path of a run directory or of an exported file, got ${shown(path)}`);
}

/** What depends on the run is looked at where that is opened. */
function answeredBy({ layer, earlyExit }: PredictorOptions): NetworkRequest['by'] {
  if (earlyExit === undefined) {
    if (layer !== undefined && layer !== 'ensemble')
      requireInteger('layer', layer, 0, "a layer, from 0, or 'ensemble'");
    return layer;
  }
  if (layer !== undefined) throw refuse(`layer: expected none beside earlyExit, got ${shown(layer)}`);
  if (earlyExit === 'chosen') return earlyExit;
  requireOptions(earlyExit, 'earlyExit', refuse, ['threshold', 'layers']);
  const { threshold, layers } = earlyExit;
  if (!(typeof threshold === 'number' && threshold >= 0 && threshold <= 1)) {
    throw refuse(`earlyExit.threshold: expected a number from 0 to 1, got ${shown(threshold)}`);
  }
  if (layers !== undefined && !Array.isArray(layers)) {
    throw refuse(`earlyExit.layers: expected a list of layers, from 0, got ${shown(layers)}`);
  }
  return { threshold, layers };
}

function requireInteger(name: string, value: unknown, least: number, expected = `an integer from ${least}`): void {
  if (Number.isSafeInteger(value) && Number(value) >= least) return;
  throw refuse(`${name}: expected ${expected}, got ${shown(value)}`);
}
