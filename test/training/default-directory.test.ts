// Where a run goes that is not told where to go.
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { train } from '../../lib/training/index.js';
import { smallRecipe, temporaryFolder } from './runs.js';

const at = temporaryFolder();
const before = process.cwd();
afterEach(() => process.chdir(before));

it.each([
  ['a preset', 'vgg11-layerwise', /^vgg11-layerwise-shapes-\d{8}-\d{6}$/],
  ['a name that is a path', '../../elsewhere/../x', /^\.\.-\.\.-elsewhere-\.\.-x-shapes-\d{8}-\d{6}$/],
  ['a name with what no path holds', 'a\0b', /^a-b-shapes-\d{8}-\d{6}$/],
])('is runs/ of the working directory at its start, also with %s', async (name, preset, expected) => {
  const [folder, other] = [at(name), at(`${name}, other`)];
  for (const path of [folder, other]) mkdirSync(path);
  process.chdir(folder);
  const { runDirectory } = await train({
    recipe: { ...smallRecipe({ training: { epochs: 1, milestones: [] } }), preset },
    onEvent: ({ type }) => type === 'start' && process.chdir(other),
  });
  expect(readdirSync(folder)).toEqual(['runs']);
  const [made] = readdirSync(join(folder, 'runs'));
  expect(made).toMatch(expected);
  expect(runDirectory).toBe(join(process.cwd().replace(/, other$/, ''), 'runs', made!));
  expect(readdirSync(runDirectory)).toContain('report.html');
  expect(readdirSync(other)).toEqual([]);
});
