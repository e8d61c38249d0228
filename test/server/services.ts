// Services for tests: the built one, since its threads are started from built files.
import { existsSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type FastifyInstance, type FastifyServerOptions, fastify, type InjectOptions } from 'fastify';
import sharp, { type Sharp } from 'sharp';
import { expect, onTestFinished, vi } from 'vitest';
import type { ServiceOptions } from '../../lib/server/index.js';

const SERVER = pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', 'server', 'index.js')).href;
export const { trainingService } = (await import(SERVER)) as typeof import('../../lib/server/index.js');

/** Two layers of a few kernels, one epoch of four steps each. */
export const tiny = {
  model: { width: 2, layers: 2 },
  dataset: { trainLimit: 60, testLimit: 20 },
  training: { epochs: 1, batchSize: 16, milestones: [] },
  evaluation: { batchSize: 20 },
  ...{ device: 'cpu', precision: 'fp32', threads: 1 },
};

/** The same, and no test waits for its end. */
export const endless = { ...tiny, training: { ...tiny.training, epochs: 100_000 } };

export interface RunAnswer {
  readonly id: string;
  readonly state: string;
  readonly progress: { readonly stepsDone: number } | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly [name: string]: unknown;
}

/** Looks at a run until it is as `test` wants it. */
export function untilRun(look: () => Promise<RunAnswer>, test: (run: RunAnswer) => boolean): Promise<RunAnswer> {
  const lookOnce = async (): Promise<RunAnswer> => {
    const run = await look();
    if (!test(run)) throw new Error(`still ${JSON.stringify(run).slice(0, 500)}`);
    return run;
  };
  return vi.waitFor(lookOnce, { timeout: 50_000, interval: 20 });
}

/** What a service answers over a connection, from JSON. */
export async function askJson(url: string, { method = 'GET', body }: { method?: string; body?: unknown } = {}) {
  const json =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
  const response = await fetch(url, { method, ...json });
  return { status: response.status, body: (await response.json()) as RunAnswer };
}

/** The options of an app that logs into a list of lines. */
export function logging(): { lines: string[]; logger: { stream: { write: (line: string) => void } } } {
  const lines: string[] = [];
  return { lines, logger: { stream: { write: (line) => void lines.push(line) } } };
}

/** A route as fastify has it, below the prefix of the service. */
export interface ServiceRoute {
  readonly method: string;
  readonly url: string;
}

/** A client of an app, below its prefix. */
export class Client {
  constructor(
    readonly app: FastifyInstance,
    readonly prefix = '',
    /** All that the app has. */
    readonly routes: readonly ServiceRoute[] = [],
  ) {}

  /** Lets the app listen at a port that is free, and gives it. */
  async listen(): Promise<number> {
    await this.app.listen({ host: '127.0.0.1', port: 0 });
    return (this.app.server.address() as AddressInfo).port;
  }

  /** What is answered, its body from JSON where it is that. */
  async ask(options: InjectOptions & { url: string }) {
    const { statusCode, headers, body, rawPayload } = await this.app.inject({
      ...options,
      url: `${this.prefix}${options.url}`,
    });
    const isJson = String(headers['content-type']).startsWith('application/json');
    return { status: statusCode, headers, body: isJson && body !== '' ? JSON.parse(body) : body, bytes: rawPayload };
  }

  get(url: string) {
    return this.ask({ method: 'GET', url });
  }

  post(url: string, payload?: object) {
    return this.ask({ method: 'POST', url, ...(payload === undefined ? {} : { payload }) });
  }

  start(request: object) {
    return this.post('/runs', { dataset: 'shapes', recipe: tiny, ...request });
  }

  classify(id: string, payload: Buffer, { type = 'image/png', query = '' } = {}) {
    return this.ask({
      ...{ method: 'POST', url: `/runs/${id}/classify${query}` },
      ...{ payload, headers: { 'content-type': type } },
    });
  }

  /** Waits until a run is as `test` wants it. */
  until(id: string, test: (run: RunAnswer) => boolean): Promise<RunAnswer> {
    return untilRun(async () => (await this.get(`/runs/${id}`)).body, test);
  }

  /** Trains a run to its end. */
  async finish(id: string, request: object = {}): Promise<RunAnswer> {
    expect(await this.start({ id, ...request })).toMatchObject({ status: 201 });
    const run = await this.until(id, isOver);
    expect(run).toMatchObject({ state: 'finished', error: null });
    return run;
  }
}

export const isOver = ({ state }: { state: string }): boolean => ['finished', 'failed', 'cancelled'].includes(state);

/** Whether a run has begun to train, so that it can be stopped with a checkpoint. */
export const hasStepped = ({ progress }: RunAnswer): boolean => progress !== null;

/** An app with the service alone, closed at the end of the test at the latest. */
export async function serviceOf(...args: Parameters<typeof openService>): Promise<Client> {
  const client = await openService(...args);
  onTestFinished(() => client.app.close());
  return client;
}

/** The same, of several tests: they close it. */
export async function openService(
  runs: string,
  options: ServiceOptions & { prefix?: string } = {},
  ofApp: FastifyServerOptions = {},
): Promise<Client> {
  const app = fastify({ forceCloseConnections: true, ...ofApp }) as FastifyInstance;
  const prefix = options.prefix?.replace(/\/$/, '') ?? '';
  const routes: ServiceRoute[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat()) routes.push({ method: one, url: url.slice(prefix.length) });
  });
  await app.register(trainingService, { runs, threads: 2, ...options });
  await app.ready();
  return new Client(app, prefix, routes);
}

export const hasCheckpoint = (runDirectory: string): boolean =>
  existsSync(join(runDirectory, 'checkpoint', 'state.json'));

/** A class of the built service. */
export const built = async <Module>(path: string): Promise<Module> =>
  (await import(new URL(path, SERVER).href)) as Module;

/** A picture of stripes, encoded. */
export function picture({ width = 40, height = 40 } = {}): Sharp {
  const pixels = Uint8Array.from({ length: width * height * 3 }, (_, i) => (((i * 7) % 250) ^ (i >> 5)) & 255);
  return sharp(pixels, { raw: { width, height, channels: 3 } });
}
