import { Command } from 'commander';
import { collect, render } from '#scripts/doctor.mjs';
import { EXIT } from './exit.js';

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('what this machine offers for training, and what is wrong')
    .option('--json', 'one JSON object on standard output')
    .action(async ({ json }: { json?: boolean }) => {
      const facts = await collect();
      process.stdout.write(json ? `${JSON.stringify(facts)}\n` : `${render(facts)}\n`);
      if (!facts.ok) process.exitCode = EXIT.failed;
    });
}
