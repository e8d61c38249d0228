// Data and runs that have moved, by flags.
import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { gradient, save } from '../data/images.js';
import { jsonLines, layerwise, start, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const CLASSES = ['ant', 'bee', 'cat'];

beforeAll(async () => {
  for (const part of ['train', 'test']) {
    for (const [label, name] of CLASSES.entries()) {
      for (let i = 0; i < 3; i++) {
        await save(at('images'), `${part}/${name}/${i}.png`, gradient(40 + i, 36, { blue: 60 * label }).png());
      }
    }
  }
  mkdirSync(at('here'));
  mkdirSync(at('there'));
});

const evaluate = (...flags: string[]) => layerwise(['evaluate', ...flags, '--json'], { cwd: at('there') });

it('a run is resumed and evaluated from another working directory, after its data has moved, without its training images', async () => {
  const data = ['--dataset', 'folder', '--data-dir', '../images'];
  const running = start(['train', ...TINY, ...data, '--epochs', '100000', '--out', 'run', '--json'], {
    cwd: at('here'),
  });
  await running.line(({ type }) => type === 'checkpoint');
  running.process.kill('SIGINT');
  expect((await running.ended).code).toBe(130);

  renameSync(at('here', 'run'), at('there', 'renamed'));
  const { recipe } = JSON.parse(readFileSync(at('there', 'renamed', 'config.json'), 'utf8'));
  expect(recipe.dataset.dataDir).toBe(at('images'));
  renameSync(at('images'), at('moved'));
  const resume = ['train', '--resume', 'renamed'];
  const lost = await layerwise(resume, { cwd: at('there') });
  expect([lost.code, lost.stderr]).toEqual([1, expect.stringContaining('say where to with --data-dir DIR')]);

  const again = start([...resume, '--data-dir', '../moved', '--device', 'cpu', '--json'], { cwd: at('there') });
  const first = await again.line(({ type }) => type === 'start');
  expect(first).toMatchObject({ config: { recipe: { dataset: { dataDir: at('moved') } } } });
  again.process.kill('SIGINT');
  expect((await again.ended).code).toBe(130);

  // The data set is recorded at its new place: a change there is found without --data-dir.
  await save(at('moved'), 'train/bee/0.png', gradient(99, 70).png());
  const changed = await layerwise(resume, { cwd: at('there') });
  expect([changed.code, changed.stderr]).toEqual([1, expect.stringContaining('--accept-changed-data')]);
});

it('a finished run is evaluated on test images alone; that they are others is noted', async () => {
  const data = ['--dataset', 'folder', '--data-dir', at('moved')];
  expect((await layerwise(['train', ...TINY, ...data, '--out', at('finished')])).code).toBe(0);
  rmSync(at('moved', 'train'), { recursive: true });
  const own = await evaluate('--run', at('finished'));
  expect([own.code, own.stderr]).toEqual([0, '']);
  expect(jsonLines(own.stdout)[0]).toMatchObject({ images: 9, device: 'cpu', precision: 'fp32' });

  renameSync(at('moved'), at('moved again'));
  rmSync(at('moved again', 'test', 'cat', '2.png'));
  const other = await evaluate('--run', at('finished'), '--data-dir', '../moved again', '--precision', 'bf16');
  expect([other.code, other.stderr]).toEqual([
    0,
    'Note: not the images that the run was tested on: test: images missing: 1 of class cat\n',
  ]);
  expect(jsonLines(other.stdout)[0]).toMatchObject({ images: 8, precision: 'bf16' });
});

it('--accept-changed-data needs a run to go on with', async () => {
  const { code, stderr } = await layerwise(['train', '--accept-changed-data']);
  expect([code, stderr]).toEqual([2, expect.stringContaining('--accept-changed-data needs --resume DIR')]);
});
