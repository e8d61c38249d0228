import { scaleLinear, scaleLog } from 'd3-scale';
import { line } from 'd3-shape';
import type { EpochRecord } from '../run/index.js';
import {
  arrangePanels,
  type ChartOptions,
  emptyNote,
  frame,
  gridLines,
  isCompact,
  isLogarithmic,
  logSteps,
  percentScale,
  percentTick,
  range,
  rangeOf,
  round,
  type Scale,
  spread,
} from './chart-parts.js';
import { formatLoss, formatNumber } from './format.js';
import { markup } from './markup.js';

/** Options of `learningCurvesChart`. */
export interface LearningCurvesOptions extends ChartOptions {
  /** `top1` in percent, or `loss` (cross entropy). Default `top1`. */
  measure?: 'top1' | 'loss';
  /** How many epochs a layer is to have, where that is more than there are. */
  plannedEpochs?: number | undefined;
  /** How the panels are headed; null leaves the heading out. Default `Layer 1`, `Layer 2`, and so on. */
  panelTitle?: ((layer: number) => string) | null;
}

/**
 * Training and test curves over the epochs, one panel a layer, in one row on one scale where the width allows it. A dotted line
 * stands where the learning rate drops. An SVG string.
 */
export function learningCurvesChart(epochs: readonly EpochRecord[], options: LearningCurvesOptions = {}): string {
  const { width = 800, measure = 'top1', panelTitle = (layer: number) => `Layer ${layer + 1}` } = options;
  const compact = isCompact(width);
  const accuracy = measure === 'top1';
  const { title = accuracy ? 'Training and test accuracy over the epochs' : 'Training and test loss over the epochs' } =
    options;
  const trainOf = (one: EpochRecord) => finite(accuracy ? one.trainTop1 : one.trainLoss);
  const testOf = (one: EpochRecord) => finite(accuracy ? one.testTop1 : one.testLoss);
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
    const curve = (kind: 'train' | 'test', value: (one: EpochRecord) => number | null) => {
      const path = line<EpochRecord>()
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

/** Linear from near zero; logarithmic where the first epochs would flatten all that follow. */
function lossScale(values: readonly (number | null)[]): Scale {
  const present = values.filter((value) => value !== null);
  if (present.length === 0) return scaleLinear().domain([0, 1]);
  const [lowest, highest] = rangeOf(present);
  if (lowest > 0 && highest / lowest > 8) {
    const steps = logSteps(lowest, highest);
    return scaleLog().domain([steps[0]!, steps.at(-1)!]);
  }
  const room = Math.max((highest - lowest) * 0.04, 0.01);
  return scaleLinear()
    .domain([Math.max(lowest - room, lowest >= 0 ? 0 : Number.NEGATIVE_INFINITY), highest + room])
    .nice(5);
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

/** The epochs whose learning rate is lower than the one before; none of a rate that falls all the time. */
function rateDrops(epochs: readonly EpochRecord[]): number[] {
  const drops = epochs.filter((one, position) => position > 0 && one.learningRate < epochs[position - 1]!.learningRate);
  return drops.length <= Math.max(2, epochs.length / 4) ? drops.map((one) => one.epoch) : [];
}

function groupByLayer(epochs: readonly EpochRecord[]): { layer: number; epochs: EpochRecord[] }[] {
  const groups = new Map<number, EpochRecord[]>();
  for (const one of epochs) groups.set(one.layer, [...(groups.get(one.layer) ?? []), one]);
  return [...groups]
    .map(([layer, of]) => ({ layer, epochs: of.sort((a, b) => a.epoch - b.epoch) }))
    .sort((a, b) => a.layer - b.layer);
}

function finite(value: number | null | undefined): number | null {
  return value ?? null;
}
