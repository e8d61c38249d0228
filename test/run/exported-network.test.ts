import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { TrainedRun } from '../../lib/finished/index.js';
import { readSafetensors, writeSafetensors } from '../../lib/nn/index.js';
import { readRunRecord, writeExported } from '../../lib/run/index.js';
import { memoryStats, scope, tensor } from '../../lib/tensor/index.js';
import { train } from '../../lib/training/index.js';
import { smallRecipe, temporaryFolder } from '../training/runs.js';

const at = temporaryFolder();
const recipe = smallRecipe({ model: { layers: 3 } });

beforeAll(async () => {
  await train({ recipe, out: at('run') });
  using run = await TrainedRun.open(at('run'));
  const { network, config } = run;
  expect(await writeExported(at('last.safetensors'), network, { config })).toBe(network.stateDict().size);
  await writeExported(at('all.safetensors'), network, { config, auxiliaryHeads: true });
});

/** Of two images after each layer that can be asked. */
function logitsOf(run: TrainedRun, layers: readonly number[]): number[][] {
  return scope(() => {
    const pixels = Uint8Array.from({ length: 2 * 3072 }, (_, i) => (i * i) % 251);
    const images = tensor(pixels, { shape: [2, 3, 32, 32] });
    return layers.map((layer) => [...run.logits(images, layer).toFloat32Array()]);
  });
}

describe('an exported file', () => {
  it('opens to the bits of its run, alone', async () => {
    using run = await TrainedRun.open(at('run'));
    using last = await TrainedRun.open(at('last.safetensors'));
    expect(logitsOf(last, [2])).toEqual(logitsOf(run, [2]));
    expect([last.classes, last.normalization, last.precision]).toEqual([run.classes, run.normalization, run.precision]);
    expect(last.hasAuxiliaryHeads).toBe(false);
    expect(() => last.checkSelection(0)).toThrow(
      `${at('last.safetensors')}: exported without auxiliary heads, only its last layer has a head`,
    );
  });

  it('has all layers with its auxiliary heads', async () => {
    using run = await TrainedRun.open(at('run'));
    using whole = await TrainedRun.open(at('all.safetensors'));
    expect(logitsOf(whole, [0, 1, 2])).toEqual(logitsOf(run, [0, 1, 2]));
    whole.checkSelection('ensemble');
  });

  it('says nothing of the machine and of the images that its run was made of', async () => {
    const { metadata, tensors } = await readSafetensors(at('last.safetensors'));
    for (const one of tensors.values()) one.dispose();
    expect(metadata.format).toBe('pt');
    const { config } = await readRunRecord(at('run'));
    const kept = JSON.parse(metadata.layerwise!);
    expect(
      Object.keys(config)
        .filter((key) => !(key in kept))
        .sort(),
    ).toEqual(['data', 'deviceName']);
    expect(kept.recipe.dataset.dataDir).toBe(null);
    using run = await TrainedRun.open(at('run'));
    const secret = { path: '/home/secret.mjs', sha256: '0'.repeat(64) };
    const dataset = {
      ...(config.recipe.dataset as object),
      dataDir: '/home/secret',
      options: { file: '/home/secret' },
    };
    const told = {
      ...{ ...config, modules: { network: secret, data: secret }, notes: ['The module is another: /home/secret.mjs'] },
      ...{ startedFrom: { runDirectory: '/home/secret', layers: 1, head: 'new' as const } },
      recipe: { ...config.recipe, dataset },
    };
    await writeExported(at('of-secrets.safetensors'), run.network, { config: told });
    expect(readFileSync(at('of-secrets.safetensors')).includes('secret')).toBe(false);
    (await TrainedRun.open(at('of-secrets.safetensors'))).dispose();
  });

  it('is refused without the recipe of its run, or with another one', async () => {
    using run = await TrainedRun.open(at('run'));
    const tensors = run.network.stateDict();
    await writeSafetensors(at('plain.safetensors'), tensors, { format: 'pt' });
    const before = memoryStats();
    await expect(TrainedRun.open(at('plain.safetensors'))).rejects.toMatchObject({
      name: 'RunDirectoryError',
      message: expect.stringMatching(/got a safetensors file without the run's recipe: .* without --torchvision/),
    });
    for (const [text, problem] of [
      ['{"package": ', `${at('odd.safetensors')}: metadata layerwise:1: expected a value`],
      [JSON.stringify({ ...run.config, formatVersion: 2 }), 'formatVersion: expected 1'],
      [
        JSON.stringify({ ...run.config, recipe: smallRecipe({ model: { layers: 2 } }) }),
        'expected the tensors of the run',
      ],
    ] as const) {
      await writeSafetensors(at('odd.safetensors'), tensors, { layerwise: text });
      await expect(TrainedRun.open(at('odd.safetensors'))).rejects.toMatchObject({
        name: 'RunDirectoryError',
        message: expect.stringContaining(problem),
      });
    }
    expect(memoryStats()).toEqual(before);
  });
});
