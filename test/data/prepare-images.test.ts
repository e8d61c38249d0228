import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type ImageFiles, identifyDataset, loadDataset } from '../../lib/data/index.js';
import { type PrepareImagesOptions, prepareImages } from '../../lib/data/prepare-images.js';
import { pythonLacks, runPython } from '../support/python.js';
import { gradient, save } from './images.js';
import { digestsOf, pixelsOf, readTar, savePhotographs, sha256 } from './shards.js';

let root: string;
let from: string;
let whole: string;
const OPTIONS = { side: 48, shardImages: 4 };

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'layerwise-prepare-'));
  from = join(root, 'photographs');
  whole = join(root, 'whole');
  await savePhotographs(from);
  await prepareImages({ from, to: whole, ...OPTIONS });
});
afterAll(() => rm(root, { recursive: true }));

let to: string;
let tests = 0;
beforeEach(() => {
  to = join(root, `shards ${++tests}`);
});
const prepare = (options: Partial<PrepareImagesOptions> = {}) => prepareImages({ from, to, ...OPTIONS, ...options });
const load = (dataDir: string, limits: { trainLimit?: number; testLimit?: number; testOnly?: boolean } = {}) =>
  loadDataset({ name: 'imagenet', dataDir, ...limits });

/** The bytes of an image, as the index tells where they are. */
async function bytesOf({ root, packed, names, folders, labels }: ImageFiles, index: number): Promise<Buffer> {
  if (packed === undefined) return readFile(join(root, folders[labels[index]!]!, names[index]!));
  const archive = await readFile(join(root, packed.shards[packed.shardOf[index]!]!.name));
  const start = packed.offsets[index]!;
  return archive.subarray(start, start + packed.lengths[index]!);
}

describe('prepared images', () => {
  it('are those of the folders, in the same order, with the same labels and names', async () => {
    expect(await prepare()).toMatchObject({ classes: 2, train: 11, test: 3, shards: 4, shardsBefore: 0, badImages: 0 });
    const [loose, packed] = [await load(from), await load(to)];
    for (const part of ['train', 'test'] as const) {
      const { root: _, packed: places, ...images } = packed[part];
      const { root: __, ...expected } = loose[part];
      expect(images).toEqual(expected);
      expect(places!.shards.map(({ name }) => name)).toEqual(
        part === 'train' ? [0, 1, 2].map((i) => `train-00000${i}.tar`) : ['test-000000.tar'],
      );
    }
    expect(packed.classes).toEqual(['n01', 'n02']);
    // Each shard mixes the classes.
    const classes = readTar(join(to, 'train-000000.tar')).filter(({ name }) => name.endsWith('.cls'));
    expect(new Set(classes.map(({ contents }) => String(contents)))).toEqual(new Set(['0', '1']));
  });

  it('are as small as asked, within the loss of JPEG, or the very bytes of a small JPEG file', async () => {
    const [loose, packed] = [await load(from), await load(whole)];
    let taken = 0;
    for (const part of ['train', 'test'] as const) {
      for (let index = 0; index < loose[part].count; index++) {
        const name = loose[part].names[index]!;
        const [given, got] = [await bytesOf(loose[part], index), await bytesOf(packed[part], index)];
        expect(got.equals(given), name).toBe(name.includes('same'));
        if (name.includes('same')) {
          taken++;
          continue;
        }
        const upright = await pixelsOf(given);
        const shorter = Math.min(upright.width, upright.height);
        const [width, height] = [upright.width, upright.height].map((side) =>
          Math.floor((side * Math.min(48, shorter)) / shorter),
        );
        const expected = await pixelsOf(given, { width: width!, height: height! });
        const pixels = await pixelsOf(got);
        expect([pixels.width, pixels.height], name).toEqual([width, height]);
        expect(got.subarray(0, 3), name).toEqual(Buffer.from([0xff, 0xd8, 0xff]));
        const worst = pixels.data.reduce((most, value, i) => Math.max(most, Math.abs(value - expected.data[i]!)), 0);
        expect(worst, name).toBeLessThanOrEqual(12);
      }
    }
    expect(taken).toBe(4);
  });

  it('are limited as those of folders, and the test images are read alone', async () => {
    const limits = { trainLimit: 5, testLimit: 2 };
    const [loose, packed] = [await load(from, limits), await load(whole, limits)];
    expect(packed.train.names).toEqual(loose.train.names);
    expect(packed.train.labels).toEqual(loose.train.labels);
    expect(packed.test.names).toEqual(loose.test.names);
    expect((await bytesOf(packed.train, 3)).length).toBeGreaterThan(100);
    const alone = await load(whole, { testOnly: true });
    expect([alone.train.count, alone.test.count, alone.classes]).toEqual([0, 3, ['n01', 'n02']]);
  });

  it('may come of a val/ without class folders', async () => {
    const flat = join(root, 'flat');
    await cp(join(from, 'train'), join(flat, 'train'), { recursive: true });
    for (const name of ['x1', 'x2', 'x3']) await save(flat, `val/${name}.JPEG`, gradient(60, 70, { blue: 9 }).jpeg());
    await writeFile(join(flat, 'val.txt'), 'x1 n02\nx2 n01\nx3 n02\n');
    await prepare({ from: flat });
    const [loose, packed] = [await load(flat), await load(to)];
    expect(packed.test).toMatchObject({ names: loose.test.names, labels: loose.test.labels, folders: ['.', '.'] });
    expect(
      Array.from(packed.test.labels, (label, i) => `${packed.test.names[i]} ${packed.classes[label]}`).sort(),
    ).toEqual([...['x1.JPEG n02', 'x2.JPEG n01', 'x3.JPEG n02']]);
  });

  it('have the identity of the folders where all bytes were taken over', async () => {
    const small = join(root, 'small');
    for (const part of ['train', 'val']) {
      for (const name of ['a', 'b']) await save(small, `${part}/${name}/1.jpg`, gradient(30, 20, { blue: 9 }).jpeg());
    }
    await prepare({ from: small });
    expect(await identifyDataset(await load(to))).toEqual(await identifyDataset(await load(small)));
    expect(await identifyDataset(await load(whole))).not.toEqual(await identifyDataset(await load(from)));
  });

  it('lie in archives that another reader reads, with the digests of the index', async () => {
    const { train } = JSON.parse(await readFile(join(whole, 'index.json'), 'utf8'));
    const keys: string[] = [];
    for (const { file, bytes, sha256: digest, count, indexSha256 } of train.shards) {
      const archive = await readFile(join(whole, file));
      expect([archive.length, sha256(archive)]).toEqual([bytes, digest]);
      const text = await readFile(join(whole, file.replace('.tar', '.json')));
      expect(sha256(text)).toBe(indexSha256);
      const { offsets, lengths, labels } = JSON.parse(text.toString());
      const entries = readTar(join(whole, file));
      const images = entries.filter(({ name }) => /^\d{10}\.jpg$/.test(name));
      expect(images).toHaveLength(count);
      expect(entries.map(({ name }) => name)).toEqual(
        images.flatMap(({ name }) => [name, name.replace('.jpg', '.cls')]),
      );
      expect(images.map(({ offset }) => offset)).toEqual(offsets);
      expect(images.map(({ contents }) => contents.length)).toEqual(lengths);
      const texts = entries.filter(({ name }) => name.endsWith('.cls')).map(({ contents }) => String(contents));
      expect(texts).toEqual(labels.map(String));
      keys.push(...images.map(({ name }) => name.slice(0, 10)));
    }
    expect(keys).toEqual(Array.from({ length: 11 }, (_, i) => String(i).padStart(10, '0')));
  });

  it.skipIf(pythonLacks('tarfile') !== null)("lie in archives that Python's tarfile reads", async () => {
    const script = join(root, 'read.py');
    await writeFile(
      script,
      [
        'import hashlib, json, sys, tarfile',
        'with tarfile.open(sys.argv[1]) as archive:',
        '    print(json.dumps([[m.name, m.isfile(), m.mtime, m.uid, hashlib.sha256(archive.extractfile(m).read()).hexdigest()]',
        '                      for m in archive.getmembers()]))',
      ].join('\n'),
    );
    const entries = readTar(join(whole, 'train-000001.tar'));
    expect(await runPython(script, [join(whole, 'train-000001.tar')])).toEqual(
      entries.map(({ name, contents }) => [name, true, 0, 0, sha256(contents)]),
    );
  });
});

describe('preparing', () => {
  it('again, elsewhere, gives the same bytes; on the same folder it changes nothing', async () => {
    await prepare();
    expect(await digestsOf(to)).toEqual(await digestsOf(whole));
    expect(Object.keys(await digestsOf(to)).filter((name) => !/\.(tar|json)$/.test(name))).toEqual([]);
    expect(await prepare()).toMatchObject({ shards: 4, shardsBefore: 4 });
    expect(await digestsOf(to)).toEqual(await digestsOf(whole));
  });

  it('that is interrupted goes on behind the shards that are whole, to the same bytes', async () => {
    for (const stopAt of [1, 5, 9, 13]) {
      const controller = new AbortController();
      const seen: number[] = [];
      const first = prepare({
        signal: controller.signal,
        onProgress: ({ done }) => {
          seen.push(done);
          if (done === stopAt) controller.abort();
        },
      });
      await expect(first).rejects.toMatchObject({ code: 'DATA_CANCELLED' });
      expect(Math.max(...seen)).toBe(stopAt);
      const names = await readdir(to);
      expect(names).toContain('unfinished.json');
      expect(names.filter((name) => /partial|lock/.test(name))).toEqual([]);
      expect(names.filter((name) => name.endsWith('.tar'))).toHaveLength([0, 1, 2, 3][[1, 5, 9, 13].indexOf(stopAt)]!);
      await expect(load(to)).rejects.toMatchObject({
        code: 'DATA_CORRUPT',
        message: `${to} is not finished: give the same layerwise data prepare again, which goes on there`,
      });
      // What a call that was killed leaves.
      await writeFile(join(to, 'train-000002.tar.0123abcd.partial'), 'x');
      const totals: number[] = [];
      const { shardsBefore } = await prepare({ onProgress: ({ done, total }) => totals.push(done, total) });
      expect(shardsBefore).toBe([0, 1, 2, 3][[1, 5, 9, 13].indexOf(stopAt)]);
      expect(Math.max(...totals)).toBe(14);
      expect(await digestsOf(to)).toEqual(await digestsOf(whole));
      await rm(to, { recursive: true });
    }
  });

  it('a shard anew whose index or archive is missing gives the same bytes', async () => {
    await cp(whole, to, { recursive: true });
    await rm(join(to, 'train-000001.json'));
    await truncate(join(to, 'test-000000.tar'), 2000);
    expect(await prepare()).toMatchObject({ shards: 4, shardsBefore: 2 });
    expect(await digestsOf(to)).toEqual(await digestsOf(whole));
  });

  it('with other options, or of other images, is refused by name', async () => {
    await cp(whole, to, { recursive: true });
    await expect(prepare({ side: 40 })).rejects.toMatchObject({
      code: 'DATA_ARGUMENT',
      message: `${to}/index.json: side: expected 40, got 48: give the options of the earlier call, or another folder`,
    });
    await expect(prepare({ quality: 90 })).rejects.toThrow('index.json: quality: expected 90, got 95');
    await expect(prepare({ shardImages: 5 })).rejects.toThrow('index.json: shardImages: expected 5, got 4');
    const other = join(root, 'other');
    await cp(from, other, { recursive: true });
    await save(other, 'train/n01/large.JPEG', gradient(120, 91, { blue: 7 }).jpeg());
    await expect(prepare({ from: other })).rejects.toMatchObject({
      code: 'DATA_ARGUMENT',
      message: expect.stringMatching(/train-00000\d\.json tells of other images than .*other has now/),
    });
    await rm(join(other, 'train/n01/large.JPEG'));
    await expect(prepare({ from: other })).rejects.toThrow('train-000000.json tells of other images');
    expect(await digestsOf(to)).toEqual(await digestsOf(whole));
  });

  it('into a folder that holds anything else, or lies within the images, is refused', async () => {
    await mkdir(to);
    await writeFile(join(to, 'notes.txt'), 'mine');
    await expect(prepare()).rejects.toThrow(`got ${to}, which holds notes.txt`);
    expect(await readdir(to)).toEqual(['notes.txt']);
    await rm(join(to, 'notes.txt'));
    await writeFile(join(to, 'train-000000.tar'), 'mine');
    await expect(prepare()).rejects.toThrow('which holds train-000000.tar');
    for (const inside of [from, join(from, 'train', 'shards')]) {
      await expect(prepare({ to: inside })).rejects.toThrow(`to: expected a folder outside of ${from}, got ${inside}`);
      // The same through a link.
      const link = join(root, 'link');
      await symlink(from, link);
      const through = join(link, relative(from, inside));
      await expect(prepare({ from: link, to: through })).rejects.toThrow(
        `to: expected a folder outside of ${link}, got ${through}`,
      );
      await rm(link);
    }
    expect(await readdir(join(from, 'train'))).toEqual(['n01', 'n02']);
  });

  it.each([
    ['side', 0],
    ['side', 4097],
    ['quality', 101],
    ['shardImages', 1.5],
  ])('refuses %s %d', async (name, value) => {
    await expect(prepare({ [name]: value })).rejects.toMatchObject({
      code: 'DATA_ARGUMENT',
      message: expect.stringContaining(`${name} must be an integer from 1 to`),
    });
  });
});

describe('an image that cannot be decoded', () => {
  const bad = (): string => join(set, 'train/a/50.jpg');
  let set: string;
  beforeEach(async () => {
    set = join(root, `set ${tests}`);
    for (let i = 0; i < 100; i++) {
      await save(set, `train/${i % 2 === 0 ? 'a' : 'b'}/${i}.jpg`, gradient(16, 12, { blue: i }).jpeg());
    }
    for (const name of ['a', 'b']) await save(set, `val/${name}/0.jpg`, gradient(16, 12).jpeg());
    await truncate(bad(), 150);
  });

  it('ends the preparation, which goes on where a good one is in its place', async () => {
    const options = { from: set, shardImages: 10 };
    await expect(prepare(options)).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(/50\.jpg .*; put a good file in its place, or skip such images \(--on-bad-image/),
    });
    await save(set, 'train/a/50.jpg', gradient(16, 12, { blue: 1 }).jpeg());
    expect(await prepare(options)).toMatchObject({ train: 100, badImages: 0 });
  });

  it('is skipped where that is asked for: the next of its class stands in, for at most 1 %', async () => {
    const options = { from: set, shardImages: 10, onBadImage: 'skip' } as const;
    const told: string[] = [];
    const first = await prepare({ ...options, reportBadImage: ({ path }) => told.push(path) });
    expect([first.badImages, told]).toEqual([1, [bad()]]);
    const { train } = await load(to);
    const index = (await load(set)).train.names.indexOf('50.jpg');
    expect(train.names[index]).toBe('52.jpg');
    expect(await bytesOf(train, index)).toEqual(await readFile(join(set, 'train/a/52.jpg')));
    expect(await prepare(options)).toMatchObject({ badImages: 1 });
  });

  it('counts with those of an earlier call', async () => {
    const options = { from: set, shardImages: 10, onBadImage: 'skip' } as const;
    await save(set, 'train/a/50.jpg', gradient(16, 12, { blue: 1 }).jpeg());
    await prepare(options);
    const { train } = await load(to);
    const inShard = (shard: number): string => {
      const index = train.packed!.shardOf.indexOf(shard);
      return join(set, 'train', train.folders[train.labels[index]!]!, train.names[index]!);
    };
    for (const shard of [0, 5]) await truncate(inShard(shard), 150);
    await rm(to, { recursive: true });
    for (let call = 0; call < 2; call++) {
      await expect(prepare(options)).rejects.toThrow(
        /^2 of the 100 images in .*, and at most 1 % may be skipped; the last/,
      );
      const left = (await readdir(to)).filter((name) => /^train.*\.json$/.test(name));
      expect(left).toEqual([0, 1, 2, 3, 4].map((number) => `train-00000${number}.json`));
    }
  });
});
