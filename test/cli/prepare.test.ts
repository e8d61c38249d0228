// The command that packs photographs into shards, as a process of its own.
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { gradient, save } from '../data/images.js';
import { digestsOf, serveShards } from '../data/shards.js';
import { layerwise, start, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const PREPARE = ['data', 'prepare', '--from', at('set'), '--side', '40', '--shard-images', '12'];
const SHARDS = 4;

/** Large files, so that a process can be met in the middle. */
beforeAll(async () => {
  for (let i = 0; i < 36; i++) {
    const image = gradient(900, 700, { step: 0.2, blue: 5 * i }).png({ compressionLevel: 1 });
    await save(at(), `set/train/${i % 2 === 0 ? 'a' : 'b'}/${i}.png`, image);
  }
  for (const name of ['a', 'b'])
    await save(at(), `set/val/${name}/1.jpg`, gradient(60, 50, { blue: name === 'a' ? 1 : 99 }).jpeg());
  expect(await layerwise([...PREPARE, '--to', at('whole')])).toMatchObject({ code: 0 });
});

describe('data prepare', () => {
  it('says what it made, and how to train on it; a second call finds it done', async () => {
    const { code, stdout, stderr } = await layerwise([...PREPARE, '--to', at('made')]);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      new RegExp(
        `^${at('made')}: 36 training and 2 test images of 2 classes\n4 shards, [\\d.]+ KiB\nTrain with --dataset imagenet --data-dir ${at('made')}\n$`,
      ),
    );
    expect(stderr).toMatch(/^0 of 38 images prepared\n/);
    expect(await digestsOf(at('made'))).toEqual(await digestsOf(at('whole')));
    const again = await layerwise([...PREPARE, '--to', at('made'), '--json']);
    expect(JSON.parse(again.stdout)).toMatchObject({ shards: SHARDS, shardsBefore: SHARDS, train: 36, test: 2 });
  });

  it.each([
    ['SIGKILL', 'SIGKILL'],
    ['SIGINT', 130],
  ] as const)('ended by %s in the middle goes on to the same bytes', async (signal, code) => {
    const to = at(signal);
    const running = start([...PREPARE, '--to', to]);
    while (!existsSync(`${to}/train-000000.json`)) await sleep(2);
    running.process.kill(signal);
    const ended = await running.ended;
    expect(ended.code).toBe(code);
    const names = readdirSync(to);
    expect(names).not.toContain('index.json');
    const whole = names.filter((name) => name.endsWith('.json')).length - 1;
    if (signal === 'SIGINT') {
      const shards = whole === 1 ? 'the shard that is' : `the ${whole} shards that are`;
      expect(ended.stderr).toMatch(
        new RegExp(`layerwise: the preparation was interrupted; the same command goes on behind ${shards} whole\n$`),
      );
      expect(names.filter((name) => name.includes('partial') || name.includes('lock'))).toEqual([]);
    }
    const unfinished = await layerwise(['train', ...DATA(to), ...TINY, '--out', at('x')]);
    expect(unfinished.code).toBe(1);
    expect(unfinished.stderr).toBe(
      `layerwise: ${to} is not finished: give the same layerwise data prepare again, which goes on there\n`,
    );
    const next = await layerwise([...PREPARE, '--to', to]);
    expect(next.stdout).toContain(`4 shards, ${whole} of them there before`);
    expect(await digestsOf(to)).toEqual(await digestsOf(at('whole')));
  });

  it('refuses what does not go together as a usage error', async () => {
    const run = async (...args: string[]) => {
      const { code, stderr } = await layerwise(['data', 'prepare', ...args]);
      expect(code).toBe(2);
      return stderr;
    };
    expect(await run('--from', at('set'))).toContain("required option '--to <dir>'");
    expect(await run('--from', at('set'), '--to', at('y'), '--side', '0')).toContain('at least 1');
    expect(await run('--from', at('set'), '--to', at('y'), '--quality', '101')).toContain('quality must be an integer');
    expect(await run('--from', at('set'), '--to', at('set'))).toContain('expected a folder outside of');
    expect(await run('--from', at('set'), '--to', at('whole'))).toContain('index.json: side: expected 256, got 40');
    expect(existsSync(at('y'))).toBe(false);
  });
});

const DATA = (dataDir: string): string[] => ['--dataset', 'imagenet', '--data-dir', dataDir, '--image-size', '32'];

describe('shards', () => {
  const FLAGS = [...TINY, '--layers', '1', '--epochs', '1', '--batch-size', '8'];

  it('are trained on, evaluated, planned with and checked, from disk and from a web server', async () => {
    await using server = await serveShards(at('whole'));
    for (const [name, dataDir] of [
      ['disk', at('whole')],
      ['web', server.url],
    ] as const) {
      expect(await layerwise(['train', ...DATA(dataDir), ...FLAGS, '--out', at(name)])).toMatchObject({ code: 0 });
      const config = JSON.parse(readFileSync(at(name, 'config.json'), 'utf8'));
      expect(config).toMatchObject({ classes: ['a', 'b'], recipe: { dataset: { dataDir } } });
      expect(await layerwise(['evaluate', '--run', at(name), '--device', 'cpu'])).toMatchObject({ code: 0 });
      expect(await layerwise(['plan', ...DATA(dataDir), ...FLAGS])).toMatchObject({ code: 0 });
      const check = await layerwise(['data', 'check', '--dataset', 'imagenet', '--data-dir', dataDir]);
      expect(check).toMatchObject({ code: 0, stdout: expect.stringContaining('Nothing is wrong.') });
      const compared = name === 'disk' ? '\\d+ of 38 images compared\n' : '';
      expect(check.stderr).toMatch(new RegExp(`^${compared}1 of 38 images decoded\n`));
    }
    const [disk, web] = ['disk', 'web'].map((name) => readFileSync(at(name, 'model.safetensors')));
    expect(disk!.equals(web!)).toBe(true);
    const predicted = await layerwise(['predict', '--run', at('disk'), at('set/val/a/1.jpg'), '--device', 'cpu']);
    expect(predicted).toMatchObject({ code: 0, stdout: expect.stringMatching(/\b[ab]\b/) });
  });

  it('are looked for where they have moved', async () => {
    await cp(at('whole'), at('first'), { recursive: true });
    expect(await layerwise(['train', ...DATA(at('first')), ...FLAGS, '--out', at('moved')])).toMatchObject({ code: 0 });
    rmSync(at('first'), { recursive: true });
    const gone = await layerwise(['evaluate', '--run', at('moved'), '--device', 'cpu']);
    expect(gone).toMatchObject({ code: 1, stderr: expect.stringContaining('say where to with --data-dir DIR') });
    const found = await layerwise(['evaluate', '--run', at('moved'), '--device', 'cpu', '--data-dir', at('whole')]);
    expect(found.code).toBe(0);
  });
});
