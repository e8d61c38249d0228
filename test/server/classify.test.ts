// Images that clients send, and the predictors that answer.
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import type { Predictors as PredictorsType } from '../../lib/server/predictors.js';
import { jsonLines, layerwise } from '../cli/cli.js';
import { plain, save } from '../data/images.js';
import { temporaryFolder } from '../training/runs.js';
import {
  built,
  type Client,
  endless,
  hasStepped,
  isOver,
  logging,
  openService,
  picture,
  serviceOf,
  tiny,
} from './services.js';

const { Predictors } = await built<{ Predictors: typeof PredictorsType }>('./predictors.js');
const { PredictorError } = await built<typeof import('../../lib/predictor/index.js')>('../predictor/index.js');

const at = temporaryFolder();
const finished = (id: string, startedAt = '2026-01-01T00:00:00.000Z') => ({ directory: join(runs, id), startedAt });
const runs = at('runs');
const RUNS = ['one', 'two', 'three'];
const png = await picture().png().toBuffer();
const gif = await picture().gif().toBuffer();
const large = await picture({ width: 200, height: 60 }).jpeg().toBuffer();
const jpeg = await picture().jpeg().toBuffer();

beforeAll(async () => {
  const trainer = await openService(runs);
  for (const [seed, id] of RUNS.entries()) await trainer.finish(id, { recipe: { ...tiny, seed } });
  await trainer.app.close();
});

const serve = (options: object = {}, app: object = {}): Promise<Client> => serviceOf(runs, options, app);

describe('an image', () => {
  it('is answered as layerwise predict does, by the last layer and by each', async () => {
    const file = at('image.png');
    writeFileSync(file, png);
    const { stdout } = await layerwise(['predict', '--run', join(runs, 'one'), '--top', '3', '--json', file]);
    const expected = (jsonLines(stdout)[0] as { predictions: { class: string; probability: number }[] }).predictions;
    const client = await serve();
    const { status, body } = await client.classify('one', png, { query: '?top=3' });
    expect(status).toBe(200);
    expect(body.layers.map(({ layer }: { layer: number }) => layer)).toEqual([1]);
    const { predictions } = body.layers[0];
    expect(predictions.map((told: { class: string }) => told.class)).toEqual(expected.map((told) => told.class));
    for (const [i, { probability }] of expected.entries()) {
      expect(predictions[i].probability).toBeCloseTo(probability, 5);
    }
    const each = (await client.classify('one', jpeg, { type: 'image/jpeg', query: '?layer=every&top=99' })).body.layers;
    expect(each.map(({ layer }: { layer: number }) => layer)).toEqual([0, 1]);
    for (const { predictions } of each) {
      expect(predictions).toHaveLength(10);
      const sum = predictions.reduce((total: number, told: { probability: number }) => total + told.probability, 0);
      expect(sum).toBeCloseTo(1, 4);
    }
    expect((await client.classify('one', png, { query: '?layer=0' })).body.layers[0].layer).toBe(0);
  });

  it.each([
    ['nothing', Buffer.alloc(0), 400, 'IMAGE'],
    ['a text', Buffer.from('not an image'), 422, 'DATA_CORRUPT'],
    ['a JPEG that is cut off', jpeg.subarray(0, jpeg.length / 2), 422, 'DATA_CORRUPT'],
    ['a PNG that is cut off', png.subarray(0, png.length / 2), 422, 'DATA_CORRUPT'],
    ['the first bytes of a PNG', png.subarray(0, 8), 422, 'DATA_CORRUPT'],
    ['a GIF', gif, 422, expect.stringMatching(/^DATA_/)],
    [
      'an SVG',
      Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>'),
      422,
      'DATA_UNSUPPORTED',
    ],
    ['more pixels than there may be', large, 422, 'DATA_UNSUPPORTED'],
    ['more bytes than there may be', Buffer.alloc(20_001), 413, 'FST_ERR_CTP_BODY_TOO_LARGE'],
  ])('that is %s is refused, and the next is answered', async (_, bytes, status, code) => {
    const client = await serve({ maxUploadBytes: 20_000, maxPixels: 10_000 });
    const answer = await client.classify('one', bytes);
    expect(answer).toMatchObject({ status, body: { code, message: expect.any(String) } });
    expect(answer.body.message).not.toMatch(/layerwise-runs-|\.js:/);
    expect((await client.classify('one', png)).status).toBe(200);
  });

  it('whose header tells of far more pixels than it has bytes is not unpacked', async () => {
    const client = await serve({ maxPixels: 1_000_000 });
    const bomb = await sharp({ create: { width: 8_000, height: 8_000, channels: 3, background: 'black' } })
      .png()
      .toBuffer();
    expect(bomb.length).toBeLessThan(2 ** 20);
    const answer = await client.classify('one', bomb);
    expect(answer).toMatchObject({ status: 422, body: { message: expect.stringContaining('8000 x 8000') } });
  });

  it('is not taken as JSON, nor asked of a layer that there is not', async () => {
    const client = await serve();
    for (const type of ['multipart/form-data; boundary=x', 'text/plain', 'application/json', 'image/webp']) {
      expect((await client.classify('one', png, { type })).status, type).toBe(415);
    }
    for (const query of ['?layer=2', '?layer=-1', '?layer=first', '?top=0', '?top=x', '?top=1e9']) {
      expect((await client.classify('one', png, { query })).status, query).toBe(400);
    }
  });

  it('is taken by finished runs alone', async () => {
    const client = await serviceOf(at('unfinished'));
    await client.start({ id: 'one', recipe: endless });
    await client.until('one', hasStepped);
    expect((await client.classify('one', png)).body.code).toBe('RUN_NOT_FINISHED');
    expect((await client.classify('none', png)).body.code).toBe('RUN_UNKNOWN');
    await client.post('/runs/one/cancel');
    await client.until('one', isOver);
  });

  describe('whose client goes', () => {
    /** A service that listens, what it logs as errors, and an upload of so many bytes. */
    async function listening() {
      const { lines, logger } = logging();
      const client = await serve({}, { logger });
      const port = await client.listen();
      const gone = new Promise<void>((resolve) => {
        client.app.server.once('connection', (socket) => socket.once('close', () => resolve()));
      });
      const headers = { 'content-type': 'image/png', 'content-length': png.length };
      const path = '/runs/one/classify';
      const upload = request({ host: '127.0.0.1', port, method: 'POST', path, headers }).on('error', () => {});
      const errors = (): string[] => lines.filter((line) => JSON.parse(line).level >= 50);
      return { client, gone, upload, errors };
    }

    it('before its end is forgotten', async () => {
      const { client, gone, upload, errors } = await listening();
      upload.write(png.subarray(0, 100));
      await once(client.app.server, 'request');
      upload.destroy();
      await gone;
      expect((await client.classify('one', png)).status).toBe(200);
      expect(errors()).toEqual([]);
    });

    it('before it is answered is computed no more', async () => {
      const { client, gone, upload, errors } = await listening();
      const { use } = Predictors.prototype;
      const used = vi.spyOn(Predictors.prototype, 'use').mockImplementationOnce(async function (
        this: PredictorsType,
        ...of: Parameters<typeof use>
      ) {
        upload.destroy();
        await gone;
        return use.apply(this, of);
      } as typeof use);
      upload.end(png);
      await vi.waitFor(() => expect(used).toHaveBeenCalledTimes(1));
      await expect(used.mock.results[0]!.value).rejects.toMatchObject({ code: 'GONE' });
      expect((await client.classify('one', png)).status).toBe(200);
      expect(errors()).toEqual([]);
      used.mockRestore();
    });
  });
});

describe('predictors', () => {
  const opened = (most: number) => new Predictors({ most, threads: 1, maxPixels: 1e6 });

  it('of more runs than may be open answer all that come at once', async () => {
    const client = await serve({ maxPredictors: 1 });
    const asked = [...RUNS, ...RUNS, ...RUNS];
    const answers = await Promise.all(asked.map((id) => client.classify(id, png)));
    expect(answers.map(({ status }) => status)).toEqual(asked.map(() => 200));
    const alone = await Promise.all(RUNS.map((id) => client.classify(id, png)));
    expect(answers.slice(0, 3).map(({ body }) => body)).toEqual(alone.map(({ body }) => body));
    expect(new Set(alone.map(({ body }) => JSON.stringify(body))).size).toBe(3);
  });

  it('are closed when their last use has ended, and not before; the next is opened then', async () => {
    await using predictors = opened(1);
    let isSecondOpen = false;
    let second: Promise<unknown> | undefined;
    const first = await predictors.use(finished('one'), async (predictor) => {
      second = predictors.use(finished('two'), async (other) => {
        isSecondOpen = true;
        return other.classify(png);
      });
      await predictor.classify(png);
      await predictor.classify(png);
      expect(isSecondOpen).toBe(false);
      return predictor;
    });
    await second;
    await expect(first.classify(png)).rejects.toMatchObject({ code: 'CLOSED' });
    expect([...predictors.waiting.keys()]).toEqual([join(runs, 'two')]);
  });

  it('that are unused go first', async () => {
    await using predictors = opened(2);
    await predictors.use(finished('one'), async (inUse) => {
      await predictors.use(finished('two'), async () => {});
      await predictors.use(finished('three'), async () => {});
      expect([...predictors.waiting.keys()]).toEqual([join(runs, 'one'), join(runs, 'three')]);
      await inUse.classify(png);
    });
  });

  it('are closed where another run has come to lie in the directory', async () => {
    await using predictors = opened(2);
    const use = (startedAt: string) => predictors.use(finished('one', startedAt), async (predictor) => predictor);
    const first = await use('2026-01-01T00:00:00.000Z');
    expect(await use('2026-01-01T00:00:00.000Z')).toBe(first);
    const second = await use('2026-01-02T00:00:00.000Z');
    expect(second).not.toBe(first);
    await expect(first.classify(png)).rejects.toMatchObject({ code: 'CLOSED' });
    await second.classify(png);
  });

  it('whose thread has ended, or that could not be opened, are opened again', async () => {
    await using predictors = opened(2);
    const first = await predictors.use(finished('one'), async (predictor) => predictor);
    const failing = predictors.use(finished('one'), async () => {
      throw new PredictorError('WORKER_FAILED', 'its thread has ended');
    });
    await expect(failing).rejects.toThrow('its thread has ended');
    const second = await predictors.use(finished('one'), async (predictor) => predictor);
    expect(second).not.toBe(first);
    for (let i = 0; i < 2; i++) {
      const opening = predictors.use(finished('none'), async () => {});
      await expect(opening).rejects.toMatchObject({
        statusCode: 409,
        code: 'RUN_UNUSABLE',
        cause: { name: 'RunDirectoryError' },
      });
    }
    expect([...predictors.waiting.keys()]).toEqual([join(runs, 'one')]);
  });
});

it('a run that was deleted and trained anew under its name answers as it is now', async () => {
  const folder = at('anew');
  const client = await serviceOf(folder);
  const answersOf = async (client: Client) => {
    const images = (await client.get('/runs/one/test-images')).body;
    return { image: (await client.classify('one', png)).body, images };
  };
  await client.finish('one');
  const before = await answersOf(client);
  rmSync(join(folder, 'one'), { recursive: true });
  await client.finish('one', { recipe: { ...tiny, seed: 9 } });
  const after = await answersOf(client);
  await client.app.close();
  expect(after).toEqual(await answersOf(await serviceOf(folder)));
  expect(after.image).not.toEqual(before.image);
  expect(after.images).not.toEqual(before.images);
});

describe('test images', () => {
  it('come with what each layer takes them for, as often right as the result says', async () => {
    const client = await serve();
    const [{ body: images }, { body: run }] = [
      await client.get('/runs/one/test-images'),
      await client.get('/runs/one'),
    ];
    expect(images).toHaveLength(20);
    for (const layer of [0, 1]) {
      const right = images.filter(
        (image: { class: string; layers: { class: string }[] }) => image.layers[layer]!.class === image.class,
      );
      expect(5 * right.length).toBeCloseTo(run.result.layers[layer].testTop1, 6);
    }
    const { status, headers, bytes } = await client.get(`/runs/one/test-images/${images[3].index}`);
    expect([status, headers['content-type'], headers['cache-control']]).toEqual([200, 'image/png', 'no-cache']);
    expect(await sharp(bytes).metadata()).toMatchObject({ format: 'png', width: 32, height: 32 });
    for (const index of ['20', '-1', 'x', '1.5']) {
      expect([400, 404], index).toContain((await client.get(`/runs/one/test-images/${index}`)).status);
    }
  });

  it('are read alone, not the whole part', async () => {
    const folder = at('pictures');
    const file = (part: string, name: string, i: number): string =>
      join('imagenet', part, name, `${String(i).padStart(2, '0')}.png`);
    for (const [part, count] of [
      ['train', 20],
      ['val', 30],
    ] as const) {
      for (const name of ['a', 'b']) {
        for (let i = 0; i < count; i++) {
          const colour = { r: 8 * i, g: name === 'a' ? 0 : 200, b: 9 };
          await save(folder, file(part, name, i), plain({ colour }));
        }
      }
    }
    const dataset = { dataDir: 'imagenet', imageSize: 32, trainLimit: null, testLimit: null };
    const open = () => serviceOf(at('alone'), { dataRoot: folder });
    const client = await open();
    await client.finish('one', { dataset: 'imagenet', recipe: { ...tiny, dataset } });
    /** Its size stays what it was. */
    const spoil = (i: number): void => {
      const path = join(folder, file('val', 'a', i));
      writeFileSync(path, readFileSync(path).fill(0, 40));
    };
    spoil(2);
    const { status, body } = await client.get('/runs/one/test-images');
    expect(status).toBe(200);
    const indices = body.map(({ index }: { index: number }) => index);
    expect(indices).toEqual(Array.from({ length: 48 }, (_, i) => Math.floor((i * 60) / 48)));
    // They lie turn by turn over the classes, so the one that was spoiled is the fifth.
    expect(indices).not.toContain(4);
    for (const image of body) expect(image.class, image.index).toBe(image.index % 2 === 0 ? 'a' : 'b');
    const { bytes } = await client.get('/runs/one/test-images/35');
    expect([...(await sharp(bytes).raw().toBuffer()).subarray(0, 3)]).toEqual([8 * 17, 200, 9]);
    await client.app.close();
    // One that is shown.
    spoil(3);
    expect(await (await open()).get('/runs/one/test-images')).toMatchObject({ status: 409 });
  });

  it('that cannot be read are refused, and the log has the reason', async () => {
    const { lines, logger } = logging();
    const folder = at('unreadable');
    const client = await serviceOf(folder, {}, { logger });
    await client.finish('one');
    rmSync(join(folder, 'one', 'model.safetensors'));
    const { status, body } = await client.get('/runs/one/test-images');
    expect([status, body.code]).toEqual([409, 'TEST_IMAGES']);
    expect(body.message).not.toContain(folder);
    expect(lines.join()).toContain('model.safetensors');
  });

  it('that are being looked at when the app is closed hold nothing up', async () => {
    const client = await serve();
    const asked = RUNS.map((id) => client.get(`/runs/${id}/test-images`).catch(() => null));
    await client.app.close();
    await Promise.all(asked);
  });
});
