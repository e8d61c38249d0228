import { Command } from 'commander';

export function reportCommand(): Command {
  return new Command('report')
    .description('write report.html of a run, finished or not')
    .requiredOption('--run <dir>', 'run directory')
    .action(async ({ run }: { run: string }) => {
      const { writeReport } = await import('../report/index.js');
      process.stdout.write(`${await writeReport(run)}\n`);
    });
}
