import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { runThatOwns } from '../../lib/run/index.js';
import { train } from '../../lib/training/index.js';
import { filesUnder } from '../../scripts/support/files.mjs';
import { smallRecipe, startAndStop, temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();
const recipe = smallRecipe({ dataset: { trainLimit: 32 }, training: { epochs: 1, milestones: [] } });

beforeAll(async () => {
  await train({ recipe, out: at('finished') });
  await startAndStop({ recipe, out: at('stopped') });
});

it.each(['finished', 'stopped'])('every file that a run leaves is its own: %s', async (name) => {
  const files = filesUnder(at(name));
  expect(files.length).toBeGreaterThanOrEqual(3);
  for (const file of files) expect([file, await runThatOwns(file)]).toEqual([file, at(name)]);
});

it('so are the files that it may come to have, also through a link', async () => {
  symlinkSync(at('stopped'), at('link'));
  symlinkSync(join(at('stopped'), 'checkpoint'), at('link to its checkpoint'));
  for (const file of [
    join(at('stopped'), 'result.json'),
    join(at('stopped'), 'features', 'view-0'),
    join(at('link'), 'model.safetensors'),
    join(at('link to its checkpoint'), 'training-9.safetensors'),
  ]) {
    expect([file, await runThatOwns(file)]).toEqual([file, at('stopped')]);
  }
});

it('a run whose config.json is damaged still owns its files', async () => {
  mkdirSync(at('damaged'));
  writeFileSync(join(at('damaged'), 'config.json'), '{"package": "layer');
  expect(await runThatOwns(join(at('damaged'), 'model.safetensors'))).toBe(at('damaged'));
});

it('other names in a run directory are free, and so is all beside the config.json of another program', async () => {
  mkdirSync(at('other'));
  writeFileSync(join(at('other'), 'config.json'), '{"architectures": ["Vgg"]}');
  for (const file of [
    join(at('finished'), 'exported.safetensors'),
    join(at('other'), 'model.safetensors'),
    join(at('nowhere'), 'model.safetensors'),
    at('model.safetensors'),
  ]) {
    expect([file, await runThatOwns(file)]).toEqual([file, null]);
  }
});
