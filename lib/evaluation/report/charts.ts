import { type ScaleContinuousNumeric, scaleLinear, scaleLog, scalePoint } from 'd3-scale';
import { line } from 'd3-shape';
import { chartColours, chartRules } from './chart-styles.js';
import { formatLoss, formatNumber, formatPercent } from './format.js';
import { Markup, type MarkupPart, markup } from './markup.js';
import type { EpochMetrics } from './run-record.js';

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

export interface LayerAccuracy {
  /** From 0. */
  layer: number;
  /** Percentage, of the layer's own head. */
  testTop1?: number | null;
  /** Percentage, of the ensemble of the heads up to this one. */
  ensembleTop1?: number | null;
  /** Drawn as an open dot. */
  inTraining?: boolean;
}

export interface AccuracyByDepthOptions extends ChartOptions {
  /** How many layers the run is to have, where that is more than there are. */
  plannedLayers?: number | undefined;
}

export interface LearningCurvesOptions extends ChartOptions {
  /** `top1` in percent, or `loss` (cross entropy). Default `top1`. */
  measure?: 'top1' | 'loss';
  /** How many epochs a layer is to have, where that is more than there are. */
  plannedEpochs?: number | undefined;
  /** How the panels are headed; null leaves the heading out. Default `Layer 1`, `Layer 2`, and so on. */
  panelTitle?: ((layer: number) => string) | null;
}

/** What a page needs once for the charts that it holds inline. */
export const chartStyles: string = chartColours + chartRules;

/** The test accuracy after each layer: that of the layer's own head, and that of the ensemble where there is one. An SVG string. */
export function accuracyByDepthChart(points: readonly LayerAccuracy[], options: AccuracyByDepthOptions = {}): string {
  const { width = 800, title = 'Top-1 accuracy by depth' } = options;
  const compact = isCompact(width);
  const sorted = [...points].sort((a, b) => a.layer - b.layer);
  const series = [
    { kind: 'ensemble', values: sorted.map((point) => point.ensembleTop1 ?? null) },
    { kind: 'layer', values: sorted.map((point) => point.testTop1 ?? null) },
  ].filter((one) => one.values.some((value) => value !== null));
  const withEnsemble = series.length > 1;

  const height = compact ? 270 : 380;
  const margin = { top: 14, right: compact ? 62 : 104, bottom: 34, left: compact ? 46 : 54 };
  const first = sorted[0]?.layer ?? 0;
  const last = Math.max(sorted.at(-1)?.layer ?? 0, (options.plannedLayers ?? 0) - 1);
  const x = scalePoint<number>()
    .domain(range(first, last))
    .range([margin.left, width - margin.right])
    .padding(0.3);
  const y = percentScale(series.flatMap((one) => one.values)).range([height - margin.bottom, margin.top]);
  const at = (layer: number) => x(layer) ?? 0;

  const lines = series.map(({ kind, values }) => {
    const path = line<number | null>()
      .defined((value) => value !== null)
      .x((_, position) => at(sorted[position]!.layer))
      .y((value) => y(value ?? 0));
    return markup`<path class="lw-line lw-${kind}" d="${path(values)}"/>`;
  });
  const dots = series.flatMap(({ kind, values }) =>
    sorted.map(({ layer, inTraining }, position) => {
      const value = values[position] ?? null;
      if (value === null) return '';
      const name = kind === 'layer' ? `Layer ${layer + 1}` : `Ensemble of layers 1 to ${layer + 1}`;
      const shape = kind === 'layer' ? 4.5 : 3.5;
      return markup`<circle class="lw-dot lw-${kind}${inTraining ? ' lw-open' : ''}" cx="${round(at(layer))}" cy="${round(y(value))}" r="${shape}"><title>${name}: ${formatPercent(value, 2)}</title></circle>`;
    }),
  );

  const labelled = x.step() >= 27 ? sorted.slice(0, -1) : [];
  const valueLabels = labelled.map(({ layer, testTop1, ensembleTop1 }, position) => {
    if (testTop1 === null || testTop1 === undefined) return '';
    const below = withEnsemble && (ensembleTop1 ?? testTop1) >= testTop1;
    // Away from the line: from its part before the point where that comes from below, and so on.
    const steepness = (from: number | undefined, to: number | undefined) => {
      const [before, after] = [
        sorted[from ?? position]?.testTop1 ?? testTop1,
        sorted[to ?? position]?.testTop1 ?? testTop1,
      ];
      return Math.max(-1, Math.min(1, (y(before) - y(after)) / x.step()));
    };
    const [into, out] = [steepness(position - 1, undefined), steepness(undefined, position + 1)];
    const shift = 12 * (below ? Math.max(0, into) + Math.min(0, out) : Math.max(0, -into) - Math.max(0, out));
    return markup`<text class="lw-value lw-layer lw-middle" x="${round(at(layer) + shift)}" y="${round(y(testTop1) + (below ? 20 : -11))}">${formatNumber(testTop1, 1)}</text>`;
  });

  const ends = series
    .map(({ kind, values }) => ({ kind, position: values.findLastIndex((value) => value !== null), values }))
    .map(({ kind, position, values }) => ({
      kind,
      name: kind === 'layer' ? (withEnsemble ? 'layer' : 'top-1') : 'ensemble',
      value: values[position] ?? 0,
      x: at(sorted[position]!.layer) + 12,
      y: y(values[position] ?? 0),
    }));
  const endLabels = spread(ends, compact ? 30 : 19).map(({ kind, name, value, x: left, y: middle }) =>
    compact
      ? markup`<text class="lw-value lw-${kind}" x="${round(left - 3)}" y="${round(middle)}"><tspan class="lw-strong">${formatNumber(value, 1)}</tspan><tspan x="${round(left - 3)}" dy="1.15em">${name}</tspan></text>`
      : markup`<text class="lw-value lw-${kind}" x="${round(left)}" y="${round(middle + 4.5)}"><tspan class="lw-strong">${formatNumber(value, 1)}</tspan> ${name}</text>`,
  );

  const everyTick = Math.ceil(22 / Math.max(x.step(), 1));
  const layerTicks = x
    .domain()
    .filter((layer) => (layer - first) % everyTick === 0)
    .map((layer, position) => {
      const text = position === 0 && x.step() >= 26 ? `Layer ${layer + 1}` : layer + 1;
      // The word stands left of its number, which stands under its point.
      return markup`<text class="lw-middle" x="${round(at(layer) - (position === 0 && text !== layer + 1 ? 18 : 0))}" y="${height - margin.bottom + 22}">${text}</text>`;
    });

  return frame({
    ...options,
    width,
    height,
    title,
    description: sorted
      .map(
        ({ layer, testTop1, ensembleTop1 }) =>
          `Layer ${layer + 1}: ${formatPercent(testTop1)}${ensembleTop1 == null ? '' : `, ensemble ${formatPercent(ensembleTop1)}`}.`,
      )
      .join(' '),
    content: markup`${gridLines(y, { left: margin.left, right: width - (compact ? margin.right - 8 : margin.right - 4), count: compact ? 4 : 6, format: percentTick })}
${layerTicks}
${lines}
${dots}
${valueLabels}
${endLabels}
${sorted.length === 0 && emptyNote(width / 2, height / 2)}`,
  });
}

/**
 * Training and test curves over the epochs, one panel a layer, in one row on one scale where the width allows it. A dotted line
 * stands where the learning rate drops. An SVG string.
 */
export function learningCurvesChart(epochs: readonly EpochMetrics[], options: LearningCurvesOptions = {}): string {
  const { width = 800, measure = 'top1', panelTitle = (layer: number) => `Layer ${layer + 1}` } = options;
  const compact = isCompact(width);
  const accuracy = measure === 'top1';
  const { title = accuracy ? 'Training and test accuracy over the epochs' : 'Training and test loss over the epochs' } =
    options;
  const trainOf = (one: EpochMetrics) => finite(accuracy ? one.trainTop1 : one.trainLoss);
  const testOf = (one: EpochMetrics) => finite(accuracy ? one.testTop1 : one.testLoss);
  const formatValue = (value: number | null) => (accuracy ? formatNumber(value, 1) : formatLoss(value));

  const layers = groupByLayer(epochs);
  const epochCount = Math.max(options.plannedEpochs ?? 1, ...epochs.map((one) => one.epoch + 1));
  const heading = panelTitle === null ? 10 : compact ? 34 : 40;
  const margin = { top: heading, right: compact ? 36 : 48, bottom: 24, left: compact ? 46 : 54 };
  const gap = compact ? 6 : 8;
  const { columns, rows } = arrangePanels(layers.length, width - margin.left - margin.right, compact ? 56 : 84);
  const panelWidth = (width - margin.left - margin.right - gap * (columns - 1)) / columns;
  const panelHeight = rows > 1 ? (compact ? 112 : 140) : compact ? 170 : 220;
  const rowHeight = margin.top + panelHeight + margin.bottom;
  const height = rows * rowHeight + 18;

  const values = epochs.flatMap((one) => [trainOf(one), testOf(one)]);
  const y = (accuracy ? percentScale(values) : lossScale(values)).range([panelHeight - 4, 4]);
  const x = epochScale(epochCount, panelWidth);
  const grid = { left: 0, right: panelWidth, count: compact ? 4 : 5, format: accuracy ? percentTick : lossTick };

  const panels = layers.map(({ layer, epochs: of }, position) => {
    const column = position % columns;
    const final = [...of].reverse().find((one) => testOf(one) !== null);
    const curve = (kind: 'train' | 'test', value: (one: EpochMetrics) => number | null) => {
      const path = line<EpochMetrics>()
        .defined((one) => value(one) !== null)
        .x((one) => x(one.epoch))
        .y((one) => y(value(one) ?? 0));
      const dots = of.map((one) => {
        const figure = value(one);
        if (figure === null || epochCount > 12) return '';
        return markup`<circle class="lw-dot lw-${kind}" cx="${round(x(one.epoch))}" cy="${round(y(figure))}" r="${kind === 'test' ? 3.5 : 3}"><title>Layer ${layer + 1}, epoch ${one.epoch + 1}, ${kind}: ${formatValue(figure)}</title></circle>`;
      });
      return markup`<path class="lw-line lw-${kind}" d="${path(of)}"/>${dots}`;
    };
    const drops = rateDrops(of).map(
      (epoch) =>
        markup`<line class="lw-rate-drop" x1="${round(x(epoch - 0.5))}" x2="${round(x(epoch - 0.5))}" y1="2" y2="${panelHeight - 2}"/>`,
    );
    const names =
      position === Math.min(columns, layers.length) - 1 &&
      spread(
        [
          { kind: 'train', of: [...of].reverse().find((one) => trainOf(one) !== null), value: trainOf },
          { kind: 'test', of: final, value: testOf },
        ].flatMap(({ kind, of: end, value }) =>
          end === undefined ? [] : [{ kind, x: x(end.epoch) + 8, y: y(value(end) ?? 0) }],
        ),
        compact ? 13 : 16,
      ).map(
        ({ kind, x: left, y: middle }) =>
          markup`<text class="lw-value lw-${kind}" x="${round(left)}" y="${round(middle + 4)}">${kind}</text>`,
      );
    const left = margin.left + column * (panelWidth + gap);
    const top = Math.floor(position / columns) * rowHeight + margin.top;
    return markup`<g transform="translate(${round(left)} ${top})">
<rect class="lw-panel" width="${round(panelWidth)}" height="${panelHeight}"/>
${gridLines(y, { ...grid, labelled: column === 0 })}
${drops}
${panelTitle !== null && markup`<text class="lw-heading" x="0" y="${compact ? -21 : -24}">${panelTitle(layer)}</text><text class="lw-test" x="0" y="-7">${formatValue(final === undefined ? null : testOf(final))}</text>`}
${curve('train', trainOf)}
${curve('test', testOf)}
${epochTicks(epochCount, panelWidth).map(
  (epoch) =>
    markup`<text class="${tickAnchor(epoch, epochCount)}" x="${round(tickAnchor(epoch, epochCount) === 'lw-start' ? x(epoch) - 4 : tickAnchor(epoch, epochCount) === 'lw-end' ? x(epoch) + 4 : x(epoch))}" y="${panelHeight + 17}">${epoch + 1}</text>`,
)}
${names}
</g>`;
  });

  return frame({
    ...options,
    width,
    height,
    title,
    description: layers
      .map(({ layer, epochs: of }) => {
        const end = of.at(-1)!;
        const unit = accuracy ? '\u00a0%' : '';
        return `Layer ${layer + 1} at epoch ${end.epoch + 1}: training ${formatValue(trainOf(end))}${unit}, test ${formatValue(testOf(end))}${unit}.`;
      })
      .join(' '),
    content: markup`${panels}
<text x="${margin.left}" y="${height - 5}">epoch${layers.length > 1 && ' of each layer'}${isLogarithmic(y) && '; loss on a logarithmic scale'}</text>
${layers.length === 0 && emptyNote(width / 2, height / 2)}`,
  });
}

function frame(chart: ChartOptions & { width: number; height: number; description: string; content: Markup }): string {
  const { width, id = 'chart', title, standalone = false } = chart;
  const fontSize = isCompact(width) ? 11.5 : 13;
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

type Scale = ScaleContinuousNumeric<number, number>;

/** From just below the lowest to just above the highest value, in round steps, and never narrower than some points. */
function percentScale(values: readonly (number | null)[]): Scale {
  const present = values.filter((value) => value !== null);
  if (present.length === 0) return scaleLinear().domain([0, 100]);
  const lowest = Math.min(...present);
  const highest = Math.max(...present);
  const room = Math.max((highest - lowest) * 0.04, (4 - (highest - lowest)) / 2);
  const [from = 0, to = 100] = scaleLinear()
    .domain([lowest - room, highest + room])
    .nice(6)
    .domain();
  return scaleLinear().domain([Math.max(0, from), Math.min(100, to)]);
}

/** Linear from near zero; logarithmic where the first epochs would flatten all that follow. */
function lossScale(values: readonly (number | null)[]): Scale {
  const present = values.filter((value) => value !== null);
  if (present.length === 0) return scaleLinear().domain([0, 1]);
  const lowest = Math.min(...present);
  const highest = Math.max(...present);
  if (lowest > 0 && highest / lowest > 8) {
    const steps = logSteps(lowest, highest);
    return scaleLog().domain([steps[0]!, steps.at(-1)!]);
  }
  const room = Math.max((highest - lowest) * 0.04, 0.01);
  return scaleLinear()
    .domain([Math.max(lowest - room, lowest >= 0 ? 0 : Number.NEGATIVE_INFINITY), highest + room])
    .nice(5);
}

/** 1, 2, 5, 10, ... from the last that is not above `lowest` to the first that is not below `highest`. */
function logSteps(lowest: number, highest: number): number[] {
  const all = range(Math.floor(Math.log10(lowest)) - 1, Math.ceil(Math.log10(highest)) + 1).flatMap((power) =>
    [1, 2, 5].map((digit) => Number(`${digit}e${power}`)),
  );
  const from = all.findLastIndex((step) => step <= lowest);
  const to = all.findIndex((step) => step >= highest);
  return all.slice(from, to + 1);
}

function isLogarithmic(scale: Scale): boolean {
  return 'base' in scale;
}

function isPowerOfTen(step: number): boolean {
  return Number.isInteger(Math.round(Math.log10(step) * 1e6) / 1e6);
}

function gridLines(
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

function percentTick(value: number, position: number, all: number[]): string {
  return position === all.length - 1 ? `${value}\u00a0%` : `${value}`;
}

function lossTick(value: number, _position: number, all: number[]): string {
  if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 10_000)) return value.toExponential(0);
  const evenlySpaced = all.length < 3 || Math.abs(all[0]! + all[2]! - 2 * all[1]!) < 1e-9;
  const decimals = Math.max(...all.map((one) => `${one}`.split('.')[1]?.length ?? 0));
  return evenlySpaced ? value.toFixed(decimals) : `${value}`;
}

function epochScale(count: number, panelWidth: number): (epoch: number) => number {
  if (count === 1) return () => panelWidth / 2;
  const scale = scaleLinear()
    .domain([0, count - 1])
    .range([8, panelWidth - 8]);
  return (epoch) => scale(epoch);
}

/** The first and the last epoch, and between them, where there is room, equal steps that end with the last. Epochs from 0. */
function epochTicks(count: number, panelWidth: number): number[] {
  const room = panelWidth / 34;
  if (count <= room) return range(0, count - 1);
  const step = [5, 10, 15, 20, 25, 30, 50, 100].find((one) => count % one === 0 && count / one <= room);
  if (step === undefined) return [0, count - 1];
  return [0, ...range(1, count / step).map((position) => position * step - 1)];
}

function tickAnchor(epoch: number, count: number): string {
  if (count === 1) return 'lw-middle';
  return epoch === 0 ? 'lw-start' : epoch === count - 1 ? 'lw-end' : 'lw-middle';
}

/** As many columns as fit, then as few as the same number of rows needs. */
function arrangePanels(count: number, width: number, least: number): { columns: number; rows: number } {
  const fit = Math.max(1, Math.floor(width / least));
  const rows = Math.max(1, Math.ceil(count / fit));
  return { rows, columns: Math.max(1, Math.ceil(count / rows)) };
}

/** The epochs whose learning rate is lower than the one before; none of a rate that falls all the time. */
function rateDrops(epochs: readonly EpochMetrics[]): number[] {
  const drops = epochs.filter((one, position) => position > 0 && one.lr < epochs[position - 1]!.lr);
  return drops.length <= Math.max(2, epochs.length / 4) ? drops.map((one) => one.epoch) : [];
}

function groupByLayer(epochs: readonly EpochMetrics[]): { layer: number; epochs: EpochMetrics[] }[] {
  const groups = new Map<number, EpochMetrics[]>();
  for (const one of epochs) groups.set(one.layer, [...(groups.get(one.layer) ?? []), one]);
  return [...groups]
    .map(([layer, of]) => ({ layer, epochs: of.sort((a, b) => a.epoch - b.epoch) }))
    .sort((a, b) => a.layer - b.layer);
}

/** Moves two labels apart until `distance` is between them. */
function spread<Label extends { y: number }>(labels: Label[], distance: number): Label[] {
  const [upper, lower] = [...labels].sort((a, b) => a.y - b.y);
  if (upper === undefined || lower === undefined) return labels;
  const move = Math.max(0, (distance - (lower.y - upper.y)) / 2);
  return [
    { ...upper, y: upper.y - move },
    { ...lower, y: lower.y + move },
  ];
}

function emptyNote(x: number, y: number): Markup {
  return markup`<text class="lw-middle" x="${round(x)}" y="${round(y)}">no epoch has finished yet</text>`;
}

function isCompact(width: number): boolean {
  return width < 520;
}

function finite(value: number | null | undefined): number | null {
  return value ?? null;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, position) => from + position);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
