// How a person asks for a network and a schedule.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { jsonLines, layerwise, temporaryFolder } from './cli.js';

const at = temporaryFolder();

/** A run of one step a layer. */
const SHORT = [
  ...['--dataset', 'shapes', '--width', '2', '--epochs', '1', '--batch-size', '16', '--train-limit', '16'],
  ...['--test-limit', '8', '--device', 'cpu', '--precision', 'fp32'],
];

const readJson = (file: string) => JSON.parse(readFileSync(file, 'utf8'));

function config(value: object): string {
  const text = JSON.stringify(value);
  const file = at(`${text.replaceAll(/\W+/g, '-')}.json`);
  writeFileSync(file, text);
  return file;
}

describe.concurrent('train makes the network that was asked for, all of its layers unless told', () => {
  it.each([
    [['--model', 'vgg16'], 'vgg16-layerwise', { name: 'vgg16', layers: 13, dropout: 0 }, 'layerwise', 13],
    [['--preset', 'vgg19-layerwise'], 'vgg19-layerwise', { name: 'vgg19', layers: 16 }, 'layerwise', 16],
    [
      ['--config', config({ model: { name: 'vgg13' } })],
      'vgg13-layerwise',
      { name: 'vgg13', layers: 10 },
      'layerwise',
      10,
    ],
    [
      ['--config', config({ model: { name: 'vgg13', layers: 2 } })],
      'vgg13-layerwise',
      { name: 'vgg13', layers: 2 },
      'layerwise',
      2,
    ],
    [
      ['--config', config({ model: { name: 'vgg13' } }), '--model', 'vgg16', '--layers', '3'],
      'vgg16-layerwise',
      { name: 'vgg16', layers: 3 },
      'layerwise',
      3,
    ],
    [
      ['--preset', 'vgg11-end-to-end', '--model', 'vgg16'],
      'vgg16-end-to-end',
      { name: 'vgg16', layers: 13, dropout: 0.5 },
      'end-to-end',
      1,
    ],
    [['--schedule', 'end-to-end'], 'vgg11-end-to-end', { name: 'vgg11', layers: 8, dropout: 0.5 }, 'end-to-end', 1],
    [
      ['--config', config({ training: { schedule: 'end-to-end' }, model: { dropout: 0.25 } })],
      'vgg11-end-to-end',
      { name: 'vgg11', layers: 8, dropout: 0.25 },
      'end-to-end',
      1,
    ],
    [
      ['--preset', 'simcnn-k2', '--aux-width', '2', '--schedule', 'end-to-end'],
      'simcnn-k2',
      { name: 'simcnn', k: 2, layers: 4 },
      'end-to-end',
      1,
    ],
  ])('%j', async (flags, preset, model, schedule, results) => {
    const out = at(
      flags
        .join(' ')
        .replaceAll(/[^\w]+/g, '-')
        .slice(-80),
    );
    expect(await layerwise(['train', ...SHORT, ...flags, '--out', out])).toMatchObject({ code: 0, stderr: '' });
    const { recipe } = readJson(`${out}/config.json`);
    expect(recipe).toMatchObject({ preset, model, training: { schedule } });
    const { layers } = readJson(`${out}/result.json`);
    expect(layers).toHaveLength(results);
    const evaluated = await layerwise(['evaluate', '--run', out, '--json']);
    expect(evaluated.code).toBe(0);
    expect(jsonLines(evaluated.stdout)[0]).toMatchObject({
      layer: recipe.model.layers - 1,
      top1: layers.at(-1).testTop1,
    });
  });
});

describe.concurrent('what does not go together is refused before anything is made', () => {
  it.each([
    [['--model', 'vgg12'], 'Allowed choices are vgg11, vgg13, vgg16, vgg19.'],
    [['--schedule', 'both'], 'Allowed choices are layerwise, simultaneous, end-to-end.'],
    [
      ['--preset', 'simcnn-k1', '--model', 'vgg16'],
      'layerwise: model.name: expected simcnn for the preset simcnn-k1, got "vgg16"\n',
    ],
    [
      ['--config', config({ model: { name: 'resnet' } })],
      'model.name: expected one of vgg11, vgg13, vgg16, vgg19 for the preset vgg11-layerwise, got "resnet"',
    ],
    [
      ['--config', config({ training: { schedule: 'both' } })],
      'training.schedule: expected one of layerwise, simultaneous, end-to-end, got "both"',
    ],
    [['--model', 'vgg16', '--layers', '14'], 'vgg16: expected an integer from 1 to 13 for layers, got 14'],
  ])('%j', async (flags, message) => {
    // Each its own: a command makes it, and takes it away again.
    const out = at(`no-${flags.join('-').replaceAll(/\W+/g, '-')}`);
    const { code, stdout, stderr } = await layerwise(['train', ...SHORT, ...flags, '--out', out]);
    expect(stderr).toContain(message);
    expect([code, stdout]).toEqual([2, '']);
    expect(existsSync(out)).toBe(false);
  });

  it.each(['--model', '--schedule'])('%s with --resume', async (flag) => {
    const value = flag === '--model' ? 'vgg16' : 'layerwise';
    const { code, stderr } = await layerwise(['train', '--resume', at('no'), flag, value]);
    expect(code).toBe(2);
    expect(stderr).toContain(`${flag} cannot be given with --resume`);
  });
});
