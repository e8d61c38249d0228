// Early exit: an image leaves the network at the first layer whose head is sure enough, and the layers above do not run for it.
import { RecipeError } from '../recipe/index.js';
import { shown } from '../schema.js';
import { cat, inferenceMode, scope, type Tensor, tensor } from '../tensor/index.js';
import type { TrainedRun } from './trained-run.js';

/** Where and when images leave the network. */
export interface EarlyExit {
  /**
   * An image leaves at the first layer whose confidence, the largest softmax probability of its head, is above it: from 0, where all
   * leave at the first layer, to 1, where all leave at the last one.
   */
  readonly threshold: number;
  /** Layers, from 0, rising, that images may leave at; default: all. Those that are left leave at the last one of the network. */
  readonly layers?: readonly number[] | undefined;
}

/** What some images were taken for. */
export interface Exited {
  /** float32 [batch, classes]: of the head of the layer that each left at. */
  readonly probabilities: Tensor;
  /** [batch]: that layer. */
  readonly layers: Int32Array;
}

/** Throws RecipeError for a threshold out of range. */
export function requireThreshold(threshold: unknown): void {
  if (typeof threshold === 'number' && threshold >= 0 && threshold <= 1) return;
  throw new RecipeError(`threshold: expected a number from 0 to 1, got ${shown(threshold)}`);
}

/**
 * The layers that images may leave at, the last one of the network included. Throws RecipeError for a list that does not rise, and
 * RunDirectoryError for a layer that is not there, and for a run whose lower layers have no heads.
 */
export function exitLayersOf(run: TrainedRun, layers: readonly number[] = [...run.network.blocks.keys()]): number[] {
  run.requireAuxiliaryHeads();
  if (!Array.isArray(layers) || layers.some((layer, i) => i > 0 && layer <= layers[i - 1]!)) {
    throw new RecipeError(`layers: expected a list of layers that rise, got ${shown(layers)}`);
  }
  for (const layer of layers) run.checkLayer(layer);
  const last = run.layers - 1;
  return layers.at(-1) === last ? [...layers] : [...layers, last];
}

/**
 * Sends images, or vectors, as `TrainedRun.logits` takes them, up the network until each has left; `layers` as `exitLayersOf` gives
 * them. What each is taken for equals, to rounding, what its layer's head makes of it alone. Call it in a scope.
 */
export function exitEarly(
  run: TrainedRun,
  images: Tensor,
  { threshold, layers }: { threshold: number; layers: readonly number[] },
): Exited {
  const climb = run.climb(images);
  const count = images.shape[0]!;
  const left = new Int32Array(count);
  /** Images still on their way, by their indices in the batch. */
  let remaining = [...left.keys()];
  const order: number[] = [];
  const parts: Tensor[] = [];
  for (const layer of layers) {
    const probabilities = softmax(climb.logits(layer));
    const isLast = layer === layers.at(-1);
    const confidences = isLast ? null : confidencesOf(probabilities);
    const leaves = (row: number): boolean => confidences === null || confidences[row]! > threshold;
    const rows = [...remaining.keys()];
    const [leaving, staying] = [rows.filter(leaves), rows.filter((row) => !leaves(row))];
    if (leaving.length > 0) parts.push(rowsOf(probabilities, leaving));
    for (const row of leaving) {
      order.push(remaining[row]!);
      left[remaining[row]!] = layer;
    }
    if (staying.length === 0) break;
    if (leaving.length > 0) climb.select(staying);
    remaining = staying.map((row) => remaining[row]!);
  }
  return { probabilities: inOrder(parts, order), layers: left };
}

/** The largest probability of each row. */
export const confidencesOf = (probabilities: Tensor): Float32Array =>
  scope(() => inferenceMode(() => probabilities.amax({ dims: [1] }).toFloat32Array()));

/** The probabilities of the classes, [rows, classes]. */
export const softmax = (logits: Tensor): Tensor => inferenceMode(() => logits.softmax(1));

const rowsOf = (x: Tensor, rows: readonly number[]): Tensor =>
  scope(() => inferenceMode(() => x.indexSelect(0, tensor(rows, { dtype: 'int64', device: x.device }))));

/** Rows that came in another order. */
function inOrder(parts: readonly Tensor[], order: readonly number[]): Tensor {
  const places = new Array<number>(order.length);
  for (const [place, index] of order.entries()) places[index] = place;
  return scope(() =>
    rowsOf(
      inferenceMode(() => cat(parts)),
      places,
    ),
  );
}
