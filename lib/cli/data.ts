import { Argument, Command } from 'commander';
import { abortOnInterrupt } from './interrupt.js';

export function dataCommand(): Command {
  const download = new Command('download')
    .description('fetch a data set')
    .addArgument(new Argument('<name>', 'data set').choices(['cifar10']))
    .requiredOption('--data-dir <dir>', 'where to put it')
    .action(async (_name: string, { dataDir }: { dataDir: string }) => {
      const interrupt = abortOnInterrupt();
      const { downloadCifar10 } = await import('../data/cifar10-download.js');
      const { transferProgress } = await import('../../scripts/support/progress.mjs');
      const progress = transferProgress('CIFAR-10');
      try {
        const path = await downloadCifar10({ dataDir, signal: interrupt.signal, onProgress: progress.update });
        process.stdout.write(`${path}\n`);
      } catch (error) {
        throw interrupt.explain(error, 'the download was interrupted; the same command goes on from here');
      } finally {
        progress.done();
        interrupt.release();
      }
    });
  return new Command('data').description('data sets').addCommand(download);
}
