import { Command } from 'commander';

interface ExportFlags {
  run: string;
  to: string;
  torchvision?: boolean;
}

export function exportCommand(): Command {
  return new Command('export')
    .description("write a finished run's network as safetensors, with PyTorch's names")
    .requiredOption('--run <dir>', 'run directory')
    .requiredOption('--to <file>', 'file to write')
    .option('--torchvision', "for torchvision's vgg11_bn to vgg19_bn, also of a run on images smaller than 224 x 224")
    .action(run);
}

async function run({ run, to, torchvision }: ExportFlags): Promise<void> {
  const { TrainedRun } = await import('../finished/index.js');
  const { torchvisionStateDict } = await import('../models/index.js');
  const { writeSafetensors } = await import('../nn/index.js');
  using trained = await TrainedRun.open(run, { device: 'cpu' });
  using converted = torchvision ? torchvisionStateDict(trained.network) : null;
  const tensors = converted?.tensors ?? trained.network.stateDict();
  await writeSafetensors(to, tensors, { format: 'pt' });
  process.stdout.write(`${to}: ${tensors.size} tensors\n`);
}
