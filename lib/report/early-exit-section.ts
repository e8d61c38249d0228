import type { EarlyExitRecord, RunRecord } from '../run/index.js';
import { earlyExitChart, shareOf } from './early-exit-chart.js';
import { formatNumber, formatPercent } from './format.js';
import { type MarkupPart, markup } from './markup.js';
import { responsive } from './responsive.js';

/** The section on early exit, of a run where it was evaluated. */
export function earlyExit({ earlyExit: record }: RunRecord): MarkupPart {
  if (record === undefined) return false;
  const measure = record.whole.multiplyAdds === null ? 'time' : 'multiply-adds';
  return markup`<section aria-labelledby="early-exit">
<h2 id="early-exit">Early exit</h2>
<p class="lead">${rule(record)} ${story(record)}</p>
<figure>
<figcaption>Top-1 accuracy by mean cost <span>${measure} of an image in percent of the whole network’s, a dot a threshold</span></figcaption>
${responsive((width, size) => earlyExitChart(record, { width, id: `early-exit-${size}` }))}
</figure>
<p class="fine">${origin(record)}</p>
</section>`;
}

function rule({ layers }: EarlyExitRecord): string {
  const names = layers.map((layer) => layer + 1);
  if (names.length === 1)
    return `Layer ${names[0]} is the only one that an image may leave at: all go through the whole network.`;
  const listed = `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
  return `An image leaves at the first of the layers ${listed} whose head is surer than a threshold; those above do not run for it.`;
}

function story(record: EarlyExitRecord): string {
  const { points, threshold, whole } = record;
  const chosen = points.find((point) => point.threshold === threshold)!;
  const cost = `${formatPercent(shareOf(record, chosen), 0)} of its ${whole.multiplyAdds === null ? 'time' : 'multiply-adds'}`;
  return `At ${threshold} it puts ${formatPercent(chosen.top1)} of the test images in the right class, the whole network ${formatPercent(whole.top1)}, with ${cost}, after ${formatNumber(chosen.meanLayers, 1)} layers in the mean.`;
}

function origin({ chosenOn, images, tolerance, whole, points, threshold, timing }: EarlyExitRecord): string {
  const chosen = points.find((point) => point.threshold === threshold)!;
  const which =
    chosenOn.part === 'train'
      ? `${formatNumber(chosenOn.images)} training images that were held out`
      : `${formatNumber(chosenOn.images)} test images; all figures are of the other ${formatNumber(images)}`;
  const time = `${formatNumber(chosen.milliseconds, 2)} ms an image, of ${formatNumber(whole.milliseconds, 2)} ms`;
  return `The threshold is the smallest that loses at most ${formatNumber(tolerance, 1)} points on ${which}. Measured, ${timing.batchSize} images at once on ${timing.device} (${timing.precision}): ${time}.`;
}
