// A run's record names what its JPEG files were decoded with, and one that goes on with another decoder says so.
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Recipe } from '../../lib/recipe/index.js';
import { findTurboJpeg } from '../../lib/tensor/index.js';
import { train } from '../../lib/training/index.js';
import { layerwise } from '../cli/cli.js';
import { gradient, save } from '../data/images.js';
import { smallRecipe, startAndStop, temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();
const manifest = join(import.meta.dirname, '..', '..', 'node_modules', 'sharp', 'package.json');
const sharp = `sharp ${JSON.parse(readFileSync(manifest, 'utf8')).version}`;

let dataDir: string;
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'layerwise-decoder-'));
  for (const part of ['train', 'val']) {
    for (let i = 0; i < 6; i++) {
      await save(dataDir, `${part}/a/${i}.jpg`, gradient(70 + i, 50, { blue: 20 * i }).jpeg({ quality: 60 }));
      await save(dataDir, `${part}/b/${i}.jpg`, gradient(50, 60 + i, { blue: 9 * i }).jpeg({ quality: 60 }));
    }
  }
});
afterAll(() => rm(dataDir, { recursive: true }));

const recipeOf = (name: 'imagenet' | 'folder'): Recipe =>
  smallRecipe({
    dataset: { name, dataDir, imageSize: 32, ...(name === 'imagenet' ? { testResize: 36 } : {}) },
    augmentation: { cropPadding: 0, randomResizedCrop: name === 'imagenet', horizontalFlip: true },
    training: { batchSize: 4 },
  });

const configOf = (run: string): { versions: Record<string, string>; notes?: string[] } =>
  JSON.parse(readFileSync(join(run, 'config.json'), 'utf8'));

const resumeBySharp = (run: string) => layerwise(['train', '--resume', run], { env: { LAYERWISE_TURBOJPEG: 'none' } });

it('is not named where no images are decoded', async () => {
  await startAndStop({ recipe: smallRecipe(), out: at('shapes') });
  expect(Object.keys(configOf(at('shapes')).versions)).toEqual(['layerwise', 'libtorch', 'node']);
});

describe.runIf(findTurboJpeg()?.origin === 'development')('libjpeg-turbo', () => {
  const named = /^libjpeg-turbo 3\.\d+\.\d+ \(development package\)$/;

  it('is named with its release and where it is from, in the record and in the report', async () => {
    await train({ recipe: recipeOf('imagenet'), out: at('whole') });
    const { jpeg } = configOf(at('whole')).versions;
    expect(jpeg).toMatch(named);
    expect(readFileSync(at('whole/report.html'), 'utf8')).toMatch(/JPEG decoder<\/[a-z]+>\s*<[^>]+>libjpeg-turbo 3\./);
  });

  it('is replaced by sharp with one line, once, and the run goes on', async () => {
    const out = at('resumed');
    await startAndStop({ recipe: recipeOf('imagenet'), out });
    const before = configOf(out).versions.jpeg;
    const { code, stdout, stderr } = await resumeBySharp(out);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const note = `While the run was interrupted, the decoder has changed: JPEG files were decoded by ${before}, and now are by ${sharp}. Pixels may differ.`;
    expect(stdout.split('\n').filter((line) => line.includes('decoder has changed'))[0]).toContain(note);
    expect(configOf(out)).toMatchObject({ versions: { jpeg: sharp }, notes: [note] });
    // Of a finished run nothing is decoded any more.
    await layerwise(['train', '--resume', out, '--data-dir', dataDir]);
    expect(configOf(out)).toMatchObject({ versions: { jpeg: sharp }, notes: [note] });
  });

  it('says nothing where it is the same again', async () => {
    const out = at('same');
    await startAndStop({ recipe: recipeOf('imagenet'), out });
    const { jpeg } = configOf(out).versions;
    const env = { LAYERWISE_TURBOJPEG: findTurboJpeg()!.path };
    expect((await layerwise(['train', '--resume', out], { env })).code).toBe(0);
    expect(configOf(out).versions.jpeg).toBe(jpeg);
    expect(configOf(out).notes).toBeUndefined();
  });

  it('is another where large images are no longer decoded smaller', async () => {
    const out = at('all-pixels');
    await startAndStop({ recipe: recipeOf('imagenet'), out });
    const before = configOf(out).versions.jpeg!;
    const { code } = await layerwise(['train', '--resume', out], { env: { LAYERWISE_JPEG_SCALING: 'off' } });
    expect(code).toBe(0);
    const now = before.replace(' (', ', all pixels (');
    const note = `While the run was interrupted, the decoder has changed: JPEG files were decoded by ${before}, and now are by ${now}. Pixels may differ.`;
    expect(configOf(out)).toMatchObject({ versions: { jpeg: now }, notes: [note] });
  });

  it('is told of where images in memory are no longer the same because of it', async () => {
    const out = at('folder');
    await startAndStop({ recipe: recipeOf('folder'), out });
    expect(configOf(out).versions.jpeg).toMatch(named);
    const { code, stderr } = await resumeBySharp(out);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /images replaced in place: .*\(JPEG files were decoded by libjpeg-turbo 3.*, and now are by sharp/,
    );
  });
});
