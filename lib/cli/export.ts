import { stat } from 'node:fs/promises';
import { Command } from 'commander';
import { TrainedRun } from '../finished/index.js';
import { torchvisionStateDict } from '../models/index.js';
import { checkSafetensors, SafetensorsError, writeSafetensors } from '../nn/index.js';
import { runThatOwns } from '../run/index.js';
import { UsageError } from './exit.js';

interface ExportFlags {
  run: string;
  to: string;
  torchvision?: boolean;
}

export function exportCommand(): Command {
  return new Command('export')
    .description("write a finished run's network as safetensors, with PyTorch's names")
    .requiredOption('--run <dir>', 'run directory')
    .requiredOption('--to <file>', 'file to write; an older safetensors file there is replaced, no other file')
    .option('--torchvision', "for torchvision's vgg11_bn to vgg19_bn, also of a run on images smaller than 224 x 224")
    .action(run);
}

async function run({ run, to, torchvision }: ExportFlags): Promise<void> {
  await requireReplaceable(to);
  using trained = await TrainedRun.open(run, { device: 'cpu' });
  using converted = torchvision ? torchvisionStateDict(trained.network) : null;
  const tensors = converted?.tensors ?? trained.network.stateDict();
  await writeSafetensors(to, tensors, { format: 'pt' });
  process.stdout.write(`${to}: ${tensors.size} tensors\n`);
}

/** Throws UsageError for a run's own file, and for anything that is there and no older export. */
async function requireReplaceable(file: string): Promise<void> {
  const owner = await runThatOwns(file);
  if (owner !== null) {
    throw new UsageError(`--to: expected another place, got ${file}, which is a file of the run in ${owner}`);
  }
  if (!(await isThere(file))) return;
  try {
    await checkSafetensors(file);
  } catch (error) {
    if (!(error instanceof SafetensorsError)) throw error;
    // Of the format all the same.
    if (error.code === 'SAFETENSORS_UNSUPPORTED') return;
    throw new UsageError(
      `--to: expected a new file, or an older safetensors file to replace, got ${file}, which is neither`,
    );
  }
}

/** What is wrong with the path itself is told when it is written to. */
const isThere = (file: string): Promise<boolean> =>
  stat(file).then(
    () => true,
    () => false,
  );
