// Trains on request, in a process of its own: `rate.mjs THREADS`, then a request a message and images a second in answer.
import { setThreads } from '../dist/tensor/index.js';
import { measures } from './ours.mjs';

/** @import { RateRequest } from './ours.mjs' */

setThreads(Number(process.argv[2]));
process.on('message', async (/** @type {RateRequest} */ request) => process.send?.(await measures.rate(request)));
process.send?.('ready');
