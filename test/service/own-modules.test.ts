// A network and data of one's own where functions cannot travel: modules, in a worker thread and where a run is opened again.
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import type { TrainingJob as Job } from '../../lib/service/index.js';
import type { ResumeOptions, TrainOptions } from '../../lib/training/index.js';
import { productOf, temporaryFolder } from '../training/runs.js';

// A module's `layerwise` is the built one, and so must be that which takes what it gives.
const layerwise = (await import(
  pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', 'index.js')).href
)) as typeof import('../../lib/index.js');
const {
  canRehearse,
  overrideRecipe,
  planRecipe,
  presetRecipe,
  recordedModules,
  resume,
  TrainedRun,
  TrainingJob,
  train,
} = layerwise;

const MODULES = join(import.meta.dirname, '..', 'fixtures', 'modules');
const own = pathToFileURL(join(MODULES, 'own.mjs'));
const encoded = pathToFileURL(join(MODULES, 'encoded.mjs'));
const at = temporaryFolder();

/** Beside the fixtures, so that it finds the package by its name. */
function moduleOf(name: string, text: string): URL {
  mkdirSync(at('modules'), { recursive: true });
  const file = join(at('modules'), name);
  writeFileSync(
    file,
    text.replaceAll(
      "'layerwise'",
      JSON.stringify(pathToFileURL(join(import.meta.dirname, '..', '..', 'dist', 'index.js')).href),
    ),
  );
  return pathToFileURL(file);
}

const recipe = overrideRecipe(presetRecipe('own', { dataset: 'own', onCuda: false }), {
  model: { options: { width: 6 } },
  training: { epochs: 2, batchSize: 8, milestones: [1] },
  augmentation: { cropPadding: 0, horizontalFlip: false },
  ...{ device: 'cpu', precision: 'fp32', threads: 1 },
});

async function stopAfter(job: Job, type: string): Promise<void> {
  job.on('event', (event) => {
    if (event.type === type) void job.cancel();
  });
  await expect(job.outcome).rejects.toMatchObject({ code: 'INTERRUPTED' });
}

const configOf = (run: string) => JSON.parse(readFileSync(join(at(run), 'config.json'), 'utf8'));

beforeAll(async () => {
  await TrainingJob.train({ recipe, module: own, out: at('whole') }).outcome;
});

describe('a network and data of a module', () => {
  it('train in a worker, are resumed to the same bits, and are the same in the thread itself', async () => {
    await stopAfter(TrainingJob.train({ recipe, network: own, data: own, out: at('stopped') }), 'epoch');
    await TrainingJob.resume({ runDirectory: at('stopped'), module: own }).outcome;
    expect(productOf(at('stopped'))).toEqual(productOf(at('whole')));
    await train({ recipe, module: own, out: at('here') });
    expect(productOf(at('here'))).toEqual(productOf(at('whole')));
  });

  it('are recorded with path and digest, and found again', async () => {
    const { modules, recipe: recorded } = configOf('whole');
    expect(modules.network.path).toBe(join(MODULES, 'own.mjs'));
    expect(modules.data.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(recorded.model).toEqual({ name: 'own', options: { width: 6 } });
    expect(await recordedModules(at('whole'))).toEqual({ network: own, data: own });
    using run = await TrainedRun.open(at('whole'), await recordedModules(at('whole')));
    expect(run.network.stateDict().get('blocks.1.conv.weight')!.shape).toEqual([6, 6, 3, 3]);
    const { test } = await run.loadDataset({ testOnly: true });
    const { top1 } = await run.evaluate(test, 1);
    expect(top1).toBe(JSON.parse(readFileSync(join(at('whole'), 'result.json'), 'utf8')).layers[1].testTop1);
    expect(run.notes).toEqual([]);
  });

  it('run nothing where a run that names them is opened, unless they are given', async () => {
    const tattler = moduleOf(
      'tattler.mjs',
      `import { writeFileSync } from 'node:fs'; writeFileSync(${JSON.stringify(at('was-run'))}, '');`,
    );
    const config = configOf('whole');
    mkdirSync(at('crafted'));
    for (const name of ['model.safetensors', 'auxiliary-heads.safetensors', 'result.json', 'metrics.jsonl']) {
      copyFileSync(join(at('whole'), name), join(at('crafted'), name));
    }
    const path = new URL(tattler).pathname;
    const named = {
      ...config,
      modules: { network: { path, sha256: config.modules.network.sha256 }, data: config.modules.data },
    };
    writeFileSync(join(at('crafted'), 'config.json'), JSON.stringify(named));
    await expect(TrainedRun.open(at('crafted'))).rejects.toMatchObject({
      code: 'RUN_DIRECTORY',
      message: expect.stringMatching(
        /tattler\.mjs \(changed since\), which has not been run: give network \(--network FILE\)/,
      ),
    });
    await expect(TrainedRun.open(at('whole'))).rejects.toThrow('own.mjs (as the run was started with)');
    expect(existsSync(at('was-run'))).toBe(false);
    // Given, it does run, and what it does is seen.
    await expect(TrainedRun.open(at('crafted'), { network: tattler })).rejects.toThrow('to export a function network');
    expect(existsSync(at('was-run'))).toBe(true);
  });

  it('cannot be named by what came as JSON', async () => {
    const sent = JSON.parse(JSON.stringify({ recipe, module: own, out: at('sent') })) as {
      recipe: typeof recipe;
      module: URL;
    };
    expect(() => TrainingJob.train(sent)).toThrow('module: expected the URL of a module');
    await expect(train(sent)).rejects.toThrow('module: expected a URL of a module, which a text is not');
    await expect(resume(at('whole'), { network: own.href } as unknown as ResumeOptions)).rejects.toThrow(
      'network: expected a function, or the URL of a module',
    );
    const inRecipe = { ...recipe, model: { ...recipe.model, module: own.href } } as unknown as typeof recipe;
    await expect(train({ recipe: inRecipe, out: at('sent') })).rejects.toThrow('unknown key model.module');
    const withoutModule = TrainingJob.train({ recipe, out: at('sent') });
    await expect(withoutModule.outcome).rejects.toThrow('own: expected the images');
    expect(existsSync(at('sent'))).toBe(false);
  });

  it('may have moved or changed, which is said and kept with the results', async () => {
    const text = readFileSync(own, 'utf8');
    const first = moduleOf('mine.mjs', text);
    await stopAfter(TrainingJob.train({ recipe, module: first, out: at('moved') }), 'epoch');
    mkdirSync(at('elsewhere'));
    renameSync(first, join(at('elsewhere'), 'mine.mjs'));
    await expect(TrainingJob.resume({ runDirectory: at('moved') }).outcome).rejects.toThrow(
      /mine\.mjs \(not there now\)/,
    );
    const moved = pathToFileURL(join(at('elsewhere'), 'mine.mjs'));
    const { result } = await TrainingJob.resume({ runDirectory: at('moved'), module: moved }).outcome;
    expect(result.notes ?? []).toEqual([]);
    expect(productOf(at('moved'))).toEqual(productOf(at('whole')));
    expect(configOf('moved').modules.data.path).toBe(join(at('elsewhere'), 'mine.mjs'));

    const changed = moduleOf('changed.mjs', `${text}\n// other\n`);
    await stopAfter(TrainingJob.train({ recipe, module: moved, out: at('changed') }), 'epoch');
    const outcome = await TrainingJob.resume({ runDirectory: at('changed'), module: changed }).outcome;
    expect(outcome.result.notes).toContainEqual(expect.stringContaining('changed.mjs has another text'));
    expect(configOf('changed').notes).toHaveLength(2);
    using run = await TrainedRun.open(at('changed'), { module: moved });
    expect(run.notes).toEqual([expect.stringContaining("The module of the network is another than the run's was")]);
  });

  it.skipIf(!canRehearse())('is CommonJS, too, and then as it is now', async () => {
    const file = at('modules/versions.cjs');
    const write = (title: string) =>
      writeFileSync(
        file,
        `exports.data = () => ({ title: '${title}', classes: ['a', 'b'], imageShape: [1, 8, 8], train: part, test: part });
        const part = { images: new Uint8Array(128), labels: [0, 1] };`,
      );
    for (const title of ['one', 'two']) {
      write(title);
      const planned = await planRecipe({ recipe, network: own, data: pathToFileURL(file), measured: false });
      expect(planned.recipe.dataset.title).toBe(title);
    }
  });

  it.skipIf(!canRehearse())('is the text that is there now, also where it was imported before', async () => {
    const text = (width: number) => `
      import { Flatten, layeredNetwork, Linear } from 'layerwise';
      export const network = ({ classes, inputShape }) => layeredNetwork({ classes, inputShape,
        blocks: [new Flatten()], heads: [new Linear({ inFeatures: ${width}, outFeatures: classes })] });`;
    const plan = (width: number) =>
      planRecipe({ recipe, network: moduleOf('versions.mjs', text(width)), data: own, measured: false });
    await expect(plan(63)).rejects.toThrow('layer 1: its head does not take [2, 64]');
    expect((await plan(64)).plan.layers[0]!.parameters.head).toBe(2 * 64 + 2);
  });
});

describe('a module that is no such module is refused, with its file', () => {
  const network = (body: string) =>
    `import * as lw from 'layerwise';\nexport function network({ classes, inputShape }) { ${body} }`;
  const linear = 'new lw.Linear({ inFeatures: 64, outFeatures: 2 })';
  it.each<[string, string, string]>([
    ['syntax.mjs', 'export function network( {', 'syntax.mjs: cannot be imported: '],
    ['throws.mjs', "throw new Error('no licence');", 'throws.mjs: cannot be imported: no licence'],
    [
      'nothing.mjs',
      'export const other = 1;',
      'nothing.mjs: expected it to export a function network, got exports other',
    ],
    ['value.mjs', 'export const network = 3;', 'value.mjs: expected a function for its export network, got number'],
    ['builder.mjs', network("throw new Error('too deep');"), 'builder.mjs: network: too deep'],
    ['option.mjs', network('return new lw.Conv2d({ inChannels: 0 });'), 'option.mjs: network: Conv2d: expected'],
    [
      'rejected.mjs',
      "export async function network() { throw new Error('boom'); }",
      'rejected.mjs: network: expected a function that gives a Network, got a promise',
    ],
    [
      'forgotten.mjs',
      network(
        `class Block extends lw.Module { forward(x) { x.relu(); } }
         return lw.layeredNetwork({ classes, inputShape, blocks: [new Block()], heads: [${linear}] });`,
      ),
      'own: layer 1: expected a tensor from its block, got nothing',
    ],
    // Without a plan it trains.
    ...(canRehearse()
      ? ([
          [
            'elsewhere.mjs',
            network(
              `class Block extends lw.Module { forward(x) { return x.flatten({ startDim: 1 }).add(lw.tensor([0.5])); } }
         return lw.layeredNetwork({ classes, inputShape, blocks: [new Block()], heads: [${linear}] });`,
            ),
            'make tensors on the device of the input ({ device: x.device })',
          ],
        ] satisfies [string, string, string][])
      : []),
    ['line.mjs', network("\n\nthrow new Error('too wide');"), 'line.mjs: network: too wide (line 4 of '],
    [
      'promise.mjs',
      `export async function network() {}`,
      'promise.mjs: network: expected a function that gives a Network, got a promise',
    ],
    [
      'empty.mjs',
      network('return {};'),
      'empty.mjs: network: expected a Network with a list of modules for blocks, got undefined',
    ],
    [
      'number.mjs',
      network(
        `return lw.layeredNetwork({ classes, inputShape, blocks: [new lw.Flatten()], heads: [${linear}, ${linear}] });`,
      ),
      'own: expected as many heads as blocks, and at least one, got 1 blocks and 2 heads',
    ],
    [
      'chain.mjs',
      network(
        `return lw.layeredNetwork({ classes, inputShape, blocks: [new lw.Flatten(), new lw.Linear({ inFeatures: 9, outFeatures: 2 })], heads: [${linear}, ${linear}] });`,
      ),
      'own: layer 2: its block does not take [2, 64]: ',
    ],
  ])('%s', async (name, text, message) => {
    const job = TrainingJob.train({ recipe, network: moduleOf(name, text), data: own, out: at('refused') });
    await expect(job.outcome).rejects.toThrow(message);
    expect(existsSync(at('refused'))).toBe(false);
  });

  it.each<[string, string, string]>([
    [
      'data-throws.mjs',
      "export async function data() { throw new Error('no connection'); }",
      'data-throws.mjs: data: no connection',
    ],
    [
      'data-nothing.mjs',
      'export function data() {}',
      'data: expected an object with classes, train and test, got nothing',
    ],
    [
      'data-classes.mjs',
      "export const data = () => ({ classes: ['one'], train: [], test: [] });",
      'data.classes: expected the names of at least two classes',
    ],
    [
      'data-key.mjs',
      "export const data = () => ({ classes: ['a', 'b'], trian: [] });",
      'data: expected only title, classes',
    ],
  ])('%s', async (name, text, message) => {
    const job = TrainingJob.train({ recipe, network: own, data: moduleOf(name, text), out: at('refused') });
    await expect(job.outcome).rejects.toThrow(message);
    expect(existsSync(at('refused'))).toBe(false);
  });

  it('that is not there, is no file or is given twice', async () => {
    const asked = { recipe, out: at('refused') };
    const missing = pathToFileURL(at('missing.mjs'));
    await expect(train({ ...asked, module: missing })).rejects.toMatchObject({
      code: 'MODULE_FILE',
      message: `module: ${at('missing.mjs')}: not found`,
    });
    await expect(train({ ...asked, module: new URL('data:text/javascript,1') })).rejects.toThrow(
      'expected the URL of a file (file:)',
    );
    await expect(train({ ...asked, module: own, network: own } as TrainOptions)).rejects.toThrow(
      'module: expected either module, or network and data, got both',
    );
    const inJob = { recipe, network: () => null } as unknown as Parameters<typeof TrainingJob.train>[0];
    expect(() => TrainingJob.train(inJob)).toThrow('got a function, which no thread can be given');
  });
});

describe('encoded images of a module', () => {
  const onColours = overrideRecipe(recipe, { dataset: { imageSize: 8 } });

  it('kept in memory or in a file of the run directory give the same run, also when it is resumed', async () => {
    await TrainingJob.train({ recipe: onColours, network: own, data: encoded, out: at('colours') }).outcome;
    const inFile = overrideRecipe(onColours, { dataset: { options: { keep: 'file' } } });
    await stopAfter(TrainingJob.train({ recipe: inFile, network: own, data: encoded, out: at('kept') }), 'epoch');
    expect(existsSync(join(at('kept'), '.layerwise-images', 'train.pixels'))).toBe(true);
    await TrainingJob.resume({ runDirectory: at('kept'), network: own, data: encoded }).outcome;
    expect(productOf(at('kept'))).toEqual(productOf(at('colours')));
    expect(existsSync(join(at('kept'), '.layerwise-images'))).toBe(false);
    using run = await TrainedRun.open(at('kept'), { network: own, data: encoded });
    const { test, title } = await run.loadDataset({ testOnly: true });
    expect([test.count, title]).toEqual([8, 'two colours']);
    expect((await run.evaluate(test, 1)).top1).toBeGreaterThan(50);
  });
});
