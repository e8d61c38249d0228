import { type DatasetPart, openImages } from '../data/index.js';
import { keep, scope, synchronize, type Tensor } from '../tensor/index.js';
import { exitEarly, softmax } from './early-exit.js';
import type { TrainedRun } from './trained-run.js';

/** Images that go through the network together while times are measured: as in a predictor's largest batch by default. */
export const TIMED_BATCH = 32;
/** At most. */
const TIMED_BATCHES = 8;
const MOST_ROUNDS = 5;
/** No further round is begun after so many seconds. */
const ROUNDS_SECONDS = 15;

/** Milliseconds an image: of the whole network, and of early exit at each of some thresholds. */
export interface ExitTimes {
  readonly whole: number;
  readonly atThresholds: readonly number[];
}

/**
 * Measured on the first images of a part, which lie on the device by then: medians of rounds, in which all are measured in turn, so that
 * whatever else the machine does falls on all of them.
 */
export async function measureExitTimes(
  run: TrainedRun,
  part: DatasetPart,
  { layers, thresholds }: { layers: readonly number[]; thresholds: readonly number[] },
): Promise<ExitTimes> {
  const batches = await firstBatches(run, part);
  const last = run.layers - 1;
  const works = [
    (images: Tensor): unknown => softmax(run.logits(images, last)),
    ...thresholds.map((threshold) => (images: Tensor) => exitEarly(run, images, { threshold, layers })),
  ];
  try {
    for (const work of works) secondsOf(run, batches.slice(0, 1), work);
    const begin = performance.now();
    const rounds: number[][] = [];
    do {
      rounds.push(works.map((work) => secondsOf(run, batches, work)));
    } while (rounds.length < MOST_ROUNDS && performance.now() - begin < 1000 * ROUNDS_SECONDS);
    const images = batches.reduce((sum, batch) => sum + batch.shape[0]!, 0);
    const [whole, ...atThresholds] = works.map((_, i) => (1000 * median(rounds.map((round) => round[i]!))) / images);
    return { whole: whole!, atThresholds };
  } finally {
    for (const batch of batches) batch.dispose();
  }
}

async function firstBatches(run: TrainedRun, part: DatasetPart): Promise<Tensor[]> {
  const source = openImages(part, { device: run.device });
  const batches: Tensor[] = [];
  try {
    for await (const batch of source.batches(TIMED_BATCH)) {
      batches.push(scope(() => keep(batch.tensors().images.clone())));
      if (batches.length === TIMED_BATCHES) break;
    }
    return batches;
  } finally {
    source.dispose();
  }
}

function secondsOf(run: TrainedRun, batches: readonly Tensor[], work: (images: Tensor) => unknown): number {
  synchronize(run.device);
  const begin = performance.now();
  for (const batch of batches) scope(() => void work(batch));
  synchronize(run.device);
  return (performance.now() - begin) / 1000;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
}
