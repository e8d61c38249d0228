import { Command } from 'commander';
import { writeReport } from '../report/index.js';

export function reportCommand(): Command {
  return new Command('report')
    .description('write report.html of a run, finished or not')
    .requiredOption('--run <dir>', 'run directory')
    .action(async ({ run }: { run: string }) => {
      process.stdout.write(`${await writeReport(run)}\n`);
    });
}
