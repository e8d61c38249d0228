// Below `layerwise/server` lies a plugin of fastify, with the types of its options.
import { fastify } from 'fastify';
import { type ServiceOptions, trainingService } from 'layerwise/server';

const options: ServiceOptions = { runs: 'runs', concurrency: 1 };
const app = fastify();
app.register(trainingService, { prefix: '/training', ...options });
// @ts-expect-error: a folder is a path
app.register(trainingService, { runs: 3 });
