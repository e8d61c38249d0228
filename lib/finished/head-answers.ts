// What each head makes of labelled images, and what early exit comes to with that: no image goes through the network twice.
import { type DatasetPart, openImages } from '../data/index.js';
import { inferenceMode, scope } from '../tensor/index.js';
import { confidencesOf, softmax } from './early-exit.js';
import type { TrainedRun } from './trained-run.js';

/** Of one image after each of all layers: whether its head is right, and how sure it is. */
export interface HeadAnswer {
  readonly isRight: readonly boolean[];
  /** The largest softmax probability. */
  readonly confidences: readonly number[];
}

/** The answers of all heads for all images of a part, in order. */
export async function headAnswers(run: TrainedRun, part: DatasetPart): Promise<HeadAnswer[]> {
  run.requireShape(part);
  const images = openImages(part, { device: run.device });
  const answers: HeadAnswer[] = [];
  try {
    for await (const batch of images.batches(run.recipe.evaluation.batchSize)) {
      const { isRight, confidences } = scope(() => {
        const { images, labels } = batch.tensors();
        const climb = run.climb(images);
        const heads = [...run.network.blocks.keys()].map((layer) => {
          const probabilities = softmax(climb.logits(layer));
          const hits = inferenceMode(() => probabilities.argmax({ dim: 1 }).eq(labels).toFloat32Array());
          return { hits, sure: confidencesOf(probabilities) };
        });
        return { isRight: heads.map(({ hits }) => hits), confidences: heads.map(({ sure }) => sure) };
      });
      for (let row = 0; row < batch.indices.length; row++) {
        answers.push({
          isRight: isRight.map((hits) => hits[row] === 1),
          confidences: confidences.map((sure) => sure[row]!),
        });
      }
    }
    return answers;
  } finally {
    images.dispose();
  }
}

/** What leaving at some layers costs, in any unit: index i is for the i-th of them. */
export type ExitCosts = readonly number[];

/** What early exit of some images comes to. */
export interface ExitSummary {
  /** Percentage. */
  readonly top1: number;
  /** Images that left at each layer. */
  readonly exits: readonly number[];
  /** Mean of an image. */
  readonly cost: number;
}

/** Each image leaves at the first of `layers` that is surer than `threshold`, or the last. */
export function summarizeExits(
  answers: readonly HeadAnswer[],
  { layers, threshold, costs }: { layers: readonly number[]; threshold: number; costs: ExitCosts },
): ExitSummary {
  const exits = new Array<number>(layers.length).fill(0);
  let right = 0;
  for (const { isRight, confidences } of answers) {
    const sure = layers.findIndex((layer) => confidences[layer]! > threshold);
    const at = sure < 0 ? layers.length - 1 : sure;
    exits[at]!++;
    if (isRight[layers[at]!]) right++;
  }
  const total = exits.reduce((sum, count, i) => sum + count * costs[i]!, 0);
  return { top1: (100 * right) / answers.length, exits, cost: total / answers.length };
}
