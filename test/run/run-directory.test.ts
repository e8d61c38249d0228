import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { RunDirectory } from '../../lib/run/run-directory.js';
import { resume, train } from '../../lib/training/train.js';
import { smallRecipe, startAndStop, temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();
const UNFINISHED = '.layerwise-unfinished';

/** What `fill` leaves when its process is killed in the middle. */
async function killed(path: string): Promise<void> {
  let isWritten = (): void => {};
  const written = new Promise<void>((resolve) => {
    isWritten = resolve;
  });
  void RunDirectory.fill(path, async () => {
    writeFileSync(join(path, 'config.json'), '{}');
    writeFileSync(join(path, 'model.safetensors'), 'half');
    mkdirSync(join(path, 'checkpoint'));
    isWritten();
    await new Promise(() => {});
  });
  await written;
  writeFileSync(join(path, 'result.json.0123abcd.partial'), 'half');
  const lock = join(path, 'run.lock');
  // The largest process id that Linux can give is 2^22.
  writeFileSync(lock, JSON.stringify({ ...JSON.parse(readFileSync(lock, 'utf8')), pid: 2 ** 22 + 1, thread: '0' }));
}

describe('a run that is made in one go', () => {
  it('holds what was written, and nothing else', async () => {
    const path = at('whole');
    const made = await RunDirectory.fill(path, async () => {
      writeFileSync(join(path, 'config.json'), '{}');
      expect(readdirSync(path)).toContain(UNFINISHED);
      return 'made';
    });
    expect([made, readdirSync(path)]).toEqual(['made', ['config.json']]);
  });

  it('leaves an empty directory where it fails, and can be made there again', async () => {
    const path = at('failed');
    const failing = RunDirectory.fill(path, async () => {
      writeFileSync(join(path, 'config.json'), '{}');
      throw new Error('no room');
    });
    await expect(failing).rejects.toThrow('no room');
    expect(readdirSync(path)).toEqual([]);
    expect(await RunDirectory.fill(path, async () => 'made')).toBe('made');
  });

  it('does not count where its process was killed: it cannot be resumed, and can be made again', async () => {
    const path = at('killed');
    await killed(path);
    await expect(resume(path)).rejects.toMatchObject({
      code: 'RUN_DIRECTORY',
      message: `${path}: the command that makes this run did not finish: give it again`,
    });
    await RunDirectory.fill(path, async () => writeFileSync(join(path, 'config.json'), '{}'));
    expect(readdirSync(path)).toEqual(['config.json']);
  });

  it('does not stand in the way of a training', async () => {
    const path = at('trained');
    await killed(path);
    const { result } = await train({ recipe: smallRecipe(), out: path });
    expect(result.layers).toHaveLength(2);
    expect(readdirSync(path)).not.toContain(UNFINISHED);
  });
});

it.each(['notes.txt', 'unfinished', 'film.partial', 'config.json'])(
  'files of others are left alone: %s',
  async (name) => {
    const path = at(`with ${name}`);
    mkdirSync(path);
    writeFileSync(join(path, name), 'mine');
    const refusal = { code: 'RUN_DIRECTORY', message: expect.stringContaining(path) };
    await expect(RunDirectory.create(path)).rejects.toMatchObject(refusal);
    await expect(RunDirectory.fill(path, async () => {})).rejects.toMatchObject(refusal);
    expect(readdirSync(path)).toEqual([name]);
  },
);

it('a directory that another run took between being looked at and being held is refused', async () => {
  const path = at('raced');
  const directory = await RunDirectory.create(path);
  writeFileSync(join(path, 'config.json'), '{}');
  await expect(directory.hold(async () => expect.fail('it is taken'))).rejects.toThrow('already holds a run');
});

it('nothing is written by what goes on after the directory was given back', async () => {
  const path = at('given back');
  const directory = await RunDirectory.create(path);
  let abandoned: Promise<void> = Promise.resolve();
  await directory.hold(async () => {
    await directory.writeMetrics([]);
    abandoned = new Promise<void>((resolve) => setTimeout(resolve, 50)).then(() => directory.writeMetrics([]));
    abandoned.catch(() => {});
  });
  await expect(abandoned).rejects.toMatchObject({ code: 'LOCK_LOST' });
  await directory.hold(() => directory.writeMetrics([])).catch((error) => expect(error.code).toBe('RUN_DIRECTORY'));
});

it('files of features that a killed process left go with the next, also where it keeps none', async () => {
  const out = at('features left');
  await startAndStop({ recipe: smallRecipe(), out }, ({ type }) => type === 'step');
  mkdirSync(join(out, 'features'));
  writeFileSync(join(out, 'features', 'layer-1-view-0.bin'), 'large');
  await resume(out, { cache: 'none' });
  expect(readdirSync(out)).toContain('result.json');
  expect(readdirSync(out)).not.toContain('features');
});

it.each([
  ['', '""'],
  [undefined, 'nothing'],
  [5, '5'],
])('what is no path is refused: %j', async (path, got) => {
  const refusal = { code: 'RUN_DIRECTORY', message: `expected the path of a run directory, got ${got}` };
  await expect(RunDirectory.create(path as string)).rejects.toMatchObject(refusal);
  expect(() => RunDirectory.open(path as string)).toThrow(expect.objectContaining(refusal));
});
