import { Command, Option } from 'commander';
import type { ImageSize } from '../data/index.js';
import { importWeights } from '../finished/index.js';
import { shownLines } from '../format.js';
import { VGG_NAMES, type VggName } from '../models/index.js';
import { readLines } from '../text-file.js';
import { UsageError } from './exit.js';
import { imageSize, readGiven } from './options.js';

interface ImportFlags {
  from: string;
  model: VggName;
  imageSize?: ImageSize;
  classes?: string;
  out: string;
}

export function importCommand(): Command {
  return new Command('import')
    .description("a finished run from weights with torchvision's names")
    .requiredOption('--from <file>', "safetensors file: torchvision's vgg11_bn, vgg13_bn, vgg16_bn or vgg19_bn")
    .addOption(new Option('--model <name>', 'which VGG it holds').choices(VGG_NAMES).makeOptionMandatory())
    .requiredOption('--out <dir>', 'run directory to make')
    .option(
      '--image-size <n|hxw>',
      'pixels a side, or height x width, of the images that it is for, multiples of 32',
      imageSize(32),
      224,
    )
    .option(
      '--classes <file>',
      "text file with the classes' names by label, one a line (default: class 0, class 1, ...)",
    )
    .action(run);
}

async function run({ from, model, imageSize, classes, out }: ImportFlags): Promise<void> {
  const names = classes === undefined ? undefined : await readClasses(classes);
  const outcome = await importWeights({ from, model, out, imageSize, classes: names });
  process.stdout.write(`${outcome.runDirectory}: ${model}, ${outcome.classes.length} classes\n`);
  for (const note of outcome.notes) process.stdout.write(`Note: ${shownLines(note)}\n`);
}

/** One name a line. Spaces around a name and empty lines at the end do not count; the names are as many as the lines. */
async function readClasses(file: string): Promise<string[]> {
  const names = await readGiven('--classes', file, readLines);
  const blank = names.indexOf('');
  if (blank >= 0) {
    throw new UsageError(`--classes: expected a name on each line of ${file}, got none on line ${blank + 1}`);
  }
  return names;
}
