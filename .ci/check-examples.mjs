// What the method promises of the examples, also at their smoke scale: `node check-examples.mjs DIR`, where DIR holds one
// folder an example. Accuracies are percentages; a margin is the noise of 1,000 to 2,000 test images.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** @import { Measured } from '../examples/support/table.js' */

/**
 * What is read here of the figures of each example, as its table.json has them.
 *
 * @typedef {Measured | null} Figure
 * @typedef {{ here: { top1: Figure } }[]} Top1Rows
 * @typedef {object} FiguresOf
 * @property {{ k: number, byLayer: { top1: Figure, ensemble: Figure }[] }[]} table-cifar10
 * @property {{ k: number, probe: 'linear' | 'CNN-1' | 'CNN-2', byLayer: Figure[] }[]} figure-separability
 * @property {Top1Rows} table-last-head
 * @property {{ here: { compressed: Figure, endToEnd: Figure } }} compression
 * @property {Top1Rows} ablation-downsampling
 * @property {{ here: { ensembleTop5: Figure } }[]} table-imagenet of the end-to-end network there is no ensemble
 */

const [directory] = process.argv.slice(2);
const EXAMPLES = [
  'table-cifar10',
  'figure-separability',
  'table-last-head',
  'compression',
  'ablation-downsampling',
  'table-imagenet',
];
const NOISE = 2.5;
const CHANCE = 10;

for (const name of EXAMPLES) {
  for (const file of ['table.md', 'table.json']) {
    if (!existsSync(join(directory, name, file))) throw new Error(`${name} has not written ${file}`);
  }
}

/**
 * @template {keyof FiguresOf} Example
 * @param {Example} name
 * @returns {FiguresOf[Example]}
 */
const figuresOf = (name) => JSON.parse(readFileSync(join(directory, name, 'table.json'), 'utf8')).figures;

/**
 * NaN, which keeps no promise, where the figure was not taken.
 * @param {Figure} figure
 */
const meanOf = (figure) => figure?.mean ?? Number.NaN;

let failures = 0;
/**
 * @param {boolean} holds
 * @param {string} what
 */
function expectThat(holds, what) {
  console.log(`${holds ? 'holds' : 'FAILS'}: ${what}`);
  if (!holds) failures++;
}
/** @param {number[]} values */
const shown = (values) => values.map((value) => value.toFixed(1)).join(', ');

for (const { k, byLayer } of figuresOf('table-cifar10')) {
  const top1 = byLayer.map((one) => meanOf(one.top1));
  const ensemble = byLayer.map((one) => meanOf(one.ensemble));
  const last = byLayer.length - 1;
  expectThat(top1[last] > top1[0] + NOISE, `SimCNN k = ${k} rises with depth: ${shown(top1)}`);
  expectThat(
    ensemble[last] > top1[last] - NOISE,
    `its ensemble, ${shown([ensemble[last]])}, is not below its last layer by more than noise`,
  );
}
for (const { k, probe, byLayer } of figuresOf('figure-separability')) {
  if (probe !== 'linear') continue;
  const top1 = byLayer.map(meanOf);
  expectThat(
    top1[top1.length - 1] > top1[0] + NOISE,
    `linear separability rises with depth for k = ${k}: ${shown(top1)}`,
  );
}
const heads = figuresOf('table-last-head').map(({ here }) => meanOf(here.top1));
expectThat(Math.min(...heads) > 2 * CHANCE, `smaller last heads work: ${shown(heads)}`);
const { here } = figuresOf('compression');
const [compressed, endToEnd] = [meanOf(here.compressed), meanOf(here.endToEnd)];
expectThat(
  compressed > 2 * CHANCE && endToEnd > 2 * CHANCE,
  `the compressed network works: ${shown([compressed])}, end to end ${shown([endToEnd])}`,
);
const variants = figuresOf('ablation-downsampling').map(({ here }) => meanOf(here.top1));
expectThat(Math.min(...variants) > 2 * CHANCE, `every way to halve the resolution works: ${shown(variants)}`);
const ensembles = figuresOf('table-imagenet').flatMap(({ here }) => here.ensembleTop5?.mean ?? []);
expectThat(
  ensembles.length === 4 && Math.min(...ensembles) > 5.5 * CHANCE,
  `every layerwise network of the ImageNet table learns from files, top-5 of ensembles: ${shown(ensembles)}`,
);
process.exit(failures === 0 ? 0 : 1);
