import type { RunResult } from '../evaluation/report/index.js';

const percent = (value: number | null | undefined): string => (value == null ? '-' : value.toFixed(2));

/** Rows of text as columns, numbers to the right. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]) => cells.map((cell, i) => cell.padStart(widths[i]!)).join('  ');
  return [line(header), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}

/** Accuracy by layer, percentages; layers from 1. */
export function resultTable(result: RunResult): string {
  return formatTable(
    ['layer', 'top-1 %', 'top-5 %', 'ensemble top-1 %', 'ensemble top-5 %', 'seconds'],
    result.layers.map((layer) => [
      String(layer.layer + 1),
      percent(layer.testTop1),
      percent(layer.testTop5),
      percent(layer.ensembleTop1),
      percent(layer.ensembleTop5),
      layer.seconds == null ? '-' : layer.seconds.toFixed(1),
    ]),
  );
}
