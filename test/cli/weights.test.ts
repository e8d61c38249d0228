// Weights that go to torchvision and come from it, by the command line.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { disposeNetwork, Vgg, type VggOptions } from '../../lib/models/index.js';
import { writeSafetensors } from '../../lib/nn/index.js';
import { noGrad, scope } from '../../lib/tensor/index.js';
import { expectNumbersClose, FIXTURES, fillByHash, hashed } from '../support/fixtures.js';
import { pythonMissing, runPython } from '../support/python.js';
import { jsonLines, layerwise, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const SCRIPT = join(FIXTURES, 'torchvision_vgg.py');

/** Writes a network's own file, with weights by hash; returns its logits of two hashed images. */
async function writeOwn(file: string, options: Omit<VggOptions, 'seed'>, salt = 0): Promise<number[]> {
  const network = new Vgg({ ...options, seed: 1 });
  try {
    fillByHash(network.stateDict());
    await writeSafetensors(file, network.stateDict());
    const logits = scope(() =>
      noGrad(() => {
        const images = hashed([2, ...network.inputShape], salt).mul_(4);
        return [...network.blocks, network.heads.at(-1)!].reduce((x, module) => module.eval().forward(x), images);
      }),
    );
    const values = [...logits.toFloat32Array()];
    logits.dispose();
    return values;
  } finally {
    disposeNetwork(network);
  }
}

const headerOf = (file: string): Record<string, { shape: number[] }> => {
  const bytes = readFileSync(file);
  return JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString());
};

const own = at('own.safetensors');
const narrow = at('narrow');
/** In another order than the alphabet's. */
const CLASSES = ['tench', 'crane', 'abacus'];

beforeAll(async () => {
  await writeOwn(own, { name: 'vgg13', classes: 3, imageSize: 32, width: 4 });
  // As Notepad writes it, with spaces and an empty line that people leave.
  writeFileSync(at('classes.txt'), `\ufeff${CLASSES.join(' \r\n')}\r\n\r\n`, 'utf16le');
  const flags = ['--from', own, '--model', 'vgg13', '--image-size', '32', '--classes', at('classes.txt')];
  expect(await layerwise(['import', ...flags, '--out', narrow])).toEqual({
    code: 0,
    stderr: '',
    stdout: [
      `${narrow}: vgg13, 3 classes`,
      'Note: Weights imported from own.safetensors, not trained here: what the recipe says of training is not theirs.',
      'Note: Width 4: VGG-13 itself has 64.\n',
    ].join('\n'),
  });
});

describe('an imported run', () => {
  const grey = { create: { width: 40, height: 30, channels: 3, background: '#808080' } } as const;

  it('predicts with the names of --classes, in the order of the file', async () => {
    await sharp(grey).png().toFile(at('grey.png'));
    const { code, stdout, stderr } = await layerwise(['predict', '--run', narrow, '--json', at('grey.png')]);
    expect([code, stderr]).toEqual([0, '']);
    const [{ predictions }] = jsonLines(stdout) as [{ predictions: { class: string }[] }];
    expect(new Set(predictions.map((prediction) => prediction.class))).toEqual(new Set(CLASSES));
    expect(JSON.parse(readFileSync(`${narrow}/config.json`, 'utf8')).classes).toEqual(CLASSES);
  });

  it('is evaluated on a folder of its classes', async () => {
    const sorted = at('sorted.txt');
    writeFileSync(sorted, CLASSES.toSorted().join('\n'));
    const flags = ['--from', own, '--model', 'vgg13', '--image-size', '32', '--classes', sorted];
    expect(await layerwise(['import', ...flags, '--out', at('sorted')])).toMatchObject({ code: 0 });
    for (const part of ['train', 'test']) {
      for (const name of CLASSES) {
        mkdirSync(at('images', part, name), { recursive: true });
        await sharp(grey)
          .png()
          .toFile(at('images', part, name, 'a.png'));
      }
    }
    const data = ['--dataset', 'folder', '--data-dir', at('images')];
    const { code, stdout, stderr } = await layerwise(['evaluate', '--run', at('sorted'), ...data, '--json']);
    expect([code, stderr]).toEqual([0, '']);
    // Three equal images of three classes: one of them is right.
    const [line] = jsonLines(stdout);
    expect(line).toMatchObject({ images: 3, layer: 9, top5: 100 });
    expect(line!.top1).toBeCloseTo(100 / 3, 4);
  });

  it('is exported to the bytes that it came from', async () => {
    const to = at('again.safetensors');
    expect(await layerwise(['export', '--run', narrow, '--to', to])).toMatchObject({ code: 0, stderr: '' });
    const { __metadata__, ...tensors } = headerOf(to);
    expect(tensors).toEqual(headerOf(own));
    const data = (file: string): Buffer => {
      const bytes = readFileSync(file);
      return bytes.subarray(8 + Number(bytes.readBigUInt64LE()));
    };
    expect(data(to).equals(data(own))).toBe(true);
  });

  it('has a report', async () => {
    expect(await layerwise(['report', '--run', narrow])).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(`${narrow}/report.html`, 'utf8')).toContain('Weights imported from own.safetensors');
  });
});

describe('VGG-11 itself on 32 x 32 images', () => {
  const SALT = 9;
  let logits: number[];
  const exported = at('torchvision.safetensors');

  beforeAll(async () => {
    logits = await writeOwn(at('wide.safetensors'), { name: 'vgg11', classes: 3, imageSize: 32 }, SALT);
    const flags = ['--from', at('wide.safetensors'), '--model', 'vgg11', '--image-size', '32', '--out', at('wide')];
    expect(await layerwise(['import', ...flags])).toMatchObject({ code: 0 });
    const ended = await layerwise(['export', '--run', at('wide'), '--to', exported, '--torchvision']);
    expect(ended).toEqual({ code: 0, stdout: `${exported}: 62 tensors\n`, stderr: '' });
  }, 120_000);

  it("is exported with the classifier of torchvision's sizes", () => {
    const header = headerOf(exported);
    expect(header['classifier.0.weight']!.shape).toEqual([4096, 25088]);
    expect(header['classifier.3.weight']!.shape).toEqual([4096, 4096]);
    expect(header['classifier.6.weight']!.shape).toEqual([3, 4096]);
  });

  it('comes back as it was', async () => {
    const flags = ['--from', exported, '--model', 'vgg11', '--image-size', '32', '--out', at('back')];
    expect(await layerwise(['import', ...flags])).toMatchObject({ code: 0, stderr: '' });
    const header = headerOf(join(at('back'), 'model.safetensors'));
    expect(header['classifier.0.weight']!.shape).toEqual([4096, 512]);
  }, 60_000);

  describe('with PyTorch itself', () => {
    beforeEach(({ skip }) => skip(pythonMissing !== null, pythonMissing ?? ''));

    it("is loaded strictly by torchvision's vgg11_bn, which gives the same logits", async () => {
      const theirs = (await runPython(SCRIPT, ['logits', 'vgg11', 32, SALT, exported])) as { logits: number[][] };
      expectNumbersClose(theirs.logits.flat(), logits, 'logits', { relative: 1e-5, ofLargest: true });
    }, 120_000);
  });
});

describe('what is wrong with the arguments is said, and nothing is written', () => {
  beforeAll(() => {
    writeFileSync(at('holes.txt'), 'a\n\nc\n');
    writeFileSync(at('two.txt'), 'a\nb\n');
    writeFileSync(at('pointer'), 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 531503671\n');
  });

  const flags = (...more: string[]): string[] => ['import', '--from', own, '--out', at('no'), ...more];

  it.each<[args: () => string[], code: number, message: string | RegExp]>([
    [() => ['import'], 2, "required option '--from <file>' not specified"],
    [() => flags(), 2, "required option '--model <name>' not specified"],
    [() => flags('--model', 'vgg12'), 2, 'Allowed choices are vgg11, vgg13, vgg16, vgg19.'],
    [
      () => flags('--model', 'vgg13', '--image-size', '31'),
      2,
      'Expected pixels a side of at least 32 such as 64, or height x width such as 64x96, got "31".',
    ],
    [
      () => flags('--model', 'vgg13', '--image-size', '48'),
      2,
      'vgg13: expected an even size at the pooling of the last head for imageSize, got 48, 3 there',
    ],
    [() => flags('--model', 'vgg13', '--classes', at('none')), 2, `--classes: ${at('none')}: cannot be read`],
    [
      () => flags('--model', 'vgg13', '--classes', at('holes.txt')),
      2,
      /--classes: expected a name on each line of .*holes\.txt, got none on line 2/,
    ],
    [
      () => flags('--model', 'vgg13', '--classes', at('two.txt')),
      1,
      'classes: expected 3 names, one a row of classifier.6.weight',
    ],
    [
      () => flags('--model', 'vgg13', '--from', at('pointer')),
      1,
      `layerwise: ${at('pointer')}: expected a safetensors file, got a pointer of Git LFS to a file of 531503671 bytes; get the file itself with: git lfs pull\n`,
    ],
    [
      () => flags('--model', 'vgg16'),
      1,
      "expected the 13 convolutions of torchvision's vgg16_bn, got 10, as vgg13_bn has",
    ],
    [
      () => flags('--model', 'vgg13'),
      1,
      'classifier.0.weight: expected [256, 1568], got [256, 32]; is it of another image',
    ],
    [
      () => ['export', '--run', narrow, '--to', at('no'), '--torchvision'],
      2,
      'layerwise: torchvision: expected VGG-13 of width 64, got width 4\n',
    ],
  ])('%s', async (args, expected, message) => {
    const { code, stdout, stderr } = await layerwise(args());
    expect(stderr).toMatch(message);
    expect([code, stdout]).toEqual([expected, '']);
    expect(stderr).not.toContain('    at ');
    expect(existsSync(at('no'))).toBe(false);
  });
});
