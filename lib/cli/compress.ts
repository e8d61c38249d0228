import { Command } from 'commander';
import { compressRun } from '../finished/index.js';
import { device, integer } from './options.js';

interface CompressFlags {
  run: string;
  filters: number;
  out: string;
  device?: string;
}

export function compressCommand(): Command {
  return new Command('compress')
    .description("remove the filters that matter least from the last layer of a finished run's SimCNN")
    .requiredOption('--run <dir>', 'run directory')
    .requiredOption('--filters <n>', 'filters that stay', integer(1))
    .requiredOption('--out <dir>', 'run directory to make')
    .option('--device <name>', 'auto, cpu, cuda or cuda:N', device)
    .action(async ({ run, filters, out, device }: CompressFlags) => {
      const { importance, before, after } = await compressRun({
        runDirectory: run,
        filters,
        out,
        device,
      });
      process.stdout.write(
        `${out}: ${filters} of ${importance.length} filters; top-1 ${before.top1.toFixed(2)} % before, ` +
          `${after.top1.toFixed(2)} % after\n` +
          `Its head can be fine-tuned: layerwise train --start-from ${out} --keep-head\n`,
      );
    });
}
