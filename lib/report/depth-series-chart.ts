import { scalePoint } from 'd3-scale';
import {
  line,
  type SymbolType,
  symbol,
  symbolCircle,
  symbolCross,
  symbolDiamond2,
  symbolSquare,
  symbolTriangle,
} from 'd3-shape';
import {
  arrangePanels,
  ChartError,
  type ChartOptions,
  emptyNote,
  fitText,
  fontSizeFor,
  frame,
  gridLines,
  isCompact,
  percentScale,
  percentTick,
  range,
  round,
  spread,
  textWidth,
} from './chart-parts.js';
import { seriesCount } from './chart-styles.js';
import { formatNumber, formatPercent } from './format.js';
import { Markup, markup } from './markup.js';

/** A value after a layer, with an interval around it where there is one. Percentages. */
export interface DepthPoint {
  /** From 0. */
  layer: number;
  /** Percentage. */
  value: number;
  /** Ends of the interval around the value, its spread over seeds, say. Percentages; both or neither. */
  low?: number;
  high?: number;
}

/** A line over depth, with its name in the legend. */
export interface DepthSeries {
  /** What the legend calls it. The same name in another panel has the same colour, dashes and mark. */
  name: string;
  points: readonly DepthPoint[];
}

/** One panel of `depthSeriesChart`: a measure, with its series. */
export interface DepthPanel {
  title: string;
  series: readonly DepthSeries[];
}

/** Options of `depthSeriesChart`. */
export interface DepthSeriesOptions extends ChartOptions {
  /** Each panel has a percent scale of its own. Default: one for all. */
  ownScales?: boolean;
}

/**
 * Several measures over depth, one panel each, side by side where the width allows it, each with its named series (up to
 * six are told apart). Intervals are vertical lines through the points; the last value of each series is printed beside
 * it. An SVG string.
 *
 * @throws {ChartError} for a layer that is no index, a percentage that is not finite, an interval without one of its ends or
 * not around its value, or two series of one name in a panel.
 */
export function depthSeriesChart(panels: readonly DepthPanel[], options: DepthSeriesOptions = {}): string {
  const { width = 800, title = 'By depth', ownScales = false } = options;
  for (const panel of panels) checkPanel(panel);
  const names = [...new Set(panels.flatMap(({ series }) => series.map(({ name }) => name)))];
  const points = panels.flatMap(pointsOf);
  const layers = points.map(({ layer }) => layer);
  const compact = isCompact(width);
  const fontSize = fontSizeFor(width);

  const legend = layOutLegend(names, fontSize, width);
  const margin = { top: compact ? 30 : 34, bottom: 24, left: compact ? 46 : 54 };
  /** Beside each panel, for the last values. */
  const labelRoom = compact ? 54 : 62;
  const gap = ownScales ? margin.left : 4;
  const inner = width - margin.left - labelRoom;
  const { columns, rows } = arrangePanels(panels.length, inner, 130 + labelRoom);
  const panelWidth = (inner - (columns - 1) * (gap + labelRoom)) / columns;
  const panelHeight = columns === 1 ? (compact ? 190 : 300) : 220;
  const rowHeight = margin.top + panelHeight + margin.bottom;
  const height = legend.height + rows * rowHeight + 18;

  const x = scalePoint<number>()
    .domain(layers.length === 0 ? [0] : range(Math.min(...layers), Math.max(...layers)))
    .range([0, panelWidth])
    .padding(0.35);
  const scaleOf = (of: readonly DepthPoint[]) =>
    percentScale(of.flatMap(({ value, low = value, high = value }) => [low, value, high])).range([panelHeight - 6, 6]);
  const shared = scaleOf(points);
  // Intervals at one layer stand side by side.
  const aside = points.some(hasInterval) ? Math.min(6, (0.5 * x.step()) / Math.max(1, names.length)) : 0;

  const drawn = panels.map((panel, position) => {
    const y = ownScales ? scaleOf(pointsOf(panel)) : shared;
    const column = position % columns;
    const at = (name: string, layer: number) =>
      (x(layer) ?? 0) + aside * (names.indexOf(name) - (names.length - 1) / 2);
    const series = panel.series.map((one) => ({
      name: one.name,
      style: styleOf(names.indexOf(one.name)),
      points: [...one.points].sort((a, b) => a.layer - b.layer),
    }));
    const lines = series.map(({ name, style, points: of }) => {
      const path = line<DepthPoint>()
        .x(({ layer }) => at(name, layer))
        .y(({ value }) => y(value));
      const ranges = of.filter(hasInterval).map(({ layer, low, high }) => {
        const [middle, top, bottom] = [round(at(name, layer)), round(y(high)), round(y(low))];
        return markup`<path class="lw-range ${style.name}" d="M${round(middle - 3)} ${top}h6M${middle} ${top}V${bottom}M${round(middle - 3)} ${bottom}h6"/>`;
      });
      return markup`${ranges}<path class="lw-line ${style.name}" d="${path(of)}"/>`;
    });
    const marks = series.flatMap(({ name, style, points: of }) =>
      of.map((point) =>
        mark(style, at(name, point.layer), y(point.value), `${name}, layer ${point.layer + 1}: ${figures(point)}`),
      ),
    );
    const labels = spread(
      series.flatMap(({ style, points: of }) => {
        const last = of.at(-1);
        return last === undefined ? [] : [{ style, value: last.value, y: y(last.value) }];
      }),
      fontSize + 2,
      [fontSize / 2, panelHeight - fontSize / 2],
    ).map(
      ({ style, value, y: middle }) =>
        markup`${mark(style, panelWidth + 10, middle)}<text class="lw-strong ${style.name}" x="${round(panelWidth + 18)}" y="${round(middle + fontSize * 0.35)}">${formatNumber(value, 1)}</text>`,
    );
    const left = margin.left + column * (panelWidth + labelRoom + gap);
    const top = legend.height + Math.floor(position / columns) * rowHeight + margin.top;
    const headingWidth = panelWidth + labelRoom;
    return markup`<g transform="translate(${round(left)} ${round(top)})">
<rect class="lw-panel" width="${round(panelWidth)}" height="${panelHeight}"/>
<text class="lw-heading" x="0" y="-10">${fitText(panel.title, 1.1 * fontSize, headingWidth)}</text>
${gridLines(y, { left: 0, right: panelWidth, count: compact ? 4 : 6, format: percentTick, labelled: ownScales || column === 0 })}
${layerTicks(x.domain(), x.step()).map((layer) => markup`<text class="lw-middle" x="${round(x(layer) ?? 0)}" y="${panelHeight + 18}">${layer + 1}</text>`)}
${lines}
${marks}
${labels}
</g>`;
  });

  return frame({
    ...options,
    width,
    height,
    title,
    description: panels
      .map(
        ({ title: measure, series }) =>
          `${measure}: ${series.map((one) => `${one.name}: ${one.points.map((point) => `layer ${point.layer + 1} ${figures(point)}`).join(', ')}`).join('; ')}.`,
      )
      .join(' '),
    content: markup`${legend.content}
${drawn}
${points.length > 0 && markup`<text x="${margin.left}" y="${round(height - 5)}">layer</text>`}
${points.length === 0 && emptyNote(width / 2, height / 2, 'no values')}`,
  });
}

function checkPanel({ title, series }: DepthPanel): void {
  const names = new Set<string>();
  for (const { name, points } of series) {
    if (names.has(name)) throw new ChartError(`${title}: expected one series of each name, got "${name}" twice`);
    names.add(name);
    for (const { layer, value, low, high } of points) {
      const at = `${title}, ${name}`;
      if (!Number.isInteger(layer) || layer < 0) {
        throw new ChartError(`${at}: expected a layer from 0, got ${layer}`);
      }
      if (!Number.isFinite(value)) throw new ChartError(`${at}, layer ${layer}: expected a finite value, got ${value}`);
      if (low === undefined && high === undefined) continue;
      if (!(Number.isFinite(low) && Number.isFinite(high) && low! <= value && value <= high!)) {
        throw new ChartError(
          `${at}, layer ${layer}: expected low and high around the value ${value}, got ${low} and ${high}`,
        );
      }
    }
  }
}

function pointsOf({ series }: DepthPanel): DepthPoint[] {
  return series.flatMap(({ points }) => points);
}

function hasInterval(point: DepthPoint): point is Required<DepthPoint> {
  return point.low !== undefined && point.high !== undefined && point.low < point.high;
}

function figures(point: DepthPoint): string {
  const spread = hasInterval(point) ? ` (${formatNumber(point.low, 1)} to ${formatNumber(point.high, 1)})` : '';
  return `${formatPercent(point.value, 1)}${spread}`;
}

interface SeriesStyle {
  /** The class of its elements. */
  name: string;
  shape: SymbolType;
  size: number;
  /** In degrees. */
  turn: number;
}

const shapes: readonly Omit<SeriesStyle, 'name'>[] = [
  { shape: symbolCircle, size: 58, turn: 0 },
  { shape: symbolSquare, size: 50, turn: 0 },
  { shape: symbolTriangle, size: 48, turn: 0 },
  { shape: symbolDiamond2, size: 56, turn: 0 },
  { shape: symbolTriangle, size: 48, turn: 180 },
  { shape: symbolCross, size: 56, turn: 45 },
];

function styleOf(position: number): SeriesStyle {
  // From the seventh on, a colour comes again with another mark.
  const again = Math.floor(position / seriesCount);
  return { name: `lw-series-${(position % seriesCount) + 1}`, ...shapes[(position + again) % shapes.length]! };
}

function mark({ name, shape, size, turn }: SeriesStyle, x: number, y: number, words?: string): Markup {
  const transform = `translate(${round(x)} ${round(y)})${turn === 0 ? '' : ` rotate(${turn})`}`;
  return markup`<path class="lw-mark ${name}" transform="${transform}" d="${symbol(shape, size)()}">${words !== undefined && markup`<title>${words}</title>`}</path>`;
}

/** Every layer, or so many of them, from the first on in equal steps, as there is room for. */
function layerTicks(layers: readonly number[], step: number): number[] {
  const every = Math.ceil(22 / Math.max(step, 1));
  return layers.filter((_, position) => position % every === 0);
}

/** Samples of line and mark with their names, in as many rows as they need; none for a single series without a name. */
function layOutLegend(names: readonly string[], fontSize: number, width: number): { content: Markup; height: number } {
  if (names.every((name) => name === '')) return { content: new Markup(''), height: 0 };
  const [sample, space, edge] = [34, 20, 8];
  const rowHeight = fontSize + 8;
  let [left, row] = [edge, 0];
  const items = names.map((name, position) => {
    const style = styleOf(position);
    const words = fitText(name, fontSize, width - 2 * edge - sample);
    const itemWidth = sample + textWidth(words, fontSize);
    if (left > edge && left + itemWidth > width - edge) [left, row] = [edge, row + 1];
    const [x, y] = [left, round((row + 0.5) * rowHeight)];
    left += itemWidth + space;
    return markup`<path class="lw-line ${style.name}" d="M${round(x)} ${y}h28"/>${mark(style, x + 14, y)}<text class="lw-name" x="${round(x + sample)}" y="${round(y + fontSize * 0.35)}">${words}</text>\n`;
  });
  return { content: markup`<g class="lw-legend">${items}</g>`, height: (row + 1) * rowHeight + 4 };
}
