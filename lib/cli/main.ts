#!/usr/bin/env node
// The command line: parse, call, print. Commands load what they need when they run, so that `--help` and `doctor` work
// where the addon is not built.
import { Command, CommanderError } from 'commander';
import { packageVersion } from '../version.js';
import { compressCommand } from './compress.js';
import { dataCommand } from './data.js';
import { doctorCommand } from './doctor.js';
import { evaluateCommand } from './evaluate.js';
import { EXIT, exitCodeOf, messageOf } from './exit.js';
import { exportCommand } from './export.js';
import { importCommand } from './import.js';
import { refuseFlagAsValue } from './options.js';
import { planCommand } from './plan.js';
import { predictCommand } from './predict.js';
import { probeCommand } from './probe.js';
import { reportCommand } from './report.js';
import { trainCommand } from './train.js';

const program = new Command('layerwise')
  .description('Greedy layerwise training of convolutional networks on LibTorch')
  .version(packageVersion)
  .showHelpAfterError('(add --help for the options)');

for (const command of [
  trainCommand(),
  planCommand(),
  evaluateCommand(),
  predictCommand(),
  probeCommand(),
  compressCommand(),
  reportCommand(),
  exportCommand(),
  importCommand(),
  dataCommand(),
  doctorCommand(),
]) {
  program.addCommand(command);
}
/** Applied to every command: a usage error is thrown, so that its exit code is ours. */
const makeStrict = (command: Command): void => {
  command.exitOverride();
  for (const option of command.options) refuseFlagAsValue(option);
  for (const child of command.commands) makeStrict(child);
};
makeStrict(program);

// Whoever read the output has stopped reading, as in `| head`: there is nobody left to tell.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(EXIT.failed);
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage;
  } else {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exitCode = exitCodeOf(error);
  }
}
