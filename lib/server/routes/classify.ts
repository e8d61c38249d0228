import type { Classification } from '../../predictor/index.js';
import type { ServiceApp, ServiceContext } from '../context.js';
import { RequestError } from '../errors.js';
import { classification, classifyQuery, idParams, image, type LayerPredictions, problem } from '../schemas.js';

/** Classifies an uploaded image with a finished run. */
export function classifyRoutes(app: ServiceApp, { runs, predictors, metrics, options }: ServiceContext): void {
  const types = ['image/jpeg', 'image/png', 'application/octet-stream'];
  // The app's own may read them otherwise, or take what is no image.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(types, { parseAs: 'buffer', bodyLimit: options.maxUploadBytes }, (_, body, done) =>
    done(null, body),
  );
  app.post(
    '/runs/:id/classify',
    {
      bodyLimit: options.maxUploadBytes,
      schema: {
        ...{ tags: ['classify'], summary: 'Classifies the JPEG or PNG image in the body' },
        consumes: types,
        ...{ params: idParams, querystring: classifyQuery, body: image },
        response: {
          200: classification,
          400: problem,
          404: problem,
          409: problem,
          413: problem,
          415: problem,
          422: problem,
          429: problem,
        },
      },
    },
    async ({ params: { id }, query, body }, reply) => {
      if (!Buffer.isBuffer(body) || body.length === 0) {
        throw new RequestError(400, 'IMAGE', 'expected a JPEG or PNG image as the body, got none');
      }
      const started = performance.now();
      const gone = new AbortController();
      reply.raw.once('close', () => gone.abort(new RequestError(499, 'GONE', 'the client has gone')));
      const options = { top: query.top, signal: gone.signal };
      const answer = await predictors.use(await runs.finished(id), (predictor) => predictor.classify(body, options));
      metrics.classified(id, (performance.now() - started) / 1000);
      return { layers: layersOf(answer, query.layer) };
    },
  );
}

/** What was asked for of what every head says. Of a network that was trained end to end only the last layer has one. */
function layersOf({ byLayer }: Classification, asked: 'every' | 'last' | number): LayerPredictions[] {
  const layers = (byLayer ?? []).map(({ layer, predictions }) => ({
    layer: Number(layer),
    predictions: [...predictions],
  }));
  if (asked === 'every') return layers;
  const found = asked === 'last' ? layers.at(-1) : layers.find(({ layer }) => layer === asked);
  if (found !== undefined) return [found];
  const known = layers.map(({ layer }) => layer).join(', ');
  throw new RequestError(400, 'LAYER', `layer: expected one that has a head (${known}), got ${asked}`);
}
