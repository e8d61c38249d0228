// Figures for Prometheus.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { TrainingEvent } from '../training/index.js';

const OF_LAYER = ['run', 'layer'] as const;

/** Runs that are told of, at most: those that something has happened to last. Each label costs whoever keeps the figures. */
const MOST_RUNS = 100;

/** Node's own figures: what collects them goes on as long as the process. */
let processRegistry: Registry | null = null;

function figuresOfProcess(): Registry {
  if (processRegistry === null) {
    processRegistry = new Registry();
    collectDefaultMetrics({ register: processRegistry });
  }
  return processRegistry;
}

/** What the process, its runs and its predictors are at. Layers count from 1. */
export class ServerMetrics {
  readonly #registry = new Registry();
  /** Of each run that is told of its layers, as labels; the run that something has happened to last comes last. */
  readonly #layersOf = new Map<string, Set<number>>();
  readonly #imagesPerSecond = this.#gauge(
    'layerwise_training_images_per_second',
    'Images a second that a layer is trained on',
    OF_LAYER,
  );
  readonly #trainLoss = this.#gauge('layerwise_training_loss', 'Mean loss over the epoch so far', OF_LAYER);
  readonly #testLoss = this.#gauge('layerwise_test_loss', 'Loss on the test images after the last epoch', OF_LAYER);
  readonly #testTop1 = this.#gauge(
    'layerwise_test_top1_percent',
    'Top-1 accuracy on the test images after the last epoch',
    OF_LAYER,
  );
  readonly #ensembleTop1 = this.#gauge(
    'layerwise_ensemble_top1_percent',
    'Top-1 accuracy of the ensemble of the layers so far',
    OF_LAYER,
  );
  readonly #runs = this.#gauge('layerwise_runs', 'Runs of this process by state', ['state']);
  readonly #classified = new Counter({
    name: 'layerwise_classified_images_total',
    help: 'Images that were classified',
    labelNames: ['run'] as const,
    registers: [this.#registry],
  });
  readonly #seconds = new Histogram({
    name: 'layerwise_classify_seconds',
    help: 'Seconds from an upload to its answer',
    labelNames: ['run'] as const,
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    registers: [this.#registry],
  });
  readonly #waiting = this.#gauge('layerwise_classify_waiting', 'Uploads that wait for their batch', ['run']);

  take(run: string, event: TrainingEvent): void {
    if (event.type === 'step') {
      const labels = this.#labels(run, event);
      this.#imagesPerSecond.set(labels, event.imagesPerSecond);
      if (event.loss !== null) this.#trainLoss.set(labels, event.loss);
    } else if (event.type === 'epoch') {
      const labels = this.#labels(run, event);
      this.#testLoss.set(labels, event.testLoss);
      this.#testTop1.set(labels, event.testTop1);
      if (event.ensembleTop1 !== null) this.#ensembleTop1.set(labels, event.ensembleTop1);
    }
  }

  classified(run: string, seconds: number): void {
    this.#remember(run);
    this.#classified.inc({ run });
    this.#seconds.observe({ run }, seconds);
  }

  /** How things stand when the figures are asked for. */
  setStates(states: Readonly<Record<string, number>>, waiting: Readonly<Record<string, number>>): void {
    this.#runs.reset();
    for (const [state, count] of Object.entries(states)) this.#runs.set({ state }, count);
    this.#waiting.reset();
    for (const [run, count] of Object.entries(waiting)) this.#waiting.set({ run }, count);
  }

  /** Of `text`. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** All figures, as Prometheus reads them. */
  async text(): Promise<string> {
    return Registry.merge([figuresOfProcess(), this.#registry]).metrics();
  }

  #labels(run: string, { layer }: { layer: number }): { run: string; layer: number } {
    this.#remember(run).add(layer + 1);
    return { run, layer: layer + 1 };
  }

  #remember(run: string): Set<number> {
    const layers = this.#layersOf.get(run) ?? new Set();
    this.#layersOf.delete(run);
    this.#layersOf.set(run, layers);
    const [oldest] = this.#layersOf.keys();
    if (this.#layersOf.size > MOST_RUNS) this.#forget(oldest!);
    return layers;
  }

  #forget(run: string): void {
    for (const layer of this.#layersOf.get(run) ?? []) {
      for (const gauge of this.#ofLayers) gauge.remove({ run, layer });
    }
    for (const metric of [this.#classified, this.#seconds]) metric.remove({ run });
    this.#layersOf.delete(run);
  }

  get #ofLayers(): readonly Gauge<(typeof OF_LAYER)[number]>[] {
    return [this.#imagesPerSecond, this.#trainLoss, this.#testLoss, this.#testTop1, this.#ensembleTop1];
  }

  #gauge<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Gauge<Label> {
    return new Gauge({ name, help, labelNames, registers: [this.#registry] });
  }
}
