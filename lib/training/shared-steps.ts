// A training step that several processes make together: each computes gradients of its share of the batch, and all step by their sum.
import { stepSeed } from '../data/index.js';
import { ModelError, trainedModules } from '../models/index.js';
import { BatchNorm1d, BatchNorm2d, type Module, modulesIn } from '../nn/index.js';
import {
  Generator,
  isCuda,
  keep,
  noGrad,
  packTensors,
  scope,
  type Tensor,
  unpackTensors,
  zeros,
} from '../tensor/index.js';
import type { AuxiliaryProblem, BatchPart, GiveBatch, StepResult } from './auxiliary-problem.js';
import type { Peers } from './peers.js';

/** Bytes of a message, about: PyTorch's default. While one is on its way the next is packed. */
const BUCKET_BYTES = 25 * 2 ** 20;

/** On CUDA a wish to stop is heard once in so many steps. */
const CUDA_STEPS_UNREAD = 16;

/** Which tensors are sent together, and the memory that they are sent in. */
interface Bucket {
  readonly first: number;
  readonly count: number;
  readonly values: Tensor;
}

export interface SharedStepOptions {
  readonly peers: Peers;
  /** Whether batch norm takes its statistics from all processes' images; else from this one's, and the running ones are averaged. */
  readonly syncBatchNorm: boolean;
  readonly microBatchSize: number | null;
  /** What dropout draws from: each process draws its own masks, in each step anew. */
  readonly generator: Generator;
  readonly seed: number;
}

/** Where a step is in a run, for what is drawn in it. */
export interface StepPosition {
  readonly layer: number;
  readonly epoch: number;
  readonly step: number;
}

/**
 * The steps of one problem. Of each step all processes have the same result, weights and statistics, to the bit. Dispose it.
 *
 * What is summed: the gradients of the stage; with local statistics of batch norm their running means and variances, times the share
 * of the batch; the loss, the hits, and whether a process wants to stop. The running statistics move linearly, so that their average
 * after each step is that of processes that keep their own to the end of the epoch, and a checkpoint of one process is that of all.
 */
export class SharedSteps {
  readonly #problem: AuxiliaryProblem;
  readonly #options: SharedStepOptions;
  readonly #statistics: readonly Tensor[];
  readonly #otherBuffers: readonly Tensor[];
  /** The parameters that the loss depends on, by number, as of the first step. */
  #learning: string | null = null;
  #buckets: readonly Bucket[] | null = null;
  #stops = false;

  constructor(problem: AuxiliaryProblem, options: SharedStepOptions) {
    this.#problem = problem;
    this.#options = options;
    const norms = batchNorms(trainedModules(problem.stage));
    const statistics = norms.flatMap(({ runningMean, runningVar }) => [runningMean, runningVar]);
    this.#statistics = options.syncBatchNorm ? [] : statistics;
    this.#otherBuffers = otherBuffers(problem, [...statistics, ...norms.map((norm) => norm.numBatchesTracked)]);
  }

  /** Whether a process wanted to stop in the last step. */
  get stops(): boolean {
    return this.#stops;
  }

  /**
   * One step on a batch of `count` images, of which `give` makes this process's. The tensors of the result belong to the caller.
   */
  async step(count: number, give: GiveBatch, position: StepPosition, wantsToStop: boolean): Promise<StepResult> {
    const { peers } = this.#options;
    this.#reseed(position);
    const { length } = peers.shareOf(count);
    const sums = scope(() => this.#compute(count, length, give, wantsToStop));
    try {
      await this.#sum(length / count, sums);
      // Buffers of modules of one's own are rank 0's.
      await peers.takeFromFirst(this.#otherBuffers);
      return scope(() => {
        const { loss, correct } = this.#take(sums, position.step);
        return { loss: keep(loss), correct: keep(correct), stepped: this.#problem.update() };
      });
    } finally {
      sums.dispose();
    }
  }

  /** Gradients of this process's images; gives [loss of each problem, hits of each problem, 1 to stop]. */
  #compute(count: number, length: number, give: GiveBatch, wantsToStop: boolean): Tensor {
    const { peers, syncBatchNorm } = this.#options;
    const parts = partsOf(length, this.#numberOfParts(count)).map((part) => ({ ...part, share: part.length / count }));
    const compute = () => this.#problem.accumulate(parts, give);
    const { loss, correct } = syncBatchNorm ? peers.synchronized(compute) : compute();
    return noGrad(() => {
      const problems = loss.dim === 0 ? 1 : loss.shape[0]!;
      const sums = zeros([2 * problems + 1], { device: loss.device });
      sums.narrow(0, 0, problems).copy_(loss.reshape([problems]));
      sums.narrow(0, problems, problems).copy_(correct.reshape([problems]));
      if (wantsToStop) sums.narrow(0, 2 * problems, 1).fill_(1);
      return keep(sums);
    });
  }

  /** In all processes alike, so that their layers meet: of the largest share. */
  #numberOfParts(count: number): number {
    const { peers, microBatchSize } = this.#options;
    const largest = Math.ceil(count / peers.size);
    return Math.ceil(largest / Math.min(largest, microBatchSize ?? largest));
  }

  /** Sends what there is to sum, bucket by bucket, and brings back the sums. */
  async #sum(share: number, sums: Tensor): Promise<void> {
    const { peers } = this.#options;
    noGrad(() => {
      for (const statistic of this.#statistics) statistic.mul_(share);
    });
    const all = scope(() => this.#problem.optimizer.parameters.map(({ grad }) => grad && keep(grad)));
    const gradients = all.filter((gradient) => gradient !== null);
    try {
      await this.#requireSame(all.map((gradient) => (gradient === null ? '0' : '1')).join(''));
      const tensors = [...gradients, ...this.#statistics, sums];
      this.#buckets ??= bucketsOf(tensors);
      const sent = this.#buckets.map(async ({ first, count, values }) => {
        const own = tensors.slice(first, first + count);
        packTensors(own, values);
        await peers.sum(values);
        unpackTensors(own, values);
      });
      await Promise.all(sent);
    } finally {
      for (const gradient of gradients) gradient.dispose();
    }
  }

  /**
   * Sums are formed of the same gradients in all processes, in every step: `learning` says which parameters have one. Throws
   * DistributedError or ModelError where they are not the same.
   */
  async #requireSame(learning: string): Promise<void> {
    if (this.#learning === null) {
      await this.#options.peers.requireSame({ 'which parameters have gradients': learning });
      this.#learning = learning;
    } else if (learning !== this.#learning) {
      throw new ModelError(
        'own: with several processes the loss of every step depends on the same parameters, but other ones have gradients now than in the first step',
      );
    }
  }

  #take(sums: Tensor, step: number): Pick<StepResult, 'loss' | 'correct'> {
    const problems = (sums.shape[0]! - 1) / 2;
    const shape = problems === 1 ? [] : [problems];
    const wish = sums.narrow(0, 2 * problems, 1);
    // Reading waits for the device. The wish is told in each step again.
    if (!isCuda(sums.device) || step % CUDA_STEPS_UNREAD === 0) this.#stops = wish.item() > 0;
    return {
      loss: sums.narrow(0, 0, problems).clone().reshape(shape),
      correct: sums.narrow(0, problems, problems).to({ dtype: 'int64' }).reshape(shape),
    };
  }

  #reseed(position: StepPosition): void {
    const { generator, seed, peers } = this.#options;
    using fresh = Generator.create({ seed: stepSeed({ seed, ...position, rank: peers.rank }) });
    using state = fresh.state();
    generator.setState(state);
  }

  dispose(): void {
    for (const { values } of this.#buckets ?? []) values.dispose();
    this.#buckets = null;
  }
}

/** Consecutive tensors together, until a bucket is full. */
function bucketsOf(tensors: readonly Tensor[]): Bucket[] {
  const { device } = tensors[0]!;
  const made: { first: number; count: number; length: number; bytes: number }[] = [];
  for (const [i, { numel, byteLength }] of tensors.entries()) {
    const last = made.at(-1);
    if (last !== undefined && last.bytes + byteLength <= BUCKET_BYTES) {
      last.count++;
      last.length += numel;
      last.bytes += byteLength;
    } else {
      made.push({ first: i, count: 1, length: numel, bytes: byteLength });
    }
  }
  return made.map(({ first, count, length }) => ({
    ...{ first, count },
    values: scope(() => keep(zeros([length], { device }))),
  }));
}

/** So many parts of `length` images, as equal as can be. */
function partsOf(length: number, parts: number): Omit<BatchPart, 'share'>[] {
  return Array.from({ length: parts }, (_, part) => {
    const start = Math.floor((length * part) / parts);
    return { start, length: Math.floor((length * (part + 1)) / parts) - start };
  });
}

/** Buffers that are not batch norm's, which are the same in all processes by themselves. */
function otherBuffers(problem: AuxiliaryProblem, ofBatchNorm: readonly Tensor[]): Tensor[] {
  const known = new Set([...problem.optimizer.parameters, ...ofBatchNorm]);
  const all = trainedModules(problem.stage).flatMap((module) => [...module.stateDict().values()]);
  return [...new Set(all)].filter((tensor) => !known.has(tensor));
}

/** All batch norms among modules, each once: a layer may be in several places. */
const batchNorms = (modules: readonly Module[]): (BatchNorm1d | BatchNorm2d)[] =>
  [...new Set(modules.flatMap(modulesIn))].filter(
    (module) => module instanceof BatchNorm1d || module instanceof BatchNorm2d,
  );
