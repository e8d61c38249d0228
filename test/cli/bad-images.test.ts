// Image files that cannot be used, and the flags that say what is done about them.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { gradient, save } from '../data/images.js';
import { layerwise, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const bad = at('set/train/a/30.jpg');

beforeAll(async () => {
  for (const part of ['train', 'val']) {
    for (let i = 10; i < 60; i++) {
      await save(at(), `set/${part}/a/${i}.jpg`, gradient(36, 40, { blue: i }).jpeg());
      await save(at(), `set/${part}/b/${i}.jpg`, gradient(36, 40, { blue: i }).negate().jpeg());
    }
  }
  writeFileSync(bad, '<html>404</html>');
});

const SET = ['--dataset', 'imagenet', '--data-dir', at('set'), '--config', at('config.json')];
// All of the training images are seen, each in one epoch.
const FLAGS = [...TINY, '--train-limit', '100', '--epochs', '1', '--layers', '1'];
beforeAll(() => writeFileSync(at('config.json'), '{"dataset": {"imageSize": 32, "testResize": null}}'));

const resultOf = (run: string): { layers: { testTop1: number; trainLoss: number }[]; notes: string[] } =>
  JSON.parse(readFileSync(join(run, 'result.json'), 'utf8'));

describe('--on-bad-image', () => {
  it('ends the run by default, which then goes on with skip as if it had begun so', async () => {
    const failed = await layerwise(['train', ...SET, ...FLAGS, '--out', at('failed')]);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toBe(
      `layerwise: ${bad} is an HTML page: expected a JPEG or PNG image; put a good file in its place and go on (--resume DIR --accept-changed-data), ` +
        'or skip such files (--on-bad-image skip)\n',
    );
    expect(await layerwise(['train', '--resume', at('failed'), '--on-bad-image', 'skip'])).toMatchObject({ code: 0 });
    expect(await layerwise(['train', ...SET, ...FLAGS, '--out', at('skip'), '--on-bad-image', 'skip'])).toMatchObject({
      code: 0,
    });
    for (const run of [at('failed'), at('skip')]) {
      const listed = readFileSync(join(run, 'bad-images.jsonl'), 'utf8');
      expect(listed).toBe(
        `${JSON.stringify({ path: bad, reason: `${bad} is an HTML page: expected a JPEG or PNG image` })}\n`,
      );
      expect(resultOf(run).notes).toContain('1 image file could not be used, and others stood in: bad-images.jsonl');
    }
    const model = (run: string) => readFileSync(join(run, 'model.safetensors'));
    expect(model(at('failed')).equals(model(at('skip')))).toBe(true);
    expect(await layerwise(['evaluate', '--run', at('skip'), '--device', 'cpu'])).toMatchObject({ code: 0 });
  });

  it('is refused as a usage error where it is none, or where there are no image files', async () => {
    expect((await layerwise(['train', ...FLAGS, '--on-bad-image', 'perhaps', '--out', at('x')])).code).toBe(2);
    const shapes = await layerwise(['train', ...FLAGS, '--on-bad-image', 'skip', '--out', at('x')]);
    expect(shapes).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("shapes has no image files: expected onBadImage 'fail'"),
    });
    expect(existsSync(at('x'))).toBe(false);
  });
});

it('--max-pixels refuses larger images by name, and is kept in the recipe', async () => {
  const { code, stderr } = await layerwise(['train', ...SET, ...FLAGS, '--max-pixels', '1439', '--out', at('pixels')]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/\.jpg has 36 x 40 pixels \(1440 pixels\): expected at most 1439 pixels/);
  const config = JSON.parse(readFileSync(at('pixels/config.json'), 'utf8')) as { recipe: { dataset: object } };
  expect(config.recipe.dataset).toMatchObject({ maxPixels: 1439, onBadImage: 'fail' });
});
