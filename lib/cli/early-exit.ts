// What `evaluate --early-exit` does: it chooses where images leave the network, and says what that costs and loses.
import { stat } from 'node:fs/promises';
import { InvalidArgumentError } from 'commander';
import { evaluateEarlyExit, type TrainedRun } from '../finished/index.js';
import { shown } from '../format.js';
import { writeReport } from '../report/index.js';
import { type EarlyExitFigures, type EarlyExitPoint, type EarlyExitRecord, RunDirectory } from '../run/index.js';
import { UsageError } from './exit.js';
import { formatRows, formatTable } from './table.js';

export interface EarlyExitFlags {
  /** From 1. */
  readonly exitLayers?: readonly number[];
  readonly tolerance?: number;
  readonly testLimit?: number;
  readonly dataDir?: string;
  readonly json?: boolean;
}

/** Layers from 1 that rise, such as 2,4. */
export function layerList(text: string): number[] {
  const layers = text.split(',').map(Number);
  const isList = /^\d+(,\d+)*$/.test(text) && layers.every((layer, i) => layer > (layers[i - 1] ?? 0));
  if (isList) return layers;
  throw new InvalidArgumentError(`Expected layers that rise, from 1, such as 2,4, got "${text}".`);
}

/** Prints it, and leaves it in the run directory; a file of `layerwise export` stays as it is. */
export async function runEarlyExit(
  trained: TrainedRun,
  { exitLayers, tolerance, testLimit, dataDir, json }: EarlyExitFlags,
): Promise<void> {
  const beyond = exitLayers?.find((layer) => layer > trained.layers);
  if (beyond !== undefined) {
    throw new UsageError(`--exit-layers: expected layers from 1 to ${trained.layers}, got ${beyond}`);
  }
  const layers = exitLayers?.map((layer) => layer - 1);
  const record = await evaluateEarlyExit(trained, { layers, tolerance, testLimit, dataDir, onChanges: tellChanges });
  const { runDirectory: run } = trained;
  process.stdout.write(json ? `${JSON.stringify({ run, ...record })}\n` : `${describe(record)}\n`);
  if (!(await stat(run)).isDirectory()) return;
  const directory = RunDirectory.open(run);
  await directory.hold(async () => {
    await directory.writeEarlyExit(record);
    await writeReport(run);
  });
}

/** How the test images differ from those that the run was tested on. */
export function tellChanges(changes: string): void {
  process.stderr.write(`Note: not the images that the run was tested on: ${shown(changes)}\n`);
}

function describe(record: EarlyExitRecord): string {
  const { chosenOn, tolerance, images, threshold, points, whole, timing } = record;
  const choice =
    chosenOn.part === 'train'
      ? `${chosenOn.images} training images that were held out`
      : `${chosenOn.images} other test images`;
  const chosen = points.find((point) => point.threshold === threshold)!;
  return [
    formatRows([
      ['images', `${images} test images`],
      ['chosen on', choice],
      ['exits', `layers ${record.layers.map((layer) => layer + 1).join(', ')}`],
      ['timed', `${timing.batchSize} images at once, ${timing.device}, ${timing.precision}, ${timing.threads} threads`],
    ]),
    '',
    curve(record),
    '',
    `Threshold ${threshold}, the smallest that loses at most ${tolerance} points where it was chosen ` +
      `(${chosenOn.top1.toFixed(2)} %, the whole network ${chosenOn.wholeTop1.toFixed(2)} %): ` +
      `top-1 ${chosen.top1.toFixed(2)} % (${whole.top1.toFixed(2)} %)${costs(chosen, whole)}.`,
  ].join('\n');
}

function costs(chosen: EarlyExitPoint, whole: EarlyExitFigures): string {
  const time = `${(chosen.milliseconds / whole.milliseconds).toFixed(2)} of the time`;
  if (chosen.multiplyAdds === null || whole.multiplyAdds === null) return ` in ${time}`;
  return ` with ${(chosen.multiplyAdds / whole.multiplyAdds).toFixed(2)} of the multiply-adds, in ${time}`;
}

function curve({ points, whole, layers }: EarlyExitRecord): string {
  const row = (name: string, figures: EarlyExitFigures, meanLayers: number): string[] => [
    name,
    figures.top1.toFixed(2),
    meanLayers.toFixed(2),
    figures.multiplyAdds === null ? '-' : (figures.multiplyAdds / 1e6).toFixed(2),
    figures.milliseconds.toFixed(3),
  ];
  return formatTable(
    ['threshold', 'top-1 %', 'layers', 'million multiply-adds', 'ms an image'],
    [
      ...points.map((point) => row(String(point.threshold), point, point.meanLayers)),
      row('none', whole, layers.at(-1)! + 1),
    ],
  );
}
