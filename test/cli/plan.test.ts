// `layerwise plan`: what `train` would do with the same flags.
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { libtorchAtLeast } from '../support/fixtures.js';
import { jsonLines, layerwise, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();

describe.skipIf(!libtorchAtLeast('2.4'))('layerwise plan', () => {
  it('prints a row a layer, totals, and an estimate of the time', async () => {
    const { code, stdout, stderr } = await layerwise(['plan', ...TINY]);
    expect([code, stderr]).toEqual([0, '']);
    // Layer 1 of width 2: 3 x 3 x 3 x 2 weights, 2 biases, 4 of batch norm; 32 x 32 x 2 positions of 27.
    expect(stdout).toMatch(/^ +1 +2 x 32 x 32 +60 .* 55\.3 k .* \d+:\d\d$/m);
    expect(stdout).toMatch(/^ +2 +4 x 16 x 16 /m);
    expect(stdout).toMatch(/^\S+ parameters with all heads, .* multiply-adds an image in the finished network$/m);
    expect(stdout).toMatch(
      /^8 steps of about \d+ MFLOP in all, up to .* of memory at layer \d; on disk: checkpoints up to /m,
    );
    expect(stdout).toMatch(/^about \d+:\d\d in all: an estimate/m);
  });

  it('--json prints one object, --no-times measures nothing', async () => {
    const { code, stdout } = await layerwise([
      'plan',
      ...TINY,
      '--json',
      '--no-times',
      '--views',
      '2',
      '--cache',
      'host=1',
    ]);
    expect(code).toBe(0);
    const [plan, ...more] = jsonLines(stdout);
    expect(more).toEqual([]);
    expect(plan).toMatchObject({ times: null, device: 'cpu', precision: 'fp32', steps: 8 });
    // As `--views` of train tells it: 64 images of 2 x 16 x 16 floats, twice.
    expect((plan!.layers as { features: unknown }[]).map(({ features }) => features)).toEqual([
      null,
      { bytes: 2 * 131_072, tiers: ['host', 'host'] },
    ]);
  });

  it('refuses what train refuses, with the same words, and neither leaves anything', async () => {
    const flags = [...TINY, '--layers', '8', '--train-limit', '9', '--batch-size', '8'];
    const planned = await layerwise(['plan', ...flags]);
    const trained = await layerwise(['train', ...flags, '--out', at('refused')]);
    expect(planned.stderr).toMatch(
      /^layerwise: training\.batchSize: batch norm at layer 7 .* take --batch-size 7 or 9\n$/,
    );
    expect(trained.stderr).toBe(planned.stderr);
    expect([planned.code, trained.code]).toEqual([2, 2]);
    expect(existsSync(at('refused'))).toBe(false);
  });

  it('shows what does not fit into memory before it is refused', async () => {
    const { code, stdout, stderr } = await layerwise([
      'plan',
      '--width',
      '4096',
      '--layers',
      '2',
      '--batch-size',
      '8000',
    ]);
    expect(stdout).toMatch(/^ +1 +4096 x 32 x 32 /m);
    expect(stderr).toMatch(
      /^layerwise: training\.batchSize: layer \d with 8000 images at once needs about \d+ GiB of memory, /,
    );
    expect(code).toBe(2);
  });

  it('takes no run to go on with', async () => {
    const { code, stderr } = await layerwise(['plan', '--resume', at('none')]);
    expect(stderr).toMatch(/unknown option '--resume'/);
    expect(code).toBe(2);
  });
});

describe.skipIf(!libtorchAtLeast('2.4'))('layerwise train', () => {
  it('says its plan when it starts, for people and in JSON', async () => {
    const people = await layerwise(['train', ...TINY, '--out', at('people')]);
    expect(people.stdout).toMatch(
      /^plan {10}\S+ parameters with all heads, .*\nplan {10}8 steps of about \d+ MFLOP in all, up to /m,
    );
    const { stdout } = await layerwise(['train', ...TINY, '--out', at('json'), '--json']);
    const start = jsonLines(stdout).find(({ type }) => type === 'start')!;
    expect(start.plan).toMatchObject({ steps: 8, layers: [{ layer: 0 }, { layer: 1 }] });
  });
});
