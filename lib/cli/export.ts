import { Command } from 'commander';

export function exportCommand(): Command {
  return new Command('export')
    .description("write a finished run's network as safetensors, with PyTorch's names")
    .requiredOption('--run <dir>', 'run directory')
    .requiredOption('--to <file>', 'file to write')
    .action(async ({ run, to }: { run: string; to: string }) => {
      const { TrainedRun } = await import('../training/index.js');
      const { writeSafetensors } = await import('../nn/index.js');
      using trained = await TrainedRun.open(run, { device: 'cpu' });
      const tensors = trained.network.stateDict();
      await writeSafetensors(to, tensors, { format: 'pt' });
      process.stdout.write(`${to}: ${tensors.size} tensors\n`);
    });
}
