// One rank of a training for `distributed`, as RUN says; prints what its steps took, and what went over the loopback interface.
import { readFileSync } from 'node:fs';
import { overrideRecipe, presetRecipe, train } from '../dist/index.js';

/**
 * @typedef {object} RunRequest
 * @property {string} preset
 * @property {object} changes Of the recipe.
 * @property {string} out
 * @property {import('../dist/training/index.js').RunOptions['group']} [group]
 */

/** Steps of an epoch that are not timed. */
const SKIPPED = 4;

/** Bytes that processes of this machine have sent each other. */
function loopbackBytes() {
  const line = readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .find((one) => one.trim().startsWith('lo:'));
  return Number(line?.trim().split(/\s+/)[1] ?? Number.NaN);
}

const { preset, changes, out, group } = /** @type {RunRequest} */ (JSON.parse(process.env.RUN ?? '{}'));
const recipe = overrideRecipe(presetRecipe(preset, { dataset: 'shapes', onCuda: false }), changes);
/** @type {{ layer: number, seconds: number, images: number, bytes: number }[]} */
const layers = [];
/** @type {(number | null)[]} */
const losses = [];
/** @type {readonly { layer: number, parameters: { block: number, head: number } }[]} */
let planned = [];
let begun = { time: 0, bytes: 0 };
await train({
  ...{ recipe, out, checkpointSeconds: 1e9 },
  ...(group === undefined ? {} : { group }),
  onEvent: (event) => {
    if (event.type === 'start') planned = event.plan?.layers ?? [];
    if (event.type !== 'step') return;
    const { layer, step, stepsPerEpoch, loss } = event;
    losses.push(loss);
    if (step === SKIPPED) begun = { time: performance.now(), bytes: loopbackBytes() };
    if (step !== stepsPerEpoch) return;
    const steps = step - SKIPPED;
    layers.push({
      layer,
      seconds: (performance.now() - begun.time) / 1000 / steps,
      images: recipe.training.batchSize,
      bytes: (loopbackBytes() - begun.bytes) / steps,
    });
  },
});
const parameters = planned.map(({ layer, parameters }) => ({ layer, ...parameters }));
process.stdout.write(`${JSON.stringify({ layers, losses, parameters })}\n`);
