import bearerAuth from '@fastify/bearer-auth';
import rateLimit from '@fastify/rate-limit';
import swagger from '@fastify/swagger';
import { type FastifyPluginAsync, fastify } from 'fastify';
import { jsonSchemaTransform, serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod';
import { packageVersion } from '#scripts/support/paths.mjs';
import { isOpen, isUnlimited, type ServiceApp, type ServiceContext } from './context.js';
import { answerError } from './error-answer.js';
import { RequestError } from './errors.js';
import { ServerMetrics } from './metrics.js';
import { type CheckedServiceOptions, checkedServiceOptions, type ServiceOptions } from './options.js';
import { pageRoutes } from './page/page-routes.js';
import { Predictors } from './predictors.js';
import { classifyRoutes } from './routes/classify.js';
import { fileRoutes } from './routes/files.js';
import { followRoutes } from './routes/follow.js';
import { healthRoutes } from './routes/health.js';
import { runRoutes } from './routes/runs.js';
import { testImageRoutes } from './routes/test-images.js';
import { TestImageCache } from './test-images.js';
import { TrainingRuns } from './training-runs.js';

/**
 * Trains, lists, follows, pauses, resumes and stops runs, classifies images with finished ones, and shows all that on a page: a plugin
 * for a fastify app, below whatever prefix it is registered with. When the app is closed, trainings write their checkpoints within
 * `deadlineMs`. Throws ServerError for options that there are not, and TrainingJobError where another process has the folder.
 */
export const trainingService: FastifyPluginAsync<ServiceOptions> = async (parent, given) => {
  const options = checkedServiceOptions(withoutFastifys(given));
  const app = parent
    .setValidatorCompiler(validatorCompiler)
    .setSerializerCompiler(serializerCompiler) as unknown as ServiceApp;
  app.setErrorHandler(answerError);
  app.setNotFoundHandler(() => {
    throw new RequestError(404, 'ROUTE_UNKNOWN', 'there is no such route');
  });
  await limitRate(app, options);
  if (options.token === null) refuseOtherSites(app);
  else await requireToken(app, options.token);
  await describeRoutes(app);
  const context = await openContext(app, options);
  for (const addRoutes of [healthRoutes, runRoutes, followRoutes, fileRoutes, testImageRoutes, pageRoutes]) {
    addRoutes(app, context);
  }
  // By itself, since no other route takes an image.
  await app.register(async (child) => classifyRoutes(child as unknown as ServiceApp, context));
};

const DOCUMENT = 'layerwiseDocument';

/** Without what fastify itself takes of a plugin's options. */
function withoutFastifys(options: ServiceOptions): ServiceOptions {
  const known = ['prefix', 'logLevel', 'logSerializers'];
  return Object.fromEntries(Object.entries(options).filter(([name]) => !known.includes(name)));
}

/**
 * Limits the requests of an address, before their tokens are looked at, and of routes that there are not, too: who guesses either
 * would be stopped by nothing. So it is a hook of the app, which the plugin's own, of each route, are not.
 */
async function limitRate(app: ServiceApp, { requestsPerMinute: max }: CheckedServiceOptions): Promise<void> {
  // In an app of its own: the service's may have the plugin already, which then counts the requests to all that is in it.
  const limiter = fastify();
  await limiter.register(rateLimit, { global: false, max, timeWindow: '1 minute' });
  const look = limiter.createRateLimit();
  app.addHook('onRequest', async (request, reply) => {
    if (isUnlimited(request)) return;
    const found = await look(request);
    if (found.isAllowed) return;
    const { remaining, ttlInSeconds: reset, isExceeded } = found;
    reply.headers({ 'x-ratelimit-limit': max, 'x-ratelimit-remaining': remaining, 'x-ratelimit-reset': reset });
    if (!isExceeded) return;
    reply.header('retry-after', reset);
    throw new RequestError(429, 'RATE', `expected at most ${max} requests a minute`);
  });
}

async function requireToken(app: ServiceApp, token: string): Promise<void> {
  await app.register(bearerAuth, {
    keys: new Set([token]),
    addHook: false,
    verifyErrorLogLevel: 'warn',
  });
  app.addHook('onRequest', (request, reply, done) => {
    if (isOpen(request)) done();
    else app.verifyBearerAuth!(request, reply, done);
  });
}

/** Without a token, a page of another site that is open in a browser here must not change anything. Browsers say what asks. */
function refuseOtherSites(app: ServiceApp): void {
  app.addHook('onRequest', async ({ method, headers: { 'sec-fetch-site': site } }) => {
    if (method === 'GET' || method === 'HEAD' || site === undefined) return;
    if (site !== 'same-origin' && site !== 'none') {
      throw new RequestError(
        403,
        'OTHER_SITE',
        `expected a request of the page of this service, got one that is ${site}`,
      );
    }
  });
}

/** The OpenAPI document, of the routes that follow. */
async function describeRoutes(app: ServiceApp): Promise<void> {
  await app.register(swagger, {
    openapi: {
      info: { title: 'layerwise', description: 'Greedy layerwise training as a service', version: packageVersion },
    },
    transform: jsonSchemaTransform,
    // The app may have a document of its own, which is not this one.
    decorator: DOCUMENT as 'swagger',
  });
  const documented = app.getDecorator<ServiceApp['swagger']>(DOCUMENT);
  app.get('/openapi.json', { schema: { hide: true } }, () => documented());
}

/** What the routes work with; it goes with the app. */
async function openContext(app: ServiceApp, options: CheckedServiceOptions): Promise<ServiceContext> {
  const runs = await TrainingRuns.open(options);
  const predictors = new Predictors({ most: options.maxPredictors, threads: 1, maxPixels: options.maxPixels });
  const metrics = new ServerMetrics();
  runs.on('run', (told) => {
    if (told.type === 'event') metrics.take(told.id, told.event);
  });
  runs.on('failure', ({ id, error }) => app.log.error({ run: id, err: error }, 'a run failed'));
  for (const { runDirectory, problem } of runs.leftOut) {
    app.log.warn({ runDirectory, problem }, 'a run of an earlier process cannot come back as it is');
  }
  app.addHook('preClose', async () => {
    await runs.close(options);
  });
  const testImages = new TestImageCache();
  app.addHook('onClose', async () => {
    await Promise.all([predictors[Symbol.asyncDispose](), testImages[Symbol.asyncDispose]()]);
  });
  return { options, runs, predictors, testImages, metrics };
}
