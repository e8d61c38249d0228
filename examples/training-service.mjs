// An app of one's own, with the training service of this project below /training: its page, its routes, its OpenAPI document.
//
//   npm run build && node examples/training-service.mjs
//   curl -X POST localhost:8080/training/runs -H 'content-type: application/json' -d '{ "dataset": "shapes" }'
import { fastify } from 'fastify';
import { trainingService } from 'layerwise/server';

const app = fastify({ logger: true });
app.get('/', () => 'an app of one’s own; its trainings are at /training/');
await app.register(trainingService, { prefix: '/training', runs: process.env.RUNS ?? 'runs/service' });
await app.listen({ port: Number(process.env.PORT ?? 8080) });
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => app.close());
