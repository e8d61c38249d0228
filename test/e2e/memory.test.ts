// The memory of whole processes: what they do when it ends, and that it does not grow.
import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../cli/cli.js';

const at = temporaryFolder();
const DIST = join(import.meta.dirname, '..', '..', 'dist');
const MAIN = join(DIST, 'cli', 'main.js');

const flags = (out: string, ...more: string[]): string[] => [
  ...['train', '--preset', 'simcnn-k3', '--dataset', 'shapes', '--width', '16', '--aux-width', '16', '--epochs', '1'],
  ...['--test-limit', '20', '--device', 'cpu', '--precision', 'fp32', '--out', at(out), ...more],
];

describe.runIf(process.platform === 'linux')('a process whose memory is limited', () => {
  /** Kilobytes of data that a process has when the addon is there and has done something. */
  const baseline = (): number => {
    const program = `
      import { randn, scope } from ${JSON.stringify(join(DIST, 'tensor', 'index.js'))};
      import { readFileSync } from 'node:fs';
      scope(() => void randn([64, 64]).matmul(randn([64, 64])));
      console.log(/VmData:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);`;
    return Number(execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' }));
  };

  const limited = (kilobytes: number, args: string[]) =>
    spawnSync('bash', ['-c', `ulimit -d ${kilobytes}; exec "$@"`, 'bash', process.execPath, MAIN, ...args], {
      encoding: 'utf8',
      env: { ...process.env, OMP_NUM_THREADS: '1', MALLOC_ARENA_MAX: '2' },
    });

  it('is told the layer, the batch, the peak and a batch that fits, and can go on with that', () => {
    const limit = baseline() + 450_000;
    const images = ['--train-limit', '1024', '--batch-size', '1024'];
    const failed = limited(limit, flags('too large', ...images));
    expect(failed.stderr).toMatch(
      /out of memory on cpu at layer \d, with a batch of 1024 images, when tensors had 0\.\d+ GiB; \d+ images fit: take --batch-size \d+/,
    );
    expect(failed.status).toBe(1);
    const [, fitting] = /--micro-batch (\d+)/.exec(failed.stderr)!;
    const retried = limited(limit, flags('in parts', ...images, '--micro-batch', fitting!));
    expect([retried.status, retried.stderr]).toEqual([0, '']);
    expect(retried.stdout).toContain(
      `Batches of 1024 images in parts of ${fitting}: batch norm takes its statistics of each part`,
    );
  });

  it.each([
    [
      'features',
      ['--train-limit', '1024', '--batch-size', '32', '--views', '8', '--cache', 'host=2'],
      'keeping features in batches of 32 images; let them take less of it, with --cache or fewer --views',
    ],
    [
      'evaluation',
      ['--train-limit', '64', '--test-limit', '2000', '--batch-size', '32', '--config', at('evaluation.json')],
      'evaluating 2000 images; take a smaller evaluation.batchSize',
    ],
  ])('is told when it was no step: %s', (part, more, message) => {
    writeFileSync(at('evaluation.json'), JSON.stringify({ evaluation: { batchSize: 2000 } }));
    const { status, stderr } = limited(baseline() + 250_000, flags(part, ...more));
    expect(stderr).toMatch(/^layerwise: out of memory on cpu at layer \d, /);
    expect(stderr).toContain(message);
    expect(status).toBe(1);
  });
});

describe.runIf(process.platform === 'linux')('a run of 2,000 steps', () => {
  it('holds its resident size flat to within 1 %', () => {
    // Steps 1,000 to 2,000, when everything that is made once has been made.
    const program = `
      import { train, overrideRecipe, presetRecipe } from ${JSON.stringify(join(DIST, 'training', 'index.js'))};
      import { readFileSync } from 'node:fs';
      const recipe = overrideRecipe(presetRecipe('simcnn-k3', { dataset: 'shapes', onCuda: false }), {
        model: { width: 8, auxWidth: 8, layers: 1, downsampleAt: [] },
        dataset: { trainLimit: 800, testLimit: 40 },
        training: { epochs: 20, batchSize: 8, milestones: [10] },
        device: 'cpu', threads: 1,
      });
      const sizes = [];
      let steps = 0;
      await train({ recipe, out: ${JSON.stringify(at('steps'))}, onEvent: (event) => {
        if (event.type !== 'step') return;
        if (++steps % 50 !== 0) return;
        gc(); // What the engine has not collected yet is no growth.
        sizes.push(Number(/VmRSS:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]));
      } });
      console.log(JSON.stringify({ steps, sizes }));`;
    const { steps, sizes } = JSON.parse(
      execFileSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', program], {
        encoding: 'utf8',
        env: { ...process.env, OMP_NUM_THREADS: '1' },
      }),
    ) as { steps: number; sizes: number[] };
    expect(steps).toBe(2000);
    const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
    const [early, late] = [median(sizes.slice(20, 28)), median(sizes.slice(-8))];
    expect(late / early, `${sizes.join(', ')} kB`).toBeLessThan(1.01);
  });
});
