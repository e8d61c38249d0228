// What every example that reproduces a table shares: its options, running or going on with a run, and writing a table.
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, CommanderError, Option } from 'commander';
import { type DatasetName, type Recipe, resume, TrainingInterrupted, type TrainingOutcome, train } from 'layerwise';

export interface ExperimentOptions {
  /** smoke: minutes on two cores, to see that everything works; paper: the full recipe. */
  readonly scale: 'smoke' | 'paper';
  /** Directory of the runs and the table; a second call with the same one goes on where the first was stopped. */
  readonly out: string;
  readonly dataset: DatasetName;
  readonly dataDir: string | null;
  readonly seed: number;
  readonly device: string;
}

/** Reads the command line of an example; from here on an error that speaks for itself ends it in one line. */
export function experimentOptions(name: string, description: string): ExperimentOptions {
  process.on('uncaughtException', (error: Error & { code?: string }) => {
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
    console.error(error.code === undefined ? error.stack : `${name}: ${error.message}`);
    process.exit(1);
  });
  const options = new Command(name)
    .description(description)
    .exitOverride()
    .addOption(new Option('--scale <scale>', 'smoke or paper').choices(['smoke', 'paper']).default('smoke'))
    .addOption(
      new Option('--dataset <name>', 'data set (default: cifar10 with --data-dir, else shapes)').choices([
        'shapes',
        'cifar10',
      ]),
    )
    .option('--data-dir <dir>', 'where the data set lies')
    .option('--out <dir>', 'directory of the runs and the table; give it again to go on')
    .option('--seed <n>', 'seed', (text) => Number(text), 1)
    .option('--device <name>', 'auto, cpu, cuda or cuda:N', 'auto')
    .parse()
    .opts<{
      scale: 'smoke' | 'paper';
      dataset?: DatasetName;
      dataDir?: string;
      out?: string;
      seed: number;
      device: string;
    }>();
  const dataset = options.dataset ?? (options.dataDir === undefined ? 'shapes' : 'cifar10');
  return {
    ...options,
    dataset,
    dataDir: options.dataDir ?? null,
    out: options.out ?? join('runs', `${name}-${options.scale}-${dataset}-seed${options.seed}`),
  };
}

/** Trains a recipe in a directory of its own, or goes on with the run that is there. Ctrl-C leaves a checkpoint. */
export async function runOrResume(recipe: Recipe, directory: string): Promise<TrainingOutcome> {
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  process.once('SIGINT', stop);
  const options = {
    signal: controller.signal,
    onEvent: (event: { type: string }) => {
      if (event.type !== 'epoch') return;
      const { layer, epoch, testTop1 } = event as unknown as { layer: number; epoch: number; testTop1: number };
      console.log(`${directory}: layer ${layer + 1} epoch ${epoch + 1}: top-1 ${testTop1.toFixed(2)} %`);
    },
  };
  try {
    return existsSync(join(directory, 'config.json'))
      ? await resume(directory, options)
      : await train({ recipe, out: directory, ...options });
  } catch (error) {
    if (!(error instanceof TrainingInterrupted)) throw error;
    console.error('Interrupted; the same command goes on.');
    process.exit(130);
  } finally {
    process.off('SIGINT', stop);
  }
}

export interface Table {
  readonly title: string;
  /** What was measured on what: data set, seeds, device, versions, date. */
  readonly conditions: Readonly<Record<string, string>>;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly notes: readonly string[];
}

/** Writes a table as Markdown and its figures as JSON; returns the Markdown. */
export async function writeTable(out: string, table: Table, figures: unknown): Promise<string> {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const markdown = [
    `# ${table.title}`,
    '',
    ...Object.entries(table.conditions).map(([name, value]) => `- ${name}: ${value}`),
    '',
    line(table.columns),
    line(table.columns.map(() => '---')),
    ...table.rows.map(line),
    '',
    ...table.notes.map((note) => `${note}\n`),
  ].join('\n');
  await mkdir(out, { recursive: true });
  await writeFile(join(out, 'table.md'), markdown);
  await writeFile(join(out, 'table.json'), `${JSON.stringify(figures, null, 2)}\n`);
  return markdown;
}

/** An accuracy with its ensemble in parentheses, as the paper prints it. */
export const accuracy = (top1: number | null | undefined, ensemble: number | null | undefined): string =>
  `${top1 == null ? '-' : top1.toFixed(1)} (${ensemble == null ? '-' : ensemble.toFixed(1)})`;
