import { z } from 'zod';
import type { ServiceApp, ServiceContext } from '../context.js';
import { idParams, problem, runDetail, runSummary, trainingRequest } from '../schemas.js';

const refusals = { 400: problem, 403: problem, 404: problem, 409: problem, 429: problem, 503: problem };

/** Of a request to train: a recipe is a few kilobytes. */
const MOST_REQUEST_BYTES = 2 ** 18;

/** Lists, starts, pauses, resumes and stops runs. */
export function runRoutes(app: ServiceApp, { runs }: ServiceContext): void {
  const schema = (summary: string) => ({ tags: ['runs'], summary, response: { 200: runSummary, ...refusals } });

  app.get(
    '/runs',
    { schema: { tags: ['runs'], summary: 'All runs, the newest first', response: { 200: z.array(runSummary) } } },
    () => runs.list(),
  );
  app.get(
    '/runs/:id',
    {
      schema: {
        tags: ['runs'],
        summary: 'A run, with its epochs',
        params: idParams,
        response: { 200: runDetail, ...refusals },
      },
    },
    ({ params }) => runs.detail(params.id),
  );
  app.post(
    '/runs',
    {
      bodyLimit: MOST_REQUEST_BYTES,
      schema: {
        ...{ tags: ['runs'], summary: 'Starts a training, or lets it wait for its turn' },
        ...{ body: trainingRequest, response: { 201: runSummary, ...refusals } },
      },
    },
    async ({ body }, reply) => {
      return reply.code(201).send(await runs.start(body));
    },
  );
  app.post(
    '/runs/:id/pause',
    { schema: { ...schema('Stops a run with a checkpoint, to go on later'), params: idParams } },
    ({ params }) => runs.pause(params.id),
  );
  app.post('/runs/:id/resume', { schema: { ...schema('Goes on with a run'), params: idParams } }, ({ params }) => {
    return runs.resume(params.id);
  });
  app.post(
    '/runs/:id/cancel',
    { schema: { ...schema('Stops a run with a checkpoint, for good'), params: idParams } },
    ({ params }) => runs.cancel(params.id),
  );
}
