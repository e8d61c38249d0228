import { stat } from 'node:fs/promises';
import { Command } from 'commander';
import { TrainedRun } from '../finished/index.js';
import { checkSafetensors, SafetensorsError } from '../nn/index.js';
import { runThatOwns, writeExported, writeForTorchvision } from '../run/index.js';
import { addCodeFlagsOfRun, type CodeFlags, codeOf } from './code-flags.js';
import { UsageError } from './exit.js';

interface ExportFlags extends CodeFlags {
  run: string;
  to: string;
  torchvision?: boolean;
  auxiliaryHeads?: boolean;
}

export function exportCommand(): Command {
  const command = new Command('export')
    .description("write a finished run's network as safetensors, with PyTorch's names")
    .requiredOption('--run <dir>', 'run directory')
    .requiredOption('--to <file>', 'file to write; an older safetensors file there is replaced, no other file')
    .option(
      '--auxiliary-heads',
      'the heads below the last, too: for early exit, the ensemble and layers below the last',
    )
    .option('--torchvision', "for torchvision's vgg11_bn to vgg19_bn, also of a run on images smaller than 224 x 224")
    .action(run);
  return addCodeFlagsOfRun(command, { data: false });
}

async function run({ run, to, torchvision, auxiliaryHeads, ...code }: ExportFlags): Promise<void> {
  if (torchvision && auxiliaryHeads) {
    throw new UsageError('--auxiliary-heads: expected none with --torchvision, whose models have one head');
  }
  await requireReplaceable(to);
  using trained = await TrainedRun.open(run, {
    device: 'cpu',
    ...(await codeOf(code, { runDirectory: run, readsData: false })),
  });
  if (auxiliaryHeads) trained.requireAuxiliaryHeads();
  const { network, config, earlyExit } = trained;
  const tensors = torchvision
    ? await writeForTorchvision(to, network)
    : await writeExported(to, network, { config, auxiliaryHeads: auxiliaryHeads ?? false, earlyExit });
  process.stdout.write(`${to}: ${tensors} tensors\n`);
}

/** Throws UsageError for a run's own file, and for anything that is there and no older export. */
async function requireReplaceable(file: string): Promise<void> {
  const owner = await runThatOwns(file);
  if (owner !== null) {
    throw new UsageError(`--to: expected another path, got ${file}, which is a file of the run in ${owner}`);
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
