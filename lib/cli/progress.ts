import type { SingleBar } from 'cli-progress';
import { byteSize, shownLines } from '../format.js';
import type { TrainingEvent } from '../training/events.js';
import { newBar, Throttle } from './bar.js';
import { duration, planSummary } from './plan-text.js';
import { resultTable } from './table.js';

/** Shows what a run tells. */
export interface ProgressView {
  show(event: TrainingEvent): void;
  /** A line from outside the run, such as "stopping". */
  note(text: string): void;
  /** Leaves the terminal clean, however the run ended. */
  close(): void;
}

/** Lines a view without a terminal prints while an epoch goes on: one so often. */
const PLAIN_INTERVAL_SECONDS = 10;
const JSON_INTERVAL_SECONDS = 1;

export function progressView(options: { json: boolean }): ProgressView {
  if (options.json) return new JsonView();
  return process.stdout.isTTY ? new TerminalView() : new PlainView();
}

/** One JSON object a line on standard output, and nothing else there. */
class JsonView implements ProgressView {
  readonly #throttle = new Throttle(JSON_INTERVAL_SECONDS);

  show(event: TrainingEvent): void {
    if (event.type === 'step' && !this.#throttle.due) return;
    process.stdout.write(`${JSON.stringify(event)}\n`);
  }

  note(text: string): void {
    process.stderr.write(`${shownLines(text)}\n`);
  }

  close(): void {}
}

const print = (text: string): void => {
  process.stdout.write(`${shownLines(text)}\n`);
};

/** Time left, from the pace of the steps since it was made. */
class TimeLeft {
  readonly #start = performance.now();
  #stepsBefore: number | null = null;

  after(event: { stepsDone: number; stepsTotal: number }): string {
    this.#stepsBefore ??= event.stepsDone - 1;
    const done = event.stepsDone - this.#stepsBefore;
    const elapsed = (performance.now() - this.#start) / 1000;
    return duration((elapsed / done) * (event.stepsTotal - event.stepsDone));
  }
}

function epochLine(event: TrainingEvent & { type: 'epoch' }): string {
  const ensemble = event.ensembleTop1 === null ? '' : `, ensemble ${event.ensembleTop1.toFixed(2)} %`;
  return (
    `layer ${event.layer + 1} epoch ${event.epoch + 1}: learning rate ${event.learningRate.toPrecision(3)}, ` +
    `train loss ${event.trainLoss.toFixed(4)}, train top-1 ${event.trainTop1.toFixed(2)} %, ` +
    `test loss ${event.testLoss.toFixed(4)}, top-1 ${event.testTop1.toFixed(2)} %, top-5 ${event.testTop5.toFixed(2)} %${ensemble}, ` +
    `${event.seconds.toFixed(1)} s, ${Math.round(event.imagesPerSecond)} images/s`
  );
}

function describeStart(event: TrainingEvent & { type: 'start' }): string {
  const { config, notes, plan, resumedFrom } = event;
  const lines = [
    `preset        ${config.preset}`,
    ...Object.entries(config.recipe)
      .filter(([, value]) => typeof value === 'object' && value !== null)
      .map(([part, values]) => `${part.padEnd(14)}${describeValues(values as Record<string, unknown>)}`),
    ...Object.entries(config.modules ?? {}).map(([name, { path }]) => `${name.padEnd(14)}by the module ${path}`),
    `seed          ${config.seed}`,
    `device        ${config.device}${config.deviceName ? ` (${config.deviceName})` : ''}, ${config.precision}, ${config.threads} ${config.threads === 1 ? 'thread' : 'threads'}`,
    `versions      ${Object.entries(config.versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', ')}`,
    `run           ${event.runDirectory}`,
    ...(plan === null ? [] : planSummary(plan).map((line) => `plan          ${line}`)),
    ...notes.map((note) => `note          ${note}`),
    ...(resumedFrom === null
      ? []
      : [
          `resuming      at layer ${resumedFrom.layer + 1}, epoch ${resumedFrom.epoch + 1}, step ${resumedFrom.step + 1}`,
        ]),
  ];
  return lines.join('\n');
}

const describeValues = (values: Record<string, unknown>): string =>
  Object.entries(values)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} ${describeValue(value)}`)
    .join(', ');

function describeValue(value: unknown): string {
  if (Array.isArray(value)) return value.join(',') || 'none';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function describeEnd(event: TrainingEvent & { type: 'done' }): string {
  const { result } = event;
  return [
    '',
    resultTable(result),
    '',
    ...(result.notes ?? []).map((note) => `Note: ${note}`),
    `Trained in ${duration(result.seconds)}. The run is in ${event.runDirectory}`,
    `Open the report: ${event.report}`,
  ].join('\n');
}

function viewLine(event: TrainingEvent & { type: 'view' }): string {
  const tier = { device: 'memory of the GPU', host: 'memory', disk: 'file' }[event.tier];
  return (
    `layer ${event.layer + 1}: features of view ${event.view + 1} of ${event.views} kept, ` +
    `${byteSize(event.bytes)} (${tier})`
  );
}

function scaleLine(event: TrainingEvent & { type: 'scale' }): string {
  return `layer ${event.layer + 1} epoch ${event.epoch + 1} step ${event.step + 1}: gradients overflowed, step left out; loss scale now ${event.scale}`;
}

/** The text of an event that is told whole; null for one that is not. */
function textOf(event: TrainingEvent): string | null {
  switch (event.type) {
    case 'start':
      return describeStart(event);
    case 'epoch':
      return epochLine(event);
    case 'view':
      return viewLine(event);
    case 'scale':
      return scaleLine(event);
    case 'done':
      return describeEnd(event);
    default:
      return null;
  }
}

type Step = TrainingEvent & { type: 'step' };

/** Lines for people; how steps are shown is left to what extends it. */
abstract class TextView implements ProgressView {
  #left = new TimeLeft();

  show(event: TrainingEvent): void {
    // What came before the first step, such as reading the data, says nothing of the steps' pace.
    if (event.type === 'start') this.#left = new TimeLeft();
    if (event.type === 'step') {
      this.showStep(event, this.#left.after(event));
      return;
    }
    const text = textOf(event);
    if (text === null) return;
    this.close();
    print(text);
  }

  note(text: string): void {
    this.close();
    process.stderr.write(`${shownLines(text)}\n`);
  }

  abstract close(): void;
  protected abstract showStep(event: Step, left: string): void;
}

/** A line now and then, for logs. */
class PlainView extends TextView {
  readonly #throttle = new Throttle(PLAIN_INTERVAL_SECONDS);

  protected override showStep(event: Step, left: string): void {
    if (!this.#throttle.due) return;
    print(
      `layer ${event.layer + 1} epoch ${event.epoch + 1} step ${event.step} of ${event.stepsPerEpoch}: ` +
        `loss ${event.loss?.toFixed(4) ?? '-'}, top-1 ${event.top1?.toFixed(2) ?? '-'} %, ` +
        `${Math.round(event.imagesPerSecond)} images/s, about ${left} left`,
    );
  }

  override close(): void {}
}

const BAR_FORMAT =
  'layer {layer} epoch {epoch} {bar} {percentage}% · loss {loss} · top-1 {top1} % · {speed} images/s · {left} left';

/** A bar for the epoch in progress; what is finished stays above it as lines. */
class TerminalView extends TextView {
  #bar: SingleBar | null = null;

  protected override showStep(event: Step, left: string): void {
    const payload = {
      layer: event.layer + 1,
      epoch: event.epoch + 1,
      loss: event.loss?.toFixed(3) ?? '-',
      top1: event.top1?.toFixed(1) ?? '-',
      speed: Math.round(event.imagesPerSecond),
      left,
    };
    if (this.#bar === null) {
      this.#bar = newBar(BAR_FORMAT, process.stdout);
      this.#bar.start(event.stepsPerEpoch, event.step, payload);
    } else {
      this.#bar.update(event.step, payload);
    }
  }

  override close(): void {
    this.#bar?.stop();
    this.#bar = null;
  }
}
