import { Argument, Command, Option } from 'commander';
import { transferProgress } from '#scripts/support/progress.mjs';
import { type CheckDatasetOptions, checkDataset, type DatasetCheck } from '../data/check.js';
import type { CheckProgress } from '../data/check-files.js';
import type { DataErrorCode } from '../data/errors.js';
import { DATASET_NAMES, type DatasetName, datasetOf } from '../data/index.js';
import { shown, shownLines } from '../format.js';
import { EXIT } from './exit.js';
import { type ImageProgress, imageProgress } from './image-progress.js';
import { abortOnInterrupt } from './interrupt.js';
import { integer } from './options.js';
import { prepareCommand } from './prepare.js';

export function dataCommand(): Command {
  const download = new Command('download')
    .description('fetch a data set')
    .addArgument(
      new Argument('<name>', 'data set').choices(DATASET_NAMES.filter((name) => datasetOf(name).download !== null)),
    )
    .requiredOption('--data-dir <dir>', 'where to put it')
    .action(async (name: DatasetName, { dataDir }: { dataDir: string }) => {
      const interrupt = abortOnInterrupt();
      const { title, download } = datasetOf(name);
      const progress = transferProgress(title);
      try {
        const path = await download!({ dataDir, signal: interrupt.signal, onProgress: progress.update });
        process.stdout.write(`${path}\n`);
      } catch (error) {
        throw interrupt.explain(error, 'the download was interrupted; the same command goes on from here');
      } finally {
        progress.done();
        interrupt.release();
      }
    });
  const check = new Command('check')
    .description('decode every image of a data set once, and list all that is wrong')
    .addOption(
      new Option('--dataset <name>', 'data set')
        .choices(DATASET_NAMES.filter((name) => datasetOf(name).check !== null))
        .makeOptionMandatory(),
    )
    .requiredOption('--data-dir <dir>', 'where the data set lies; of imagenet also the address of shards')
    .option('--max-pixels <n>', 'width times height of the largest image file (default: 178956970)', integer(1))
    .option('--json', 'one JSON object on standard output')
    .action(runCheck);
  return new Command('data')
    .description('data sets')
    .addCommand(download)
    .addCommand(prepareCommand())
    .addCommand(check);
}

interface CheckFlags {
  dataset: CheckDatasetOptions['name'];
  dataDir: string;
  maxPixels?: number;
  json?: boolean;
}

async function runCheck({ dataset: name, dataDir, maxPixels, json }: CheckFlags): Promise<void> {
  const progress = checkProgress();
  const interrupt = abortOnInterrupt(undefined, (code) => {
    progress.done();
    process.exit(code);
  });
  let check: DatasetCheck;
  try {
    check = await checkDataset({ name, dataDir, maxPixels, signal: interrupt.signal, onProgress: progress.update });
  } catch (error) {
    throw interrupt.explain(error, 'the check was interrupted; the same command begins anew');
  } finally {
    progress.done();
    interrupt.release();
  }
  process.stdout.write(json ? `${JSON.stringify(toJson(check))}\n` : `${describe(check)}\n`);
  if (check.problems.length > 0) process.exitCode = EXIT.failed;
}

/** First the archives of shards are compared, then all images are decoded. */
function checkProgress(): { update(at: CheckProgress): void; done(): void } {
  let doing: CheckProgress['doing'] | null = null;
  let shown: ImageProgress | null = null;
  return {
    update: (at) => {
      if (at.doing !== doing) {
        shown?.done();
        doing = at.doing;
        shown = imageProgress({ doing, done: { comparing: 'compared', decoding: 'decoded' }[doing] });
      }
      shown?.update(at);
    },
    done: () => shown?.done(),
  };
}

function toJson({ parts, problems, ...check }: DatasetCheck): object {
  return {
    ...check,
    parts: parts.map(({ perClass, ...part }) => ({ ...part, perClass: Object.fromEntries(perClass) })),
    problems: problems.map(({ code, path, message }) => ({ code, path, message })),
  };
}

/** What the codes of problems stand for, in the order in which they are shown. */
const GROUPS: readonly (readonly [code: DataErrorCode, title: string])[] = [
  ['DATA_NOT_FOUND', 'Missing or empty'],
  ['DATA_UNREADABLE', 'Not given by the system'],
  ['DATA_UNSUPPORTED', 'Not read'],
  ['DATA_CORRUPT', 'Damaged, or not fitting together'],
];

/** Duplicates that are named; with --json all are. */
const NAMED_DUPLICATES = 20;

function describe({ name, dataDir, parts, problems, duplicates, passedOver, smallest, largest }: DatasetCheck): string {
  const row = (title: string, text: string): string => `${title.padEnd(12)}${text}`;
  const lines = [row('data set', `${name}, ${shown(dataDir)}`)];
  for (const { part, images, perClass } of parts) {
    const counts = [...perClass.values()];
    const [least, most] = [Math.min(...counts), Math.max(...counts)];
    const ofEach = counts.length === 0 ? '' : `, ${least === most ? least : `${least} to ${most}`} of each`;
    lines.push(row(part, `${images} images of ${perClass.size} classes${ofEach}`));
  }
  if (smallest !== null && largest !== null) {
    for (const [title, { width, height, path }] of [
      ['smallest', smallest],
      ['largest', largest],
    ] as const) {
      lines.push(row(title, `${width} x ${height} pixels, ${shown(path)}`));
    }
  }
  if (passedOver > 0) lines.push(row('passed over', `${passedOver} system files and hidden names`));
  for (const [code, title] of GROUPS) {
    const group = problems.filter((problem) => problem.code === code);
    if (group.length > 0) lines.push('', `${title}: ${group.length}`);
    for (const { message } of group) lines.push(`  ${shownLines(message)}`);
  }
  if (duplicates.length > 0) {
    lines.push('', `Warning: ${duplicates.length} training images are test images too, byte by byte`);
    lines.push(
      ...duplicates.slice(0, NAMED_DUPLICATES).map(({ train, test }) => `  ${shown(train)} is ${shown(test)}`),
    );
    if (duplicates.length > NAMED_DUPLICATES) lines.push(`  and ${duplicates.length - NAMED_DUPLICATES} more`);
  }
  const count = problems.length;
  lines.push('', count === 0 ? 'Nothing is wrong.' : `${count} ${count === 1 ? 'thing is' : 'things are'} wrong.`);
  return lines.join('\n');
}
