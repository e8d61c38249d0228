import { CudaGraph, type Device, keep, scope, type Tensor } from '../tensor/index.js';
import type { GiveBatch, StepResult } from './auxiliary-problem.js';

/** Steps made kernel by kernel before a capture: libraries choose their algorithms, the momentum has begun. */
const WARM_UP_STEPS = 3;

interface Captured {
  readonly graph: CudaGraph;
  /** Where the graph reads its batch and leaves its results. */
  readonly features: Tensor;
  readonly labels: Tensor;
  readonly loss: Tensor;
  readonly correct: Tensor;
  /** The learning rate that the graph has recorded. */
  readonly learningRate: number;
}

/**
 * A training step as one CUDA graph: forward pass, backward pass and update, captured from a step and launched again for
 * each later batch of the same size. It is captured anew where the learning rate changes; a last, smaller batch is a step
 * of the ordinary kind. Dispose it.
 */
export class GraphedSteps {
  readonly #ordinary: (count: number, give: GiveBatch) => StepResult;
  readonly #device: Device;
  readonly #batchSize: number;
  #captured: Captured | null = null;
  #ordinarySteps = 0;

  /** `ordinary` makes a step kernel by kernel. */
  constructor(
    ordinary: (count: number, give: GiveBatch) => StepResult,
    options: { readonly device: Device; readonly batchSize: number },
  ) {
    this.#ordinary = ordinary;
    this.#device = options.device;
    this.#batchSize = options.batchSize;
  }

  /** A step at this learning rate. Call it in a scope. */
  step(count: number, give: GiveBatch, learningRate: number): StepResult {
    if (count !== this.#batchSize) return this.#ordinary(count, give);
    if (this.#captured?.learningRate !== learningRate) this.#forget();
    if (this.#captured === null) {
      if (this.#ordinarySteps++ < WARM_UP_STEPS) return this.#warmUp(count, give);
      this.#captured = this.#capture(count, give, learningRate);
    } else {
      const { features, labels } = give(0, count);
      this.#captured.features.copy_(features);
      this.#captured.labels.copy_(labels);
    }
    this.#captured.graph.replay();
    // The next replay writes over them.
    return { loss: this.#captured.loss.clone(), correct: this.#captured.correct.clone(), stepped: true };
  }

  /** A step kernel by kernel, on the stream that the capture will be made on. */
  #warmUp(count: number, give: GiveBatch): StepResult {
    let result: StepResult | undefined;
    CudaGraph.warmUp(this.#device, () => {
      result = this.#ordinary(count, give);
    });
    return result!;
  }

  /** Records the step on a copy of this batch, which the first replay is then made on. */
  #capture(count: number, give: GiveBatch, learningRate: number): Captured {
    return scope(() => {
      const batch = give(0, count);
      const [features, labels] = [batch.features.clone(), batch.labels.clone()];
      let result: StepResult | undefined;
      const graph = CudaGraph.capture(this.#device, () => {
        result = this.#ordinary(count, () => ({ features, labels }));
      });
      const { loss, correct } = result!;
      for (const tensor of [features, labels, loss, correct]) keep(tensor);
      return { graph, features, labels, loss, correct, learningRate };
    });
  }

  #forget(): void {
    if (this.#captured === null) return;
    const { graph, features, labels, loss, correct } = this.#captured;
    this.#captured = null;
    this.#ordinarySteps = 0;
    graph.dispose();
    for (const tensor of [features, labels, loss, correct]) tensor.dispose();
  }

  dispose(): void {
    this.#forget();
  }
}
