// Tables that set the paper's figures beside those measured here: as Markdown, as JSON, and their charts as SVG.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A figure of the paper, in percent; `unchecked` where it could not be checked against the paper's final text. */
export interface Published {
  readonly value: number;
  readonly unchecked?: true;
}

export const published = (value: number): Published => ({ value });
export const unchecked = (value: number): Published => ({ value, unchecked: true });

/** Mean over the seeds, and the smallest and largest. */
export interface Measured {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** Sums up one figure a seed; null where one of them was not taken. */
export function measured(values: readonly (number | null | undefined)[]): Measured | null {
  const present = values.filter((value): value is number => value != null);
  if (present.length === 0 || present.length < values.length) return null;
  const mean = present.reduce((sum, value) => sum + value, 0) / present.length;
  return { mean, low: Math.min(...present), high: Math.max(...present) };
}

type Figure = Published | Measured | null | undefined;

/** `67.6`; `70.1 u` where unchecked; `67.6 [67.1, 68.0]` over several seeds. */
export function percent(figure: Figure): string {
  if (figure == null) return '-';
  if ('value' in figure) return `${figure.value.toFixed(1)}${figure.unchecked ? ' u' : ''}`;
  const { mean, low, high } = figure;
  return low === high ? mean.toFixed(1) : `${mean.toFixed(1)} [${low.toFixed(1)}, ${high.toFixed(1)}]`;
}

/** An accuracy with its ensemble in parentheses, as the paper prints it. */
export const withEnsemble = (top1: Figure, ensemble: Figure): string => `${percent(top1)} (${percent(ensemble)})`;

/** The value on which all agree, or each value with the names of those that have it. */
export function agreed(values: readonly { readonly name: string; readonly value: string }[]): string {
  const different = [...new Set(values.map(({ value }) => value))];
  if (different.length === 1) return different[0]!;
  return different
    .map((one) => {
      const names = values.filter(({ value }) => value === one).map(({ name }) => name);
      return `${one} (${names.join(', ')})`;
    })
    .join('; ');
}

export interface Table {
  readonly title: string;
  /** What was measured on what: data set, seeds, device, versions, date. */
  readonly conditions: Readonly<Record<string, string>>;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly notes: readonly string[];
  /** The figures behind the rows, for programs. */
  readonly figures: unknown;
  /** SVG charts by the name of their file. */
  readonly charts: Readonly<Record<string, string>>;
}

const UNCHECKED_NOTE = 'u: of the paper, but could not be checked against its final text.';

/** Writes table.md, table.json and the charts, and prints the table. */
export async function writeTable(out: string, table: Table): Promise<void> {
  const { title, conditions, columns, rows, figures, charts } = table;
  const isMarked = rows.some((row) => row.some((cell) => / u\b/.test(cell)));
  const notes = [...table.notes, ...(isMarked ? [UNCHECKED_NOTE] : [])];
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const body = [
    `# ${title}`,
    '',
    ...Object.entries(conditions).map(([name, value]) => `- ${name}: ${value}`),
    '',
    line(columns),
    line(columns.map(() => '---')),
    ...rows.map(line),
    '',
    ...notes.flatMap((note) => [note, '']),
  ];
  await mkdir(out, { recursive: true });
  const pictures = Object.keys(charts).flatMap((name) => [`![${title}](${name})`, '']);
  await writeFile(join(out, 'table.md'), [...body, ...pictures].join('\n'));
  await writeFile(join(out, 'table.json'), `${JSON.stringify({ title, conditions, notes, figures }, null, 2)}\n`);
  for (const [name, svg] of Object.entries(charts)) await writeFile(join(out, name), svg);
  console.log(`\n${body.join('\n')}\nWritten to ${join(out, 'table.md')}, with table.json and charts.`);
}
