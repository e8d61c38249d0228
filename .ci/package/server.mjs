// The service in an app of one's own, by import and by require.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { fastify } from 'fastify';
import { trainingService } from 'layerwise/server';

assert.equal(createRequire(import.meta.url)('layerwise/server').trainingService, trainingService);
const app = fastify();
await app.register(trainingService, { prefix: '/training', runs: 'runs/served' });
const page = await app.inject('/training/');
assert.match(page.payload, /<title>layerwise<\/title>/);
const script = await app.inject('/training/page/page.js');
assert.equal(script.statusCode, 200);
console.log((await app.inject('/training/ready')).payload);
await app.close();
