import { type Options, Presets, SingleBar } from 'cli-progress';
import { byteSize } from '../format.js';
import type { TrainingEvent } from '../training/events.js';
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

/** Fires at most once in so many seconds. */
class Throttle {
  #last = performance.now();

  constructor(readonly seconds: number) {}

  get due(): boolean {
    const now = performance.now();
    if (now - this.#last < this.seconds * 1000) return false;
    this.#last = now;
    return true;
  }
}

/** One JSON object a line on standard output, and nothing else there. */
class JsonView implements ProgressView {
  readonly #throttle = new Throttle(JSON_INTERVAL_SECONDS);

  show(event: TrainingEvent): void {
    if (event.type === 'step' && !this.#throttle.due) return;
    process.stdout.write(`${JSON.stringify(event)}\n`);
  }

  note(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  close(): void {}
}

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

/** Time left, from the pace of this process. */
class TimeLeft {
  #start = performance.now();
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
    `layer ${event.layer + 1} epoch ${event.epoch + 1}: lr ${event.lr.toPrecision(3)}, ` +
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
    .map(([name, value]) => `${name} ${Array.isArray(value) ? value.join(',') || 'none' : String(value)}`)
    .join(', ');

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
  const place = { device: 'memory of the GPU', host: 'memory', disk: 'file' }[event.place];
  return (
    `layer ${event.layer + 1}: features of view ${event.view + 1} of ${event.views} kept, ` +
    `${byteSize(event.bytes)} (${place})`
  );
}

function scaleLine(event: TrainingEvent & { type: 'scale' }): string {
  return `layer ${event.layer + 1} epoch ${event.epoch + 1} step ${event.step + 1}: gradients overflowed, step left out; loss scale now ${event.scale}`;
}

/** One line an event, for logs. */
class PlainView implements ProgressView {
  readonly #throttle = new Throttle(PLAIN_INTERVAL_SECONDS);
  readonly #left = new TimeLeft();

  show(event: TrainingEvent): void {
    switch (event.type) {
      case 'start':
        print(describeStart(event));
        break;
      case 'step': {
        const left = this.#left.after(event);
        if (this.#throttle.due) {
          print(
            `layer ${event.layer + 1} epoch ${event.epoch + 1} step ${event.step} of ${event.stepsPerEpoch}: ` +
              `loss ${event.loss?.toFixed(4) ?? '-'}, top-1 ${event.top1?.toFixed(2) ?? '-'} %, ` +
              `${Math.round(event.imagesPerSecond)} images/s, about ${left} left`,
          );
        }
        break;
      }
      case 'epoch':
        print(epochLine(event));
        break;
      case 'view':
        print(viewLine(event));
        break;
      case 'scale':
        print(scaleLine(event));
        break;
      case 'done':
        print(describeEnd(event));
        break;
    }
  }

  note(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  close(): void {}
}

/** A bar for the epoch in progress; what is finished stays above it as lines. */
class TerminalView implements ProgressView {
  readonly #left = new TimeLeft();
  #bar: SingleBar | null = null;

  show(event: TrainingEvent): void {
    switch (event.type) {
      case 'start':
        print(describeStart(event));
        break;
      case 'step':
        this.#step(event);
        break;
      case 'epoch':
        this.close();
        print(epochLine(event));
        break;
      case 'view':
        this.close();
        print(viewLine(event));
        break;
      case 'scale':
        this.close();
        print(scaleLine(event));
        break;
      case 'done':
        print(describeEnd(event));
        break;
    }
  }

  #step(event: TrainingEvent & { type: 'step' }): void {
    const payload = {
      layer: event.layer + 1,
      epoch: event.epoch + 1,
      loss: event.loss?.toFixed(3) ?? '-',
      top1: event.top1?.toFixed(1) ?? '-',
      speed: Math.round(event.imagesPerSecond),
      left: this.#left.after(event),
    };
    if (this.#bar === null) {
      const options: Options = {
        format:
          'layer {layer} epoch {epoch} {bar} {percentage}% · loss {loss} · top-1 {top1} % · {speed} images/s · {left} left',
        barsize: 24,
        fps: 5,
        hideCursor: true,
        clearOnComplete: true,
        linewrap: false,
        gracefulExit: false,
        stream: process.stdout,
      };
      this.#bar = new SingleBar(options, Presets.shades_classic);
      this.#bar.start(event.stepsPerEpoch, event.step, payload);
    } else {
      this.#bar.update(event.step, payload);
    }
  }

  note(text: string): void {
    this.close();
    process.stderr.write(`${text}\n`);
  }

  close(): void {
    this.#bar?.stop();
    this.#bar = null;
  }
}
