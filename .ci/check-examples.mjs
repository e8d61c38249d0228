// What the method promises of the examples, also at their smoke scale: `node check-examples.mjs DIR`, where DIR holds one
// folder an example. Accuracies are percentages; a margin is the noise of 1,000 to 2,000 test images.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

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

const tables = new Map();
for (const name of EXAMPLES) {
  for (const file of ['table.md', 'table.json']) {
    if (!existsSync(join(directory, name, file))) throw new Error(`${name} has not written ${file}`);
  }
  tables.set(name, JSON.parse(readFileSync(join(directory, name, 'table.json'), 'utf8')));
}

let failures = 0;
function expectThat(holds, what) {
  console.log(`${holds ? 'holds' : 'FAILS'}: ${what}`);
  if (!holds) failures++;
}
const shown = (values) => values.map((value) => value.toFixed(1)).join(', ');

for (const { k, byLayer } of tables.get('table-cifar10').figures) {
  const top1 = byLayer.map((one) => one.top1.mean);
  expectThat(top1.at(-1) > top1[0] + NOISE, `SimCNN k = ${k} rises with depth: ${shown(top1)}`);
  const ensemble = byLayer.at(-1).ensemble.mean;
  expectThat(
    ensemble > top1.at(-1) - NOISE,
    `its ensemble, ${shown([ensemble])}, is not below its last layer by more than noise`,
  );
}
for (const { k, probe, byLayer } of tables.get('figure-separability').figures) {
  const top1 = byLayer.map(({ mean }) => mean);
  if (probe !== 'linear') continue;
  expectThat(top1.at(-1) > top1[0] + NOISE, `linear separability rises with depth for k = ${k}: ${shown(top1)}`);
}
const heads = tables.get('table-last-head').figures.map(({ here }) => here.top1.mean);
expectThat(Math.min(...heads) > 2 * CHANCE, `smaller last heads work: ${shown(heads)}`);
const { compressed, endToEnd } = tables.get('compression').figures.here;
expectThat(
  compressed.mean > 2 * CHANCE && endToEnd.mean > 2 * CHANCE,
  `the compressed network works: ${shown([compressed.mean])}, end to end ${shown([endToEnd.mean])}`,
);
const variants = tables.get('ablation-downsampling').figures.map(({ here }) => here.top1.mean);
expectThat(Math.min(...variants) > 2 * CHANCE, `every way to halve the resolution works: ${shown(variants)}`);
const ensembles = tables.get('table-imagenet').figures.flatMap(({ here }) => here.ensembleTop5?.mean ?? []);
expectThat(
  ensembles.length === 4 && Math.min(...ensembles) > 5.5 * CHANCE,
  `every layerwise network of the ImageNet table learns from files, top-5 of ensembles: ${shown(ensembles)}`,
);
process.exit(failures === 0 ? 0 : 1);
