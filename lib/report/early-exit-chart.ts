import { scaleLinear } from 'd3-scale';
import { line } from 'd3-shape';
import type { EarlyExitFigures, EarlyExitPoint, EarlyExitRecord } from '../run/index.js';
import { type ChartOptions, frame, gridLines, isCompact, percentScale, percentTick, round } from './chart-parts.js';
import { formatNumber, formatPercent } from './format.js';
import { markup } from './markup.js';

/** What early exit costs, in percent of what the whole network does: multiply-adds, or where those are not known time. */
export function shareOf({ whole }: EarlyExitRecord, figures: EarlyExitFigures): number {
  return figures.multiplyAdds === null || whole.multiplyAdds === null
    ? (100 * figures.milliseconds) / whole.milliseconds
    : (100 * figures.multiplyAdds) / whole.multiplyAdds;
}

/** Test accuracy against mean cost, a dot a threshold, beside the whole network. An SVG string. */
export function earlyExitChart(record: EarlyExitRecord, options: ChartOptions = {}): string {
  const { width = 800, title = 'Top-1 accuracy by mean cost' } = options;
  const compact = isCompact(width);
  const height = compact ? 270 : 340;
  const margin = { top: 18, right: 32, bottom: 44, left: compact ? 46 : 54 };
  const points = record.points.map((point) => ({ point, share: shareOf(record, point) }));
  const y = percentScale([record.whole.top1, ...record.points.map(({ top1 }) => top1)]).range([
    height - margin.bottom,
    margin.top,
  ]);
  const x = scaleLinear()
    .domain([0, Math.max(100, ...points.map(({ share }) => share))])
    .nice(5)
    .range([margin.left, width - margin.right]);

  const path = line<(typeof points)[number]>()
    .x(({ share }) => x(share))
    .y(({ point }) => y(point.top1));
  const isChosen = ({ threshold }: EarlyExitPoint): boolean => threshold === record.threshold;
  const dots = points.map(
    ({ point, share }) =>
      markup`<circle class="lw-dot lw-layer" cx="${round(x(share))}" cy="${round(y(point.top1))}" r="${isChosen(point) ? 6 : 3.5}"><title>Threshold ${point.threshold}: ${formatPercent(point.top1, 2)} at ${formatPercent(share, 0)}</title></circle>`,
  );
  const chosen = points.find(({ point }) => isChosen(point))!;
  const ticks = x
    .ticks(compact ? 4 : 6)
    .map(
      (tick, position, all) =>
        markup`<text class="lw-middle" x="${round(x(tick))}" y="${height - margin.bottom + 20}">${percentTick(tick, position, all)}</text>`,
    );
  /** Beside a dot, on the side where there is room. */
  const label = (kind: string, words: string, share: number, top1: number, below: boolean) => {
    const left = share > x.domain()[1]! / 2;
    return markup`<text class="lw-value lw-${kind} ${left ? 'lw-end' : 'lw-start'}" x="${round(x(share) + (left ? -10 : 10))}" y="${round(y(top1) + (below ? 20 : -9))}"><tspan class="lw-strong">${formatNumber(top1, 1)}</tspan> ${words}</text>`;
  };
  // Above its dot, but for the lower one of two that are near each other.
  const isNear = Math.abs(chosen.share - 100) < 0.4 * x.domain()[1]!;
  const isLower = record.whole.top1 < chosen.point.top1;

  return frame({
    ...options,
    width,
    height,
    title,
    description: `${points
      .map(
        ({ point, share }) =>
          `Threshold ${point.threshold}: ${formatPercent(point.top1)} at ${formatPercent(share, 0)}.`,
      )
      .join(' ')} Whole network: ${formatPercent(record.whole.top1)} at 100 %.`,
    content: markup`${gridLines(y, { left: margin.left, right: width - margin.right, count: compact ? 4 : 6, format: percentTick })}
${ticks}
<text class="lw-middle" x="${round((margin.left + width - margin.right) / 2)}" y="${height - 6}">mean cost, in percent of the whole network’s</text>
<path class="lw-line lw-layer" d="${path(points)}"/>
${dots}
<circle class="lw-dot lw-ensemble" cx="${round(x(100))}" cy="${round(y(record.whole.top1))}" r="5"><title>Whole network: ${formatPercent(record.whole.top1, 2)}</title></circle>
${label('ensemble', 'whole network', 100, record.whole.top1, isNear && isLower)}
${label('layer', `at ${record.threshold}`, chosen.share, chosen.point.top1, isNear && !isLower)}`,
  });
}
