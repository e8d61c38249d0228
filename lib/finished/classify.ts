// What a finished run takes images for: by the head of a layer, by the ensemble of all, or by the first layer that is sure enough.
import { LayerEnsemble } from '../evaluation/index.js';
import { RunDirectoryError } from '../run/index.js';
import { cat, inferenceMode, scope, type Tensor } from '../tensor/index.js';
import { type EarlyExit, exitEarly, exitLayersOf, requireThreshold, softmax } from './early-exit.js';
import type { LayerSelection, TrainedRun } from './trained-run.js';

/** The likeliest classes of some images, the likeliest first: of each image `top` entries, one after the other. */
export interface Classified {
  readonly top: number;
  /** Indices into the classes. */
  readonly indices: Int32Array;
  readonly probabilities: Float32Array;
  /** Of each image the layer, from 0, that answered; null: the ensemble did. */
  readonly layers: Int32Array | null;
}

/** A class that an image may be of. */
export interface ClassPrediction {
  readonly class: string;
  /** Its index into the classes. */
  readonly index: number;
  readonly probability: number;
}

/** Of what some images were taken for, what one of them was: at most `top` classes, the likeliest first. */
export function predictionsOf(
  { top, indices, probabilities }: Classified,
  { row, classes, top: asked = top }: { row: number; classes: readonly string[]; top?: number },
): ClassPrediction[] {
  return Array.from({ length: Math.min(asked, top) }, (_, i) => {
    const index = indices[row * top + i]!;
    return { class: classes[index]!, index, probability: probabilities[row * top + i]! };
  });
}

/** What answers: the head of a layer, the ensemble, or the first layer that is sure enough. */
export type AnsweredBy = LayerSelection | EarlyExit;

/** Layers and threshold that `evaluate --early-exit` chose for a run; throws RunDirectoryError where it has not. */
export function chosenExit({ earlyExit, runDirectory }: TrainedRun): EarlyExit {
  if (earlyExit !== null) return earlyExit;
  throw new RunDirectoryError(
    `${runDirectory}: expected early exit to have been evaluated, which chooses layers and threshold (layerwise evaluate --early-exit)`,
  );
}

/** Throws RunDirectoryError and RecipeError for what does not answer in this run. */
export function requireAnswer(run: TrainedRun, by: AnsweredBy): void {
  if (typeof by !== 'object') {
    run.checkSelection(by);
    return;
  }
  requireThreshold(by.threshold);
  exitLayersOf(run, by.layers);
}

/** `images` as `TrainedRun.logits` takes them; `top` classes at most. */
export function classify(
  run: TrainedRun,
  images: Tensor,
  { by, top: asked }: { by: AnsweredBy; top: number },
): Classified {
  const top = Math.min(asked, run.classes.length);
  return scope(() => {
    const { probabilities, layers } = answerOf(run, images, by);
    return likeliest(probabilities, { top, layers });
  });
}

/** What the head of every layer that has one takes the images for, from the first layer on; each block runs once. */
export function classifyByLayer(run: TrainedRun, images: Tensor, { top: asked }: { top: number }): Classified[] {
  const top = Math.min(asked, run.classes.length);
  return scope(() => {
    const climb = run.climb(images);
    const first = run.hasAuxiliaryHeads ? 0 : run.layers - 1;
    const count = images.shape[0]!;
    const logits = Array.from({ length: run.layers - first }, (_, i) => climb.logits(first + i));
    // Those of all layers are read together: a read waits for the device.
    const all = likeliest(softmax(cat(logits)), { top, layers: null });
    return logits.map((_, i) => {
      const [start, end] = [i * count * top, (i + 1) * count * top];
      const [indices, probabilities] = [all.indices.slice(start, end), all.probabilities.slice(start, end)];
      return { top, layers: new Int32Array(count).fill(first + i), indices, probabilities };
    });
  });
}

/** The `top` largest of the probabilities, float32 [batch, classes]. */
function likeliest(probabilities: Tensor, { top, layers }: Pick<Classified, 'top' | 'layers'>): Classified {
  const { values, indices } = probabilities.topk(top, { dim: 1 });
  return {
    ...{ top, layers, probabilities: values.toFloat32Array() },
    indices: Int32Array.from(indices.to({ dtype: 'float32' }).toFloat32Array()),
  };
}

/** The probabilities of the classes, float32 [batch, classes], and what they are of. */
function answerOf(
  run: TrainedRun,
  images: Tensor,
  by: AnsweredBy,
): { probabilities: Tensor; layers: Int32Array | null } {
  if (by === 'ensemble') return { probabilities: ensembleProbabilities(run, images), layers: null };
  if (typeof by === 'object') {
    return exitEarly(run, images, { threshold: by.threshold, layers: exitLayersOf(run, by.layers) });
  }
  return { probabilities: softmax(run.logits(images, by)), layers: new Int32Array(images.shape[0]!).fill(by) };
}

/** Its scores, as of `TrainedRun.evaluate`, where the recipe averages probabilities, and else the softmax of the averaged logits. */
function ensembleProbabilities(run: TrainedRun, images: Tensor): Tensor {
  const scores = ensembleScores(run, images);
  return run.recipe.evaluation.ensemble === 'probabilities' ? scores : softmax(scores);
}

function ensembleScores(run: TrainedRun, images: Tensor): Tensor {
  const ensemble = new LayerEnsemble(run.recipe.evaluation.ensemble);
  const climb = run.climb(images);
  try {
    return inferenceMode(() => {
      for (let layer = 0; layer < run.layers - 1; layer++) ensemble.add(climb.logits(layer));
      return ensemble.with(climb.logits(run.layers - 1));
    });
  } finally {
    ensemble.dispose();
  }
}
