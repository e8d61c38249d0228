// A service in a process of its own, as bench/service.mjs wants it: an HTTP server with a trivial route, and a training job beside it
// on request. A message is one request; its answer comes as a message.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { overrideRecipe, presetRecipe, TrainingJob } from '../dist/index.js';

/**
 * `train` starts a job and waits for its steps; `stop` ends it; `watch` looks at the process for some seconds.
 * @typedef {{ type: 'train', threads: number, niceness: number } | { type: 'stop' } | { type: 'watch', seconds: number }} HostRequest
 *
 * What the event loop was late by, in milliseconds at the 99th percentile, and the images a second of the job, where there is one.
 * @typedef {{ delay: number, rate: number | null }} Watched
 */

/** Milliseconds between two looks at the event loop. */
const RESOLUTION = 1;

const BODY = '{"ok":true}\n';

const folder = mkdtempSync(join(tmpdir(), 'layerwise-service-'));
/** @type {TrainingJob | null} */
let job = null;
let runs = 0;
let images = 0;

/** The widths of the default run, without ends of epochs. */
function endlessRecipe(/** @type {number} */ threads) {
  return overrideRecipe(presetRecipe('vgg11-layerwise', { dataset: 'shapes', onCuda: false }), {
    dataset: { trainLimit: 31 * 128, testLimit: 64 },
    training: { epochs: 100_000, batchSize: 128, milestones: [] },
    ...{ device: 'cpu', threads },
  });
}

/** @param {{ threads: number, niceness: number }} request */
async function train({ threads, niceness }) {
  job = TrainingJob.train({ recipe: endlessRecipe(threads), out: join(folder, String(runs++)), niceness });
  job.on('event', (event) => {
    if (event.type === 'step') images += 128;
  });
  let steps = 0;
  for await (const { type } of job) if (type === 'step' && ++steps === 5) break;
}

async function stop() {
  await job?.cancel();
  job = null;
}

/**
 * @param {{ seconds: number }} request
 * @returns {Promise<Watched>}
 */
async function watch({ seconds }) {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION });
  const [imagesBefore, start] = [images, performance.now()];
  histogram.enable();
  await sleep(1000 * seconds);
  histogram.disable();
  const elapsed = (performance.now() - start) / 1000;
  const delay = histogram.percentile(99) / 1e6 - RESOLUTION;
  return { delay, rate: job === null ? null : (images - imagesBefore) / elapsed };
}

const server = createServer((_, response) => {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': BODY.length }).end(BODY);
});
server.listen(0, () => process.send?.(Reflect.get(Object(server.address()), 'port')));
process.on('message', async (/** @type {HostRequest} */ request) => {
  const answer =
    request.type === 'watch' ? await watch(request) : await (request.type === 'train' ? train(request) : stop());
  process.send?.(answer ?? null);
});
process.on('disconnect', async () => {
  await stop();
  rmSync(folder, { recursive: true, force: true });
  process.exit(0);
});
