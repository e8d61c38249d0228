import { Command, Option } from 'commander';
import { BAD_IMAGE_POLICIES, type BadImage, type OnBadImage } from '../data/index.js';
import { type PreparedImages, prepareImages } from '../data/prepare-images.js';
import { byteSize, shown, shownLines } from '../format.js';
import { imageProgress } from './image-progress.js';
import { abortOnInterrupt } from './interrupt.js';
import { integer } from './options.js';

interface PrepareFlags {
  from: string;
  to: string;
  side?: number;
  quality?: number;
  shardImages?: number;
  maxPixels?: number;
  onBadImage?: OnBadImage;
  json?: boolean;
}

export function prepareCommand(): Command {
  return new Command('prepare')
    .description('make the photographs of a data set smaller, once, and pack them into shards (tar, as of WebDataset)')
    .requiredOption('--from <dir>', 'a data set in the layout of imagenet')
    .requiredOption('--to <dir>', 'where to put the shards: a folder of their own')
    .option('--side <n>', 'pixels of the shorter side, at most (default: 256)', integer(1))
    .option('--quality <n>', 'of JPEG, 1 to 100 (default: 95)', integer(1))
    .option('--shard-images <n>', 'images of a shard (default: 10000)', integer(1))
    .option('--max-pixels <n>', 'width times height of the largest image file (default: 178956970)', integer(1))
    .addOption(
      new Option('--on-bad-image <what>', 'fail, or let the next image of its class stand in (default: fail)').choices(
        BAD_IMAGE_POLICIES,
      ),
    )
    .option('--json', 'one JSON object on standard output')
    .action(runPrepare);
}

async function runPrepare({ json, ...flags }: PrepareFlags): Promise<void> {
  const progress = imageProgress({ doing: 'preparing', done: 'prepared' });
  const interrupt = abortOnInterrupt(undefined, (code) => {
    progress.done();
    process.exit(code);
  });
  const bad: BadImage[] = [];
  let whole = 0;
  let prepared: PreparedImages;
  try {
    prepared = await prepareImages({
      ...flags,
      signal: interrupt.signal,
      reportBadImage: (one) => bad.push(one),
      onProgress: ({ shards, ...at }) => {
        whole = shards;
        progress.update(at);
      },
    });
  } catch (error) {
    const shards = whole === 1 ? 'the shard that is' : `the ${whole} shards that are`;
    const where = whole === 0 ? 'begins anew' : `goes on behind ${shards} whole`;
    throw interrupt.explain(error, `the preparation was interrupted; the same command ${where}`);
  } finally {
    progress.done();
    interrupt.release();
  }
  for (const { reason } of bad) process.stderr.write(`another image stands in: ${shownLines(reason)}\n`);
  process.stdout.write(json ? `${JSON.stringify(prepared)}\n` : `${describe(flags.to, prepared)}\n`);
}

function describe(
  to: string,
  { train, test, classes, shards, shardsBefore, bytes, badImages }: PreparedImages,
): string {
  const before = shardsBefore === 0 ? '' : `, ${shardsBefore} of them there before`;
  return [
    `${shown(to)}: ${train} training and ${test} test images of ${classes} classes`,
    `${shards} ${shards === 1 ? 'shard' : 'shards'}${before}, ${byteSize(bytes)}`,
    ...(badImages === 0 ? [] : [`${badImages} images could not be used: others of their classes stand in`]),
    `Train with --dataset imagenet --data-dir ${shown(to)}`,
  ].join('\n');
}
