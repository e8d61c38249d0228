import { Command } from 'commander';
import { readImage } from '../data/index.js';
import { TrainedRun } from '../finished/index.js';
import { shown } from '../format.js';
import type { Recipe } from '../recipe/index.js';
import { scope, tensor } from '../tensor/index.js';
import { EXIT, messageOf } from './exit.js';
import { deviceOption, integer, precisionOption } from './options.js';

interface PredictFlags {
  run: string;
  top: number;
  device?: string;
  precision?: Recipe['precision'];
  json?: boolean;
}

export function predictCommand(): Command {
  return new Command('predict')
    .description('the likeliest classes of images')
    .requiredOption('--run <dir>', 'run directory')
    .option('--top <n>', 'classes to name', integer(1), 5)
    .addOption(deviceOption())
    .addOption(precisionOption())
    .option('--json', 'one JSON object an image on standard output')
    .argument('<image...>', 'JPEG or PNG files')
    .action(run);
}

async function run(files: string[], flags: PredictFlags): Promise<void> {
  using trained = await TrainedRun.open(flags.run, { device: flags.device, precision: flags.precision });
  const { imageSize: size, testResize, maxPixels } = trained.recipe.dataset;
  const top = Math.min(flags.top, trained.classes.length);
  for (const file of files) {
    const pixels = await readImage(file, size, { resize: testResize ?? size, maxPixels: maxPixels ?? undefined }).catch(
      (error: unknown) => {
        // The other images are still answered.
        process.stderr.write(`${messageOf(error)}\n`);
        process.exitCode = EXIT.failed;
        return null;
      },
    );
    if (pixels === null) continue;
    const predictions = scope(() => {
      const image = tensor(pixels, { shape: [1, 3, size, size], device: trained.device });
      const { values, indices } = trained.logits(image).softmax(1).topk(top, { dim: 1 });
      const probabilities = values.toFloat32Array();
      return Array.from(indices.to({ dtype: 'float32' }).toFloat32Array(), (label, i) => ({
        class: trained.classes[label]!,
        probability: probabilities[i]!,
      }));
    });
    if (flags.json) {
      process.stdout.write(`${JSON.stringify({ image: file, predictions })}\n`);
    } else {
      process.stdout.write(`${shown(file)}\n`);
      for (const { class: name, probability } of predictions) {
        process.stdout.write(`  ${(100 * probability).toFixed(1).padStart(5)} %  ${shown(name)}\n`);
      }
    }
  }
}
