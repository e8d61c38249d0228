import { scalePoint } from 'd3-scale';
import { line } from 'd3-shape';
import {
  type ChartOptions,
  emptyNote,
  frame,
  gridLines,
  isCompact,
  percentScale,
  percentTick,
  range,
  round,
  spread,
} from './chart-parts.js';
import { formatNumber, formatPercent } from './format.js';
import { markup } from './markup.js';

/** The test accuracies, in percent, after one layer; what is null or left out is not drawn. */
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

/** Options of `accuracyByDepthChart`. */
export interface AccuracyByDepthOptions extends ChartOptions {
  /** How many layers the run is to have, where that is more than there are. */
  plannedLayers?: number | undefined;
}

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
