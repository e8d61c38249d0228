import { Command, Option } from 'commander';
import { type DatasetName, LOADABLE_DATASETS } from '../data/index.js';
import { type ClassFigures, classFigures, MOST_CONFUSED_CLASSES } from '../evaluation/index.js';
import { TrainedRun } from '../finished/index.js';
import { shown } from '../format.js';
import type { Recipe } from '../recipe/index.js';
import { addCodeFlagsOfRun, type CodeFlags, codeOf, tellNotes } from './code-flags.js';
import { type EarlyExitFlags, layerList, runEarlyExit, tellChanges } from './early-exit.js';
import { UsageError } from './exit.js';
import { deviceOption, flagOf, integer, notNegativeNumber, precisionOption } from './options.js';
import { formatRows, formatTable } from './table.js';

interface EvaluateFlags extends CodeFlags, EarlyExitFlags {
  run: string;
  layer?: number;
  ensemble?: boolean;
  dataset?: DatasetName;
  device?: string;
  precision?: Recipe['precision'];
  perClass?: boolean;
  earlyExit?: boolean;
}

export function evaluateCommand(): Command {
  const command = new Command('evaluate')
    .description("a finished run's accuracy on the test images")
    .requiredOption('--run <dir>', 'run directory, or a file of layerwise export')
    .option('--layer <n>', 'the head of layer n, from 1 (default: the last)', integer(1))
    .option('--ensemble', 'the ensemble of all layers')
    .addOption(new Option('--dataset <name>', "another data set than the run's").choices(LOADABLE_DATASETS))
    .option('--data-dir <dir>', 'where the data set lies')
    .option('--test-limit <n>', 'use the first n test images', integer(1))
    .addOption(deviceOption())
    .addOption(precisionOption())
    .option('--per-class', 'a table of the classes as well')
    .option('--early-exit', 'accuracy against cost where images leave at the first layer that is sure enough')
    .option('--exit-layers <list>', 'with --early-exit: layers they may leave at, as 2,4 (default: chosen)', layerList)
    .option('--tolerance <points>', 'with --early-exit: top-1 that may be lost (default: 0.5)', notNegativeNumber)
    .option('--json', 'one JSON object on standard output')
    .action(run);
  return addCodeFlagsOfRun(command, { data: true });
}

async function run(flags: EvaluateFlags): Promise<void> {
  if (flags.layer !== undefined && flags.ensemble) {
    throw new UsageError('--layer and --ensemble exclude each other: give one of them');
  }
  refuseEarlyExitFlags(flags);
  const { device, precision } = flags;
  using trained = await TrainedRun.open(flags.run, {
    device,
    precision,
    ...(await codeOf(flags, { runDirectory: flags.run })),
  });
  tellNotes(trained);
  if (flags.layer !== undefined && flags.layer > trained.layers) {
    throw new UsageError(`--layer: expected a layer from 1 to ${trained.layers}, got ${flags.layer}`);
  }
  if (flags.perClass && trained.classes.length > MOST_CONFUSED_CLASSES) {
    throw new UsageError(
      `--per-class: expected a run of at most ${MOST_CONFUSED_CLASSES} classes, got ${trained.classes.length}`,
    );
  }
  if (flags.earlyExit) {
    await runEarlyExit(trained, flags);
    return;
  }
  const dataset = await trained.loadDataset({
    ...(flags.dataset === undefined ? {} : { name: flags.dataset }),
    ...(flags.dataDir === undefined ? {} : { dataDir: flags.dataDir }),
    ...(flags.testLimit === undefined ? {} : { testLimit: flags.testLimit }),
    testOnly: true,
  });
  const changes = flags.testLimit === undefined ? await trained.testChanges(dataset) : null;
  if (changes !== null) tellChanges(changes);
  const selection = flags.ensemble ? 'ensemble' : (flags.layer ?? trained.layers) - 1;
  const { loss, top1, top5, confusion } = await trained.evaluate(dataset.test, selection);
  const classes = confusion === null ? [] : classFigures(confusion, trained.classes);
  if (flags.json) {
    const line = {
      ...{ run: flags.run, dataset: dataset.name, images: dataset.test.count },
      ...{ layer: selection === 'ensemble' ? 'ensemble' : selection, loss, top1, top5 },
      device: trained.device,
      precision: trained.precision,
      perClass:
        confusion === null ? null : classes.map((one) => ({ class: one.class, images: one.images, top1: one.top1 })),
      confusion,
    };
    process.stdout.write(`${JSON.stringify(line)}\n`);
    return;
  }
  const rows = [
    ['data set', shown(dataset.title)],
    ['images', String(dataset.test.count)],
    ['read by', selection === 'ensemble' ? `ensemble of ${trained.layers} layers` : `layer ${selection + 1}`],
    ['device', `${trained.device}, ${trained.precision}`],
    ...(loss === null ? [] : [['loss', loss.toFixed(4)]]),
    ['top-1 %', top1.toFixed(2)],
    ['top-5 %', top5.toFixed(2)],
  ];
  process.stdout.write(`${formatRows(rows)}\n`);
  if (flags.perClass) process.stdout.write(`\n${perClassTable(classes)}\n`);
}

/** Early exit is of the run's own test images, and of all layers at once. */
function refuseEarlyExitFlags({ earlyExit, ...flags }: EvaluateFlags): void {
  const [names, problem] = earlyExit
    ? ([['layer', 'ensemble', 'dataset', 'perClass'], 'cannot be given with --early-exit'] as const)
    : ([['exitLayers', 'tolerance'], 'needs --early-exit'] as const);
  const other = names.find((name) => flags[name] !== undefined);
  if (other !== undefined) throw new UsageError(`${flagOf(other)} ${problem}`);
}

/** Each class with its accuracy and the class that it was taken for most often. */
function perClassTable(classes: readonly ClassFigures[]): string {
  const names = leftAligned(['class', ...classes.map((one) => shown(one.class))]);
  const mistakes = leftAligned([
    'most frequent mistake',
    ...classes.map(({ mistake }) => (mistake === null ? '-' : `${shown(mistake.class)} (${mistake.images})`)),
  ]);
  const rows = classes.map(({ images, correct, top1 }, i) => [
    names[i + 1]!,
    String(images),
    String(correct),
    top1 === null ? '-' : top1.toFixed(2),
    mistakes[i + 1]!,
  ]);
  return formatTable([names[0]!, 'images', 'correct', 'top-1 %', mistakes[0]!], rows).replace(/ +$/gm, '');
}

function leftAligned(cells: readonly string[]): string[] {
  const width = Math.max(...cells.map((cell) => cell.length));
  return cells.map((cell) => cell.padEnd(width));
}
