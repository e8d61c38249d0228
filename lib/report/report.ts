import path from 'node:path';
import { writeWhole } from '#scripts/support/files.mjs';
import { type RecordedValue, type RunRecord, readRunRecord } from '../run/index.js';
import { accuracyByDepthChart } from './accuracy-by-depth-chart.js';
import { rangeOf } from './chart-parts.js';
import { byClass } from './class-section.js';
import { earlyExit } from './early-exit-section.js';
import {
  countInWords,
  formatDate,
  formatDuration,
  formatLoss,
  formatNumber,
  formatPercent,
  missing,
} from './format.js';
import { learningCurvesChart } from './learning-curves-chart.js';
import { Markup, type MarkupPart, markup } from './markup.js';
import { pageStyles } from './page-styles.js';
import { pairs, renderRecipe } from './recipe-list.js';
import { responsive } from './responsive.js';
import { type LayerSummary, numberAt, type RunSummary, summariseRun } from './run-summary.js';

/**
 * Writes `report.html` into a run directory, whole or not at all, from its `config.json`, `metrics.jsonl`, `result.json` and `early-exit.json`, and
 * returns its path. While training is unfinished it reports what there is and says so.
 *
 * @throws {RunRecordError} where a file of the run is missing or corrupted.
 */
export async function writeReport(runDir: string): Promise<string> {
  const file = path.join(runDir, 'report.html');
  await writeWhole(file, renderReport(await readRunRecord(runDir)));
  return file;
}

/** The report of a run: one HTML document that needs no other file, no network and no script. */
export function renderReport(run: RunRecord): string {
  const summary = summariseRun(run);
  const title = `${summary.model} on ${summary.dataset}`;
  return markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>${title} – layerwise report</title>
<style>${new Markup(pageStyles)}</style>
</head>
<body>
<main>
${headline(run, summary)}
${accuracyByDepth(summary)}
${layerTable(run, summary)}
${byClass(run, summary)}
${earlyExit(run)}
${learningCurves(run, summary)}
<section aria-labelledby="recipe">
<h2 id="recipe">Recipe</h2>
<p class="lead">Every setting of the run, as the preset ${run.config.preset} and the options given with it resolved.</p>
${renderRecipe(run.config.recipe)}
</section>
${versions(run)}
</main>
<footer>Written by layerwise${run.config.versions.layerwise !== undefined && ` ${run.config.versions.layerwise}`} from ${sourcesOf(run)}, in which layers and epochs count from 0; here they count from 1.</footer>
</body>
</html>
`.source;
}

/** The files of the run that the page is made of. */
function sourcesOf({ result, earlyExit }: RunRecord): string {
  const others = [
    ...(result === undefined ? [] : ['result.json']),
    ...(earlyExit === undefined ? [] : ['early-exit.json']),
  ];
  const names = ['config.json', 'metrics.jsonl', ...others];
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

function headline(run: RunRecord, summary: RunSummary): Markup {
  const { config, result } = run;
  return markup`<header>
<p class="kicker">Training report · ${config.preset} · seed ${config.seed}</p>
<h1>${summary.model} on ${summary.dataset}</h1>
<p class="deck">${story(summary)}</p>
${progressNote(run, summary)}
${keyFigures(summary)}
${result?.notes !== undefined && result.notes.length > 0 && markup`<div class="notes" role="note">${result.notes.map((note) => markup`<p>${note}</p>`)}</div>`}
</header>`;
}

/** The run in two sentences. */
function story(summary: RunSummary): string {
  const { layers, endToEnd, atOnce, finished } = summary;
  const first = layers[0];
  const last = layers.at(-1);
  if (first === undefined || last === undefined) return 'No epoch has finished yet: so far there is only the recipe.';

  const ensemble =
    last.ensembleTop1 == null || layers.length < 2
      ? ''
      : `; the ensemble of ${layers.length === 2 ? 'both' : `all ${countInWords(layers.length)}`} heads reaches ${formatPercent(last.ensembleTop1)}`;
  if (last.testTop1 == null) {
    const how = endToEnd ? 'end to end, as one network' : atOnce ? 'all layers at once' : 'layer by layer';
    return `Trained ${how}. There is no test accuracy of its last epoch.`;
  }
  if (endToEnd) {
    return `Trained end to end, as one network. ${finished ? 'It puts' : 'So far it puts'} ${formatPercent(last.testTop1)} of the test images in the right class.`;
  }
  if (layers.length === 1) {
    return `${finished ? 'One layer, trained' : 'The first layer, training'} with an auxiliary head of its own, which puts ${formatPercent(last.testTop1)} of the test images in the right class.`;
  }
  const change = rise(summary);
  const verb = change === undefined || change === 0 ? 'goes' : change > 0 ? 'rises' : 'falls';
  const opening = capitalise(`${countInWords(layers.length)} layers ${finished ? '' : 'so far'}`.trim());
  return `${opening}, trained ${atOnce ? 'at once' : 'one after another'}, each against an auxiliary head of its own. Test accuracy ${verb} from ${formatPercent(first.testTop1)} after layer ${first.layer + 1} to ${formatPercent(last.testTop1)} after layer ${last.layer + 1}${ensemble}.`;
}

function progressNote(
  { incompleteLine }: RunRecord,
  { layers, finished, endToEnd, atOnce, planned }: RunSummary,
): MarkupPart {
  const last = layers.at(-1);
  const ofLayers = planned.layers === undefined ? '' : ` of ${formatNumber(planned.layers)}`;
  const ofEpochs = planned.epochs === undefined ? '' : ` of ${formatNumber(planned.epochs)}`;
  const reached =
    last === undefined
      ? ''
      : `The last record is of ${endToEnd || atOnce ? '' : `layer ${last.layer + 1}${ofLayers}, `}epoch ${last.epochs}${ofEpochs}. `;
  const unfinished =
    !finished &&
    markup`<p><strong>Training is not finished.</strong> ${reached}${layers.length > 0 && 'This page shows what there is, with the latest figures of each layer.'}</p>`;
  const incomplete =
    incompleteLine !== undefined &&
    markup`<p>Line ${incompleteLine} of metrics.jsonl, the last, was left incomplete and is not counted.</p>`;
  return (
    (unfinished || incomplete) && markup`<div class="notes unfinished" role="note">${unfinished}${incomplete}</div>`
  );
}

function keyFigures(summary: RunSummary): MarkupPart {
  const { layers, endToEnd, finished } = summary;
  const last = layers.at(-1);
  if (last === undefined) return false;
  const change = rise(summary);
  const figure = (name: string, value: string, unit: string, kind = '') =>
    markup`<div${kind !== '' && markup` class="${kind}"`}><dt>${name}</dt><dd>${value}${value !== missing && markup`<span class="unit">${unit}</span>`}</dd></div>`;
  const several = layers.length > 1;
  const which = endToEnd ? '' : several && finished ? ', last layer' : `, layer ${last.layer + 1}`;
  return markup`<dl class="figures">
${figure(`top-1${which}`, formatNumber(last.testTop1, 1), ' %', 'layer')}
${several && last.ensembleTop1 != null && figure('top-1, ensemble', formatNumber(last.ensembleTop1, 1), ' %', 'ensemble')}
${!several && last.testTop5 != null && figure(`top-5${which}`, formatNumber(last.testTop5, 1), ' %')}
${change !== undefined && figure(`from layer ${layers[0]!.layer + 1} to layer ${last.layer + 1}`, `${change > 0 ? '+' : ''}${formatNumber(change, 1)}`, ' points')}
${figure(finished ? 'training time' : 'training time so far', ...splitUnit(formatDuration(summary.seconds)))}
</dl>`;
}

/** In percentage points, between the figures as they are printed. */
function rise({ layers }: RunSummary): number | undefined {
  const from = layers[0]?.testTop1;
  const to = layers.at(-1)?.testTop1;
  if (layers.length < 2 || from == null || to == null) return undefined;
  return (Math.round(to * 10) - Math.round(from * 10)) / 10;
}

function accuracyByDepth({ layers, planned, atOnce }: RunSummary): MarkupPart {
  if (layers.length < 2) return false;
  const withEnsemble = layers.some((one) => one.ensembleTop1 != null);
  const options = { plannedLayers: planned.layers, title: 'Top-1 accuracy by depth' };
  return markup`<section aria-labelledby="depth">
<h2 id="depth">Accuracy by depth</h2>
<p class="lead">Each layer learns on top of ${atOnce ? 'what the layers below it give, without a gradient to them,' : 'the frozen layers below it'} and is read by its own head.${withEnsemble && ' The ensemble at a layer adds up the heads so far, each with twice the weight of the one below it.'}${layers.some((one) => one.inTraining) && ' An open dot is a layer still in training.'}</p>
<figure>
<figcaption>Top-1 accuracy on the test images <span>in percent, after each layer</span></figcaption>
${responsive((width, size) => accuracyByDepthChart(layers, { ...options, width, id: `depth-${size}` }))}
</figure>
</section>`;
}

interface Column {
  name: string;
  group: string;
  kind?: 'layer' | 'ensemble';
  value: (layer: LayerSummary) => string | undefined;
  total?: string;
}

function layerTable({ config }: RunRecord, summary: RunSummary): MarkupPart {
  const { layers, endToEnd } = summary;
  if (layers.length === 0) return false;
  const several = layers.length > 1;
  const optional = (value: number | null | undefined, format: (value: number) => string) =>
    value == null ? undefined : format(value);
  const accuracy = (value: number | null | undefined) => optional(value, (one) => formatNumber(one, 2));
  const blocks = layers.reduce((sum, one) => sum + (one.parameters?.block ?? 0), 0);

  const all: Column[] = [
    { group: 'Test, %', name: 'top-1', kind: 'layer', value: (one) => accuracy(one.testTop1) },
    { group: 'Test, %', name: 'top-5', value: (one) => accuracy(one.testTop5) },
    ...(several
      ? ([
          { group: 'Ensemble, %', name: 'top-1', kind: 'ensemble', value: (one) => accuracy(one.ensembleTop1) },
          { group: 'Ensemble, %', name: 'top-5', value: (one) => accuracy(one.ensembleTop5) },
        ] satisfies Column[])
      : []),
    { group: 'Train, %', name: 'top-1', value: (one) => accuracy(one.trainTop1) },
    { group: 'Loss', name: 'test', value: (one) => optional(one.testLoss, formatLoss) },
    { group: 'Loss', name: 'train', value: (one) => optional(one.trainLoss, formatLoss) },
    {
      group: 'Time',
      name: '',
      value: (one) => optional(one.seconds, formatDuration),
      total: formatDuration(summary.seconds),
    },
    {
      group: 'Parameters',
      name: 'block',
      value: (one) => optional(one.parameters?.block, formatNumber),
      total: formatNumber(blocks),
    },
    { group: 'Parameters', name: 'head', value: (one) => optional(one.parameters?.head, formatNumber), total: '' },
  ];
  const columns = all.filter((column) => layers.some((layer) => column.value(layer) !== undefined));
  const groups = [...new Set(columns.map((column) => column.group))].map((name) => ({
    name,
    size: columns.filter((column) => column.group === name).length,
  }));
  const rowTitle = (layer: LayerSummary) =>
    endToEnd && !several ? 'network' : `${layer.layer + 1}${layer.inTraining ? ' (in training)' : ''}`;

  const testCount = numberAt(config.recipe, 'dataset', 'testCount');
  const firstTotal = columns.findIndex((column) => column.total !== undefined);
  return markup`<section aria-labelledby="layers">
<h2 id="layers">${several ? 'Layer by layer' : 'Result'}</h2>
<p class="lead">Figures of ${several ? 'each layer’s' : 'the'} last epoch, not of the best one${testCount !== undefined && `; accuracies on ${formatNumber(testCount)} test images`}.</p>
<div class="scroll" role="region" aria-labelledby="layers" tabindex="0">
<table>
<thead>
<tr><th rowspan="2" scope="col">${endToEnd && !several ? '' : 'Layer'}</th>${groups.map(({ name, size }) => (size === 1 && columns.find((one) => one.group === name)?.name === '' ? markup`<th scope="col" rowspan="2">${name}</th>` : markup`<th scope="colgroup" colspan="${size}">${name}</th>`))}</tr>
<tr>${columns.filter((column) => column.name !== '').map((column) => markup`<th scope="col">${column.name}</th>`)}</tr>
</thead>
<tbody>
${layers.map((layer) => markup`<tr><th scope="row">${rowTitle(layer)}</th>${columns.map(({ kind, value }) => markup`<td${kind !== undefined && markup` class="${kind}"`}>${value(layer) ?? missing}</td>`)}</tr>\n`)}
</tbody>
${several && firstTotal >= 0 && markup`<tfoot><tr><th scope="row">All</th>${firstTotal > 0 && markup`<td colspan="${firstTotal}"></td>`}${columns.slice(firstTotal).map(({ total }) => markup`<td>${total ?? ''}</td>`)}</tr></tfoot>`}
</table>
</div>
${several && columns.some((column) => column.name === 'head') && markup`<p class="fine">A head serves to train its layer and is set aside; the finished network is all blocks and the last head.</p>`}
</section>`;
}

function learningCurves({ epochs }: RunRecord, summary: RunSummary): MarkupPart {
  if (epochs.length === 0) return false;
  const several = summary.layers.length > 1;
  const options = { plannedEpochs: summary.planned.epochs, panelTitle: several ? undefined : null };
  const chart = (measure: 'top1' | 'loss') =>
    responsive((width, size) => learningCurvesChart(epochs, { ...options, width, measure, id: `${measure}-${size}` }));
  const dropsRate = epochs.some((one, position) => {
    const before = epochs[position - 1];
    return before?.layer === one.layer && one.learningRate < before.learningRate;
  });
  return markup`<section aria-labelledby="curves">
<h2 id="curves">Learning curves</h2>
<p class="lead">${several ? 'One panel a layer, all on one scale, from the first layer to the last; over each panel stands its last test figure.' : 'On the training images, as augmented, and on the test images.'}${dropsRate && ' A dotted line marks a drop of the learning rate.'}</p>
<figure>
<figcaption>Top-1 accuracy <span>in percent, by epoch</span></figcaption>
${chart('top1')}
</figure>
<figure>
<figcaption>Loss <span>cross entropy, by epoch</span></figcaption>
${chart('loss')}
</figure>
</section>`;
}

function versions({ config, epochs }: RunRecord): Markup {
  const started = new Date(config.startedAt);
  const rates = epochs.flatMap((one) => one.imagesPerSecond ?? []);
  const run: [string, RecordedValue][] = [
    ['preset', config.preset],
    ['seed', String(config.seed)],
    ['device', config.device],
    ...(config.deviceName ? [['device name', config.deviceName] satisfies [string, RecordedValue]] : []),
    ['precision', config.precision],
    ...(config.threads == null ? [] : [['threads', config.threads] satisfies [string, RecordedValue]]),
    ...(rates.length === 0 ? [] : [['speed', speedRange(rates)] satisfies [string, RecordedValue]]),
  ];
  const startedAt = Number.isNaN(started.getTime())
    ? markup`${config.startedAt}`
    : markup`<time datetime="${started.toISOString()}">${formatDate(config.startedAt)}</time>`;
  return markup`<section aria-labelledby="versions">
<h2 id="versions">Run and versions</h2>
<p class="lead">Started on ${startedAt}.</p>
<div class="groups">
<section class="group"><h3>run</h3>${pairs(run)}</section>
<section class="group"><h3>versions</h3>${pairs(Object.entries(config.versions).map(([name, version]) => [versionNames[name] ?? name, version]))}</section>
</div>
</section>`;
}

const versionNames: Record<string, string> = { libtorch: 'LibTorch', node: 'Node', jpeg: 'JPEG decoder' };

function speedRange(rates: readonly number[]): string {
  const [slowest, fastest] = rangeOf(rates).map((rate) => formatNumber(rate, rate < 10 ? 1 : 0));
  return `${slowest === fastest ? slowest : `${slowest} to ${fastest}`} images a second`;
}

/** `12 min 05 s` as a large `12` and a small ` min 05 s`. */
function splitUnit(duration: string): [value: string, unit: string] {
  const at = duration.search(/\s/u);
  return at < 0 ? [duration, ''] : [duration.slice(0, at), duration.slice(at)];
}

function capitalise(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
