import { Command } from 'commander';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ServiceOptions } from '../server/index.js';
import { UsageError } from './exit.js';
import { abortOnInterrupt } from './interrupt.js';
import { integer } from './options.js';

interface ServeFlags extends Omit<ServiceOptions, 'token'> {
  readonly host: string;
  readonly port: number;
}

/** The name of the variable that holds the token: on a command line every user of the machine could read it. */
const TOKEN = 'LAYERWISE_TOKEN';

/** Addresses that no other machine reaches. */
const LOOPBACK = ['127.0.0.1', '::1', 'localhost'];

/** In which a client must have sent its request. */
const REQUEST_MS = 120_000;

export function serveCommand(): Command {
  return new Command('serve')
    .description('serve training, classifying and a page to watch both, over HTTP')
    .option('--runs <dir>', 'folder of the runs (default: runs)')
    .option('--data-root <dir>', 'folder that clients may name data in (default: none, for data sets without files)')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <n>', 'port to listen on; 0 is any that is free', integer(0), 8080)
    .option('--concurrency <n>', 'trainings at once (default: 1)', integer(1))
    .option('--threads <n>', 'threads of all trainings together (default: all that there are)', integer(1))
    .option('--resume-interrupted', 'go on with what an earlier process left, instead of listing it as interrupted')
    .option('--max-queued <n>', 'trainings that wait, at most (default: 100)', integer(1))
    .option('--max-upload-bytes <n>', 'size of an uploaded image, at most (default: 16 MiB)', integer(1))
    .option('--max-pixels <n>', 'width times height of an uploaded image, at most (default: 40,000,000)', integer(1))
    .option('--requests-per-minute <n>', 'requests of one address, at most (default: 600)', integer(1))
    .addHelpText('after', `\nWith ${TOKEN} in the environment, clients must send it: Authorization: Bearer TOKEN.`)
    .action(serve);
}

/** Serves until a signal comes; trainings then write their checkpoints. */
async function serve({ host, port, ...options }: ServeFlags): Promise<void> {
  const token = process.env[TOKEN] || undefined;
  if (token === undefined && !LOOPBACK.includes(host)) {
    throw new UsageError(`--host ${host} can be reached from other machines: expected a token in ${TOKEN}`);
  }
  const interrupt = abortOnInterrupt();
  const { signal } = interrupt;
  // Here, since no other command needs them.
  const [{ fastify }, { trainingService }] = await Promise.all([import('fastify'), import('../server/index.js')]);
  const app = fastify({ logger: { level: 'info' }, requestTimeout: REQUEST_MS, forceCloseConnections: true });
  if (token === undefined) app.addHook('onRequest', refuseOtherNames);
  try {
    // A signal may have come by now, before each of these; what an earlier process left is not even begun then.
    if (!signal.aborted) await app.register(trainingService, { ...options, ...(token === undefined ? {} : { token }) });
    if (!signal.aborted) await app.listen({ host, port });
    await abortOf(signal);
  } catch (error) {
    throw interrupt.explain(error, 'serve was interrupted');
  } finally {
    await app.close();
    interrupt.release();
  }
  const error = interrupt.explain(null, 'serve was stopped; what was being trained has a checkpoint');
  if (error !== null) throw error;
}

/** Resolves when the signal is aborted, at once where it has been. */
function abortOf(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

/** A page of another site whose name has been made to lead here would be of the same site for a browser: it asks by that name. */
async function refuseOtherNames({ hostname }: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (LOOPBACK.includes(hostname.replace(/^\[(.*)\]$/, '$1'))) return;
  const message = `expected a request to ${LOOPBACK.join(', ')}, or a token in ${TOKEN}; got one to ${JSON.stringify(hostname)}`;
  await reply.code(421).send({ code: 'HOST', message });
}
