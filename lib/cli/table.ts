import type { RunResult } from '../run/index.js';

const percent = (value: number | null | undefined): string => (value == null ? '-' : value.toFixed(2));

type Rows = readonly (readonly string[])[];

/** Rows of text as columns, aligned to the right. */
export function formatRows(rows: Rows): string {
  const widths = widthsOf(rows);
  return rows.map((cells) => cells.map((cell, i) => cell.padStart(widths[i]!)).join('  ')).join('\n');
}

/** The same under a line of titles. */
export function formatTable(header: readonly string[], rows: Rows): string {
  const dashes = widthsOf([header, ...rows]).map((width) => '-'.repeat(width));
  return formatRows([header, dashes, ...rows]);
}

const widthsOf = (rows: Rows): number[] =>
  rows[0]!.map((_, column) => Math.max(...rows.map((cells) => cells[column]!.length)));

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
