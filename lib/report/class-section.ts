import { type ClassFigures, classFigures, classNames, frequentConfusions } from '../evaluation/index.js';
import type { RunRecord } from '../run/index.js';
import { classAccuracyChart } from './class-accuracy-chart.js';
import { confusionChart } from './confusion-chart.js';
import { countInWords, formatNumber, formatPercent } from './format.js';
import { type Markup, type MarkupPart, markup } from './markup.js';
import { responsive } from './responsive.js';
import type { RunSummary } from './run-summary.js';

/** With more classes, the matrix is left out and only the ends of the list are shown. */
const mostClasses = 20;
const atEachEnd = 10;

/** The section on classes and confusions, of a run whose result has them. */
export function byClass({ config, result }: RunRecord, summary: RunSummary): MarkupPart {
  const confusion = result?.confusion;
  if (confusion === undefined || confusion.length === 0) return false;
  const names = classNames(confusion.length, config.classes);
  const inOrder = classFigures(confusion, names);
  const [images, correct] = [total(inOrder, 'images'), total(inOrder, 'correct')];
  if (images === 0) return false;
  const overall = (100 * correct) / images;
  // Ties in the order of the classes, and those without images last.
  const sorted = [...inOrder].sort((a, b) => (b.top1 ?? -1) - (a.top1 ?? -1));
  const present = sorted.filter((one) => one.top1 !== null);
  const few = confusion.length <= mostClasses;

  const [best, worst] = [present.slice(0, atEachEnd), present.slice(-atEachEnd)];
  const bars = (id: string, classes: readonly ClassFigures[], title: string) =>
    responsive((width, size) =>
      classAccuracyChart(classes, {
        width,
        overall,
        title,
        id: `${id}-${size}`,
        alignWith: few ? [] : [...best, ...worst],
      }),
    );
  const accuracies = few
    ? markup`<figure>
<figcaption>Top-1 accuracy of each class <span>in percent, from the best to the worst</span></figcaption>
${bars('classes', sorted, 'Top-1 accuracy by class')}
</figure>`
    : markup`<figure>
<figcaption>The ${countInWords(best.length)} best classes <span>top-1 accuracy in percent</span></figcaption>
${bars('best', best, 'Top-1 accuracy of the best classes')}
</figure>
<figure>
<figcaption>The ${countInWords(worst.length)} worst classes <span>top-1 accuracy in percent</span></figcaption>
${bars('worst', worst, 'Top-1 accuracy of the worst classes')}
</figure>`;
  const matrix =
    few &&
    confusion.length > 1 &&
    markup`<figure>
<figcaption>Confusion matrix <span>images, by true class and by the class that they were taken for</span></figcaption>
${responsive((width, size) => confusionChart(confusion, names, { width, id: `confusion-${size}` }))}
</figure>`;

  return markup`<section aria-labelledby="by-class">
<h2 id="by-class">By class</h2>
<p class="lead">${lead(summary, images, present)}${!few && ` Shown are the best and the worst of ${formatNumber(confusion.length)} classes and the most frequent mistakes; for more than ${mostClasses} classes there is no matrix.`}</p>
${accuracies}
${matrix}
${mistakes(confusion, names, few ? 5 : 15)}
</section>`;
}

function lead({ endToEnd, layers }: RunSummary, images: number, present: readonly ClassFigures[]): string {
  const reader = endToEnd || layers.length < 2 ? 'the network' : 'the last layer’s head';
  const [best, worst] = [present[0]!, present.at(-1)!];
  const spread =
    present.length < 2 || best.top1 === worst.top1
      ? ''
      : `: from ${formatPercent(best.top1)} of ${best.class} down to ${formatPercent(worst.top1)} of ${worst.class}`;
  return `What ${reader} makes of ${formatNumber(images)} test images${spread}.`;
}

function mistakes(confusion: readonly (readonly number[])[], names: readonly string[], limit: number): MarkupPart {
  const most = frequentConfusions(confusion, names, limit);
  if (most.length === 0) return markup`<p class="fine">There is not one mistake.</p>`;
  const row = (cells: readonly string[]): Markup =>
    markup`<tr><th scope="row">${cells[0]}</th>${cells.slice(1).map((cell, position) => markup`<td${position === 0 && markup` class="text"`}>${cell}</td>`)}</tr>\n`;
  return markup`<figure>
<figcaption id="mistakes">The most frequent mistakes <span>of one class for another, and their share of the class’s images</span></figcaption>
<div class="scroll" role="region" aria-labelledby="mistakes" tabindex="0">
<table class="wrapping">
<thead>
<tr><th scope="col">Class</th><th scope="col" class="text">taken for</th><th scope="col">images</th><th scope="col">share, %</th></tr>
</thead>
<tbody>
${most.map((one) => row([one.class, one.takenFor, formatNumber(one.images), formatNumber(one.share, 1)]))}
</tbody>
</table>
</div>
</figure>`;
}

function total(classes: readonly ClassFigures[], figure: 'images' | 'correct'): number {
  return classes.reduce((sum, one) => sum + one[figure], 0);
}
