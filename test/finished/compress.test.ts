import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { compressRun, TrainedRun } from '../../lib/finished/index.js';
import { overrideRecipe } from '../../lib/recipe/index.js';
import { train } from '../../lib/training/index.js';
import { smallRecipe, temporaryFolder } from '../training/runs.js';

const folder = temporaryFolder();
const recipe = smallRecipe(
  { model: { width: 6, auxWidth: 3, layers: 2, downsampleAt: [] }, dataset: { trainLimit: 100, testLimit: 50 } },
  'simcnn-k2',
);
const full = folder('full');
beforeAll(() => train({ recipe, out: full }));

const tensorsOf = async (run: string, part: 'blocks' | 'heads', layer: number): Promise<Map<string, number[]>> => {
  using trained = await TrainedRun.open(run, { device: 'cpu' });
  return new Map(
    [...trained.network[part][layer]!.stateDict()].map(([name, value]) => [
      name,
      Array.from(value.toTypedArray(), Number),
    ]),
  );
};

describe('compressRun', () => {
  it('keeps the most important filters of the last layer, and leaves a finished run', async () => {
    const out = folder('compressed');
    const { kept, importance, before, after } = await compressRun({
      runDirectory: full,
      filters: 4,
      out,
      device: 'cpu',
    });
    expect(importance.length).toBe(6);
    const removed = [...importance.keys()].filter((filter) => !kept.includes(filter));
    expect(kept.length).toBe(4);
    expect(Math.min(...kept.map((filter) => importance[filter]!))).toBeGreaterThanOrEqual(
      Math.max(...removed.map((filter) => importance[filter]!)),
    );
    const [was, is] = [await tensorsOf(full, 'blocks', 1), await tensorsOf(out, 'blocks', 1)];
    const size = 6 * 9;
    expect(is.get('conv.weight')).toEqual(
      kept.flatMap((filter) => was.get('conv.weight')!.slice(filter * size, (filter + 1) * size)),
    );
    expect(is.get('bn.running_var')).toEqual(kept.map((filter) => was.get('bn.running_var')![filter]));
    expect(await tensorsOf(out, 'blocks', 0)).toEqual(await tensorsOf(full, 'blocks', 0));
    expect(await tensorsOf(out, 'heads', 0)).toEqual(await tensorsOf(full, 'heads', 0));

    const result = JSON.parse(readFileSync(join(out, 'result.json'), 'utf8'));
    const source = JSON.parse(readFileSync(join(full, 'result.json'), 'utf8'));
    expect(result.layers[0]).toEqual(source.layers[0]);
    expect(result.layers[1].testTop1).toBe(after.top1);
    expect(source.layers[1].testTop1).toBeCloseTo(before.top1, 10);
    expect(result.notes.at(-1)).toMatch(/Layer 2: 4 of 6 filters kept/);
    expect(existsSync(join(out, 'report.html'))).toBe(true);
  });

  it('changes nothing when all filters are kept', async () => {
    const out = folder('all');
    const { before, after, kept } = await compressRun({ runDirectory: full, filters: 6, out, device: 'cpu' });
    expect(kept).toEqual([0, 1, 2, 3, 4, 5]);
    expect(after).toEqual(before);
    expect(readFileSync(join(out, 'model.safetensors'))).toEqual(readFileSync(join(full, 'model.safetensors')));
  });

  it('can be gone on with: its head fine-tuned, and a layer grown on it', async () => {
    const compressed = folder('to-tune');
    await compressRun({ runDirectory: full, filters: 4, out: compressed, device: 'cpu' });
    const narrow = overrideRecipe(recipe, { model: { widths: [6, 4] } });
    const tuned = folder('tuned');
    await train({ recipe: narrow, out: tuned, startFrom: { runDirectory: compressed, head: 'taken' } });
    expect(await tensorsOf(tuned, 'blocks', 1)).toEqual(await tensorsOf(compressed, 'blocks', 1));
    const deeper = overrideRecipe(recipe, { model: { layers: 3, widths: [6, 4, 6] } });
    const { result } = await train({ recipe: deeper, out: folder('deeper'), startFrom: { runDirectory: tuned } });
    expect(result.layers.map(({ layer }) => layer)).toEqual([0, 1, 2]);
  });

  it.each([0, 7, 2.5])('refuses %j filters of 6', async (filters) => {
    const out = folder('refused');
    await expect(compressRun({ runDirectory: full, filters, out, device: 'cpu' })).rejects.toThrow(
      `filters: expected 1 to 6, the filters of the last layer, got ${filters}`,
    );
    expect(existsSync(out)).toBe(false);
  });

  it('refuses another network than SimCNN', async () => {
    const vgg = folder('vgg');
    await train({ recipe: smallRecipe({ model: { layers: 1 } }), out: vgg });
    await expect(compressRun({ runDirectory: vgg, filters: 1, out: folder('refused'), device: 'cpu' })).rejects.toThrow(
      'model.name: expected simcnn for a run that is compressed, got vgg11',
    );
  });
});
