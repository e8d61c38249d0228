import { describe, expect, it } from 'vitest';
import { ReadableImages } from '../../lib/data/bad-images.js';
import { DataError, type DataErrorCode } from '../../lib/data/errors.js';
import type { BadImage, OnBadImage } from '../../lib/data/labelled-images.js';

const COUNT = 200;

/** Three classes in turn; image i is file i. */
function part(onBadImage: OnBadImage, reported: BadImage[] = []): ReadableImages {
  return new ReadableImages({
    root: '/set',
    folders: ['a', 'b', 'c'],
    names: Array.from({ length: COUNT }, (_, i) => `${i}.jpg`),
    labels: Uint8Array.from({ length: COUNT }, (_, i) => i % 3),
    count: COUNT,
    onBadImage,
    reportBadImage: (bad) => reported.push(bad),
  });
}

const decoder =
  (bad: readonly number[], code: DataErrorCode = 'DATA_CORRUPT') =>
  async (path: string): Promise<string> => {
    if (bad.some((index) => path.endsWith(`/${index}.jpg`))) throw new DataError(code, `${path} is bad`);
    return path;
  };

describe('a bad image', () => {
  it('fails by default with what can be done', async () => {
    await expect(part('fail').read(4, decoder([4]))).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message:
        '/set/b/4.jpg is bad; put a good file in its place and go on (--resume DIR --accept-changed-data), or skip such files (--on-bad-image skip)',
    });
  });

  it('is stood in for by the next good one of its class, beginning again after the last', async () => {
    const images = part('skip');
    const decode = decoder([4, 199]);
    expect(await images.read(3, decode)).toBe('/set/a/3.jpg');
    expect(await images.read(4, decode)).toBe('/set/b/7.jpg');
    expect(await images.read(199, decode)).toBe('/set/b/1.jpg');
    expect(await part('skip').read(4, decoder([4, 7]))).toBe('/set/b/10.jpg');
  });

  it('gives the same whatever was read before', async () => {
    const decode = decoder([0, 3]);
    const readAll = async (order: readonly number[]): Promise<string[]> => {
      const images = part('skip');
      const read: string[] = [];
      for (const index of order) read[index] = await images.read(index, decode);
      return read;
    };
    const order = Array.from({ length: COUNT }, (_, i) => i);
    expect(await readAll([...order].reverse())).toEqual(await readAll(order));
    // A view may show a part that can be decoded: then it is shown, also after another view could not.
    const images = part('skip');
    expect(await images.read(0, decoder([0]))).toBe('/set/a/3.jpg');
    expect(await images.read(0, decoder([]))).toBe('/set/a/0.jpg');
  });

  it('is reported once', async () => {
    const reported: BadImage[] = [];
    const images = part('skip', reported);
    for (let epoch = 0; epoch < 3; epoch++) for (const index of [1, 4, 7]) await images.read(index, decoder([4, 7]));
    expect(reported).toEqual(['4', '7'].map((i) => ({ path: `/set/b/${i}.jpg`, reason: `/set/b/${i}.jpg is bad` })));
  });

  it('may be one in a hundred, and no more', async () => {
    const images = part('skip');
    await images.read(0, decoder([0, 1, 2]));
    await images.read(1, decoder([0, 1, 2]));
    await expect(images.read(2, decoder([0, 1, 2]))).rejects.toMatchObject({
      code: 'DATA_CORRUPT',
      message: expect.stringMatching(
        /^3 of the 200 images in \/set cannot be used, and at most 1 % may be skipped; the last: \/set\/c\/2\.jpg is bad/,
      ),
    });
  });

  it('is none where the system does not give a file: that fails with skip too', async () => {
    for (const code of ['DATA_NOT_FOUND', 'DATA_UNREADABLE', 'DATA_CANCELLED'] as const) {
      await expect(part('skip').read(4, decoder([4], code))).rejects.toMatchObject({
        code,
        message: '/set/b/4.jpg is bad',
      });
    }
    await expect(part('skip').read(4, decoder([4], 'DATA_UNSUPPORTED'))).resolves.toBe('/set/b/7.jpg');
  });

  it('fails where all of its class are bad', async () => {
    const images = new ReadableImages({
      ...{ root: '/set', folders: ['a', 'b'], onBadImage: 'skip', count: 101 },
      names: Array.from({ length: 101 }, (_, i) => `${i}.jpg`),
      labels: Uint8Array.from({ length: 101 }, (_, i) => (i === 50 ? 1 : 0)),
    });
    await expect(images.read(50, decoder([50]))).rejects.toThrow('no image of the class of /set/b/50.jpg can be used');
  });
});
