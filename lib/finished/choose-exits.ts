// Which layers images may leave at, and how sure those must be.
import { type ExitCosts, type ExitSummary, type HeadAnswer, summarizeExits } from './head-answers.js';

/** Between which early exit is a curve. */
export const THRESHOLDS = [
  0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1,
] as const;

/** Layers, the last of the network included, and a threshold. */
export interface ExitChoice extends ExitSummary {
  readonly layers: readonly number[];
  readonly threshold: number;
}

export interface ChooseOptions {
  /** Of the whole network, in percent, on the same images. */
  readonly wholeTop1: number;
  /** Points of it that may be lost. */
  readonly tolerance: number;
  readonly costsOf: (layers: readonly number[]) => ExitCosts;
}

/**
 * The smallest threshold at which no more than `tolerance` points are lost: a lower one never costs more. There is one always: at 1 all
 * images leave at the last layer.
 */
export function chooseThreshold(
  answers: readonly HeadAnswer[],
  layers: readonly number[],
  { wholeTop1, tolerance, costsOf }: ChooseOptions,
): ExitChoice {
  const costs = costsOf(layers);
  const at = (threshold: number): ExitSummary => summarizeExits(answers, { layers, threshold, costs });
  // Shares of images are rounded: a bound that is met exactly counts.
  const threshold = THRESHOLDS.find((one) => at(one).top1 >= wholeTop1 - tolerance - 1e-9) ?? 1;
  return { ...at(threshold), layers, threshold };
}

/**
 * Heads cost, too, so not every layer is worth asking: beginning with the last one alone, the layer whose exit makes the mean cost least
 * joins, as long as one makes it less.
 */
export function chooseExits(answers: readonly HeadAnswer[], count: number, options: ChooseOptions): ExitChoice {
  const last = count - 1;
  let best = chooseThreshold(answers, [last], options);
  for (;;) {
    const joined = Array.from({ length: last }, (_, layer) => layer)
      .filter((layer) => !best.layers.includes(layer))
      .map((layer) =>
        chooseThreshold(
          answers,
          [...best.layers, layer].sort((a, b) => a - b),
          options,
        ),
      );
    const next = joined.reduce((least, one) => (one.cost < least.cost ? one : least), best);
    if (next === best) return best;
    best = next;
  }
}
