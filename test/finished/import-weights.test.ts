import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { type ImportOptions, importWeights, TrainedRun, WeightsError } from '../../lib/finished/index.js';
import { disposeNetwork, ModelError, type Network, SimCnn, Vgg, type VggName } from '../../lib/models/index.js';
import { SafetensorsError, type StateDict, writeSafetensors } from '../../lib/nn/index.js';
import { type DType, memoryStats, noGrad, scope, type Tensor, tensor, zeros } from '../../lib/tensor/index.js';
import { train } from '../../lib/training/index.js';
import {
  decode,
  type EncodedTensor,
  expectClose,
  expectNumbersClose,
  FIXTURES,
  fillByHash,
  hashed,
  readFixture,
} from '../support/fixtures.js';
import { pythonMissing, runPython } from '../support/python.js';
import { smallRecipe, temporaryFolder } from '../training/runs.js';

interface TorchvisionNetwork {
  readonly model: VggName;
  /** Pixels a side, or [height, width]. */
  readonly imageSize: number | readonly [number, number];
  readonly width: number;
  readonly classes: number;
  readonly salt: number;
  readonly stateDict: readonly (readonly [name: string, shape: readonly number[]])[];
  readonly logits: EncodedTensor;
}

const { networks } = readFixture<{ readonly networks: readonly TorchvisionNetwork[] }>('torchvision.json');
const [VGG11] = networks as [TorchvisionNetwork];
const SCRIPT = join(FIXTURES, 'torchvision_vgg.py');
const TOLERANCE = { relative: 1e-5, ofLargest: true };

const at = temporaryFolder();

/** Writes the file that Python would: weights by hash, changed by `edit`; of other types where `dtype` says so. */
async function writeWeights(
  file: string,
  network: TorchvisionNetwork,
  { dtype = 'float32', edit }: { dtype?: DType; edit?: (tensors: StateDict) => void } = {},
): Promise<string> {
  const tensors: StateDict = new Map();
  const made: Tensor[] = [];
  for (const [name, shape] of network.stateDict) {
    const counts = name.endsWith('num_batches_tracked');
    made.push(zeros(shape, { dtype: counts ? 'int64' : 'float32' }));
    tensors.set(name, made.at(-1)!);
  }
  fillByHash(tensors, network.salt);
  for (const [name, value] of tensors) {
    if (value.dtype === 'int64' || dtype === 'float32') continue;
    made.push(value.to({ dtype }));
    tensors.set(name, made.at(-1)!);
  }
  edit?.(tensors);
  await writeSafetensors(at(file), tensors);
  for (const tensor of [...made, ...tensors.values()]) tensor.dispose();
  return at(file);
}

/** Of the two hashed images that test/fixtures/torchvision_vgg.py takes. */
function logitsOf(network: Network, salt: number): Tensor {
  return scope(() =>
    noGrad(() => {
      const images = hashed([2, ...network.inputShape], salt).mul_(4);
      return [...network.blocks, network.heads.at(-1)!].reduce((x, module) => module.eval().forward(x), images);
    }),
  );
}

const flat = (rows: readonly (readonly number[])[]): number[] => rows.flat();

describe("a run from torchvision's weights", () => {
  it.each(networks)("gives the logits of torchvision's $model on images of $imageSize", async (network) => {
    const { model, imageSize, salt } = network;
    const from = await writeWeights(`${model}-${imageSize}.safetensors`, network);
    const out = at(`${model}-${imageSize}`);
    await importWeights({ from, model, imageSize, out });
    using run = await TrainedRun.open(out, { device: 'cpu' });
    const sides = typeof imageSize === 'number' ? [imageSize, imageSize] : imageSize;
    expect(run.network.inputShape).toEqual([3, ...sides]);
    // 256 for 224.
    expect(run.recipe.dataset).toMatchObject({ imageSize, testResize: Math.round((8 * Math.min(...sides)) / 7) });
    using logits = logitsOf(run.network, salt);
    expectClose(logits, network.logits, 'logits', TOLERANCE);
  });

  it('is a finished run: its recipe, its classes, a result without figures, a report that says where it is from', async () => {
    const from = await writeWeights('weights.safetensors', VGG11);
    const classes = ['tench', 'crane', 'crane', 'Ångström', 'a & b'];
    const { runDirectory, report, notes } = await importWeights({ from, model: 'vgg11', classes, out: at('run') });
    expect(runDirectory).toBe(at('run'));
    expect(readdirSync(runDirectory).sort()).toEqual([
      ...['config.json', 'model.safetensors', 'report.html', 'result.json'],
    ]);
    const config = JSON.parse(readFileSync(join(runDirectory, 'config.json'), 'utf8'));
    expect(config).toMatchObject({
      preset: 'vgg11-end-to-end',
      classes,
      normalization: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
      precision: 'fp32',
      recipe: {
        model: { name: 'vgg11', width: 4, layers: 8, dropout: 0.5 },
        dataset: { name: 'imagenet', imageSize: 224, testResize: 256 },
        training: { schedule: 'end-to-end' },
      },
    });
    const result = JSON.parse(readFileSync(join(runDirectory, 'result.json'), 'utf8'));
    expect(result).toMatchObject({ layers: [{ layer: 7 }], seconds: 0, notes });
    expect(result.layers[0].testTop1).toBeNull();
    expect(notes).toEqual([
      'Weights imported from weights.safetensors, not trained here: what the recipe says of training is not theirs.',
      'The classes with labels 1 and 2 have the same name, crane.',
      'Width 4: VGG-11 itself has 64.',
    ]);
    const page = readFileSync(report, 'utf8');
    expect(page).toContain(notes[0]);
    expect(page).not.toMatch(/NaN|undefined/);
  });

  it('takes any floating-point type, and batch norm without num_batches_tracked', async () => {
    const edit = (tensors: StateDict): void => {
      for (const [name, value] of [...tensors]) {
        if (!name.endsWith('num_batches_tracked')) continue;
        value.dispose();
        tensors.delete(name);
      }
    };
    using exact = decode(VGG11.logits);
    const expected = [...exact.toFloat32Array()];
    for (const [dtype, relative] of [
      ['float64', 1e-5],
      ['float16', 1e-2],
      ['bfloat16', 5e-2],
    ] as const) {
      const from = await writeWeights(`${dtype}.safetensors`, VGG11, { dtype, edit });
      await importWeights({ from, model: 'vgg11', imageSize: 32, out: at(dtype) });
      using run = await TrainedRun.open(at(dtype), { device: 'cpu' });
      const state = run.network.stateDict();
      expect(state.get('features.0.weight')!.dtype).toBe('float32');
      expect(state.get('features.1.num_batches_tracked')!.item()).toBe(0);
      using logits = logitsOf(run.network, VGG11.salt);
      expectNumbersClose([...logits.toFloat32Array()], expected, dtype, { relative, ofLargest: true });
      expect(run.classes).toEqual(['class 0', 'class 1', 'class 2', 'class 3', 'class 4']);
    }
  });

  it.each([['module.'], ['_orig_mod.'], ['module._orig_mod.'], ['_orig_mod.module.'], ['state_dict.model.']])(
    'takes names that all begin with %s',
    async (prefix) => {
      const edit = (tensors: StateDict): void => {
        const renamed = [...tensors].map(([name, value]) => [prefix + name, value] as const);
        tensors.clear();
        for (const [name, value] of renamed) tensors.set(name, value);
      };
      const from = await writeWeights('prefixed.safetensors', VGG11, { dtype: 'bfloat16', edit });
      const plain = await writeWeights('plain.safetensors', VGG11, { dtype: 'bfloat16' });
      const out = at(`from ${prefix}`);
      await importWeights({ from, model: 'vgg11', imageSize: 32, out });
      await importWeights({ from: plain, model: 'vgg11', imageSize: 32, out: at(`beside ${prefix}`) });
      const model = (directory: string): Buffer => readFileSync(join(directory, 'model.safetensors'));
      expect(model(out).equals(model(at(`beside ${prefix}`)))).toBe(true);
    },
  );

  it('converts half precision to the very values', async () => {
    for (const dtype of ['float16', 'bfloat16'] as const) {
      const values = new Map<string, number[]>();
      const edit = (tensors: StateDict): void => {
        // Widened by float64, which holds every value of both.
        for (const [name, value] of tensors) {
          const wide = scope(() => value.to({ dtype: 'float64' }));
          values.set(name, Array.from(wide.toTypedArray(), Number));
          wide.dispose();
        }
      };
      const from = await writeWeights('half.safetensors', VGG11, { dtype, edit });
      await importWeights({ from, model: 'vgg11', imageSize: 32, out: at(`exact ${dtype}`) });
      using run = await TrainedRun.open(at(`exact ${dtype}`), { device: 'cpu' });
      for (const [name, value] of run.network.stateDict()) {
        // The classifier's first weight is rewritten for the image size.
        if (name === 'classifier.0.weight') continue;
        expect(Array.from(value.toTypedArray(), Number), name).toEqual(values.get(name));
      }
    }
  });

  it("takes this project's own file of the same image size", async () => {
    const network = new Vgg({ name: 'vgg13', classes: 3, imageSize: 64, width: 4, seed: 5 });
    try {
      fillByHash(network.stateDict());
      await writeSafetensors(at('own.safetensors'), network.stateDict());
      await importWeights({ from: at('own.safetensors'), model: 'vgg13', imageSize: 64, out: at('own') });
      using run = await TrainedRun.open(at('own'), { device: 'cpu' });
      using logits = logitsOf(run.network, 1);
      using expected = logitsOf(network, 1);
      expectNumbersClose([...logits.toFloat32Array()], [...expected.toFloat32Array()], 'logits', TOLERANCE);
    } finally {
      disposeNetwork(network);
    }
  });
});

describe('weights that do not fit are refused, with what was expected and what came, and nothing is written', () => {
  const swap = (tensors: StateDict, name: string, made: Tensor | null): void => {
    tensors.get(name)?.dispose();
    if (made === null) tensors.delete(name);
    else tensors.set(name, made);
  };

  async function expectRefused(
    edit: (tensors: StateDict) => void,
    more: Partial<ImportOptions>,
    message: string,
  ): Promise<void> {
    const from = await writeWeights('refused.safetensors', VGG11, { edit });
    const before = memoryStats();
    const refused = importWeights({ from, model: 'vgg11', imageSize: 32, out: at('refused'), ...more });
    await expect(refused).rejects.toThrow(WeightsError);
    await expect(refused).rejects.toThrow(message.replaceAll('FILE', from));
    expect(existsSync(at('refused'))).toBe(false);
    expect(memoryStats()).toEqual(before);
  }

  it.each<[string, (tensors: StateDict) => void, Partial<ImportOptions>, string]>([
    [
      'another VGG',
      () => {},
      { model: 'vgg13' },
      "FILE: expected the 10 convolutions of torchvision's vgg13_bn, got 8, as vgg11_bn has",
    ],
    [
      'one without batch norm',
      (tensors) => {
        for (const key of ['weight', 'bias', 'running_mean', 'running_var']) swap(tensors, `features.1.${key}`, null);
      },
      {},
      'missing: features.1.weight, features.1.bias, features.1.running_mean, features.1.running_var',
    ],
    ['a tensor more', (tensors) => swap(tensors, 'fc.weight', zeros([2])), {}, 'vgg11_bn; unexpected: fc.weight'],
    [
      'a tensor of another shape',
      (tensors) => swap(tensors, 'features.4.weight', zeros([8, 3, 3, 3])),
      {},
      'features.4.weight: expected [8, 4, 3, 3], got [8, 3, 3, 3]',
    ],
    [
      'a head for another number of classes than names',
      () => {},
      { classes: ['a', 'b', 'c'] },
      'classes: expected 5 names, one a row of classifier.6.weight in FILE, got 3',
    ],
    [
      'a class without a name',
      () => {},
      { classes: ['a', 'b', 'c', ' ', 'e'] },
      'classes: expected a name for each label, got none for label 3',
    ],
    [
      'another image size, in a file of its own',
      (tensors) => swap(tensors, 'classifier.0.weight', zeros([256, 128])),
      {},
      'classifier.0.weight: expected [256, 32], got [256, 128]; is it of another image size?',
    ],
    [
      'another architecture',
      (tensors) => {
        for (const name of [...tensors.keys()]) swap(tensors, name, null);
        swap(tensors, 'blocks.0.conv.weight', zeros([2, 3, 3, 3]));
      },
      {},
      "FILE: expected the 8 convolutions of torchvision's vgg11_bn, got 0 among 1 tensors: blocks.0.conv.weight",
    ],
    [
      'a prefix that one name does not have',
      (tensors) => {
        for (const [name, value] of [...tensors]) {
          tensors.delete(name);
          tensors.set(name === 'classifier.6.bias' ? name : `module.${name}`, value);
        }
      },
      {},
      "FILE: expected the 8 convolutions of torchvision's vgg11_bn, got 0 among 62 tensors: module.features.0.weight, ",
    ],
    [
      'everything at once, the first ten of each kind by name',
      (tensors) => {
        for (const name of [...tensors.keys()]) {
          if (/^features\.(1|5|9)\.(weight|bias|running_)/.test(name)) swap(tensors, name, null);
        }
        for (let i = 0; i < 12; i++) swap(tensors, `extra.${i}`, zeros([1]));
        swap(tensors, 'features.4.weight', zeros([8, 4, 5, 5]));
        swap(tensors, 'classifier.3.bias', zeros([7]));
      },
      {},
      "FILE: expected the tensors of torchvision's vgg11_bn; missing: features.1.weight, features.1.bias, " +
        'features.1.running_mean, features.1.running_var, features.5.weight, features.5.bias, features.5.running_mean, ' +
        'features.5.running_var, features.9.weight, features.9.bias and 2 more; unexpected: extra.0, extra.1, extra.2, ' +
        'extra.3, extra.4, extra.5, extra.6, extra.7, extra.8, extra.9 and 2 more; ' +
        'features.4.weight: expected [8, 4, 3, 3], got [8, 4, 5, 5], classifier.3.bias: expected [256], got [7]',
    ],
    [
      'what is missing beside the head',
      (tensors) => {
        swap(tensors, 'classifier.6.weight', null);
        swap(tensors, 'classifier.3.bias', null);
        swap(tensors, 'fc.weight', zeros([1]));
      },
      {},
      'vgg11_bn; missing: classifier.3.bias, classifier.6.weight; unexpected: fc.weight',
    ],
    [
      'no head',
      (tensors) => swap(tensors, 'classifier.6.weight', null),
      {},
      "FILE: expected the tensors of torchvision's vgg11_bn; missing: classifier.6.weight",
    ],
    [
      'a linear layer that is a convolution',
      (tensors) => swap(tensors, 'classifier.6.weight', zeros([5, 2, 1, 1])),
      {},
      'FILE: classifier.6.weight: expected 2 dimensions, got [5, 2, 1, 1]',
    ],
    [
      'quantised weights',
      (tensors) => swap(tensors, 'features.4.weight', zeros([8, 4, 3, 3], { dtype: 'uint8' })),
      {},
      "FILE: expected the tensors of torchvision's vgg11_bn; features.4.weight: expected float32, got uint8",
    ],
  ])('%s', async (_, edit, more, message) => {
    await expectRefused(edit, more, message);
  });

  it('another network, before any of its tensors is read', async () => {
    // 256 GiB, by a header alone.
    const shape = [2 ** 18, 2 ** 18];
    const header = JSON.stringify({ 'lm_head.weight': { dtype: 'F32', shape, data_offsets: [0, 2 ** 38] } });
    const start = Buffer.alloc(8);
    start.writeBigUInt64LE(BigInt(header.length));
    const from = at('large.safetensors');
    writeFileSync(from, Buffer.concat([start, Buffer.from(header)]));
    truncateSync(from, 8 + header.length + 2 ** 38);
    try {
      await expect(importWeights({ from, model: 'vgg11', out: at('refused') })).rejects.toThrow(
        "expected the 8 convolutions of torchvision's vgg11_bn, got 0 among 1 tensors: lm_head.weight",
      );
    } finally {
      rmSync(from);
    }
  });

  it.each<[object, string]>([
    [{ model: 'resnet50' }, 'importWeights: model: expected one of "vgg11"|"vgg13"|"vgg16"|"vgg19", got "resnet50"'],
    [{ model: undefined }, 'importWeights: model: expected one of'],
    [{ from: 3 }, 'importWeights: from: expected string, got 3'],
    [{ out: '' }, 'importWeights: out: expected at least 1 character, got ""'],
    [{ classes: null }, 'importWeights: classes: expected array, got null'],
    [{ classes: ['a', 1] }, 'importWeights: classes.1: expected string, got 1'],
  ])('options that are none: %o', async (options, message) => {
    const refused = importWeights({
      from: at('none'),
      model: 'vgg11',
      out: at('refused'),
      ...options,
    } as ImportOptions);
    await expect(refused).rejects.toThrow(WeightsError);
    await expect(refused).rejects.toThrow(message);
  });

  it('a file that is no safetensors file, or not there', async () => {
    const pickle = join(FIXTURES, 'foreign', 'torch-save.pt');
    const options = { model: 'vgg11', out: at('refused') } as const;
    const refused = importWeights({ ...options, from: pickle });
    await expect(refused).rejects.toThrow(SafetensorsError);
    await expect(refused).rejects.toThrow('got a file of torch.save; convert it with Python:');
    await expect(importWeights({ ...options, from: at('none') })).rejects.toThrow(`${at('none')}: not found`);
    expect(existsSync(at('refused'))).toBe(false);
  });

  it('an image size that VGG does not take, and a directory that holds something', async () => {
    const from = await writeWeights('good.safetensors', VGG11);
    const options = { from, model: 'vgg11' } as const;
    await expect(importWeights({ ...options, imageSize: 100, out: at('refused') })).rejects.toThrow(ModelError);
    await importWeights({ ...options, imageSize: 32, out: at('taken') });
    await expect(importWeights({ ...options, imageSize: 32, out: at('taken') })).rejects.toThrow('already holds a run');
  });
});

describe('weights with values that no network has are refused, by name and number, and nothing is written', () => {
  const change = (tensors: StateDict, name: string, values: readonly number[], dtype: DType = 'float32'): void => {
    const old = tensors.get(name)!;
    const wide = old.to({ dtype });
    old.dispose();
    scope(() => {
      wide.reshape([-1]).narrow(0, 0, values.length).copy_(tensor(values, { dtype }));
    });
    tensors.set(name, wide);
  };

  it.each<[string, (tensors: StateDict) => void, string]>([
    [
      'NaN and infinity',
      (tensors) => change(tensors, 'features.0.weight', [Number.NaN, 1, Number.NEGATIVE_INFINITY]),
      `features.0.weight: expected finite float32 numbers, got 2 of ${4 * 27} that are not`,
    ],
    [
      'a float64 beyond the range of float32',
      (tensors) => change(tensors, 'features.4.bias', [1e300], 'float64'),
      'features.4.bias: expected finite float32 numbers, got 1 of 8 that are not',
    ],
    [
      'a variance below 0',
      (tensors) => change(tensors, 'features.1.running_var', [0, -1e-7, -2]),
      'features.1.running_var: expected variances of at least 0, got 2 of 4 below',
    ],
    [
      'in many tensors',
      (tensors) => {
        for (const i of [0, 4, 8, 11, 15]) change(tensors, `features.${i}.bias`, [Number.NaN]);
      },
      'features.8.bias: expected finite float32 numbers, got 1 of 16 that are not; and 2 more tensors',
    ],
  ])('%s', async (_, edit, message) => {
    const from = await writeWeights('unfit.safetensors', VGG11, { edit });
    const before = memoryStats();
    const refused = importWeights({ from, model: 'vgg11', imageSize: 32, out: at('unfit') });
    await expect(refused).rejects.toThrow(WeightsError);
    await expect(refused).rejects.toThrow(`${from}: `);
    await expect(refused).rejects.toThrow(message);
    expect(existsSync(at('unfit'))).toBe(false);
    expect(memoryStats()).toEqual(before);
  });
});

describe("a run's own files of another network are refused, with what was expected and what came", () => {
  const vgg = { imageSize: 32, width: 2, layers: 2, seed: 1 };
  const simcnn = { classes: 10, k: 2, layers: 2, width: 2, auxWidth: 2, downsampleAt: [1], seed: 1 };
  const cases: [string, preset: string, model: object, other: () => Network, message: RegExp][] = [
    [
      'a head for another number of classes',
      'vgg11-layerwise',
      { layers: 2 },
      () => new Vgg({ ...vgg, name: 'vgg11', classes: 3 }),
      /classifier\.6\.weight: expected \[10, 128\], got \[3, 128\]/,
    ],
    [
      'another VGG',
      'vgg11-layerwise',
      { layers: 2 },
      () => new Vgg({ ...vgg, name: 'vgg13', classes: 10 }),
      /missing: features\.5\.weight, .*; unexpected: features\.3\.weight, /,
    ],
    [
      'a VGG where a SimCNN was',
      'simcnn-k2',
      { layers: 2, auxWidth: 2, downsampleAt: [1] },
      () => new Vgg({ ...vgg, name: 'vgg11', classes: 10 }),
      /missing: blocks\.0\.conv\.weight, .*; unexpected: features\.0\.weight, /,
    ],
    [
      'a SimCNN where a VGG was',
      'vgg11-layerwise',
      { layers: 2 },
      () => new SimCnn(simcnn),
      /missing: features\.0\.weight, .*; unexpected: blocks\.0\.conv\.weight, /,
    ],
  ];

  it.each(cases)('%s', async (what, preset, model, other, message) => {
    const out = at(`run ${what}`);
    await train({ recipe: smallRecipe({ model, training: { epochs: 1, milestones: [] } }, preset), out });
    const network = other();
    try {
      await writeSafetensors(join(out, 'model.safetensors'), network.stateDict());
      const before = memoryStats();
      await expect(TrainedRun.open(out, { device: 'cpu' })).rejects.toThrow(message);
      expect(memoryStats()).toEqual(before);
    } finally {
      disposeNetwork(network);
    }
  });
});

describe('with PyTorch itself', () => {
  beforeEach(({ skip }) => skip(pythonMissing !== null, pythonMissing ?? ''));

  it.each([
    ['vgg13', 64],
    ['vgg16', 32],
    ['vgg19', 224],
  ] as const)(
    "weights that Python made for torchvision's %s give equal logits here on %i pixels",
    async (model, size) => {
      const file = at(`python-${model}.safetensors`);
      const made = (await runPython(SCRIPT, ['make', model, 8, 4, size, 60, file])) as { logits: number[][] };
      await importWeights({ from: file, model, imageSize: size, out: at(`python-${model}`) });
      using run = await TrainedRun.open(at(`python-${model}`), { device: 'cpu' });
      using logits = logitsOf(run.network, 60);
      expectNumbersClose([...logits.toFloat32Array()], flat(made.logits), 'logits', TOLERANCE);
    },
  );

  it.each(['vgg11', 'vgg16'] as const)(
    "torchvision's %s loads a network of 224 pixels strictly, with equal logits",
    async (name) => {
      const network = new Vgg({ name, classes: 3, width: 8, seed: 2 });
      try {
        fillByHash(network.stateDict(), 40);
        const file = at(`${name}-224.safetensors`);
        await writeSafetensors(file, network.stateDict(), { format: 'pt' });
        const theirs = (await runPython(SCRIPT, ['logits', name, 224, 61, file])) as { logits: number[][] };
        using logits = logitsOf(network, 61);
        expectNumbersClose([...logits.toFloat32Array()], flat(theirs.logits), 'logits', TOLERANCE);
      } finally {
        disposeNetwork(network);
      }
    },
  );
});
