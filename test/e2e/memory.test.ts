// The memory of whole processes: what they do when it ends, and that it does not grow.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Recipe } from '../../lib/recipe/index.js';
import type { RunPlan } from '../../lib/training/index.js';
import { layerwise, MAIN, temporaryFolder } from '../cli/cli.js';
import { libtorchAtLeast } from '../support/fixtures.js';

const at = temporaryFolder();
const DIST = join(import.meta.dirname, '..', '..', 'dist');
/**
 * One thread and one arena: what a process allocates then depends on what it does alone. Surplus threads, which are kept while
 * the cores are shared, have stacks that count as its memory: there are none where the environment decides.
 */
const ENV = { OMP_NUM_THREADS: '1', MALLOC_ARENA_MAX: '1', GOMP_SPINCOUNT: '1000' };

/** In a program: the bytes of data that the process has now. What is swapped out or shared in huge pages changes nothing. */
const DATA_BYTES = `1024 * Number(/VmData:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])`;

/** Runs a program on the built library; it prints JSON. */
function outputOf<T>(program: string, ...flags: string[]): T {
  const imports = `
    import { readFileSync } from 'node:fs';
    import { overrideRecipe, presetRecipe, train, TrainingJob } from ${JSON.stringify(join(DIST, 'index.js'))};`;
  return JSON.parse(
    execFileSync(process.execPath, [...flags, '--input-type=module', '-e', imports + program], {
      stdio: 'pipe',
      encoding: 'utf8',
      env: { ...process.env, ...ENV },
    }),
  );
}

const flags = (...more: string[]): string[] => [
  ...['--preset', 'simcnn-k3', '--dataset', 'shapes', '--width', '16', '--aux-width', '16', '--epochs', '1'],
  ...['--test-limit', '20', '--device', 'cpu', '--precision', 'fp32', ...more],
];

describe.runIf(process.platform === 'linux' && libtorchAtLeast('2.4'))('a process whose memory is limited', () => {
  /** Bytes: what a run takes by its plan, and all that a process has which runs it on next to no images. */
  async function needsOf(
    run: readonly string[],
  ): Promise<{ step: number; peak: number; features: number; base: number }> {
    const { stdout } = await layerwise(['plan', ...run, '--no-times', '--json']);
    const { recipe, layers, imageBytes } = JSON.parse(stdout) as RunPlan & { recipe: Recipe };
    const out = mkdtempSync(at('few '));
    const few = {
      ...recipe,
      dataset: { ...recipe.dataset, trainLimit: 2, testLimit: 2 },
      training: { ...recipe.training, batchSize: 2 },
      augmentation: { ...recipe.augmentation, views: null },
    };
    const base = outputOf<number>(`
      const job = TrainingJob.train({ recipe: ${JSON.stringify(few)}, out: ${JSON.stringify(out)} });
      let most = 0;
      job.on('event', () => { most = Math.max(most, ${DATA_BYTES}); });
      await job.outcome;
      console.log(most);`);
    const most = (bytes: (layer: RunPlan['layers'][number]) => number): number => Math.max(...layers.map(bytes));
    return {
      step: imageBytes + most(({ memory }) => memory!.step),
      peak: imageBytes + most(({ memory }) => memory!.peak),
      features: most(({ features }) => features?.bytes ?? 0),
      base,
    };
  }

  const limited = (bytes: number, args: string[]) =>
    spawnSync(
      'bash',
      ['-c', `ulimit -d ${Math.round(bytes / 1024)}; exec "$@"`, 'bash', process.execPath, MAIN, ...args],
      {
        encoding: 'utf8',
        env: { ...process.env, ...ENV },
      },
    );

  it('is told the layer, the batch, the peak and a batch that fits, and can go on with that', async () => {
    const run = flags('--train-limit', '1024', '--batch-size', '1024');
    const { base, step } = await needsOf(run);
    // Half of the batch fits, three quarters of it do not.
    const limit = base + (5 / 8) * step;
    const failed = limited(limit, ['train', ...run, '--out', at('too large')]);
    expect(failed.stderr).toMatch(
      /out of memory on cpu at layer \d, with a batch of 1024 images, when tensors had 0\.\d+ GiB; \d+ images fit: take --batch-size \d+/,
    );
    expect(failed.status).toBe(1);
    const [, fitting] = /--micro-batch (\d+)/.exec(failed.stderr)!;
    const retried = limited(limit, ['train', ...run, '--micro-batch', fitting!, '--out', at('in parts')]);
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
  ])('is told when it was no step: %s', async (part, more, message) => {
    writeFileSync(at('evaluation.json'), JSON.stringify({ evaluation: { batchSize: 2000 } }));
    const run = flags(...more);
    const { base, step, peak, features } = await needsOf(run);
    // All steps fit, and half of what is beside them.
    const limit = base + step + (part === 'features' ? features : peak - step) / 2;
    const { status, stderr } = limited(limit, ['train', ...run, '--out', at(part)]);
    expect(stderr).toMatch(/^layerwise: out of memory on cpu at layer \d, /);
    expect(stderr).toContain(message);
    expect(status).toBe(1);
  });
});

describe.runIf(process.platform === 'linux')('a run of 6,000 steps', () => {
  it('grows by less than half a kilobyte a step', () => {
    // From steps 1,000 to 2,500 to the last 1,500, when everything that is made once has been made. The middle of each: the heap's
    // top moves up and down with what lies there.
    const { steps, sizes } = outputOf<{ steps: number; sizes: number[] }>(
      `
      const recipe = overrideRecipe(presetRecipe('simcnn-k3', { dataset: 'shapes', onCuda: false }), {
        model: { width: 8, auxWidth: 8, layers: 1, downsampleAt: [] },
        dataset: { trainLimit: 800, testLimit: 40 },
        training: { epochs: 60, batchSize: 8, milestones: [10] },
        device: 'cpu', threads: 1,
      });
      const sizes = [];
      let steps = 0;
      await train({ recipe, out: ${JSON.stringify(at('steps'))}, checkpointSeconds: 1e9, onEvent: (event) => {
        if (event.type !== 'step') return;
        if (++steps % 50 !== 0) return;
        gc(); // What the engine has not collected yet is no growth.
        sizes.push(${DATA_BYTES});
      } });
      console.log(JSON.stringify({ steps, sizes }));`,
      // Compiled code comes and goes, in threads of its own.
      ...['--expose-gc', '--jitless'],
    );
    expect(steps).toBe(6000);
    const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;
    const [early, late] = [median(sizes.slice(20, 50)), median(sizes.slice(-30))];
    expect((late - early) / 3500, `bytes a step; ${sizes.join(', ')}`).toBeLessThan(512);
    // Beside other work it takes minutes.
  }, 600_000);
});
