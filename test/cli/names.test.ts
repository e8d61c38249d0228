// Names of classes, folders and files may hold what a terminal takes for commands.
import { beforeAll, expect, it } from 'vitest';
import { gradient, save } from '../data/images.js';
import { type Ended, layerwise, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const [RED, CLEAR] = ['red\x1b[31m', 'clear\x9b2J'];
const set = at('set\x1b[2J');
const run = at('run');

beforeAll(async () => {
  for (const part of ['train', 'test']) {
    for (const [at, name] of [RED, CLEAR].entries()) {
      for (let i = 0; i < 3; i++) {
        await save(set, `${part}/${name}/\x1b[1m${i}.png`, gradient(40 + i, 36, { blue: 99 * at }).png());
      }
    }
  }
});

/** Line feeds are the program's own. */
function expectNoControl({ stdout, stderr }: Ended): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  expect(stdout + stderr).not.toMatch(/[\0-\x09\x0b-\x1f\x7f-\x9f]/);
  return stdout + stderr;
}

it('they are escaped in all that is printed for people', async () => {
  const data = ['--dataset', 'folder', '--data-dir', set];
  const trained = await layerwise(['train', ...TINY, ...data, '--out', run]);
  expect(trained.code).toBe(0);
  expectNoControl(trained);

  const evaluated = expectNoControl(await layerwise(['evaluate', '--run', run, '--per-class']));
  expect(evaluated).toMatch(/^red\\x1b\[31m {2,}3 /m);
  expect(evaluated).toMatch(/^clear\\x9b2J {2,}3 /m);

  const image = `${set}/test/${RED}/\x1b[1m0.png`;
  const predicted = expectNoControl(await layerwise(['predict', '--run', run, image]));
  expect(predicted).toContain('%  red\\x1b[31m\n');
  expect(predicted).toContain('\\x1b[1m0.png\n');

  expect(expectNoControl(await layerwise(['probe', '--run', run, '--layer', '1']))).toContain('set\\x1b[2J');
  expect(expectNoControl(await layerwise(['data', 'check', ...data]))).toContain('are test images too');

  const refused = await layerwise(['evaluate', '--run', run, '--dataset', 'shapes']);
  expect(refused.code).toBe(1);
  expect(expectNoControl(refused)).toContain('red\\x1b[31m');
});
