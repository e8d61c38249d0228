import { scaleLinear } from 'd3-scale';
import { LayerwiseError } from '../errors.js';
import { chartStyles } from './chart-styles.js';
import { Markup, type MarkupPart, markup } from './markup.js';

/** What all charts share: size, in pixels, name, and whether the SVG is a file of its own or a part of a page. */
export interface ChartOptions {
  /** Width of the view box; below 520 the chart is laid out for a telephone. Default 800. */
  width?: number;
  /** Start of the ids in the SVG; two charts of one page need two. */
  id?: string;
  /** The chart's accessible name; a standalone chart also prints it. */
  title?: string;
  /** Carries its own styles and ground, and is a file of its own. Without it, the page supplies `chartStyles`. */
  standalone?: boolean;
}

/** Values that cannot be drawn as a chart: which, what was expected, what came. */
export class ChartError extends LayerwiseError {
  override readonly name = 'ChartError';
  readonly code = 'INVALID_ARGUMENT';
}

/** The SVG element around a chart: its name, its description in words and, standalone, its styles, ground and heading. */
export function frame(
  chart: ChartOptions & { width: number; height: number; description: string; content: Markup },
): string {
  const { width, id = 'chart', title, standalone = false } = chart;
  const fontSize = fontSizeFor(width);
  const heading = standalone ? 36 : 0;
  const height = Math.ceil(chart.height) + heading;
  const svg = markup`<svg${standalone && markup` xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"`} class="lw-chart" viewBox="0 0 ${width} ${height}" font-size="${fontSize}" role="img" aria-labelledby="${id}-title" aria-describedby="${id}-desc">
<title id="${id}-title">${title}</title>
<desc id="${id}-desc">${chart.description}</desc>
${
  standalone
    ? markup`<style>${new Markup(chartStyles)}</style>
<rect class="lw-ground" width="${width}" height="${height}"/>
<text class="lw-heading" x="10" y="23" font-size="${fontSize + 2}">${title}</text>
<g transform="translate(0 ${heading})">
${chart.content}
</g>`
    : chart.content
}
</svg>
`;
  return svg.source;
}

/** From a value to a position in pixels: what the charts use of d3's scales, whose types no user of this package needs. */
export interface Scale {
  (value: number): number;
  domain(): number[];
  range(range: readonly [number, number]): Scale;
  ticks(count: number): number[];
}

/** The lowest and the highest of one value or more. There may be as many as a run has epochs, too many for arguments of a call. */
export const rangeOf = (values: readonly number[]): [lowest: number, highest: number] =>
  values.reduce<[number, number]>(
    ([lowest, highest], value) => [Math.min(lowest, value), Math.max(highest, value)],
    [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  );

/** From just below the lowest to just above the highest value, in round steps, and never narrower than some points. */
export function percentScale(values: readonly (number | null)[]): Scale {
  const present = values.filter((value) => value !== null);
  if (present.length === 0) return scaleLinear().domain([0, 100]);
  const [lowest, highest] = rangeOf(present);
  const room = Math.max((highest - lowest) * 0.04, (4 - (highest - lowest)) / 2);
  const [from = 0, to = 100] = scaleLinear()
    .domain([lowest - room, highest + room])
    .nice(6)
    .domain();
  return scaleLinear().domain([Math.max(0, from), Math.min(100, to)]);
}

/** Horizontal lines at the scale's ticks, with the ticks' text at their left. */
export function gridLines(
  y: Scale,
  options: {
    left: number;
    right: number;
    count: number;
    format: (value: number, position: number, all: number[]) => string;
    labelled?: boolean;
  },
): MarkupPart {
  const { left, right, count, format, labelled = true } = options;
  const [from = 0, to = 1] = y.domain();
  const all = isLogarithmic(y)
    ? logSteps(from, to).filter((step) => to / from < 100 || isPowerOfTen(step))
    : y.ticks(count);
  return all.map((value, position, ticks) => {
    const height = round(y(value));
    return markup`<line class="lw-grid" x1="${round(left)}" x2="${round(right)}" y1="${height}" y2="${height}"/>${
      labelled &&
      markup`<text class="lw-end" x="${round(left - 8)}" y="${round(height + 4)}">${format(value, position, ticks)}</text>`
    }`;
  });
}

export function percentTick(value: number, position: number, all: number[]): string {
  return position === all.length - 1 ? `${value}\u00a0%` : `${value}`;
}

/** 1, 2, 5, 10, ... from the last that is not above `lowest` to the first that is not below `highest`. */
export function logSteps(lowest: number, highest: number): number[] {
  const all = range(Math.floor(Math.log10(lowest)) - 1, Math.ceil(Math.log10(highest)) + 1).flatMap((power) =>
    [1, 2, 5].map((digit) => Number(`${digit}e${power}`)),
  );
  const from = all.findLastIndex((step) => step <= lowest);
  const to = all.findIndex((step) => step >= highest);
  return all.slice(from, to + 1);
}

export function isLogarithmic(scale: Scale): boolean {
  return 'base' in scale;
}

function isPowerOfTen(step: number): boolean {
  return Number.isInteger(Math.round(Math.log10(step) * 1e6) / 1e6);
}

/** As many columns as fit, then as few as the same number of rows needs. */
export function arrangePanels(count: number, width: number, least: number): { columns: number; rows: number } {
  const fit = Math.max(1, Math.floor(width / least));
  const rows = Math.max(1, Math.ceil(count / fit));
  return { rows, columns: Math.max(1, Math.ceil(count / rows)) };
}

/** Moves labels as little as possible, so that their middles `y` are at least `distance` apart and none is out of `limits`. */
export function spread<Label extends { y: number }>(
  labels: readonly Label[],
  distance: number,
  limits: readonly [top: number, bottom: number] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
): Label[] {
  const sorted = [...labels].sort((a, b) => a.y - b.y);
  // Isotonic regression of y minus the room that the labels above take: labels that touch move as one.
  const groups: { sum: number; count: number }[] = [];
  for (const [position, { y }] of sorted.entries()) {
    let group = { sum: y - position * distance, count: 1 };
    while (groups.length > 0) {
      const above = groups.at(-1)!;
      if (above.sum / above.count <= group.sum / group.count) break;
      groups.pop();
      group = { sum: above.sum + group.sum, count: above.count + group.count };
    }
    groups.push(group);
  }
  const [top, bottom] = [limits[0], limits[1] - (sorted.length - 1) * distance];
  const offsets = groups.flatMap(({ sum, count }) =>
    new Array<number>(count).fill(Math.max(top, Math.min(bottom, sum / count))),
  );
  return sorted.map((label, position) => ({ ...label, y: offsets[position]! + position * distance }));
}

/** About how wide a text is drawn, in pixels: as wide as in the widest of the usual sans-serif faces. */
export function textWidth(text: string, fontSize: number): number {
  return fontSize * [...text].reduce((sum, character) => sum + emsOf(character), 0);
}

function emsOf(character: string): number {
  if (character.codePointAt(0)! > 0x2e80 || /[MWm@%…]/.test(character)) return 1;
  if (/[fijlrt.,:;'|()[\] ]/.test(character)) return 0.41;
  return /[A-Zw]/.test(character) ? 0.8 : 0.64;
}

/** The text, or as much of its start as fits the width, with an ellipsis. */
export function fitText(text: string, fontSize: number, width: number): string {
  if (textWidth(text, fontSize) <= width) return text;
  const characters = [...text];
  while (characters.length > 1 && textWidth(`${characters.join('')}…`, fontSize) > width) characters.pop();
  return `${characters.join('').trimEnd()}…`;
}

export function emptyNote(x: number, y: number, words = 'no epoch has finished yet'): Markup {
  return markup`<text class="lw-middle" x="${round(x)}" y="${round(y)}">${words}</text>`;
}

export function isCompact(width: number): boolean {
  return width < 520;
}

/** In pixels, of a chart of this width. */
export function fontSizeFor(width: number): number {
  return isCompact(width) ? 11.5 : 13;
}

export function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, position) => from + position);
}

export function round(value: number): number {
  return Math.round(value * 10) / 10;
}
