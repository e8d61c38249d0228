import { Command, InvalidArgumentError } from 'commander';
import { readImage } from '../data/index.js';
import {
  type ClassPrediction,
  classify,
  type EarlyExit,
  imageReadingOf,
  predictionsOf,
  requireAnswer,
  TrainedRun,
} from '../finished/index.js';
import { shown } from '../format.js';
import type { Recipe } from '../recipe/index.js';
import { scope, tensor } from '../tensor/index.js';
import { addCodeFlagsOfRun, type CodeFlags, codeOf, tellNotes } from './code-flags.js';
import { EXIT, messageOf, UsageError } from './exit.js';
import { deviceOption, integer, notNegativeNumber, precisionOption } from './options.js';

interface PredictFlags extends CodeFlags {
  run: string;
  top: number;
  earlyExit?: number | 'chosen';
  device?: string;
  precision?: Recipe['precision'];
  json?: boolean;
}

export function predictCommand(): Command {
  const command = new Command('predict')
    .description('the likeliest classes of images')
    .requiredOption('--run <dir>', 'run directory, or a file of layerwise export')
    .option('--early-exit <threshold>', 'stop at the first layer surer than it, from 0 to 1; or chosen', earlyExit)
    .option('--top <n>', 'classes to name', integer(1), 5)
    .addOption(deviceOption())
    .addOption(precisionOption())
    .option('--json', 'one JSON object an image on standard output')
    .argument('<image...>', 'JPEG or PNG files')
    .action(run);
  return addCodeFlagsOfRun(command, { data: false });
}

async function run(files: string[], flags: PredictFlags): Promise<void> {
  const { device, precision } = flags;
  using trained = await TrainedRun.open(flags.run, {
    device,
    precision,
    ...(await codeOf(flags, { runDirectory: flags.run, readsData: false })),
  });
  tellNotes(trained);
  const { size, options } = imageReadingOf(trained);
  const by = answeredBy(trained, flags);
  for (const file of files) {
    const pixels = await readImage(file, size, options).catch((error: unknown) => {
      // The other images are still answered.
      process.stderr.write(`${messageOf(error)}\n`);
      process.exitCode = EXIT.failed;
      return null;
    });
    if (pixels === null) continue;
    const { predictions, layer } = answerFor(trained, pixels, { by, top: flags.top });
    if (flags.json) {
      process.stdout.write(
        `${JSON.stringify({ image: file, ...(flags.earlyExit === undefined ? {} : { layer }), predictions })}\n`,
      );
    } else {
      const left = flags.earlyExit === undefined ? '' : ` (layer ${layer + 1})`;
      process.stdout.write(`${shown(file)}${left}\n`);
      for (const { class: name, probability } of predictions) {
        process.stdout.write(`  ${(100 * probability).toFixed(1).padStart(5)} %  ${shown(name)}\n`);
      }
    }
  }
}

/** A threshold, or the one that `evaluate --early-exit` chose. */
function earlyExit(text: string): number | 'chosen' {
  if (text === 'chosen') return text;
  const threshold = notNegativeNumber(text);
  if (threshold <= 1) return threshold;
  throw new InvalidArgumentError(`Expected a number from 0 to 1, or chosen, got "${text}".`);
}

/** Throws RunDirectoryError where the layers have no heads, and UsageError where nothing has been chosen. */
function answeredBy(trained: TrainedRun, flags: PredictFlags): number | EarlyExit {
  if (flags.earlyExit === undefined) return trained.layers - 1;
  const by = flags.earlyExit === 'chosen' ? trained.earlyExit : { threshold: flags.earlyExit };
  if (by === null) {
    throw new UsageError(
      `--early-exit chosen: expected a run whose threshold has been chosen: layerwise evaluate --run ${flags.run} --early-exit`,
    );
  }
  requireAnswer(trained, by);
  return by;
}

function answerFor(
  trained: TrainedRun,
  pixels: Uint8Array,
  asked: { by: number | EarlyExit; top: number },
): { predictions: readonly ClassPrediction[]; layer: number } {
  const classified = scope(() => {
    const image = tensor(pixels, { shape: [1, ...trained.network.inputShape], device: trained.device });
    return classify(trained, image, asked);
  });
  return {
    predictions: predictionsOf(classified, { row: 0, classes: trained.classes }),
    layer: classified.layers![0]!,
  };
}
