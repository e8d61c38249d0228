import { scaleLinear } from 'd3-scale';
import { classFigures } from '../evaluation/index.js';
import { type ChartOptions, fitText, fontSizeFor, frame, isCompact, rangeOf, round, textWidth } from './chart-parts.js';
import { formatNumber, formatPercent } from './format.js';
import { type Markup, markup } from './markup.js';

/**
 * A confusion matrix with a row a true class and a column a predicted one, counts in its cells. The colour of a cell is the
 * share of its row: of what is right on the diagonal from 0 to 100 %, of mistakes beside it from 0 to the largest there is.
 * On a narrow chart columns are headed by number, and counts that would be too small to read are left out. An SVG string.
 *
 * @throws {MetricError} where the matrix is not square.
 */
export function confusionChart(
  confusion: readonly (readonly number[])[],
  names: readonly string[],
  options: ChartOptions = {},
): string {
  const { width = 800, title = 'Confusion matrix' } = options;
  const compact = isCompact(width);
  const fontSize = fontSizeFor(width);
  const classes = classFigures(confusion, names);
  const count = classes.length;
  const rowNames = classes.map((one, label) => (compact ? `${label + 1} ${one.class}` : one.class));

  const longest = Math.max(0, ...rowNames.map((name) => textWidth(name, fontSize)));
  const left =
    Math.max(
      Math.min(longest, width * (compact ? (count > 12 ? 0.34 : 0.42) : 0.22)),
      textWidth('true class', fontSize),
    ) + 14;
  const nameWidth = left - 14;
  // The last column's name leans out to the right.
  const lean = Math.PI / 4;
  const columnNames = classes.map((one) => fitText(one.class, fontSize, 150));
  const columnName = Math.max(0, ...columnNames.map((name) => textWidth(name, fontSize)));
  const right = compact ? 4 : Math.max(8, columnName * Math.cos(lean) - 10);
  const cell = Math.min((width - left - right) / Math.max(1, count), 60);
  const cellHeight = Math.min(Math.max(cell, 18), 36);
  const top = (compact ? 22 : columnName * Math.sin(lean) + 14) + 22;
  const size = { width: cell * count, height: cellHeight * count };
  const legendTop = top + size.height + 18;

  const shareOf = (row: number, column: number) =>
    classes[row]!.images === 0 ? 0 : (100 * confusion[row]![column]!) / classes[row]!.images;
  const worst = Math.max(0, ...classes.map(({ images, mistake }) => (mistake ? (100 * mistake.images) / images : 0)));
  const [, mistakes = 1] = scaleLinear()
    .domain([0, Math.max(worst, 1)])
    .nice(4)
    .domain();

  const [, digits] = rangeOf([1, ...confusion.flat().map((one) => formatNumber(one).length)]);
  const fit = (cell - 3) / (0.62 * digits);
  const countSize = fit < 8 ? null : Math.min(fit, fontSize - 0.5);
  const cells = confusion.flatMap((row, label) =>
    row.map((images, other) => {
      if (images === 0) return '';
      const share = shareOf(label, other);
      const strength = 0.1 + 0.9 * (label === other ? share / 100 : share / mistakes);
      const [x, y] = [left + other * cell, top + label * cellHeight];
      const words = `${names[label] ?? ''}${label === other ? ' recognised' : ` taken for ${names[other] ?? ''}`}: ${formatNumber(images)} of ${formatNumber(classes[label]!.images)} (${formatPercent(share)})`;
      return markup`<g><title>${words}</title><rect class="${label === other ? 'lw-right' : 'lw-wrong'}" fill-opacity="${Math.round(strength * 1000) / 1000}" x="${round(x + 0.5)}" y="${round(y + 0.5)}" width="${round(cell - 1)}" height="${round(cellHeight - 1)}"/>${countSize !== null && markup`<text class="lw-count lw-middle" font-size="${round(countSize)}" x="${round(x + cell / 2)}" y="${round(y + cellHeight / 2 + countSize * 0.35)}">${formatNumber(images)}</text>`}</g>\n`;
    }),
  );
  const rowLabels = rowNames.map(
    (name, label) =>
      markup`<text class="lw-name lw-end" x="${round(left - 8)}" y="${round(top + (label + 0.5) * cellHeight + fontSize * 0.35)}">${fitText(name, fontSize, nameWidth)}</text>`,
  );
  const numbersEvery = Math.ceil(textWidth(`${count}`, fontSize) / Math.max(cell, 1));
  const columnLabels = columnNames.map((name, label) => {
    const middle = round(left + (label + 0.5) * cell);
    if (compact) {
      return (
        label % numbersEvery === 0 &&
        markup`<text class="lw-name lw-middle" x="${middle}" y="${round(top - 8)}">${label + 1}</text>`
      );
    }
    return markup`<text class="lw-name" transform="translate(${round(middle + 3)} ${round(top - 7)}) rotate(-45)">${name}</text>`;
  });

  const recognised = ramp('lw-right', 'right, 0 to 100\u00a0% of a row', fontSize);
  const ramps =
    worst === 0
      ? [recognised]
      : [recognised, ramp('lw-wrong', `mistaken, 0 to ${formatPercent(mistakes, mistakes < 10 ? 1 : 0)}`, fontSize)];
  const start = compact ? 8 : left;
  const inOneRow = start + ramps.reduce((sum, one) => sum + one.width + 28, 0) <= width;
  const legend = ramps.map(({ content }, position) => {
    const [x, y] = inOneRow ? [start + position * (recognised.width + 28), 0] : [start, position * (fontSize + 9)];
    return markup`<g transform="translate(${round(x)} ${round(legendTop + y)})">${content}</g>`;
  });
  const legendHeight = (inOneRow ? 1 : ramps.length) * (fontSize + 9);
  const note = countSize === null && 'The cells are too small here for their counts.';

  return frame({
    ...options,
    width,
    height: legendTop + legendHeight + (note ? fontSize + 8 : 0),
    title,
    description: classes
      .map(({ class: name, images, correct, mistake }) =>
        images === 0
          ? `${name}: no images.`
          : `${name}: ${formatNumber(correct)} of ${formatNumber(images)} right${mistake === null ? '' : `, most often taken for ${mistake.class} (${formatNumber(mistake.images)})`}.`,
      )
      .join(' '),
    content: markup`<rect class="lw-panel" x="${round(left)}" y="${round(top)}" width="${round(size.width)}" height="${round(size.height)}"/>
<text x="${round(left)}" y="${fontSize + 1}">taken for</text>
<text class="lw-end" x="${round(left - 8)}" y="${round(top - 8)}">true class</text>
${columnLabels}
${rowLabels}
${cells}
${legend}
${note && markup`<text x="8" y="${round(legendTop + legendHeight + fontSize)}">${note}</text>`}`,
  });
}

/** Samples of a colour from weak to full, and what they stand for. */
function ramp(kind: string, words: string, fontSize: number): { content: Markup; width: number } {
  const steps = [0.1, 0.325, 0.55, 0.775, 1];
  const side = fontSize;
  const squares = steps.map(
    (strength, position) =>
      markup`<rect class="${kind}" fill-opacity="${strength}" x="${round(position * side)}" y="0" width="${side}" height="${side}"/>`,
  );
  const start = steps.length * side + 8;
  return {
    content: markup`${squares}<text x="${round(start)}" y="${round(fontSize * 0.85)}">${words}</text>`,
    width: start + textWidth(words, fontSize),
  };
}
