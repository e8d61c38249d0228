import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import type { ServerMetrics } from './metrics.js';
import type { CheckedServiceOptions } from './options.js';
import type { Predictors } from './predictors.js';
import type { TestImageCache } from './test-images.js';
import type { TrainingRuns } from './training-runs.js';

/** What the routes work with. */
export interface ServiceContext {
  readonly options: CheckedServiceOptions;
  readonly runs: TrainingRuns;
  readonly predictors: Predictors;
  readonly testImages: TestImageCache;
  readonly metrics: ServerMetrics;
}

/** An app whose routes are checked, and typed, by their schemas. */
export type ServiceApp = FastifyInstance<
  import('fastify').RawServerDefault,
  import('node:http').IncomingMessage,
  import('node:http').ServerResponse,
  import('fastify').FastifyBaseLogger,
  ZodTypeProvider
>;

/** The `config` of routes that need no token: a load balancer and a browser ask for them first, and they tell nothing of any run. */
export const OPEN = { isOpen: true } as const;

/** The `config` of routes that may be asked as often as one likes: a load balancer asks for all its clients from one address. */
export const UNLIMITED = { rateLimit: false } as const;

export const isUnlimited = ({ routeOptions }: FastifyRequest): boolean =>
  (routeOptions.config as { rateLimit?: unknown }).rateLimit === false;

export const isOpen = ({ routeOptions }: FastifyRequest): boolean =>
  (routeOptions.config as { isOpen?: boolean }).isOpen === true;
