import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { accuracyByDepthChart, depthSeriesChart, learningCurvesChart } from '../../report/index.js';
import type { ServiceApp, ServiceContext } from '../context.js';
import { RequestError } from '../errors.js';
import { idParams, runId } from '../schemas.js';

/** Files of a run that clients may have, by the name of their route. */
const FILES = {
  report: { file: 'report.html', type: 'text/html; charset=utf-8', summary: 'The report of a finished run' },
  weights: { file: 'model.safetensors', type: 'application/octet-stream', summary: "A finished run's network" },
  heads: {
    file: 'auxiliary-heads.safetensors',
    type: 'application/octet-stream',
    summary: "A finished run's auxiliary heads",
  },
} as const;

/** Reports, weights and charts. */
export function fileRoutes(app: ServiceApp, { runs }: ServiceContext): void {
  for (const [name, { file, type, summary }] of Object.entries(FILES)) {
    const give = async (id: string, reply: FastifyReply): Promise<FileHandle> => {
      const path = join((await runs.finished(id)).directory, file);
      // A link in a run would lead out of it.
      const opened = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => null);
      if (opened === null) throw new RequestError(404, 'FILE_UNKNOWN', `run ${id} has no ${name}`);
      if (name !== 'report') reply.header('content-disposition', `attachment; filename="${id}-${file}"`);
      reply.type(type).header('content-length', (await opened.stat()).size);
      reply.header('x-content-type-options', 'nosniff');
      return opened;
    };
    const url = `/runs/:id/${name}`;
    const schema = { tags: ['files'], summary, params: idParams };
    app.get(url, { exposeHeadRoute: false, schema }, async ({ params }, reply) =>
      reply.send((await give(params.id, reply)).createReadStream()),
    );
    // By itself: fastify's own would read the file to its end.
    app.head(url, { schema: { ...schema, hide: true } }, async ({ params }, reply) => {
      await (await give(params.id, reply)).close();
      return reply.send();
    });
  }
  chartRoutes(app, runs);
}

/** Curves as the report draws them, for a page to take in. */
function chartRoutes(app: ServiceApp, runs: ServiceContext['runs']): void {
  const drawing = z.object({
    width: z.coerce.number().int().min(280).max(2_000).default(800),
    standalone: z.stringbool().default(true).describe('false: a part of a page that has the styles'),
  });
  app.get(
    '/runs/:id/charts/:chart',
    {
      schema: {
        ...{ tags: ['files'], summary: 'A chart of a run as it stands, as SVG' },
        params: idParams.extend({ chart: z.enum(['accuracy', 'loss', 'depth']) }),
        querystring: drawing,
      },
    },
    async ({ params: { id, chart }, query }, reply) => {
      const { epochs, layers, plannedEpochs } = await runs.curves(id);
      const options = { ...query, id: `${chart}-${id}` };
      if (chart === 'depth') return sendSvg(reply, accuracyByDepthChart(layers, options));
      const measure = chart === 'loss' ? ('loss' as const) : ('top1' as const);
      return sendSvg(reply, learningCurvesChart(epochs, { ...options, measure, plannedEpochs }));
    },
  );
  app.get(
    '/compare',
    {
      schema: {
        ...{ tags: ['files'], summary: 'The accuracy by depth of several runs, as SVG' },
        querystring: drawing.extend({
          runs: z.preprocess(
            (value) => (typeof value === 'string' ? value.split(',') : value),
            z.array(runId).min(1).max(6),
          ),
        }),
      },
    },
    async ({ query }, reply) => {
      const series = await Promise.all(
        query.runs.map(async (id) => {
          const { layers } = await runs.curves(id);
          const points = layers.flatMap(({ layer, testTop1 }) =>
            testTop1 == null ? [] : [{ layer, value: testTop1 }],
          );
          return { name: id, points };
        }),
      );
      const panels = [{ title: 'Top-1 accuracy by depth', series }];
      return sendSvg(
        reply,
        depthSeriesChart(panels, { width: query.width, standalone: query.standalone, id: 'compare' }),
      );
    },
  );
}

const sendSvg = (reply: FastifyReply, svg: string): FastifyReply =>
  reply.type('image/svg+xml; charset=utf-8').header('cache-control', 'no-store').send(svg);
