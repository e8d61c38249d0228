import { basename } from 'node:path';
import { z } from 'zod';
import { OPEN, type ServiceApp, type ServiceContext, UNLIMITED } from '../context.js';

/** Whether the process lives, whether it takes work, and its figures for Prometheus. */
export function healthRoutes(app: ServiceApp, { runs, predictors, metrics }: ServiceContext): void {
  const state = z.object({ status: z.enum(['ok', 'closing']) });
  const config = { ...OPEN, ...UNLIMITED };
  app.get('/health', { config, schema: { tags: ['service'], response: { 200: state } } }, async () => ({
    status: 'ok' as const,
  }));
  app.get(
    '/ready',
    { config, schema: { tags: ['service'], response: { 200: state, 503: state } } },
    async (_, reply) => {
      if (!runs.isClosing) return { status: 'ok' as const };
      return reply.code(503).send({ status: 'closing' as const });
    },
  );
  app.get('/metrics', { schema: { tags: ['service'] } }, async (_, reply) => {
    const waiting = [...predictors.waiting].map(([directory, count]) => [basename(directory), count] as const);
    metrics.setStates(runs.countByState(), Object.fromEntries(waiting));
    return reply.type(metrics.contentType).send(await metrics.text());
  });
}
