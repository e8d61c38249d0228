// Shards on disk and on a web server: what is read, and what is refused.
import { statSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { checkDataset } from '../../lib/data/check.js';
import type { CheckProgress } from '../../lib/data/check-files.js';
import { type ImageFiles, type ImageSource, loadDataset, openImages, slicePart } from '../../lib/data/index.js';
import { prepareImages } from '../../lib/data/prepare-images.js';
import { fetchFile, fetchPart } from '../../lib/data/web-files.js';
import { memoryStats, scope } from '../../lib/tensor/index.js';
import { gradient, save } from './images.js';
import { type Fault, type ShardServer, savePhotographs, serveShards, sha256 } from './shards.js';

let root: string;
let from: string;
let whole: string;
let server: ShardServer;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'layerwise-shards-'));
  from = join(root, 'photographs');
  whole = join(root, 'whole');
  await savePhotographs(from);
  await prepareImages({ from, to: whole, side: 48, shardImages: 4 });
  server = await serveShards(whole);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(root, { recursive: true });
});

let dir: string;
let tests = 0;
let before: unknown;
beforeEach(async () => {
  dir = join(root, `set ${++tests}`);
  await cp(whole, dir, { recursive: true });
  server.fault = () => false;
  server.asked.length = 0;
  before = memoryStats();
});
afterEach(() => expect(memoryStats(), 'tensors are left').toEqual(before));

const load = (dataDir = dir) => loadDataset({ name: 'imagenet', dataDir, imageSize: 24, testResize: 32 });

/** Pixels of all images of a part, as evaluation shows them. */
async function shownOf(part: ImageFiles, batchSize = 4): Promise<Buffer> {
  const source: ImageSource = openImages(part, { device: 'cpu' });
  const all: Uint8Array[] = [];
  try {
    for await (const batch of source.batches(batchSize)) {
      scope(() => void all.push(batch.tensors().images.contiguous().toTypedArray() as Uint8Array));
    }
  } finally {
    source.dispose();
  }
  return Buffer.concat(all);
}

const INDEX = 'train-000001.json';

/** Puts a value into a file of JSON, by its keys. */
async function put(file: string, keys: readonly (string | number)[], value: unknown): Promise<void> {
  const whole = JSON.parse(await readFile(join(dir, file), 'utf8'));
  const last = keys.at(-1)!;
  const place = keys.slice(0, -1).reduce((part, key) => part[key], whole);
  place[last] = value;
  await writeFile(join(dir, file), JSON.stringify(whole));
}

/** The same in the index of a shard, with what index.json says of it. */
async function putInIndex(keys: readonly (string | number)[], value: unknown): Promise<void> {
  await put(INDEX, keys, value);
  await put('index.json', ['train', 'shards', 1, 'indexSha256'], sha256(await readFile(join(dir, INDEX))));
}

describe('an index', () => {
  it.each<[string, (string | number)[], unknown, string]>([
    [
      'an offset beyond the archive',
      ['offsets', 3],
      1e9,
      'offsets.3: expected the place of an image, behind those before',
    ],
    ['a negative offset', ['offsets', 0], -512, 'offsets.0: expected the place of an image'],
    ['a place within that of another', ['offsets', 2], 600, 'offsets.2: expected the place of an image'],
    ['an offset that is no whole number', ['offsets', 1], 9999.5, 'offsets.1: expected the place of an image'],
    ['an image longer than the archive', ['lengths', 3], 1e9, 'lengths.3: expected bytes from 1 on'],
    ['an empty image', ['lengths', 1], 0, 'lengths.1: expected bytes from 1 on, got 0'],
    ['a column of another length', ['labels'], [0, 1], 'labels: expected a list with one value an image, 4, got 2'],
    ['no column', ['checksums'], undefined, 'checksums: expected a list with one value an image, 4, got nothing'],
    ['a label of no class', ['labels', 0], 2, 'labels.0: expected 0 to 1, got 2'],
    ['an index beyond the part', ['indices', 0], 11, 'indices.0: expected 0 to 10, got 11'],
    ['a path', ['names', 0], '../../etc/x', 'names.0: expected the name of a file, got "../../etc/x"'],
  ])('with %s is refused by name', async (_, keys, value, message) => {
    await putInIndex(keys, value);
    await expect(load()).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringContaining(`${join(dir, INDEX)}: ${message}`),
    });
  });

  it('with an image twice is refused', async () => {
    await putInIndex(['indices', 2], JSON.parse(await readFile(join(dir, 'train-000000.json'), 'utf8')).indices[0]);
    await expect(load()).rejects.toThrow(/indices\.\d: expected each image once, got \d+ again/);
  });

  it.each<[string, (string | number)[], unknown, string]>([
    ['another format', ['format'], 'x', 'format: expected "layerwise image shards", got "x"'],
    ['another version', ['version'], 2, 'version: expected 1, got 2: take the release that wrote it'],
    ['a class twice', ['classes'], ['a', 'a'], 'classes: expected each name once'],
    [
      'an archive elsewhere',
      ['train', 'shards', 1, 'file'],
      '../x.tar',
      'train.shards.1.file: expected train-000001.tar',
    ],
    ['a folder elsewhere', ['test', 'folders', 0], '..', 'test.folders: expected names of folders, got ".."'],
    ['another count', ['test', 'count'], 4, 'test.count: expected 3, as its shards hold, got 4'],
    ['no digest', ['train', 'shards', 0, 'sha256'], 'x', 'train.shards.0.sha256: expected a SHA-256 in hexadecimal'],
  ])('of all shards with %s is refused by name', async (_, keys, value, message) => {
    await put('index.json', keys, value);
    await expect(load()).rejects.toThrow(`${join(dir, 'index.json')}: ${message}`);
  });

  it('that is not what index.json tells of, or no JSON, is refused', async () => {
    await writeFile(join(dir, INDEX), '{}');
    await expect(load()).rejects.toThrow(/train-000001\.json: expected SHA-256 [0-9a-f]{64}, as index\.json says, got/);
    await truncate(join(dir, 'index.json'), 100);
    await expect(load()).rejects.toThrow(`${join(dir, 'index.json')}: is no JSON`);
  });
});

describe('an archive', () => {
  it('is compared with its digest, and then its images are decoded: both are counted up to all images', async () => {
    const told: CheckProgress[] = [];
    await checkDataset({ name: 'imagenet', dataDir: dir, onProgress: (at) => told.push(at) });
    for (const doing of ['comparing', 'decoding'] as const) {
      const done = told.filter((at) => at.doing === doing).map((at) => at.done);
      expect(done).toEqual([...done].sort((a, b) => a - b));
      expect(done.at(-1)).toBe(14);
    }
    expect(told.map(({ doing }) => doing).lastIndexOf('comparing')).toBe(
      told.findIndex((at) => at.doing === 'decoding') - 1,
    );
    expect(new Set(told.map(({ total }) => total))).toEqual(new Set([14]));
  });

  it('that is missing or of another size is refused by name, and listed by a check with all others', async () => {
    await truncate(join(dir, 'train-000002.tar'), 3000);
    await expect(load()).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(/train-000002\.tar: expected \d+ bytes, as index\.json says, got 3000$/),
    });
    await rm(join(dir, 'train-000000.tar'));
    await expect(load()).rejects.toMatchObject({ code: 'DATA_NOT_FOUND' });
    const { problems } = await checkDataset({ name: 'imagenet', dataDir: dir });
    expect(problems.map(({ code, path }) => [code, path])).toEqual([
      ['DATA_NOT_FOUND', join(dir, 'train-000000.tar')],
      ['DATA_CORRUPT', join(dir, 'train-000002.tar')],
    ]);
  });

  it('whose bytes have changed is found by a check, which decodes every image', async () => {
    const good = await checkDataset({ name: 'imagenet', dataDir: dir });
    expect(good).toMatchObject({ problems: [], duplicates: [] });
    expect(good.parts.map(({ part, images }) => [part, images])).toEqual([
      ['train', 11],
      ['test', 3],
    ]);
    expect(good.smallest).toMatchObject({ width: 20, height: 30 });
    const { train } = await load();
    const index = train.names.indexOf('large.JPEG');
    const archive = join(dir, train.packed!.shards[train.packed!.shardOf[index]!]!.name);
    const bytes = await readFile(archive);
    bytes.fill(0, train.packed!.offsets[index]!, train.packed!.offsets[index]! + 40);
    await writeFile(archive, bytes);
    const { problems } = await checkDataset({ name: 'imagenet', dataDir: dir });
    expect(problems.map(({ code, message }) => `${code} ${message}`)).toEqual([
      expect.stringMatching(/^DATA_CORRUPT .*\.tar: expected SHA-256 [0-9a-f]{64}, as index\.json says, got/),
      expect.stringMatching(/^DATA_CORRUPT .*\.tar: n01\/large\.JPEG is filled with zeros|of unknown format/),
    ]);
    await expect(shownOf(train)).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(/\.tar: n01\/large\.JPEG .*; prepare the data anew .*--on-bad-image skip/),
    });
  });
});

it('a slice of packed images has their places', async () => {
  const { train } = await load();
  const all = await shownOf(train);
  const some = slicePart(train, 3, 8) as ImageFiles;
  expect(some.count).toBe(5);
  expect((await shownOf(some)).equals(all.subarray(3 * 3 * 24 ** 2, 8 * 3 * 24 ** 2))).toBe(true);
});

it('another image of its class stands in for one that was damaged in its archive, where that is asked for', async () => {
  const photographs = join(root, 'hundred');
  for (let i = 0; i < 100; i++) {
    await save(photographs, `train/${i % 2 === 0 ? 'a' : 'b'}/${i}.jpg`, gradient(36, 30, { blue: 2 * i }).jpeg());
  }
  for (const name of ['a', 'b']) await save(photographs, `val/${name}/0.jpg`, gradient(36, 30).jpeg());
  const to = join(root, 'hundred packed');
  await prepareImages({ from: photographs, to, shardImages: 30 });
  const { train } = await load(to);
  const good = await shownOf(train);
  const { shards, shardOf, offsets } = train.packed!;
  const archive = join(to, shards[shardOf[40]!]!.name);
  const bytes = await readFile(archive);
  await writeFile(archive, bytes.fill(0x55, offsets[40], offsets[40]! + 100));
  const told: string[] = [];
  const skipping = {
    ...train,
    onBadImage: 'skip',
    reportBadImage: ({ path }: { path: string }) => told.push(path),
  } as const;
  const shown = await shownOf(skipping);
  const image = (all: Buffer, index: number): Buffer => all.subarray(index * 3 * 24 ** 2, (index + 1) * 3 * 24 ** 2);
  // Turn by turn over two classes.
  expect(image(shown, 40).equals(image(good, 42))).toBe(true);
  expect(image(good, 40).equals(image(good, 42))).toBe(false);
  for (const index of [39, 41, 99]) expect(image(shown, index).equals(image(good, index))).toBe(true);
  expect(told).toEqual([`${archive}: a/${train.names[40]}`]);
});

it('grey images are normalised by those in the archives', async () => {
  const grey = (dataDir: string) => loadDataset({ name: 'imagenet', dataDir, imageSize: 24, channels: 1 });
  const [disk, web] = [await grey(dir), await grey(server.url)];
  expect(web.normalization).toEqual(disk.normalization);
  expect(disk.normalization.mean[0]).toBeGreaterThan(0.05);
  expect((await shownOf(web.test)).equals(await shownOf(disk.test))).toBe(true);
});

it('the folder data set says who reads shards', async () => {
  await expect(loadDataset({ name: 'folder', dataDir: dir })).rejects.toMatchObject({
    code: 'DATA_UNSUPPORTED',
    message: `${dir} holds shards, as of layerwise data prepare: expected folders; --dataset imagenet reads shards`,
  });
});

describe('on a web server', () => {
  it('images are the same as on disk, and each is asked for by its range', async () => {
    const [disk, web] = [await load(), await load(server.url)];
    expect({ ...web.train, root: dir }).toEqual(disk.train);
    expect(web.classes).toEqual(disk.classes);
    for (const part of ['train', 'test'] as const) expect(await shownOf(web[part])).toEqual(await shownOf(disk[part]));
    const ranges = server.asked.filter((path) => path.includes('.tar'));
    expect(ranges.length).toBeGreaterThanOrEqual(14);
    expect(ranges.filter((path) => !path.includes(' bytes='))).toEqual([]);
    expect(await load(`${server.url}/`)).toMatchObject({ classes: disk.classes });
  });

  it('they are checked one by one', async () => {
    expect(await checkDataset({ name: 'imagenet', dataDir: server.url })).toMatchObject({ problems: [] });
  });

  it('a server that fails now and then is asked again', async () => {
    const seen = new Set<string>();
    let failed = 0;
    server.fault = (request, response, path) => {
      const key = `${path} ${request.headers.range}`;
      if (seen.has(key)) return false;
      seen.add(key);
      failed++;
      if (failed % 3 === 0) request.socket.destroy();
      else if (failed % 3 === 1) response.writeHead(503).end('busy');
      else {
        const range = request.headers.range?.replace('=', ' ');
        const size = statSync(join(whole, path)).size;
        response.writeHead(range === undefined ? 200 : 206, {
          'content-length': 99,
          ...(range === undefined ? {} : { 'content-range': `${range}/${size}` }),
        });
        response.write('cut', () => request.socket.destroy());
      }
      return true;
    };
    const warnings: Error[] = [];
    const note = (warning: Error): void => void warnings.push(warning);
    process.on('warning', note);
    const web = await load(server.url);
    expect(await shownOf(web.train, 11)).toEqual(await shownOf((await load()).train));
    expect(failed).toBeGreaterThan(10);
    process.off('warning', note);
    // Such as of too many listeners on one signal.
    expect(warnings).toEqual([]);
  });

  it.each<[string, Fault, string, RegExp]>([
    [
      'gives no ranges',
      ({ headers }) => !delete headers.range,
      'DATA_DOWNLOAD',
      /HTTP 200\): expected a server that gives ranges \(HTTP 206\)$/,
    ],
    [
      'has lost an archive',
      (_, response) => Boolean(response.writeHead(404).end()),
      'DATA_NOT_FOUND',
      /there is no file .*\.tar \(HTTP 404\)$/,
    ],
    [
      'has a shorter archive',
      (_, response) => Boolean(response.writeHead(416).end()),
      'DATA_DOWNLOAD',
      /has no bytes \d+ to \d+ \(HTTP 416\): expected \d+ bytes, as the index says$/,
    ],
    [
      'refuses',
      (_, response) => Boolean(response.writeHead(403).end()),
      'DATA_DOWNLOAD',
      /the server answered HTTP 403$/,
    ],
    [
      'has a longer archive',
      ({ headers }, response) => {
        const range = headers.range!.replace('=', ' ');
        return Boolean(response.writeHead(206, { 'content-range': `${range}/999999999` }).end());
      },
      'DATA_DOWNLOAD',
      /has 999999999 bytes: expected \d+, as the index says$/,
    ],
  ])('a server that %s is told by name', async (_, fault, code, message) => {
    const web = await load(server.url);
    server.fault = (request, response, path) => path.endsWith('.tar') && fault(request, response, path) === true;
    await expect(shownOf(web.train)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    await expect(shownOf(web.train)).rejects.toThrow(`${server.url}/train-00000`);
  });

  it('an image that has other bytes than the index tells of ends the run, whatever is done about bad images', async () => {
    const web = await load(server.url);
    server.fault = ({ headers }, response, path) => {
      const [, first, last] = /(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
      if (!path.endsWith('.tar')) return false;
      const range = `bytes ${first}-${last}/${web.train.packed!.shards.find(({ name }) => name === path)!.bytes}`;
      response.writeHead(206, { 'content-range': range }).end(Buffer.alloc(Number(last) - Number(first) + 1));
      return true;
    };
    await expect(shownOf({ ...web.train, onBadImage: 'skip' })).rejects.toMatchObject({
      code: 'DATA_DOWNLOAD',
      message: expect.stringMatching(
        /\.tar \(bytes \d+ to \d+\) could not be read in 2 tries: the bytes are others: expected those .* CRC-32/,
      ),
    });
  });

  it('gives up at last, and at once when it is cancelled', async () => {
    server.fault = (_, response) => Boolean(response.writeHead(500).end());
    const url = `${server.url}/index.json`;
    await expect(fetchFile(url, { firstPauseMs: 0.1 })).rejects.toMatchObject({
      code: 'DATA_DOWNLOAD',
      message: `${url} could not be read in 8 tries: the server answered HTTP 500`,
    });
    expect(server.asked).toHaveLength(8);
    const part = { file: `${server.url}/x.tar`, fileBytes: 5000, offset: 512, length: 9, checksum: 1 };
    const controller = new AbortController();
    const waiting = fetchPart(part, { signal: controller.signal, firstPauseMs: 1e6 });
    setTimeout(() => controller.abort(), 30);
    await expect(waiting).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
    const closed = await serveShards(whole);
    await closed[Symbol.asyncDispose]();
    await expect(fetchFile(closed.url, { firstPauseMs: 0.1 })).rejects.toThrow(/in 8 tries: .*ECONNREFUSED/);
  });

  it('what is no prepared data is told so', async () => {
    await expect(load(`${server.url}/nowhere`)).rejects.toMatchObject({
      code: 'DATA_NOT_FOUND',
      message: `there is no file ${server.url}/nowhere/index.json (HTTP 404): expected data that layerwise data prepare has finished`,
    });
    for (const url of [
      'http://user:secret@host/data',
      'https://host/data?token=secret',
      'https://host/#a',
      'http://',
    ]) {
      await expect(load(url)).rejects.toMatchObject({
        code: 'DATA_ARGUMENT',
        message: expect.stringMatching(/^dataDir: expected an address without user, password, \? and #/),
      });
      await expect(load(url)).rejects.not.toThrow('secret');
    }
    await expect(loadDataset({ name: 'folder', dataDir: server.url })).rejects.toThrow(
      '--dataset imagenet reads shards',
    );
  });
});
