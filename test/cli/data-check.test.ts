import { once } from 'node:events';
import { copyFileSync, writeFileSync } from 'node:fs';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { gradient, save } from '../data/images.js';
import { layerwise, start, temporaryFolder } from './cli.js';

const at = temporaryFolder();

beforeAll(async () => {
  for (const part of ['train', 'test']) {
    for (const name of ['a', 'b']) {
      await save(at(), `set/${part}/${name}/1.jpg`, gradient(40, 30, { blue: name === 'a' ? 9 : part.length }).jpeg());
    }
  }
});

const check = (...args: string[]) => layerwise(['data', 'check', '--dataset', 'folder', ...args]);

describe('data check', () => {
  it('counts, and ends with 0 where nothing is wrong', async () => {
    const { code, stdout } = await check('--data-dir', at('set'));
    expect(code).toBe(0);
    expect(stdout).toContain('train       2 images of 2 classes, 1 of each\n');
    expect(stdout).toContain('smallest    40 x 30 pixels, ');
    // Both parts have the same image of a.
    expect(stdout).toContain('Warning: 1 training images are test images too');
    expect(stdout).toMatch(/\nNothing is wrong\.\n$/);
  });

  it('lists all that is wrong in groups, and ends with 1', async () => {
    writeFileSync(at('set/train/a/2.jpg'), '');
    writeFileSync(at('set/train/a/3.png'), 'GIF89a');
    writeFileSync(at('set/test/readme.md'), 'x');
    const plain = await check('--data-dir', at('set'));
    expect(plain.code).toBe(1);
    expect(plain.stdout).toMatch(
      /\nNot read: 2\n {2}\S.*readme\.md is no folder.*\n {2}\S.*3\.png is a GIF image.*\n\nDamaged, or not fitting together: 1\n {2}.*2\.jpg is empty \(0 bytes\)/,
    );
    expect(plain.stdout).toMatch(/\n3 things are wrong\.\n$/);
    const json = await check('--data-dir', at('set'), '--json');
    expect(json.code).toBe(1);
    const { problems, parts } = JSON.parse(json.stdout) as { problems: { path: string }[]; parts: object[] };
    expect(problems.map(({ path }) => path)).toEqual([
      at('set/test/readme.md'),
      at('set/train/a/2.jpg'),
      at('set/train/a/3.png'),
    ]);
    expect(parts).toMatchObject([
      { part: 'train', images: 4, perClass: { a: 3, b: 1 } },
      { part: 'test', images: 2 },
    ]);
  });

  it('refuses what it does not know as a usage error', async () => {
    expect((await check()).code).toBe(2);
    expect((await check('--data-dir', at('set'), '--max-pixels', '0')).code).toBe(2);
  });

  it('is ended by Ctrl-C with 130 and one sentence', async () => {
    const create = { width: 3000, height: 3000, channels: 3, background: { r: 0, g: 0, b: 0 } } as const;
    const noise = { type: 'gaussian', mean: 128, sigma: 60 } as const;
    const file = await save(at(), 'large/train/a/0.jpg', sharp({ create: { ...create, noise } }));
    await save(at(), 'large/test/a/0.jpg', gradient(20, 20));
    // Ten seconds and more.
    for (let i = 1; i < 400; i++) copyFileSync(file, at(`large/train/a/${i}.jpg`));
    const running = start(['data', 'check', '--dataset', 'folder', '--data-dir', at('large')]);
    await once(running.process.stderr, 'data');
    running.process.kill('SIGINT');
    const { code, stdout, stderr } = await running.ended;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    expect(stderr).toMatch(
      /^1 of 401 images decoded\n(\d+ of 401 images decoded\n)*layerwise: the check was interrupted; the same command begins anew\n$/,
    );
  });
});
