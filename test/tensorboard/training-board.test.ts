import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import type { EpochRecord, RunResult } from '../../lib/run/index.js';
import { scope, tensor } from '../../lib/tensor/index.js';
import { filterImage } from '../../lib/tensorboard/index.js';
import { resume, train } from '../../lib/training/index.js';
import { pythonLacks, runPython } from '../support/python.js';
import { productOf, smallRecipe, startAndStop, temporaryFolder } from '../training/runs.js';
import { type ReadValue, readEvents, readHyperparameters } from './event-reader.js';

/** Prints what TensorBoard reads of a folder, as JSON. */
const READER = fileURLToPath(new URL('read-events.py', import.meta.url));
const tensorboardMissing = pythonLacks('tensorboard');

const at = temporaryFolder();

const eventFiles = (directory: string): string[] =>
  readdirSync(directory)
    .filter((name) => name.startsWith('events.out.tfevents.'))
    .sort()
    .map((name) => join(directory, name));

const metricsOf = (directory: string): EpochRecord[] =>
  readFileSync(join(directory, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

/** All values of a run's event files, with their steps. */
const valuesOf = (directory: string): { step: number; value: ReadValue }[] =>
  eventFiles(directory).flatMap((path) =>
    readEvents(path).flatMap(({ step, summary }) => (summary?.value ?? []).map((value) => ({ step, value }))),
  );

/** A scalar's values by step. */
const scalar = (directory: string, tag: string): [step: number, value: number][] =>
  valuesOf(directory)
    .filter(({ value }) => value.tag === tag && value.image === undefined && value.metadata === undefined)
    .map(({ step, value }) => [step, value.simple_value ?? 0]);

const GROUPS: readonly [group: string, figure: keyof EpochRecord][] = [
  ['train loss', 'trainLoss'],
  ['train top-1', 'trainTop1'],
  ['test loss', 'testLoss'],
  ['test top-1', 'testTop1'],
  ['test top-5', 'testTop5'],
  ['ensemble top-1', 'ensembleTop1'],
  ['learning rate', 'learningRate'],
];

describe('the event file of a run', () => {
  const recipe = smallRecipe();
  const out = at('whole');
  let result: RunResult;

  beforeAll(async () => {
    ({ result } = await train({ recipe, out, tensorboard: true }));
  });

  it('begins with its version, and is one', () => {
    expect(eventFiles(out)).toHaveLength(1);
    expect(readEvents(eventFiles(out)[0]!)[0]).toMatchObject({ file_version: 'brain.Event:2' });
  });

  it.each(GROUPS)('has %s of each epoch, by layer', (group, figure) => {
    const metrics = metricsOf(out);
    expect(metrics.length).toBeGreaterThan(2);
    for (const { layer } of result.layers) {
      const expected = metrics
        .filter((record) => record.layer === layer)
        .map((record) => [record.epoch, Math.fround(record[figure]!)]);
      expect(scalar(out, `${group}/layer ${layer + 1}`)).toEqual(expected);
    }
  });

  it('has accuracy by depth, and the results', () => {
    const last = result.layers.at(-1)!;
    expect(scalar(out, 'by depth/test top-1')).toEqual(
      result.layers.map(({ layer, testTop1 }) => [layer + 1, Math.fround(testTop1!)]),
    );
    expect(scalar(out, 'result/top-1')).toEqual([[last.layer + 1, Math.fround(last.testTop1!)]]);
    expect(scalar(out, 'result/ensemble top-1')).toEqual([[last.layer + 1, Math.fround(last.ensembleTop1!)]]);
  });

  it('has the filters of the first layer after each of its epochs, as pictures', async () => {
    const images = valuesOf(out).filter(({ value }) => value.image !== undefined);
    expect(images.map(({ step }) => step)).toEqual(
      metricsOf(out)
        .filter(({ layer }) => layer === 0)
        .map(({ epoch }) => epoch),
    );
    for (const { value } of images) {
      const { width, height, format } = await sharp(value.image!.encoded_image_string).metadata();
      expect({ width, height, format }).toEqual({
        width: value.image!.width,
        height: value.image!.height,
        format: 'png',
      });
    }
  });

  it('has the recipe as hyperparameters, with the tags of the results, and ends in success', () => {
    const sessions = valuesOf(out).filter(({ value }) => value.metadata?.plugin_data.plugin_name === 'hparams');
    const parts = Object.assign({}, ...sessions.map(({ value }) => readHyperparameters(value)));
    expect(sessions.map(({ value }) => value.tag)).toEqual(
      ['experiment', 'session_start_info', 'session_end_info'].map((name) => `_hparams_/${name}`),
    );
    const { hparams } = parts.session_start_info;
    expect(hparams['training.learningRate']).toEqual({ number_value: recipe.training.learningRate });
    expect(hparams['model.name']).toEqual({ string_value: recipe.model.name });
    expect(hparams['augmentation.horizontalFlip']).toEqual({ bool_value: recipe.augmentation.horizontalFlip });
    expect(hparams['training.milestones']).toEqual({ string_value: JSON.stringify(recipe.training.milestones) });
    expect(parts.experiment.hparam_infos.map(({ name }: { name: string }) => name)).toEqual(Object.keys(hparams));
    expect(parts.experiment.metric_infos.map(({ name }: { name: { tag: string } }) => name.tag)).toContain(
      'result/top-1',
    );
    expect(parts.session_end_info.status).toBe(1);
  });

  it('changes nothing of the run', async () => {
    await train({ recipe, out: at('without') });
    expect(productOf(at('without'))).toEqual(productOf(out));
    expect(eventFiles(at('without'))).toEqual([]);
  });
});

it('a run that goes on writes a file of its own, and both together have every epoch', async () => {
  const out = at('resumed');
  await startAndStop({ recipe: smallRecipe(), out, tensorboard: true }, ({ type }) => type === 'epoch');
  await resume(out, { tensorboard: true });
  expect(eventFiles(out)).toHaveLength(2);
  const last = metricsOf(out).filter(({ layer }) => layer === 1);
  expect(scalar(out, 'test loss/layer 2')).toEqual(last.map(({ epoch, testLoss }) => [epoch, Math.fround(testLoss!)]));
});

it('end to end the filters are those of the whole network', async () => {
  const out = at('end-to-end');
  await train({ recipe: smallRecipe({}, 'vgg11-end-to-end'), out, tensorboard: true });
  expect(valuesOf(out).filter(({ value }) => value.image !== undefined)).toHaveLength(metricsOf(out).length);
});

describe.runIf(tensorboardMissing === null)("TensorBoard's own reader", () => {
  it('finds the same scalars, images and hyperparameters', async () => {
    const read = (await runPython(READER, [at('whole')])) as {
      scalars: Record<string, [number, number][]>;
      images: number;
      hparams: Record<string, unknown>;
    };
    for (const tag of ['test loss/layer 1', 'train loss/layer 2', 'by depth/test top-1', 'result/top-1']) {
      expect(read.scalars[tag]).toEqual(scalar(at('whole'), tag));
    }
    expect(read.images).toBe(2);
    expect(read.hparams).toMatchObject({ 'training.momentum': 0.9, 'model.width': 2, 'model.name': 'vgg11' });
  });
});

describe('filters', () => {
  /** Pixels [height][width] of one colour channel. */
  async function channel(png: Uint8Array, index: number): Promise<number[][]> {
    const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
    return Array.from({ length: info.height }, (_, y) =>
      Array.from({ length: info.width }, (_, x) => data[(y * info.width + x) * info.channels + index]!),
    );
  }

  it('of three channels are in colour, lowest black, highest white, each weight 8 x 8 pixels', async () => {
    using weight = tensor([-1, 1, 0, 1, -1, 0.5], { shape: [2, 3, 1, 1], dtype: 'float32' });
    const image = (await filterImage('filters', weight)) as Extract<
      Awaited<ReturnType<typeof filterImage>>,
      { png: unknown }
    >;
    expect([image.tag, image.height, image.width]).toEqual(['filters', 12, 22]);
    const colours = await Promise.all([0, 1, 2].map((index) => channel(image.png, index)));
    const at = (y: number, x: number) => colours.map((rows) => rows[y]![x]);
    expect(at(2, 2)).toEqual([0, 255, 128]);
    expect(at(9, 9)).toEqual([0, 255, 128]);
    expect(at(5, 12)).toEqual([255, 0, 191]);
    expect(at(0, 0)).toEqual([127, 127, 127]);
    expect(at(5, 10)).toEqual([127, 127, 127]);
  });

  it('of other channels are their mean in grey', async () => {
    using weight = scope(() => tensor([0, 2, 4, 6], { shape: [2, 2, 1, 1], dtype: 'float32' }));
    const image = (await filterImage('filters', weight)) as Extract<
      Awaited<ReturnType<typeof filterImage>>,
      { png: unknown }
    >;
    const rows = await channel(image.png, 0);
    expect([rows[2]![2], rows[2]![12]]).toEqual([0, 255]);
  });
});
