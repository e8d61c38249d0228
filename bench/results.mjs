// `node bench/results.mjs FOLDER`: tables of finished runs, in Markdown. FOLDER holds a folder a run, with its config.json, metrics.jsonl and
// result.json (not of a run that was left before its end), and a run.json with what they do not tell (Conditions below).
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { duration } from '../dist/cli/plan-text.js';
import { resolvePrecision } from '../dist/recipe/index.js';
import { readRunRecord, recordedRecipe } from '../dist/run/index.js';
import { planRun } from '../dist/training/plan.js';
import { markdown } from './markdown.mjs';
import { stepOperations } from './operations.mjs';
import { mean } from './statistics.mjs';

/** @import { EpochRecord, RunConfig, RunResult } from '../dist/run/index.js' */
/** @import { Recipe } from '../dist/recipe/index.js' */

const ACCURACIES = [80, 85, 90];
/** Where there is no figure: a network trained end to end has no ensemble, a run that was left has no end. */
const NONE = '-';

/**
 * `run.json`, beside the records of a run: what they do not tell.
 *
 * @typedef {object} Conditions
 * @property {string} title one for all seeds
 * @property {string} command
 * @property {number} peakResidentBytes of the process, as the system counts it
 *
 * After an epoch, from the first step on; a figure that was not taken is NaN. `top1`: of the layer that was trained, or of the last of those that train at once.
 * @typedef {{ layer: number, epoch: number, seconds: number, operations: number, top1: number, ensemble: number }} Point
 *
 * `result`: null of a run that was not finished. `operations`: of the whole recipe.
 * @typedef {{ name: string, conditions: Conditions, config: RunConfig, recipe: Recipe, result: RunResult | null, points: Point[], operations: number }} Run
 */

/**
 * The runs of a folder, by name.
 * @param {string} folder
 * @returns {Promise<Run[]>}
 */
export function runsIn(folder) {
  const entries = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const names = entries.map(({ name }) => name).sort();
  return Promise.all(names.map((name) => readRun(join(folder, name), name)));
}

/**
 * @param {string} folder
 * @param {string} name
 * @returns {Promise<Run>}
 */
async function readRun(folder, name) {
  const { config, epochs, result = null } = await readRunRecord(folder);
  const recipe = recordedRecipe(join(folder, 'config.json'), config);
  const conditions = JSON.parse(readFileSync(join(folder, 'run.json'), 'utf8'));
  return { name, conditions, config, recipe, result, ...curveOf(epochs, recipe, config.classes?.length ?? 0) };
}

/**
 * Points of a run, one an epoch; records of layers that train at once are one, that of the last. Operations are those of new views in every
 * epoch.
 * @param {readonly EpochRecord[]} records
 * @param {Recipe} recipe with the counts of its images
 * @param {number} classes
 * @returns {{ points: Point[], operations: number }}
 */
export function curveOf(records, recipe, classes) {
  const budget = { device: 0, host: 0, disk: 0 };
  const precision = resolvePrecision('auto', 'cpu');
  const plan = planRun({ recipe, classes, device: 'cpu', precision, budget, imagesInMemory: true });
  const images = recipe.dataset.trainCount ?? Number.NaN;
  const ofAnEpoch = new Map(
    plan.layers.map(({ layer, multiplyAdds }) => [layer, images * stepOperations(multiplyAdds)]),
  );
  const areAtOnce = recipe.training.schedule === 'simultaneous';
  /** @type {Point[]} */
  const points = [];
  let [seconds, operations] = [0, 0];
  for (const [i, record] of records.entries()) {
    const { layer, epoch, testTop1, ensembleTop1 } = record;
    seconds += record.seconds;
    operations += ofAnEpoch.get(layer) ?? Number.NaN;
    if (areAtOnce && records[i + 1]?.epoch === epoch) continue;
    points.push({ layer, epoch, seconds, operations, top1: figure(testTop1), ensemble: figure(ensembleTop1) });
  }
  return { points, operations: plan.operations };
}

/** @param {number | null} value */
const figure = (value) => value ?? Number.NaN;
/** @param {number} value */
const percent = (value) => (Number.isNaN(value) ? NONE : value.toFixed(2));
/** @param {number} operations */
const tera = (operations) => (operations / 1e12).toFixed(0);

/**
 * A line a seed, and their means: last epoch, test images as they are.
 * @param {readonly Run[]} runs finished
 */
export function seedTable(runs) {
  const rows = runs.map(({ recipe, result, points }) => {
    const { layers, seconds } = /** @type {RunResult} */ (result);
    const last = points[points.length - 1];
    return {
      seed: recipe.seed,
      layers: layers.map(({ testTop1 }) => figure(testTop1)),
      ensemble: last.ensemble,
      seconds,
    };
  });
  const stages = rows[0].layers.map((_, i) => `stage ${i + 1}, top-1 %`);
  const means = {
    layers: stages.map((_, i) => mean(rows.map(({ layers }) => layers[i]))),
    ensemble: mean(rows.map(({ ensemble }) => ensemble)),
    seconds: mean(rows.map(({ seconds }) => seconds)),
  };
  return markdown(
    ['seed', ...stages, 'ensemble, top-1 %', 'time'],
    [...rows, { seed: 'mean', ...means }].map(({ seed, layers, ensemble, seconds }) => [
      ...[String(seed), ...layers.map(percent)],
      ...[percent(ensemble), duration(seconds)],
    ]),
  );
}

/**
 * Test accuracy after each epoch, means over seeds.
 * @param {readonly Run[]} runs
 */
export function epochTable(runs) {
  return markdown(
    ['epoch', 'time', 'TFLOP', 'top-1 %', 'ensemble, top-1 %'],
    runs[0].points.map(({ epoch, operations }, i) => {
      const points = runs.map(({ points }) => points[i]);
      return [
        ...[String(epoch + 1), duration(mean(points.map(({ seconds }) => seconds))), tera(operations)],
        ...[percent(mean(points.map(({ top1 }) => top1))), percent(mean(points.map(({ ensemble }) => ensemble)))],
      ];
    }),
  );
}

/**
 * What a line of a network takes to an accuracy: after the first epoch in which the mean over seeds has it.
 * @param {readonly Run[]} runs
 * @param {number} accuracy per cent
 */
function takenTo(runs, accuracy) {
  const i = runs[0].points.findIndex((_, i) => mean(runs.map(({ points }) => points[i].top1)) >= accuracy);
  if (i === -1) return null;
  const seconds = mean(runs.map(({ points }) => points[i].seconds));
  return { seconds, operations: runs[0].points[i].operations };
}

/**
 * Networks beside each other. A run that was not finished is extrapolated at the operations a second that it had.
 * @param {readonly (readonly Run[])[]} networks of each its seeds
 */
export function sideBySide(networks) {
  const rows = networks.map((runs) => {
    const [{ conditions, operations, points, result }] = runs;
    const last = points[points.length - 1];
    const isWhole = result !== null;
    const seconds = isWhole
      ? mean(runs.map(({ result }) => /** @type {RunResult} */ (result).seconds))
      : (last.seconds / last.operations) * operations;
    return [
      ...[conditions.title, String(runs.length), isWhole ? percent(mean(runs.map(lastTop1))) : NONE],
      ...[isWhole ? duration(seconds) : `${duration(seconds)} *`, tera(operations)],
      (Math.max(...runs.map(({ conditions }) => conditions.peakResidentBytes)) / 2 ** 20).toFixed(0),
      ...ACCURACIES.map((accuracy) => {
        const taken = takenTo(runs, accuracy);
        return taken === null ? NONE : `${duration(taken.seconds)}, ${tera(taken.operations)}`;
      }),
    ];
  });
  return markdown(
    [
      ...['network', 'seeds', 'top-1 %', 'time', 'TFLOP', 'peak MiB'],
      ...ACCURACIES.map((accuracy) => `time, TFLOP to ${accuracy} %`),
    ],
    rows,
  );
}

/** @param {Run} run */
const lastTop1 = ({ points }) => points[points.length - 1].top1;

/**
 * Runs of one title, such as seeds, together; in the order of their names.
 * @param {readonly Run[]} runs
 */
export function networksOf(runs) {
  const titles = [...new Set(runs.map(({ conditions }) => conditions.title))];
  return titles.map((title) => runs.filter(({ conditions }) => conditions.title === title));
}

/**
 * When and on what runs were made; where they differ, all of it.
 * @param {readonly Run[]} runs
 */
export function madeOn(runs) {
  const told = runs.map(({ config: { startedAt, device, deviceName, threads, precision, versions } }) =>
    [
      startedAt.slice(0, 10),
      `${deviceName ?? device}, ${threads} ${threads === 1 ? 'thread' : 'threads'}, ${precision}`,
      `layerwise ${versions.layerwise}, LibTorch ${versions.libtorch}, Node ${versions.node}`,
    ].join('; '),
  );
  return [...new Set(told)].join(' / ');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [folder] = process.argv.slice(2);
  if (folder === undefined) {
    console.error('results: expected a folder of runs, got nothing');
    process.exit(2);
  }
  const networks = networksOf(await runsIn(folder));
  console.log(sideBySide(networks));
  for (const runs of networks) {
    const [{ conditions }] = runs;
    console.log(`\n${conditions.title}: \`${conditions.command}\` (${madeOn(runs)})\n`);
    if (runs.every(({ result }) => result !== null)) console.log(`${seedTable(runs)}\n`);
    console.log(epochTable(runs));
  }
}
