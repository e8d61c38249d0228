// Kept views and batches in parts, by flags.
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { train } from '../../lib/training/index.js';
import { smallRecipe } from '../training/runs.js';
import { jsonLines, layerwise, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const tiny = (out: string, ...more: string[]): string[] => [
  'train',
  ...TINY,
  '--layers',
  '3',
  '--out',
  at(out),
  ...more,
];

it.each([
  ['host', 'host=0.5'],
  ['disk', 'host=0,disk=0.5'],
])('--views keeps features in the %s and tells each view', async (tier, budget) => {
  const { code, stdout, stderr } = await layerwise(tiny(tier, '--views', '2', '--cache', budget, '--json'));
  expect([code, stderr]).toEqual([0, '']);
  const views = jsonLines(stdout).filter(({ type }) => type === 'view');
  // 64 images: layer 2 reads 2 x 16 x 16 floats of each, layer 3 4 x 8 x 8.
  const view = { type: 'view', views: 2, tier };
  expect(views).toEqual([
    { ...view, layer: 1, view: 0, bytes: 131_072 },
    { ...view, layer: 1, view: 1, bytes: 131_072 },
    { ...view, layer: 2, view: 0, bytes: 65_536 },
    { ...view, layer: 2, view: 1, bytes: 65_536 },
  ]);
  const { recipe } = JSON.parse(readFileSync(at(tier, 'config.json'), 'utf8'));
  expect(recipe.augmentation.views).toBe(2);
  expect(existsSync(at(tier, 'features'))).toBe(false);
});

it("says for people where the features are, and that the recipe is not the paper's", async () => {
  const { code, stdout } = await layerwise(tiny('people', '--views', '1'));
  expect(code).toBe(0);
  expect(stdout).toMatch(/layer 2: features of view 1 of 1 kept, 128 KiB \(memory\)/);
  expect(stdout).toMatch(/note +1 augmented view of each image, the same for all layers/);
});

it('refuses more views than fit, before the run directory is made', async () => {
  const { code, stderr } = await layerwise(tiny('refused', '--views', '500', '--cache', 'host=0.001'));
  expect(stderr).toMatch(/^layerwise: the features that layer 2 reads need .* for each view of 64 images.*--views \d+/);
  expect(code).toBe(2);
  expect(existsSync(at('refused'))).toBe(false);
});

it.each([
  [['--views', '0'], /--views.*Expected an integer of at least 1, got "0"/s],
  [['--cache', 'host'], /--cache.*Expected none, or GiB such as device=8,host=8,disk=8, got "host"/s],
  [['--micro-batch', '0'], /--micro-batch.*Expected an integer of at least 1, got "0"/s],
])('refuses %o', async (flags, message) => {
  const { code, stderr } = await layerwise(tiny('wrong', ...flags));
  expect(stderr).toMatch(message);
  expect(code).toBe(2);
});

it('--micro-batch notes what it does to batch norm', async () => {
  const { code, stdout } = await layerwise(tiny('parts', '--micro-batch', '10'));
  expect(code).toBe(0);
  expect(stdout).toContain('Batches of 32 images in parts of 10: batch norm takes its statistics of each part');
});

describe('with --resume', () => {
  /** A run with kept views that was stopped after the first step of its second layer. */
  async function stoppedRun(name: string): Promise<string> {
    const controller = new AbortController();
    const run = train({
      recipe: smallRecipe({ model: { layers: 3 }, augmentation: { views: 2 } }),
      out: at(name),
      signal: controller.signal,
      onEvent: (event) => event.type === 'step' && event.layer === 1 && controller.abort(),
    });
    await expect(run).rejects.toMatchObject({ code: 'INTERRUPTED' });
    return at(name);
  }

  it.each([
    ['none', 0],
    ['host=0.5', 4],
  ])('--cache %s decides where the run that goes on keeps its features', async (cache, views) => {
    const run = await stoppedRun(`resumed ${cache}`);
    const { code, stdout } = await layerwise(['train', '--resume', run, '--cache', cache, '--json']);
    const events = jsonLines(stdout);
    expect([code, events[0]]).toEqual([0, expect.objectContaining({ resumedFrom: { layer: 1, epoch: 0, step: 1 } })]);
    expect(events.filter(({ type }) => type === 'view').length).toBe(views);
  });

  it('--views and other flags of a recipe are refused', async () => {
    const run = await stoppedRun('refused with resume');
    const { code, stderr } = await layerwise(['train', '--resume', run, '--views', '3']);
    expect([code, stderr]).toEqual([2, expect.stringContaining('--views cannot be given with --resume')]);
  });
});
