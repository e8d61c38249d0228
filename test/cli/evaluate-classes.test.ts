import { readFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { jsonLines, layerwise, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const run = at('run');
let recorded: number[][];

beforeAll(async () => {
  expect(await layerwise(['train', ...TINY, '--out', run])).toMatchObject({ code: 0, stderr: '' });
  recorded = JSON.parse(readFileSync(`${run}/result.json`, 'utf8')).confusion;
});

it('gives with --json what became of the images of each class, as the run recorded it', async () => {
  const { stdout } = await layerwise(['evaluate', '--run', run, '--json']);
  const [got] = jsonLines(stdout) as {
    confusion: number[][];
    perClass: { class: string; images: number; top1: number }[];
  }[];
  expect(got!.confusion).toEqual(recorded);
  expect(got!.perClass[0]!.class).toBe('striped disc');
  for (const [label, { images, top1 }] of got!.perClass.entries()) {
    expect(images).toBe(recorded[label]!.reduce((sum, count) => sum + count));
    expect(top1).toBeCloseTo((100 * recorded[label]![label]!) / images, 10);
  }
});

it('prints a table of the classes with --per-class, and none without', async () => {
  const [plain, table] = await Promise.all([
    layerwise(['evaluate', '--run', run]),
    layerwise(['evaluate', '--run', run, '--per-class']),
  ]);
  expect(table).toMatchObject({ code: 0, stderr: '' });
  expect(table.stdout.startsWith(`${plain.stdout}\n`)).toBe(true);
  const [header, , ...rows] = table.stdout
    .slice(plain.stdout.length + 1)
    .trimEnd()
    .split('\n');
  expect(header!.split(/ {2,}/)).toEqual(['class', 'images', 'correct', 'top-1 %', 'most frequent mistake']);
  expect(rows).toHaveLength(recorded.length);
  for (const [label, row] of rows.entries()) {
    const counts = recorded[label]!;
    const images = counts.reduce((sum, count) => sum + count);
    const most = Math.max(...counts.filter((_, other) => other !== label));
    const [, ...figures] = row.split(/ {2,}/);
    expect(figures.slice(0, 3)).toEqual([
      ...[`${images}`, `${counts[label]}`, ((100 * counts[label]!) / images).toFixed(2)],
    ]);
    expect(figures[3]).toMatch(most === 0 ? /^-$/ : new RegExp(`^striped|checkered .*\\(${most}\\)$`));
  }
});

it.each([[['evaluate']], [['evaluate', '--dataset', 'shapes']], [['probe']], [['probe', '--dataset', 'shapes']]])(
  'refuses a directory for images that the program draws: %j',
  async (command) => {
    expect(await layerwise([...command, '--run', run, '--data-dir', '/nonexist'])).toEqual({
      code: 2,
      stdout: '',
      stderr:
        'layerwise: shapes is drawn by the program and takes no directory: expected no dataDir (--data-dir), got /nonexist\n',
    });
  },
);
