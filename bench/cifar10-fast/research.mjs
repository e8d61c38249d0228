// node bench/cifar10-fast/research.mjs --data-dir DIR '{"epochs": 2, "network": {"stages": [2, 1]}}'
//
// A training loop for trying what a preset for CIFAR-10 within half an hour could be made of, before the trainer learns it.
// DIR holds cifar-10-batches-bin. The last 5,000 training images are held out and tested; the test batch is never read.
// The JSON replaces values of TRAINING (training.mjs) and of NETWORK (network.mjs). Prints a line of JSON an epoch, and one at the end.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import * as lw from 'layerwise';
import { trainingImages } from './images.mjs';
import { buildNetwork, NETWORK, operationsOf } from './network.mjs';
import { TRAINING, Training } from './training.mjs';

const { values, positionals } = parseArgs({
  options: { 'data-dir': { type: 'string' }, threads: { type: 'string', default: '1' } },
  allowPositionals: true,
});

/** @param {object} given @param {object} known */
function requireKnown(given, known) {
  for (const key of Object.keys(given)) {
    if (!(key in known)) throw new Error(`${key}: expected one of ${Object.keys(known).join(', ')}`);
  }
}

const { network: ofNetwork = {}, ...ofTraining } = JSON.parse(positionals[0] ?? '{}');
requireKnown(ofNetwork, NETWORK);
requireKnown(ofTraining, TRAINING);
const { 'data-dir': dataDir, threads } = values;
if (dataDir === undefined) throw new Error('--data-dir: expected the folder of cifar-10-batches-bin, got nothing');
lw.setThreads(Number(threads));
const config = { ...TRAINING, ...ofTraining };
const images = trainingImages(join(dataDir, 'cifar-10-batches-bin'), config);
const network = await buildNetwork(ofNetwork, config.seed, images);
const started = performance.now();
const cpu = process.cpuUsage();
let last = {};
for (const report of new Training(network, images, config).run()) {
  const { user, system } = process.cpuUsage(cpu);
  const seconds = Math.round((performance.now() - started) / 1000);
  last = { ...report, seconds, cpu: Math.round((user + system) / 1e6) };
  console.log(JSON.stringify(last));
}
console.log(
  JSON.stringify({ config: { ...ofTraining, network: ofNetwork }, ...operationsOf(network.stages, config), ...last }),
);
