// `evaluate --early-exit`, and what `predict` makes of it.
import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { plain, save } from '../data/images.js';
import { jsonLines, layerwise, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const run = at('run');
let image: string;

beforeAll(async () => {
  expect(await layerwise(['train', ...TINY, '--layers', '3', '--out', run])).toMatchObject({ code: 0 });
  image = await save(at(), 'image.png', plain({ colour: { r: 20, g: 200, b: 90 } }).png());
});

const recordOf = (directory: string) => JSON.parse(readFileSync(join(directory, 'early-exit.json'), 'utf8'));

describe('evaluate --early-exit', () => {
  it('prints a line a threshold, and leaves record and report in the run directory', async () => {
    const { code, stdout, stderr } = await layerwise([
      'evaluate',
      '--run',
      run,
      '--early-exit',
      '--exit-layers',
      '1,2',
    ]);
    expect([code, stderr]).toEqual([0, '']);
    const record = recordOf(run);
    expect(record).toMatchObject({ layers: [0, 1, 2], images: 40, chosenOn: { part: 'train', images: 40 } });
    expect(stdout).toMatch(/^ *exits {2,}layers 1, 2, 3$/m);
    for (const { threshold, top1, meanLayers } of [...record.points]) {
      const cells = [String(threshold), top1.toFixed(2), meanLayers.toFixed(2)].map((cell) =>
        cell.replaceAll('.', '\\.'),
      );
      expect(stdout).toMatch(new RegExp(`^ *${cells.join(' +')} +([\\d.]+|-) +[\\d.]+$`, 'm'));
    }
    expect(stdout).toMatch(new RegExp(`^ *none +${record.whole.top1.toFixed(2)} +3\\.00 `, 'm'));
    expect(stdout).toContain(`\nThreshold ${record.threshold}, the smallest that loses at most 0.5 points`);
    expect(readFileSync(join(run, 'report.html'), 'utf8')).toContain('<h2 id="early-exit">');
  });

  it('gives the record as JSON, with layers and tolerance as they are asked for', async () => {
    const flags = ['--early-exit', '--json', '--tolerance', '100', '--test-limit', '10'];
    const { code, stdout } = await layerwise(['evaluate', '--run', run, ...flags]);
    expect(code).toBe(0);
    const [line] = jsonLines(stdout);
    expect(line).toEqual({ run, ...recordOf(run) });
    expect(line).toMatchObject({ tolerance: 100, images: 10, threshold: 0 });
  });

  it.each([
    [['--early-exit', '--layer', '1'], '--layer cannot be given with --early-exit'],
    [['--early-exit', '--per-class'], '--per-class cannot be given with --early-exit'],
    [['--early-exit', '--dataset', 'shapes'], '--dataset cannot be given with --early-exit'],
    [['--exit-layers', '1'], '--exit-layers needs --early-exit'],
    [['--tolerance', '1'], '--tolerance needs --early-exit'],
    [['--early-exit', '--exit-layers', '2,9'], '--exit-layers: expected layers from 1 to '],
    [['--early-exit', '--exit-layers', '2,1'], 'Expected layers that rise, from 1, such as 2,4, got "2,1"'],
    [['--early-exit', '--exit-layers', '0,1'], 'Expected layers that rise, from 1'],
    [['--early-exit', '--tolerance', '200'], 'tolerance: expected points of top-1 from 0 to 100, got 200'],
  ])('%j is a mistake of usage', async (flags, message) => {
    const { code, stdout, stderr } = await layerwise(['evaluate', '--run', run, ...flags]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(message);
  });
});

describe('predict --early-exit', () => {
  it('says which layer answered: at 0 the first, at 1 the last', async () => {
    for (const [threshold, layer] of [
      ['0', 0],
      ['1', 2],
    ] as const) {
      const { code, stdout } = await layerwise(['predict', '--run', run, '--early-exit', threshold, '--json', image]);
      expect(code).toBe(0);
      expect(jsonLines(stdout)[0]).toMatchObject({ image, layer });
    }
    const { stdout } = await layerwise(['predict', '--run', run, '--early-exit', '0', image]);
    expect(stdout).toMatch(/image\.png \(layer 1\)\n/);
  });

  it('takes what was chosen, also of an exported file, and refuses it where nothing was', async () => {
    expect(await layerwise(['evaluate', '--run', run, '--early-exit', '--tolerance', '100'])).toMatchObject({
      code: 0,
    });
    expect(recordOf(run).threshold).toBe(0);
    const file = at('all.safetensors');
    expect(await layerwise(['export', '--run', run, '--to', file, '--auxiliary-heads'])).toMatchObject({ code: 0 });
    for (const from of [run, file]) {
      const { code, stdout } = await layerwise(['predict', '--run', from, '--early-exit', 'chosen', '--json', image]);
      expect([code, jsonLines(stdout)[0]!.layer]).toEqual([0, recordOf(run).layers[0]]);
    }
    copyFileSync(file, at('copy.safetensors'));
    const evaluated = await layerwise(['evaluate', '--run', file, '--early-exit']);
    expect(evaluated).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(file).equals(readFileSync(at('copy.safetensors')))).toBe(true);

    const last = at('last.safetensors');
    expect(await layerwise(['export', '--run', run, '--to', last])).toMatchObject({ code: 0 });
    const refused = await layerwise(['predict', '--run', last, '--early-exit', 'chosen', image]);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('whose threshold has been chosen')]);
    const headless = await layerwise(['predict', '--run', last, '--early-exit', '0.5', image]);
    expect([headless.code, headless.stderr]).toEqual([1, expect.stringContaining('exported without auxiliary heads')]);
    const odd = await layerwise(['predict', '--run', run, '--early-exit', '1.5', image]);
    expect([odd.code, odd.stderr]).toEqual([2, expect.stringContaining('Expected a number from 0 to 1, or chosen')]);
    expect(existsSync(at('early-exit.json'))).toBe(false);
  });
});
