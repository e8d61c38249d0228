// What clients must not be able to do, and what they are told of it.
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import rateLimit from '@fastify/rate-limit';
import swagger from '@fastify/swagger';
import { fastify } from 'fastify';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { TrainingRuns as TrainingRunsType } from '../../lib/server/training-runs.js';
import { temporaryFolder } from '../training/runs.js';
import {
  askJson,
  built,
  type Client,
  endless,
  hasStepped,
  logging,
  picture,
  serviceOf,
  trainingService,
} from './services.js';

const at = temporaryFolder();
const TOKEN = 'a-token-of-sixteen-characters-or-more';

const rawPost = (client: Client, payload: string | Buffer, type = 'application/json') =>
  client.ask({ method: 'POST', url: '/runs', payload, headers: { 'content-type': type } });

const nested = (open: string, close: string, depth: number): string => open.repeat(depth) + close.repeat(depth);

describe('a request to train', () => {
  it.each([
    ['no JSON', '{', 400, /./],
    ['nothing', '', 400, /empty/i],
    ['null', 'null', 400, /expected object/],
    ['a list', '[]', 400, /expected object/],
    ['an unknown member', '{ "module": "./mine.js" }', 400, /"module"/],
    ['an unknown data set', '{ "dataset": "none" }', 400, /\/dataset/],
    ['data of one’s own', '{ "dataset": "own" }', 400, /\/dataset/],
    ['data of one’s own in the recipe', '{ "recipe": { "dataset": { "name": "own" } } }', 400, /own/],
    ['a preset of one’s own', '{ "preset": "own" }', 400, /\/preset/],
    ['a network of one’s own', '{ "recipe": { "model": { "name": "own" } } }', 400, /./],
    ['an unknown value', '{ "recipe": { "training": { "epoch": 1 } } }', 400, /training\.epoch/],
    ['a value out of range', '{ "recipe": { "model": { "width": 0 } } }', 400, /model\.width/],
    ['a prototype', '{ "recipe": { "__proto__": { "seed": 1 } } }', 400, /./],
    ['a constructor', '{ "recipe": { "constructor": { "prototype": { "seed": 1 } } } }', 400, /./],
    ['names of every object', '{ "recipe": { "toString": 1, "model": { "valueOf": 2 } } }', 400, /valueOf|toString/],
    ['more threads than there are', '{ "dataset": "shapes", "recipe": { "threads": 64 } }', 400, /at most 2.*got 64/],
    ['lists in lists', `{ "recipe": { "seed": ${nested('[', ']', 100_000)} } }`, 400, /at most 16/],
    [
      'objects in objects',
      `{ "recipe": ${nested('{"seed":', '}', 20_000).replace('{"seed":}', '{}')} }`,
      400,
      /at most 16/,
    ],
    ['too much', `{ "recipe": { "seed": "${'x'.repeat(2 ** 20)}" } }`, 413, /too large/],
  ])('of %s is refused in words', async (_, payload, status, message) => {
    const client = await serviceOf(at('refused'));
    const answer = await rawPost(client, payload);
    expect(answer).toMatchObject({
      status,
      body: { code: expect.any(String), message: expect.stringMatching(message) },
    });
    expect(Object.keys(answer.body).sort()).toEqual(['code', 'message']);
    expect(JSON.stringify(answer.body)).not.toMatch(/node_modules|\.js:\d|layerwise-runs-/);
    expect((await client.get('/runs')).body).toEqual([]);
  });

  it('of another type is refused', async () => {
    const client = await serviceOf(at('types'));
    for (const type of ['image/png', 'application/octet-stream', 'text/xml']) {
      expect(await rawPost(client, '{}', type), type).toMatchObject({ status: 415 });
    }
    expect(await rawPost(client, '{}', 'text/plain')).toMatchObject({ status: 400 });
  });

  it.each(['.', '..', '../x', 'a/b', '.hidden', 'queue.json', 'queue.lock', 'a\0b', '', 'x'.repeat(101), 'C:\\x', 'ü'])(
    'under the name %j is refused',
    async (id) => {
      const runs = at('names');
      const client = await serviceOf(runs);
      expect(await client.start({ id })).toMatchObject({
        status: 400,
        body: { message: expect.stringContaining('/id') },
      });
      expect(readdirSync(runs).filter((name) => !name.startsWith('queue.'))).toEqual([]);
    },
  );

  it('reaches data in its folder alone', async () => {
    mkdirSync(at('data'), { recursive: true });
    mkdirSync(at('secret'), { recursive: true });
    writeFileSync(at('data/file'), '');
    symlinkSync(at('secret'), at('data/link'));
    const client = await serviceOf(at('roots'), { dataRoot: at('data') });
    const start = (dataDir: string) => client.start({ dataset: 'folder', recipe: { dataset: { dataDir } } });
    for (const dataDir of ['..', '../secret', 'link', 'none', at('secret'), at('data'), '/etc', 'a\0b', '%2e%2e']) {
      const answer = await start(dataDir);
      expect(answer, dataDir).toMatchObject({ status: 400, body: { code: 'RECIPE' } });
      expect(answer.body.message).toContain(`got ${JSON.stringify(dataDir)}`);
    }
    const without = await serviceOf(at('rootless'));
    const answer = await without.start({ dataset: 'cifar10', recipe: { dataset: { dataDir: 'x' } } });
    expect(answer).toMatchObject({ status: 400, body: { message: expect.stringContaining('no folder of data') } });
  });
});

describe('a request', () => {
  it.each([
    ['/runs/..%2f..%2fetc', 400],
    ['/runs/a%00b', 400],
    ['/runs/%2e%2e%2fx/report', 400],
    [`/runs/${'x'.repeat(5_000)}`, 414],
    ['/runs/%zz', 400],
    ['/runs/none', 404],
    ['/runs/none/events', 404],
    ['/none', 404],
    ['/page/..%2f..%2fservice.js', 400],
    ['/page/none.js', 404],
    ['/page/page.js.map', 400],
  ])('for %s is answered with a code', async (url, status) => {
    const client = await serviceOf(at('paths'));
    const answer = await client.get(url);
    expect(answer).toMatchObject({ status, body: { code: expect.any(String), message: expect.any(String) } });
  });

  it('of a method that there is not is refused, and HEAD answered without a body', async () => {
    const client = await serviceOf(at('methods'));
    for (const method of ['OPTIONS', 'PUT', 'DELETE'] as const) {
      expect(await client.ask({ method, url: '/runs' }), method).toMatchObject({
        status: 404,
        body: { code: 'ROUTE_UNKNOWN' },
      });
    }
    expect(await client.ask({ method: 'HEAD', url: '/runs' })).toMatchObject({ status: 200, body: '' });
    // Nobody would end their streams.
    expect((await client.ask({ method: 'HEAD', url: '/events' })).status).toBe(404);
  });

  it('beyond so many a minute is told when to come again', async () => {
    const client = await serviceOf(at('rate'), { requestsPerMinute: 3 });
    for (let i = 0; i < 3; i++) expect((await client.get('/runs')).status).toBe(200);
    const { status, headers, body } = await client.get('/runs');
    expect([status, body]).toEqual([429, { code: 'RATE', message: 'expected at most 3 requests a minute' }]);
    expect(Number(headers['retry-after'])).toBeGreaterThan(1);
  });

  it('for what there is not, or with a wrong token, counts as any other', async () => {
    for (const [options, url, status] of [
      [{}, '/none', 404],
      [{ prefix: '/training' }, '/none', 404],
      [{ token: TOKEN }, '/runs', 401],
      [{ token: TOKEN }, '/none', 401],
    ] as const) {
      const client = await serviceOf(at('guesses'), { ...options, requestsPerMinute: 3 });
      const guess = async () => (await client.ask({ method: 'GET', url, headers: { authorization: 'x' } })).status;
      expect([await guess(), await guess(), await guess(), await guess()]).toEqual([status, status, status, 429]);
      await client.app.close();
    }
  });

  it('of a load balancer, whether it lives and takes work, is answered always', async () => {
    const client = await serviceOf(at('balanced'), { requestsPerMinute: 3 });
    for (const url of ['/health', '/ready']) {
      for (let i = 0; i < 10; i++) expect((await client.get(url)).status).toBe(200);
    }
    for (const status of [200, 200, 200, 429]) expect((await client.get('/runs')).status).toBe(status);
  });

  it('beyond the limit of an app is refused by it, beside the service’s own', async () => {
    const app = fastify();
    await app.register(rateLimit, { max: 3 });
    await app.register(trainingService, { runs: at('limited') });
    onTestFinished(() => app.close());
    for (const status of [200, 200, 200, 429]) expect((await app.inject('/runs')).statusCode).toBe(status);
  });

  it('by which a page of another site would change something is refused', async () => {
    const client = await serviceOf(at('sites'));
    await client.start({ id: 'one', recipe: endless });
    await client.until('one', hasStepped);
    const cancel = (site: string) =>
      client.ask({ method: 'POST', url: '/runs/one/cancel', headers: { 'sec-fetch-site': site } });
    for (const site of ['cross-site', 'same-site']) {
      expect(await cancel(site)).toMatchObject({ status: 403, body: { code: 'OTHER_SITE' } });
    }
    expect((await client.get('/runs/one')).body.state).toBe('running');
    expect((await cancel('same-origin')).status).toBe(200);
  });

  it('that the server fails is logged whole, and told without a stack', async () => {
    const { lines, logger } = logging();
    const runs = at('fails');
    const client = await serviceOf(runs, {}, { logger });
    await client.finish('one');
    writeFileSync(join(runs, 'one', 'model.safetensors'), 'x');
    const answer = await client.classify('one', Buffer.from('x'));
    expect(answer).toMatchObject({ status: 409, body: { code: 'RUN_UNUSABLE' } });
    expect(answer.body.message).not.toContain(runs);
    expect(lines.filter((line) => line.includes('model.safetensors')).join()).toContain('"stack"');
  });
});

describe('a service that is being closed', () => {
  /** Its state as a load balancer is told it, and whether fastify itself answers. */
  it.each([
    ['where the app lets its routes answer', { return503OnClosing: false }, { status: 'closing' }],
    ['where fastify answers for them', {}, { statusCode: 503 }],
  ])('is not ready, %s', async (_, ofApp, body) => {
    const { TrainingRuns } = await built<typeof import('../../lib/server/training-runs.js')>('./training-runs.js');
    const { close } = TrainingRuns.prototype;
    const client = await serviceOf(at('not ready'), {}, ofApp);
    const url = `http://127.0.0.1:${await client.listen()}/ready`;
    expect(await askJson(url)).toMatchObject({ status: 200, body: { status: 'ok' } });
    let answered: Promise<unknown> = Promise.resolve();
    const closing = vi.spyOn(TrainingRuns.prototype, 'close').mockImplementationOnce(async function (
      this: TrainingRunsType,
      ...of: Parameters<typeof close>
    ) {
      const closed = close.apply(this, of);
      answered = askJson(url);
      await answered.catch(() => {});
      await closed;
    });
    onTestFinished(() => closing.mockRestore());
    await client.app.close();
    expect(await answered).toMatchObject({ status: 503, body });
  });
});

describe('with a token', () => {
  it.each(['', '/training', '/training/'])('below %j only what tells nothing of a run is open', async (prefix) => {
    const client = await serviceOf(at('token'), { token: TOKEN, prefix });
    const open = ['/health', '/ready', '/', '/page/page.css', '/page/:script'];
    for (const url of open) expect((await client.get(url.replace(':script', 'run-page.js'))).status, url).toBe(200);
    // Of a prefix fastify has the page at its very end, too.
    const closed = client.routes.filter(({ url }) => url !== '' && !open.includes(url));
    expect(closed.length).toBeGreaterThan(20);
    for (const { method, url } of [...closed, { method: 'GET', url: '/none' }, { method: 'POST', url: '/runs/one' }]) {
      const path = url.replace(':id', 'one').replace(':index', '0').replace(':chart', 'loss');
      const { status } = await client.ask({ method: method as 'GET', url: path });
      expect(status, `${method} ${url}`).toBe(401);
    }
    expect(await client.get('/runs')).toMatchObject({ status: 401, body: { code: 'UNAUTHORIZED' } });
    expect((await client.ask({ method: 'GET', url: '/runs', headers: { authorization: 'Bearer wrong' } })).status).toBe(
      401,
    );
    expect((await authorized(client, 'GET', '/runs')).status).toBe(200);
  });

  it('neither a short one nor one that no header carries is a token', async () => {
    await expect(serviceOf(at('short'), { token: 'short' })).rejects.toMatchObject({ name: 'ServerError' });
    for (const unsendable of ['sixteen characters', 'sixteen-charactérs', `${TOKEN}\n`]) {
      await expect(serviceOf(at('short'), { token: unsendable })).rejects.toThrow('signs of ASCII without blanks');
    }
  });

  const authorized = (client: Client, method: 'GET', url: string) =>
    client.ask({ method, url, headers: { authorization: `Bearer ${TOKEN}` } });
});

it('a predictor that fails is told of in the log alone', async () => {
  const { lines, logger } = logging();
  const { Predictors } = await built<typeof import('../../lib/server/predictors.js')>('./predictors.js');
  const { PredictorError } = await built<typeof import('../../lib/predictor/index.js')>('../predictor/index.js');
  const client = await serviceOf(at('predictor'), {}, { logger });
  await client.finish('one');
  const use = vi.spyOn(Predictors.prototype, 'use');
  onTestFinished(() => use.mockRestore());
  use.mockRejectedValueOnce(new PredictorError('WORKER_FAILED', 'the thread ended at /secret/path'));
  const png = await picture().png().toBuffer();
  expect(await client.classify('one', png)).toMatchObject({
    status: 500,
    body: { code: 'INTERNAL', message: 'the server failed; its log has the reason' },
  });
  expect(lines.join()).toContain('/secret/path');
  for (const [code, status] of [
    ['QUEUE_FULL', 429],
    ['CLOSED', 503],
  ] as const) {
    use.mockRejectedValueOnce(new PredictorError(code, 'not now'));
    const answer = await client.classify('one', png);
    expect(answer).toMatchObject({ status, body: { code }, headers: { 'retry-after': '1' } });
  }
});

describe('in an app of one’s own', () => {
  it('two services, beside its own routes, parsers, document and limits', async () => {
    const app = fastify();
    await app.register(swagger, { openapi: { info: { title: 'mine', version: '1' } } });
    await app.register(rateLimit, { max: 1_000 });
    app.addContentTypeParser('image/png', { parseAs: 'buffer' }, (_, body, done) => done(null, body));
    app.get('/', () => 'mine');
    app.setErrorHandler((_, __, reply) => reply.code(500).send('my error'));
    app.get('/fails', () => {
      throw new Error('mine');
    });
    for (const name of ['one', 'two']) {
      await app.register(trainingService, { prefix: `/${name}`, runs: at(`apps/${name}`) });
    }
    await app.ready();
    const ask = async (url: string) => (await app.inject(url)).body;
    expect([await ask('/'), await ask('/fails')]).toEqual(['mine', 'my error']);
    for (const name of ['one', 'two']) {
      expect([await ask(`/${name}/runs`), await ask(`/${name}/health`)]).toEqual(['[]', '{"status":"ok"}']);
      const { info, paths } = JSON.parse(await ask(`/${name}/openapi.json`));
      expect(info.title).toBe('layerwise');
      expect(Object.keys(paths)).toContain(`/${name}/runs/{id}`);
      expect(await ask(`/${name}`)).toContain(`<base href="/${name}/">`);
      expect(await ask(`/${name}/metrics`)).toContain('layerwise_runs{state="running"} 0');
    }
    await app.close();
    expect(existsSync(at('apps/one/queue.lock'))).toBe(false);
  });

  it.each(['', '/', '/a', '/a/', '/a/b'])('below %j the page finds its parts', async (prefix) => {
    const client = await serviceOf(at('prefix'), { prefix });
    const { status, body, headers } = await client.get('/');
    expect(status).toBe(200);
    expect(body).toContain(`<base href="${client.prefix}/">`);
    expect(headers['content-security-policy']).toContain("default-src 'self'");
    expect((await client.get('/page/page.js')).headers['content-type']).toBe('text/javascript; charset=utf-8');
    if (prefix === client.prefix && prefix !== '') expect((await client.get('')).body).toBe(body);
  });

  it('options that there are not are refused', async () => {
    for (const options of [
      { port: 1 },
      { concurrency: 0 },
      { maxPixels: 1.5 },
      // Longer than a timer of Node's.
      { deadlineMs: 2 ** 31 },
      { dataRoot: '' },
      { resumeInterrupted: 1 },
    ]) {
      const opening = serviceOf(at('options'), options as object);
      await expect(opening, JSON.stringify(options)).rejects.toMatchObject({
        name: 'ServerError',
        code: 'INVALID_ARGUMENT',
      });
    }
  });
});

it('every route but those of the page is in the OpenAPI document, with what it takes', async () => {
  const client = await serviceOf(at('document'));
  const { openapi, paths } = (await client.get('/openapi.json')).body;
  expect(openapi).toMatch(/^3\./);
  const documented = Object.entries(paths as Record<string, object>).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const routes = client.routes
    .filter(({ method, url }) => method !== 'HEAD' && url !== '/' && !/^\/(page|openapi)/.test(url))
    .map(({ method, url }) => `${method} ${url.replaceAll(/:(\w+)/g, '{$1}')}`);
  expect(routes.length).toBeGreaterThan(15);
  expect(documented.sort()).toEqual(routes.sort());
  for (const [path, methods] of Object.entries(
    paths as Record<string, Record<string, { parameters?: unknown[]; summary?: string }>>,
  )) {
    for (const [method, { parameters = [], summary }] of Object.entries(methods)) {
      const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      const documented = parameters.map((parameter) => (parameter as { name: string }).name);
      expect(documented, `${method} ${path}`).toEqual(expect.arrayContaining(named));
      if (!['/health', '/ready', '/metrics'].includes(path)) expect(summary, `${method} ${path}`).toBeTruthy();
    }
  }
  expect(Object.keys(paths['/runs'].post.responses)).toEqual(expect.arrayContaining(['201', '400', '409', '429']));
  expect(Object.keys(paths['/runs/{id}/classify'].post.requestBody?.content ?? {})).toContain('image/png');
});

it('a body that is too large is answered, also while it is still being sent', async () => {
  const client = await serviceOf(at('large'), { maxUploadBytes: 1_000 });
  const port = await client.listen();
  for (let i = 0; i < 20; i++) {
    const status = await new Promise((resolve, reject) => {
      const headers = { 'content-type': 'image/jpeg', 'content-length': 4_000_000 };
      const sent = request(
        { host: '127.0.0.1', port, method: 'POST', path: '/runs/none/classify', headers },
        (answer) => {
          answer.resume();
          resolve(answer.statusCode);
        },
      );
      sent.on('error', reject);
      sent.write(Buffer.alloc(2_000_000));
      setTimeout(() => sent.end(Buffer.alloc(2_000_000)), 5);
    });
    expect(status).toBe(413);
  }
});
