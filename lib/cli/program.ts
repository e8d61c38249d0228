// The command line: parse, call, print. The addon is loaded at its first use, so that `--help` and `doctor` work where it is
// not built.
import { isMainThread, parentPort } from 'node:worker_threads';
import { Command, CommanderError } from 'commander';
import { packageVersion } from '#scripts/support/paths.mjs';
import { onLibTorchMessage } from '../tensor/messages.js';
import { compressCommand } from './compress.js';
import { dataCommand } from './data.js';
import { doctorCommand } from './doctor.js';
import { evaluateCommand } from './evaluate.js';
import { EXIT, exitCodeOf, tell } from './exit.js';
import { exportCommand } from './export.js';
import { importCommand } from './import.js';
import { refuseMissingValue } from './options.js';
import { outputFailure, watchOutput } from './output.js';
import { planCommand } from './plan.js';
import { predictCommand } from './predict.js';
import { probeCommand } from './probe.js';
import { reportCommand } from './report.js';
import { serveCommand } from './serve.js';
import { setUpCommand } from './setup.js';
import { runInThread, skipLibTorchsEnd } from './thread.js';
import { trainCommand } from './train.js';

const program = new Command('layerwise')
  .description('Greedy layerwise training of convolutional networks on LibTorch')
  .version(packageVersion)
  .option('--verbose', "print LibTorch's own messages, too")
  .showHelpAfterError('(add --help for the options)');

/** These do their work in threads of their own, or wait for the network. */
const inMainThread = [setUpCommand(), trainCommand(), serveCommand(), dataCommand()];
const inThread = [
  planCommand(),
  evaluateCommand(),
  predictCommand(),
  probeCommand(),
  compressCommand(),
  reportCommand(),
  exportCommand(),
  importCommand(),
  doctorCommand(),
];
for (const command of [...inMainThread, ...inThread]) program.addCommand(command);
if (isMainThread) for (const command of inThread) command.action(() => runInThread(command));

/** Applied to every command: a usage error is thrown, so that its exit code is ours. */
const makeStrict = (command: Command): void => {
  command.exitOverride();
  for (const option of command.options) refuseMissingValue(option);
  for (const child of command.commands) makeStrict(child);
};
makeStrict(program);

const end = (error: unknown): number => {
  if (!(error instanceof CommanderError)) {
    tell(error);
    return exitCodeOf(error);
  }
  return error.exitCode === 0 ? EXIT.done : EXIT.usage;
};

if (isMainThread) watchOutput((error) => process.exit(end(error)));
// On a signal; an end by `exit` removes what is half written.
else parentPort!.on('message', () => process.exit(EXIT.interrupted)).unref();

// It would stand between the lines of a command, and says little to its user.
onLibTorchMessage((text) => {
  if (program.opts().verbose === true) process.stderr.write(`LibTorch: ${text}\n`);
});

if (isMainThread) skipLibTorchsEnd();

try {
  await program.parseAsync();
  if (outputFailure() !== null) throw outputFailure();
} catch (error) {
  process.exitCode = end(error);
}
