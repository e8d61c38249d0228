// Growing, probing and compressing a finished run from the command line.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { jsonLines, layerwise, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const one = at('one');
const config = at('config.json');

beforeAll(async () => {
  writeFileSync(config, JSON.stringify({ model: { downsampleAt: [] } }));
  const { code, stderr } = await layerwise([
    ...['train', '--preset', 'simcnn-k2', '--dataset', 'shapes', '--config', config, '--layers', '1', '--width', '4'],
    ...['--aux-width', '3', '--epochs', '1', '--batch-size', '16', '--train-limit', '64', '--test-limit', '20'],
    ...['--device', 'cpu', '--precision', 'fp32', '--out', one],
  ]);
  expect([code, stderr]).toEqual([0, '']);
});

const layersOf = (run: string): { layer: number }[] =>
  JSON.parse(readFileSync(join(run, 'result.json'), 'utf8')).layers;

describe('a run that starts from another', () => {
  it("has that run's recipe, but for what the flags change", async () => {
    const out = at('two');
    expect((await layerwise(['train', '--start-from', one, '--layers', '2', '--out', out])).code).toBe(0);
    const [{ recipe: before }, { recipe, startedFrom }] = [one, out].map((run) =>
      JSON.parse(readFileSync(join(run, 'config.json'), 'utf8')),
    );
    expect(recipe).toEqual({ ...before, model: { ...before.model, layers: 2 } });
    expect(startedFrom).toEqual({ runDirectory: one, layers: 1, head: 'new' });
    expect(layersOf(out).length).toBe(2);
    expect(layersOf(out)[0]).toEqual(layersOf(one)[0]);
  });

  it('is compressed, and its head fine-tuned', async () => {
    const [small, tuned] = [at('small'), at('tuned')];
    const compressed = await layerwise(['compress', '--run', one, '--filters', '2', '--out', small, '--device', 'cpu']);
    expect([compressed.code, compressed.stderr]).toEqual([0, '']);
    expect(compressed.stdout).toMatch(/2 of 4 filters; top-1 [\d.]+ % before, [\d.]+ % after/);
    expect((await layerwise(['train', '--start-from', small, '--keep-head', '--out', tuned])).code).toBe(0);
    expect(JSON.parse(readFileSync(join(tuned, 'config.json'), 'utf8')).recipe.model.widths).toEqual([2]);
  });

  it.each([
    [['--start-layers', '1'], /^layerwise: --start-layers needs --start-from DIR/],
    [['--keep-head'], /^layerwise: --keep-head needs --start-from DIR/],
    [['--start-from', one, '--start-layers', '2'], /expected 1 to 1 of its 1 layers for a network of 1, got 2/],
    [['--start-from', at('nowhere')], /nowhere: expected a run directory, but there is no config.json in it/],
  ])('is refused: train %j', async (flags, message) => {
    const { code, stderr } = await layerwise(['train', ...flags, '--out', at('refused')]);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(message);
  });
});

describe('probe', () => {
  it('prints how well each layer is read, as a table and as JSON', async () => {
    const text = await layerwise(['probe', '--run', one, '--train-limit', '100', '--device', 'cpu']);
    expect([text.code, text.stderr]).toEqual([0, '']);
    expect(text.stdout).toMatch(/averaged to 2x2: shapes, 100 training and 20 test images\n/);
    const json = await layerwise(['probe', '--run', one, '--train-limit', '100', '--device', 'cpu', '--json']);
    const [line] = jsonLines(json.stdout) as { layer: number; test: { top1: number }; converged: boolean }[];
    expect(line).toMatchObject({ run: one, dataset: 'shapes', layer: 0, converged: true });
    expect(text.stdout).toContain(line!.test.top1.toFixed(2));
  });

  it('refuses a layer that there is not', async () => {
    const { code, stderr } = await layerwise(['probe', '--run', one, '--layer', '2']);
    expect([code, stderr]).toEqual([2, 'layerwise: --layer: expected a layer from 1 to 1, got 2\n']);
  });
});
