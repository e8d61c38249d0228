// An HTTP service that trains: POST /runs starts a run, GET /runs/ID tells how it stands, DELETE /runs/ID stops it with a
// checkpoint, POST /runs/ID/resume goes on. Training is in a worker thread, so every request is answered at once.
//
//   npm run build && node examples/training-service.mjs
//   curl -X POST localhost:8080/runs -d '{"training": {"epochs": 1}, "dataset": {"trainLimit": 1000}}'
//   curl localhost:8080/runs/1
import { createServer } from 'node:http';
import { overrideRecipe, presetRecipe, TrainingJob } from 'layerwise';

const runsDirectory = process.env.RUNS ?? `runs/service-${process.pid}`;

/** @import { IncomingMessage } from 'node:http' */
/** @import { TrainingEvent, TrainingJobError, TrainingOutcome } from 'layerwise' */

/**
 * @typedef {object} Run
 * @property {TrainingJob} job
 * @property {'running' | 'done' | 'stopped' | 'failed'} status
 * @property {string} runDirectory
 * @property {TrainingEvent | null} last the latest step or epoch
 * @property {TrainingOutcome['result'] | null} result
 * @property {string | null} error
 */

/**
 * By their ids.
 * @type {Map<string, Run>}
 */
const runs = new Map();

/**
 * Keeps what is known of a run up to date while its job goes on.
 * @param {string} id
 * @param {TrainingJob} job
 */
function follow(id, job) {
  /** @type {Run} */
  const run = { job, status: 'running', runDirectory: `${runsDirectory}/${id}`, last: null, result: null, error: null };
  runs.set(id, run);
  job.on('event', (event) => {
    if (event.type === 'step' || event.type === 'epoch') run.last = event;
  });
  job.outcome.then(
    ({ result }) => Object.assign(run, { status: 'done', result }),
    (/** @type {TrainingJobError} */ error) =>
      Object.assign(run, { status: error.code === 'INTERRUPTED' ? 'stopped' : 'failed', error: error.message }),
  );
  return run;
}

/**
 * What is answered of a run.
 * @param {string} id
 * @param {Run} run
 */
const describe = (id, { status, runDirectory, last, result, error }) => ({
  id,
  status,
  runDirectory,
  last,
  result,
  error,
});

/** @param {IncomingMessage} request */
async function bodyOf(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text === '' ? {} : JSON.parse(text);
}

/**
 * Status and body.
 * @param {IncomingMessage} request
 * @returns {Promise<[number, object]>}
 */
async function answer(request) {
  const [, collection, id, action] = (request.url ?? '').split('/');
  if (collection !== 'runs') return [404, { error: 'not found' }];
  if (request.method === 'POST' && id === undefined) {
    const recipe = overrideRecipe(presetRecipe('vgg11-layerwise', { onCuda: false }), await bodyOf(request));
    const next = String(runs.size + 1);
    return [201, describe(next, follow(next, TrainingJob.train({ recipe, out: `${runsDirectory}/${next}` })))];
  }
  const run = runs.get(id);
  if (run === undefined) return [404, { error: `no run ${id}` }];
  if (request.method === 'GET') return [200, describe(id, run)];
  if (request.method === 'DELETE') {
    await run.job.cancel();
    return [200, describe(id, run)];
  }
  if (request.method === 'POST' && action === 'resume' && run.status === 'stopped') {
    return [200, describe(id, follow(id, TrainingJob.resume({ runDirectory: run.runDirectory })))];
  }
  return [409, { error: `run ${id} is ${run.status}` }];
}

/** @type {(error: Error) => [number, object]} */
const refusal = ({ message }) => [400, { error: message }];

const server = createServer(async (request, response) => {
  const [status, body] = await answer(request).catch(refusal);
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
});
server.listen(Number(process.env.PORT ?? 8080), () => {
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : address;
  console.log(`listening on http://localhost:${port}; runs go to ${runsDirectory}`);
});
