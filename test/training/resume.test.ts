// A run that was stopped anywhere, by its signal or by the end of its process, ends with the bits of one that was not.
import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readSafetensors, type StateDict, writeSafetensors } from '../../lib/nn/index.js';
import type { Recipe } from '../../lib/recipe/index.js';
import { full, type Tensor, zeros } from '../../lib/tensor/index.js';
import { resume, type TrainingEvent, train } from '../../lib/training/index.js';
import { positionOf, productOf, smallRecipe, startAndStop, temporaryFolder } from './runs.js';

const at = temporaryFolder();

const DROPOUT = { training: { learningRate: 0.01 } };
const KINDS: readonly [name: string, recipe: Recipe][] = [
  ['layer by layer', smallRecipe()],
  ['layer by layer in bfloat16', smallRecipe({ precision: 'bf16', training: { resetMomentumAtDrops: false } })],
  ['end to end, with dropout', smallRecipe(DROPOUT, 'vgg11-end-to-end')],
  ['layer by layer, SimCNN', smallRecipe({ model: { auxWidth: 2, downsampleAt: [1] } }, 'simcnn-k2')],
];

const interrupted = expect.objectContaining({ name: 'TrainingInterrupted', code: 'INTERRUPTED' });

describe.each(KINDS)('%s', (name, recipe) => {
  const file = (part: string): string => at(`${name.replaceAll(/\W+/g, '-')}-${part}`);
  let whole: object;

  beforeAll(async () => {
    await train({ recipe, out: file('whole') });
    whole = productOf(file('whole'));
  });

  it('gives the same bits again, and others for another seed', async () => {
    await train({ recipe, out: file('again') });
    await train({ recipe: { ...recipe, seed: 2 }, out: file('other') });
    expect(productOf(file('again'))).toEqual(whole);
    expect(productOf(file('other'))).not.toEqual(whole);
  });

  it('goes on from each point at which a process can end, also in the middle of an epoch', async () => {
    // The run's directory as it lies on the disk at each event is what a killed process leaves behind.
    const left: { position: string; directory: string }[] = [];
    const out = file('killed');
    await train({
      recipe,
      out,
      checkpointSeconds: 0,
      onEvent: (event) => {
        if (event.type === 'done' || event.type === 'step') return;
        const directory = file(`killed-${left.length}`);
        // Less the lock: that of a killed process names one that is gone, this one's names the living.
        cpSync(out, directory, { recursive: true, filter: (path) => !path.endsWith('run.lock') });
        left.push({ position: positionOf(event), directory });
      },
    });
    expect(productOf(out), 'checkpoints change nothing').toEqual(whole);
    const positions = left.map(({ position }) => position);
    expect(positions.filter((position) => position.startsWith('checkpoint')).length).toBeGreaterThan(7);
    expect(positions.some((position) => position.startsWith('layer'))).toBe(true);
    for (const { position, directory } of left) {
      const outcome = await resume(directory);
      expect(outcome.runDirectory).toBe(directory);
      expect(productOf(directory), `killed at ${position}`).toEqual(whole);
      expect(existsSync(join(directory, 'checkpoint')), 'the checkpoint of a finished run').toBe(false);
      rmSync(directory, { recursive: true });
    }
  });

  it('goes on after being stopped again and again: in every step, in evaluation, at the start of a resumption', async () => {
    const out = file('stopped');
    const resumedFrom: unknown[] = [];
    let runs = 0;
    for (let finished = false; !finished; runs++) {
      expect(runs).toBeLessThan(100);
      const controller = new AbortController();
      const onEvent = (event: TrainingEvent): void => {
        if (event.type === 'start') resumedFrom.push(event.resumedFrom);
        // Every third run starts by evaluating the layers below and is stopped there, if it has any.
        if (event.type === 'start' && runs % 3 === 1) setImmediate(() => controller.abort());
        if (event.type !== 'step') return;
        // Every third run goes on to the end of its epoch and is stopped while it evaluates.
        if (runs % 3 !== 0) controller.abort();
        else if (event.step === event.stepsPerEpoch) setImmediate(() => setImmediate(() => controller.abort()));
      };
      const options = { onEvent, signal: controller.signal };
      const run = runs === 0 ? train({ recipe, out, ...options }) : resume(out, options);
      await run.then(
        () => {
          finished = true;
        },
        (error: unknown) => expect(error).toEqual(interrupted),
      );
    }
    expect(runs).toBeGreaterThan(4);
    expect(new Set(resumedFrom.map((position) => JSON.stringify(position))).size).toBeGreaterThan(3);
    expect(productOf(out)).toEqual(whole);
  });
});

const recipe = smallRecipe();

/** A run that was stopped in its second epoch of its second layer: its checkpoint has a finished layer and one in training. */
async function stoppedRun(name: string): Promise<string> {
  const directory = at(name);
  if (!existsSync(at('stopped-template'))) {
    await startAndStop(
      { recipe, out: at('stopped-template') },
      (event) => event.type === 'step' && event.layer === 1 && event.epoch === 1 && event.step === 2,
    );
  }
  cpSync(at('stopped-template'), directory, { recursive: true });
  return directory;
}

const checkpointFile = (directory: string, pattern: RegExp): string =>
  join(directory, 'checkpoint', readdirSync(join(directory, 'checkpoint')).find((entry) => pattern.test(entry))!);

it('a checkpoint names its position: the next step to do', async () => {
  const directory = await stoppedRun('position');
  const state = JSON.parse(readFileSync(join(directory, 'checkpoint', 'state.json'), 'utf8'));
  expect(state.position).toEqual({ stage: 1, epoch: 1, step: 2 });
  expect(state.finished).toEqual(['layer-00.safetensors']);
  expect(state.meter.images).toBe(32);
  expect(readdirSync(join(directory, 'checkpoint')).sort()).toEqual(
    ['state.json', 'layer-00.safetensors', state.current].sort(),
  );
});

it('a signal that was given at the start stops the run after one step, with a checkpoint; before it, before there is one', async () => {
  const out = at('at-once');
  await expect(train({ recipe, out, signal: AbortSignal.abort() })).rejects.toMatchObject({ runDirectory: null });
  expect(existsSync(out)).toBe(false);
  await startAndStop({ recipe, out });
  const state = JSON.parse(readFileSync(join(out, 'checkpoint', 'state.json'), 'utf8'));
  expect(state.position).toEqual({ stage: 0, epoch: 0, step: 1 });
  // As if it had been killed before that.
  rmSync(join(out, 'checkpoint'), { recursive: true });
  await expect(resume(out, { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: 'INTERRUPTED',
    message: `training was interrupted before its first checkpoint; begin it again with --resume ${out}`,
  });
  expect(existsSync(join(out, 'checkpoint'))).toBe(false);
});

it('a signal that was given before the run, or while it reads its data, leaves nothing', async () => {
  const nothing = {
    code: 'INTERRUPTED',
    runDirectory: null,
    message: 'training was interrupted before anything was written: there is nothing to resume',
  };
  const out = at('never-begun');
  await expect(train({ recipe, out, signal: AbortSignal.abort() })).rejects.toMatchObject(nothing);
  const controller = new AbortController();
  const running = train({ recipe, out, signal: controller.signal });
  controller.abort();
  await expect(running).rejects.toMatchObject(nothing);
  expect(existsSync(out)).toBe(false);
});

it('a run that is stopped while it evaluates keeps the whole epoch, and does not train it again', async () => {
  const out = at('in-evaluation');
  const controller = new AbortController();
  const onEvent = (event: TrainingEvent): void => {
    if (event.type === 'step' && event.step === 4) setImmediate(() => setImmediate(() => controller.abort()));
  };
  await expect(train({ recipe, out, signal: controller.signal, onEvent })).rejects.toEqual(interrupted);
  const state = JSON.parse(readFileSync(join(out, 'checkpoint', 'state.json'), 'utf8'));
  expect(state.position).toEqual({ stage: 0, epoch: 0, step: 4 });
  expect(state.meter.images).toBe(60);
  expect(existsSync(join(out, 'metrics.jsonl'))).toBe(false);
  const events: string[] = [];
  await resume(out, { onEvent: ({ type }) => events.push(type) });
  expect(events.slice(0, 3)).toEqual(['start', 'epoch', 'checkpoint']);
});

it('what a process left half written does no harm', async () => {
  const directory = await stoppedRun('half-written');
  const checkpoint = join(directory, 'checkpoint');
  writeFileSync(join(checkpoint, 'state.json.partial'), '{"formatV');
  writeFileSync(join(checkpoint, 'training-9999.safetensors.partial'), 'half');
  writeFileSync(join(checkpoint, 'training-9999.safetensors'), 'of a checkpoint that was never named');
  writeFileSync(join(directory, 'model.safetensors.partial'), 'half');
  writeFileSync(join(directory, 'metrics.jsonl'), '{"layer":1,"epoch":1,"learningRate":0.0', { flag: 'a' });
  await resume(directory);
  await train({ recipe, out: at('for-half-written') });
  expect(productOf(directory)).toEqual(productOf(at('for-half-written')));
});

it('the end of the last line of metrics.jsonl, alone unwritten, is written', async () => {
  const directory = await stoppedRun('without-end-of-line');
  const file = join(directory, 'metrics.jsonl');
  truncateSync(file, readFileSync(file).length - 1);
  await resume(directory);
  await train({ recipe, out: at('for-end-of-line') });
  expect(productOf(directory)).toEqual(productOf(at('for-end-of-line')));
});

it('a finished run only gives its result again, and changes nothing', async () => {
  const directory = at('finished');
  const { result } = await train({ recipe, out: directory });
  const before = productOf(directory);
  const events: string[] = [];
  const again = await resume(directory, { onEvent: (event) => events.push(event.type) });
  expect(again.result).toEqual(result);
  expect(events).toEqual(['done']);
  expect(productOf(directory)).toEqual(before);
});

describe('a damaged checkpoint is refused by the name of its file, and left as it is', () => {
  const state = (directory: string): string => join(directory, 'checkpoint', 'state.json');
  const edit = (change: (value: Record<string, unknown>) => void) => (directory: string) => {
    const value = JSON.parse(readFileSync(state(directory), 'utf8'));
    change(value);
    writeFileSync(state(directory), JSON.stringify(value));
    return state(directory);
  };
  const swap = (tensors: StateDict, name: string, tensor: Tensor | null): void => {
    tensors.get(name)!.dispose();
    if (tensor === null) tensors.delete(name);
    else tensors.set(name, tensor);
  };
  /** Changes the tensors of the stage in training. */
  const rewrite = (change: (tensors: StateDict) => void) => async (directory: string) => {
    const file = checkpointFile(directory, /^training/);
    const { tensors, metadata } = await readSafetensors(file);
    change(tensors);
    await writeSafetensors(file, tensors, metadata);
    for (const tensor of tensors.values()) tensor.dispose();
    return file;
  };
  const DAMAGES: Record<string, (directory: string) => string | Promise<string>> = {
    'state.json is cut off': (directory) => {
      truncateSync(state(directory), 40);
      return state(directory);
    },
    'state.json is empty': (directory) => {
      truncateSync(state(directory), 0);
      return state(directory);
    },
    'state.json is another version': edit((value) => {
      value.formatVersion = 2;
    }),
    'state.json lacks a value': edit((value) => {
      delete value.position;
    }),
    'state.json has a key too many': edit((value) => {
      value.extra = 1;
    }),
    'a stage that there is not': edit((value) => {
      value.position = { stage: 7, epoch: 0, step: 0 };
      value.finished = new Array(7).fill('layer-00.safetensors');
      value.stageSeconds = new Array(7).fill(1);
    }),
    'fewer finished layers than the position says': edit((value) => {
      value.finished = [];
    }),
    'an epoch that there is not': edit((value) => {
      value.position = { stage: 1, epoch: 2, step: 0 };
    }),
    'a step beyond the end of the epoch': edit((value) => {
      value.position = { stage: 1, epoch: 1, step: 999 };
    }),
    'a step that the sums of the epoch do not belong to': edit((value) => {
      value.position = { stage: 1, epoch: 1, step: 3 };
    }),
    'no sums in the middle of an epoch': edit((value) => {
      value.meter = null;
    }),
    'a number of images below 0': edit((value) => {
      value.meter = { lossSum: 1, correct: 1, images: -1 };
    }),
    'more hits than images': edit((value) => {
      value.meter = { lossSum: 1, correct: 33, images: 32 };
    }),
    'a sum of losses that no losses have': edit((value) => {
      value.meter = { lossSum: 1e308, correct: 1, images: 32 };
    }),
    'a loss scale without fp16': edit((value) => {
      value.scaler = { scale: 65536, goodSteps: 0, skipped: 0 };
    }),
    'a first step after the first': edit((value) => {
      value.isFirstStep = true;
    }),
    'layers that took longer than the run': edit((value) => {
      value.stageSeconds = [1e9];
    }),
    'a time below 0': edit((value) => {
      value.seconds = -1;
    }),
    'the tensors of another position': edit((value) => {
      value.finished = ['../../elsewhere.safetensors'];
    }),
    'tensors in training of another position': edit((value) => {
      value.current = '../training-1.safetensors';
    }),
    'no tensors in training': edit((value) => {
      value.current = null;
    }),
    'a position that its tensors are not of': (directory) => {
      edit((value) => {
        value.position = { stage: 1, epoch: 0, step: 2 };
      })(directory);
      return checkpointFile(directory, /^training/);
    },
    'the momentum is gone': rewrite((tensors) => {
      for (const key of [...tensors.keys()]) if (key.startsWith('momentum')) swap(tensors, key, null);
    }),
    'the momentum has another shape': rewrite((tensors) => swap(tensors, 'momentum.0', zeros([1]))),
    'the momentum is not finite': rewrite((tensors) => {
      swap(tensors, 'momentum.0', full(tensors.get('momentum.0')!.shape, Number.POSITIVE_INFINITY));
    }),
    'a weight is not a number': rewrite((tensors) => {
      const name = [...tensors.keys()].find((key) => key.endsWith('weight'))!;
      swap(tensors, name, full(tensors.get(name)!.shape, Number.NaN));
    }),
    'a variance is below 0': rewrite((tensors) => {
      const name = [...tensors.keys()].find((key) => key.endsWith('running_var'))!;
      swap(tensors, name, full(tensors.get(name)!.shape, -1));
    }),
    'a weight has another type': rewrite((tensors) => {
      const name = [...tensors.keys()].find((key) => key.endsWith('weight'))!;
      swap(tensors, name, zeros(tensors.get(name)!.shape, { dtype: 'float64' }));
    }),
    'the state of the generator has another length': rewrite((tensors) =>
      swap(tensors, 'generator', zeros([3], { dtype: 'uint8' })),
    ),
    'the tensors in training are cut off': (directory) => {
      const file = checkpointFile(directory, /^training/);
      truncateSync(file, readFileSync(file).length - 5);
      return file;
    },
    'the tensors in training are empty': (directory) => {
      const file = checkpointFile(directory, /^training/);
      truncateSync(file, 0);
      return file;
    },
    'the tensors in training are gone': (directory) => {
      const file = checkpointFile(directory, /^training/);
      rmSync(file);
      return file;
    },
    'the tensors in training are another layer’s': (directory) => {
      const file = checkpointFile(directory, /^training/);
      cpSync(checkpointFile(directory, /^layer/), file);
      return file;
    },
    'a finished layer is cut off': (directory) => {
      const file = checkpointFile(directory, /^layer/);
      truncateSync(file, 100);
      return file;
    },
    'a finished layer is gone': (directory) => {
      const file = checkpointFile(directory, /^layer/);
      rmSync(file);
      return file;
    },
  };

  it.each(Object.keys(DAMAGES))('%s', async (damage) => {
    const directory = await stoppedRun(`damaged-${Object.keys(DAMAGES).indexOf(damage)}`);
    const file = await DAMAGES[damage]!(directory);
    const before = existsSync(file) ? readFileSync(file, 'base64') : null;
    const error = await resume(directory).then(
      () => expect.fail('it went on'),
      (e: unknown) => e as Error & { code: string },
    );
    expect(error.message).toContain(file);
    expect(['RUN_DIRECTORY', 'SAFETENSORS_CORRUPT']).toContain(error.code);
    expect(existsSync(file) ? readFileSync(file, 'base64') : null).toBe(before);
  });

  it.each<[string, number, string, (directory: string) => void]>([
    ['state.json', 3, 'training-3.safetensors is there', (directory) => rmSync(state(directory))],
    [
      'the folder',
      3,
      'metrics.jsonl has epochs of this run: 3',
      (directory) => rmSync(join(directory, 'checkpoint'), { recursive: true }),
    ],
    [
      'state.json, after one epoch',
      1,
      'training-3.safetensors is there',
      (directory) => {
        rmSync(state(directory));
        rmSync(checkpointFile(directory, /^layer/));
        renameSync(checkpointFile(directory, /^training/), join(directory, 'checkpoint', 'training-3.safetensors'));
      },
    ],
  ])('it is gone, though the run had one: %s', async (what, epochs, evidence, lose) => {
    const directory = await stoppedRun(`lost-${what.replaceAll(/\W+/g, '-')}`);
    const metrics = join(directory, 'metrics.jsonl');
    writeFileSync(
      metrics,
      readFileSync(metrics, 'utf8')
        .split('\n')
        .slice(0, epochs)
        .map((line) => `${line}\n`)
        .join(''),
    );
    lose(directory);
    const before = readFileSync(metrics, 'utf8');
    await expect(resume(directory)).rejects.toMatchObject({
      code: 'RUN_DIRECTORY',
      message:
        `${state(directory)}: not found, but ${evidence}: the checkpoint was lost; bring it back from a copy, or begin ` +
        'anew in another directory',
    });
    expect(readFileSync(metrics, 'utf8')).toBe(before);
  });

  it('config.json is damaged', async () => {
    const directory = await stoppedRun('damaged-config');
    truncateSync(join(directory, 'config.json'), 30);
    await expect(resume(directory)).rejects.toThrow(join(directory, 'config.json'));
  });

  it.each([
    ['an epoch', 1, 'epoch: expected 0, the first of layer 0, got 1'],
    ['a layer', 2, 'expected 2 epochs of layer 0 before the checkpoint, got 0'],
    ['the last epoch', -1, 'expected 1 epochs of layer 1 before the checkpoint, got 0'],
  ])('metrics.jsonl lacks %s', async (_, from, problem) => {
    const directory = await stoppedRun(`lacking-metrics-${from}`);
    const file = join(directory, 'metrics.jsonl');
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    expect(lines.length).toBe(3);
    const left = from < 0 ? lines.slice(0, from) : lines.slice(from);
    writeFileSync(file, left.map((line) => `${line}\n`).join(''));
    await expect(resume(directory)).rejects.toMatchObject({
      code: 'RUN_DIRECTORY',
      message: expect.stringContaining(problem),
    });
  });

  it('a finished run lacks its network: its checkpoint stays', async () => {
    const directory = await stoppedRun('half-finished');
    const layers = [0, 1].map((layer) => ({ layer, testTop1: 10, seconds: 1 }));
    writeFileSync(join(directory, 'result.json'), JSON.stringify({ layers, seconds: 2 }));
    await expect(resume(directory)).rejects.toThrow('model.safetensors: not found, but the run has finished');
    expect(existsSync(join(directory, 'checkpoint', 'state.json'))).toBe(true);
  });

  it('metrics.jsonl is damaged in its middle', async () => {
    const directory = await stoppedRun('damaged-metrics');
    const file = join(directory, 'metrics.jsonl');
    writeFileSync(file, `nonsense\n${readFileSync(file, 'utf8')}`);
    await expect(resume(directory)).rejects.toThrow(`${file}:1`);
  });
});

it('a directory that holds no run is refused', async () => {
  await expect(resume(at('nowhere'))).rejects.toMatchObject({
    code: 'RUN_DIRECTORY',
    message: `${at('nowhere')}: expected a run directory, but there is no config.json in it`,
  });
});

it('a data set of another size is refused, also where an older version recorded no more of it', async () => {
  const directory = await stoppedRun('other-data');
  const file = join(directory, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  delete config.data;
  config.recipe.dataset.trainCount = 61;
  writeFileSync(file, JSON.stringify(config));
  await expect(resume(directory)).rejects.toThrow(
    `${directory}: the run was started with 61 train images, but the data set now has 60`,
  );
});
