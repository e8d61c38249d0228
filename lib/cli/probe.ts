import { Command, Option } from 'commander';
import { type DatasetName, LOADABLE_DATASETS } from '../data/index.js';
import { probeLayer, TrainedRun } from '../finished/index.js';
import { shown } from '../format.js';
import type { Recipe } from '../recipe/index.js';
import { addCodeFlagsOfRun, type CodeFlags, codeOf, tellNotes } from './code-flags.js';
import { UsageError } from './exit.js';
import { deviceOption, integer, precisionOption } from './options.js';
import { formatTable } from './table.js';

interface ProbeFlags extends CodeFlags {
  run: string;
  layer?: number;
  dataset?: DatasetName;
  dataDir?: string;
  trainLimit?: number;
  testLimit?: number;
  device?: string;
  precision?: Recipe['precision'];
  json?: boolean;
}

export function probeCommand(): Command {
  const command = new Command('probe')
    .description(
      "how well a linear classifier reads a finished run's layers, on its own images or on others (transfer)",
    )
    .requiredOption('--run <dir>', 'run directory')
    .option('--layer <n>', 'layer n alone, from 1 (default: every layer)', integer(1))
    .addOption(
      new Option('--dataset <name>', "another data set than the run's, of any classes").choices(LOADABLE_DATASETS),
    )
    .option('--data-dir <dir>', 'where the data set lies')
    .option('--train-limit <n>', 'fit to the first n training images', integer(1))
    .option('--test-limit <n>', 'use the first n test images', integer(1))
    .addOption(deviceOption())
    .addOption(precisionOption())
    .option('--json', 'one JSON object a layer on standard output')
    .action(run);
  return addCodeFlagsOfRun(command, { data: true });
}

async function run(flags: ProbeFlags): Promise<void> {
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
  const dataset = await trained.loadDataset(
    {
      ...(flags.dataset === undefined ? {} : { name: flags.dataset }),
      ...(flags.dataDir === undefined ? {} : { dataDir: flags.dataDir }),
      ...(flags.trainLimit === undefined ? {} : { trainLimit: flags.trainLimit }),
      ...(flags.testLimit === undefined ? {} : { testLimit: flags.testLimit }),
    },
    { anyClasses: true },
  );
  const hasLimits = flags.trainLimit !== undefined || flags.testLimit !== undefined;
  const changes = hasLimits ? null : await trained.testChanges(dataset);
  if (changes !== null) process.stderr.write(`Note: not the images that the run was tested on: ${shown(changes)}\n`);
  const layers = flags.layer === undefined ? [...Array(trained.layers).keys()] : [flags.layer - 1];
  const rows: string[][] = [];
  for (const layer of layers) {
    const { train, test, fit } = await probeLayer(trained, dataset, layer);
    if (flags.json) {
      const { converged, iterations } = fit;
      const line = { run: flags.run, dataset: dataset.name, layer, train, test, converged, iterations };
      process.stdout.write(`${JSON.stringify(line)}\n`);
      continue;
    }
    rows.push([
      String(layer + 1),
      test.top1.toFixed(2),
      test.top5.toFixed(2),
      train.top1.toFixed(2),
      `${fit.iterations}${fit.converged ? '' : ', not converged'}`,
    ]);
  }
  if (flags.json) return;
  const images = `${dataset.train.count} training and ${dataset.test.count} test images`;
  process.stdout.write(
    `Logistic regression on the features of each layer, averaged to 2x2: ${shown(dataset.title)}, ${images}\n`,
  );
  process.stdout.write(`${formatTable(['layer', 'top-1 %', 'top-5 %', 'train top-1 %', 'iterations'], rows)}\n`);
}
