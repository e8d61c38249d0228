import { scaleLinear } from 'd3-scale';
import type { ClassFigures } from '../evaluation/index.js';
import {
  type ChartOptions,
  emptyNote,
  fitText,
  fontSizeFor,
  frame,
  isCompact,
  percentTick,
  round,
  textWidth,
} from './chart-parts.js';
import { formatNumber, formatPercent, missing } from './format.js';
import { markup } from './markup.js';

export interface ClassAccuracyOptions extends ChartOptions {
  /** Percentage of all images that are in the right class; drawn as a dotted line. */
  overall?: number;
  /** Classes of other charts that are to leave the same room for names. */
  alignWith?: readonly ClassFigures[];
}

/** The accuracy of each class as a bar, from the first at the top. An SVG string. */
export function classAccuracyChart(classes: readonly ClassFigures[], options: ClassAccuracyOptions = {}): string {
  const { width = 800, title = 'Top-1 accuracy by class', overall, alignWith = [] } = options;
  const compact = isCompact(width);
  const fontSize = fontSizeFor(width);
  const rowHeight = compact ? 21 : 25;
  const barHeight = compact ? 11 : 13;
  const longest = Math.max(0, ...[...classes, ...alignWith].map((one) => textWidth(one.class, fontSize)));
  const margin = {
    top: overall === undefined ? 6 : 24,
    right: compact ? 52 : 58,
    bottom: 24,
    left: Math.min(longest, width * (compact ? 0.38 : 0.3)) + 14,
  };
  const bottom = margin.top + classes.length * rowHeight;
  const height = bottom + margin.bottom;
  const x = scaleLinear()
    .domain([0, 100])
    .range([margin.left, width - margin.right]);

  const grid = x.ticks(compact ? 2 : 4).map(
    (value, position, ticks) =>
      markup`<line class="lw-grid" x1="${round(x(value))}" x2="${round(x(value))}" y1="${margin.top}" y2="${bottom}"/>
<text class="lw-middle" x="${round(x(value))}" y="${bottom + 17}">${percentTick(value, position, ticks)}</text>`,
  );
  const bars = classes.map(({ class: name, images, correct, top1 }, position) => {
    const middle = margin.top + (position + 0.5) * rowHeight;
    const words = `${name}: ${countsOf({ images, correct, top1 })}`;
    const bar =
      top1 !== null &&
      markup`<rect class="lw-bar" x="${round(x(0))}" y="${round(middle - barHeight / 2)}" width="${round(x(top1) - x(0))}" height="${barHeight}"/>`;
    const baseline = round(middle + fontSize * 0.35);
    return markup`<g><title>${words}</title>${bar}
<text class="lw-name lw-end" x="${round(margin.left - 8)}" y="${baseline}">${fitText(name, fontSize, margin.left - 12)}</text>
<text class="lw-layer lw-strong lw-end" x="${width - 4}" y="${baseline}">${top1 === null ? missing : formatNumber(top1, 1)}</text></g>\n`;
  });
  const mean =
    overall !== undefined &&
    markup`<line class="lw-mean" x1="${round(x(overall))}" x2="${round(x(overall))}" y1="${margin.top - 4}" y2="${bottom}"/>
<text class="lw-middle" x="${round(Math.min(x(overall), width - 52))}" y="${margin.top - 9}">all ${formatPercent(overall)}</text>`;

  return frame({
    ...options,
    width,
    height,
    title,
    description: classes.map((one) => `${one.class}: ${countsOf(one)}.`).join(' '),
    content: markup`${grid}
${bars}
${mean}
${classes.length === 0 && emptyNote(width / 2, height / 2, 'no classes')}`,
  });
}

function countsOf({ images, correct, top1 }: Pick<ClassFigures, 'images' | 'correct' | 'top1'>): string {
  if (top1 === null) return 'no images';
  return `${formatPercent(top1)}, ${formatNumber(correct)} of ${formatNumber(images)}`;
}
