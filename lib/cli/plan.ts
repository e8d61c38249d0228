import { Command } from 'commander';
import { planRecipe } from '../training/index.js';
import { codeOf } from './code-flags.js';
import { planNotes, planTable } from './plan-text.js';
import { resolveRecipe } from './recipe.js';
import { jobOptionsOf, startFromOf, type TrainingFlags, withRecipeFlags } from './train.js';

interface PlanFlags extends TrainingFlags {
  /** False for --no-times. */
  times: boolean;
  json?: boolean;
}

export function planCommand(): Command {
  return withRecipeFlags(
    new Command('plan').description(
      'show what a training with the same flags would compute, and its memory and time, without training',
    ),
  )
    .option('--no-times', 'without timing a few steps of each layer and the reading of image files')
    .option('--json', 'one JSON object on standard output')
    .action(run);
}

async function run(flags: PlanFlags): Promise<void> {
  const startFrom = startFromOf(flags);
  const recipe = await resolveRecipe(flags);
  const print = (text: string): void => void process.stdout.write(`${text}\n`);
  const planned = await planRecipe({
    recipe,
    ...(startFrom === undefined ? {} : { startFrom }),
    ...jobOptionsOf(flags),
    ...(await codeOf(flags)),
    measured: flags.times,
    // The plan of a run that is refused for its memory is shown, too. Otherwise the table is printed once, with its times.
    onRefused: (plan) => {
      if (flags.json !== true) print([planTable(plan, null), '', ...planNotes(plan, null, null)].join('\n'));
    },
  });
  const { plan, times, imageRate, device, precision } = planned;
  if (flags.json) print(JSON.stringify({ recipe: planned.recipe, device, precision, ...plan, times, imageRate }));
  else {
    print(`${planned.recipe.preset} on ${planned.recipe.dataset.title}, ${device}, ${precision}`);
    print(['', planTable(plan, times), '', ...planNotes(plan, times, imageRate)].join('\n'));
  }
}
