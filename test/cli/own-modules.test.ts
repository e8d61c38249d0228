// A network and data of one's own on the command line: modules.
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { gradient, save } from '../data/images.js';
import { layerwise, start, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const MODULES = join(import.meta.dirname, '..', 'fixtures', 'modules');
const own = join(MODULES, 'own.mjs');
const encoded = join(MODULES, 'encoded.mjs');
const SHORT = ['--epochs', '2', '--batch-size', '8', '--device', 'cpu', '--precision', 'fp32'];
const onColours = [
  '--network',
  own,
  '--data',
  encoded,
  '--image-size',
  '8',
  '--network-options',
  '{"width": 3}',
  ...SHORT,
];

const bytesOf = (run: string): Buffer => readFileSync(join(at(run), 'model.safetensors'));

describe('modules on the command line', () => {
  let image: string;
  beforeAll(async () => {
    image = await save(at('images'), 'red.png', gradient(20, 20, { step: 10 }));
    const { code, stdout, stderr } = await layerwise(['train', ...onColours, '--out', at('colours')]);
    expect([stderr, code]).toEqual(['', 0]);
    expect(stdout).toContain(`network       by the module ${own}`);
    expect(stdout).toContain('options {"width":3}');
  });

  it('train, stop and go on to the same bits', async () => {
    const stopped = start(['train', ...onColours, '--out', at('stopped'), '--json']);
    await stopped.line(({ type }) => type === 'epoch');
    stopped.process.kill('SIGINT');
    expect((await stopped.ended).code).toBe(130);
    const resume = ['train', '--resume', at('stopped')];
    const refused = await layerwise(resume);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('which has not been run')]);
    const modules = ['--network', own, '--data', encoded];
    expect((await layerwise([...resume, ...modules])).code).toBe(0);
    expect(bytesOf('stopped')).toEqual(bytesOf('colours'));
  });

  it('are run where a run is opened only if they are given or trusted', async () => {
    const predict = ['predict', '--run', at('colours'), image];
    const refused = await layerwise(predict);
    expect([refused.code, refused.stdout]).toEqual([1, '']);
    expect(refused.stderr).toContain(
      `its network is built by the module ${own} (as the run was started with), which has not been run`,
    );
    for (const flags of [['--network', own], ['--trust-module']]) {
      const { code, stdout, stderr } = await layerwise([...predict, ...flags]);
      expect([code, stderr]).toEqual([0, '']);
      expect(stdout).toMatch(/red\.png\n +\d+\.\d %/);
    }
    const evaluate = ['evaluate', '--run', at('colours'), '--network', own];
    expect((await layerwise(evaluate)).stderr).toContain('its images are read by the module');
    const { stdout } = await layerwise([...evaluate, '--data', encoded]);
    expect(stdout).toContain('two colours');
    const exported = await layerwise(['export', '--run', at('colours'), '--to', at('x.safetensors'), '--trust-module']);
    expect(exported.stdout).toContain('tensors');
    expect((await layerwise(['report', '--run', at('colours')])).code).toBe(0);
  });

  it('go with the recipe of a run that is started from', async () => {
    const start = ['--start-from', at('colours'), '--start-layers', '1', '--network', own, '--data', encoded];
    const { code, stdout } = await layerwise(['plan', ...start, '--no-times', '--json']);
    expect(code).toBe(0);
    const { recipe } = JSON.parse(stdout);
    expect([recipe.model.options, recipe.training.epochs, recipe.training.batchSize]).toEqual([{ width: 3 }, 2, 8]);
    const without = await layerwise(['plan', ...start.slice(0, -2), '--no-times']);
    expect([without.code, without.stderr]).toEqual([2, expect.stringContaining('--data FILE')]);
  });

  it('of the data are not run where no data are read', async () => {
    const config = JSON.parse(readFileSync(join(at('colours'), 'config.json'), 'utf8'));
    cpSync(at('colours'), at('gone'), { recursive: true });
    config.modules.data.path = at('no longer there.mjs');
    writeFileSync(join(at('gone'), 'config.json'), JSON.stringify(config));
    expect((await layerwise(['predict', '--run', at('gone'), '--trust-module', image])).code).toBe(0);
    expect((await layerwise(['evaluate', '--run', at('gone'), '--trust-module'])).stderr).toContain('not found');
  });

  it('that an unknown run names are not read, whatever they are', async () => {
    const config = JSON.parse(readFileSync(join(at('colours'), 'config.json'), 'utf8'));
    cpSync(at('colours'), at('crafted'), { recursive: true });
    config.modules.network.path = '/dev/zero';
    writeFileSync(join(at('crafted'), 'config.json'), JSON.stringify(config));
    const { code, stderr } = await layerwise(['predict', '--run', at('crafted'), image]);
    expect([code, stderr]).toEqual([1, expect.stringContaining('/dev/zero (no module now), which has not been run')]);
  });

  it('are planned', async () => {
    const { code, stdout } = await layerwise(['plan', ...onColours, '--no-times', '--json']);
    expect(code).toBe(0);
    // 3 x 3 x 3 x 3 + 3.
    expect(JSON.parse(stdout).layers[0].parameters.block).toBe(84);
  });

  it.each<[string[], number, string]>([
    [['--network', at('no.mjs')], 1, `network: ${at('no.mjs')}: not found`],
    [['--preset', 'own'], 2, 'a recipe for a network of your own needs the module that builds it: --network FILE'],
    [
      ['--network', own, '--preset', 'simcnn-k1'],
      2,
      '--network: expected a recipe for a network of your own (--preset own), got one for simcnn',
    ],
    [
      ['--network', own, '--data', own, '--dataset', 'shapes'],
      2,
      '--data: expected no --dataset beside it, got shapes',
    ],
    [
      ['--network', own, '--network-options', '{"width": 3'],
      2,
      'Expected a JSON object such as \'{"depth": 32}\', got {"width": 3',
    ],
    [['--network', own, '--network-options', '[3]'], 2, 'Expected a JSON object'],
    [['--network', own, '--network-options', '{"width": 3, "width": 4}'], 2, '"width"'],
    [['--network', own, '--network-options', '{"__proto__": {"width": 4}}'], 2, 'unknown key model.options.__proto__'],
    [
      ['--network', own, '--network-options', `{"a": ${'['.repeat(5_000)}${']'.repeat(5_000)}}`],
      2,
      'model: expected values within at most 16 others',
    ],
    [['--network', own, '--data-options', '{}'], 2, "dataset.options: expected none where the data are not one's own"],
    [['--network-options', '{}'], 2, 'unknown key model.options'],
    [['--trust-module', '--network', own], 2, '--trust-module needs --resume DIR'],
    [['--data', encoded, '--data-dir', 'x'], 2, '--data-dir: own is given in code and takes no directory'],
  ])('%j is refused', async (flags, code, message) => {
    const refused = await layerwise(['train', ...flags, ...SHORT, '--out', at('refused')]);
    expect([refused.code, refused.stderr]).toEqual([code, expect.stringContaining(message)]);
    expect(existsSync(at('refused'))).toBe(false);
  });
});
