// The command line's contract: what it prints where, and its exit codes.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { writeBinary } from '../data/cifar10-files.js';
import { jsonLines, layerwise, start, TINY, temporaryFolder } from './cli.js';

const at = temporaryFolder();
const run = at('run');
const endToEnd = at('end to end');

/** What both runs printed. */
let printed: { run: string; endToEnd: string };

beforeAll(async () => {
  const first = await layerwise(['train', ...TINY, '--out', run, '--json']);
  expect(first).toMatchObject({ code: 0, stderr: '' });
  const second = await layerwise(['train', ...TINY, '--preset', 'vgg11-end-to-end', '--out', endToEnd]);
  expect(second).toMatchObject({ code: 0, stderr: '' });
  printed = { run: first.stdout, endToEnd: second.stdout };
});

const resultOf = (directory: string): { layers: Record<string, number>[] } =>
  JSON.parse(readFileSync(`${directory}/result.json`, 'utf8'));

describe('train', () => {
  it('prints with --json one object a line, and nothing else', () => {
    const events = jsonLines(printed.run);
    expect(events[0]).toMatchObject({ type: 'start', runDirectory: run, resumedFrom: null });
    expect(events.at(-1)).toMatchObject({ type: 'done', report: `${run}/report.html`, result: resultOf(run) });
    expect(events.filter(({ type }) => type === 'epoch')).toHaveLength(4);
    expect(events.filter(({ type }) => type === 'layer')).toHaveLength(2);
  });

  it('prints plain lines where there is no terminal: the recipe, a line an epoch, a table, where the report is', () => {
    const { endToEnd: text } = printed;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that there are none is what is tested
    expect(text).not.toMatch(/[\u001b\r]/);
    const lines = text.split('\n');
    expect(lines[0]).toMatch(/^preset +vgg11-end-to-end$/);
    expect(lines.filter((line) => /^layer 2 epoch [12]: learning rate 0.0500, /.test(line))).toHaveLength(2);
    const [layer] = resultOf(endToEnd).layers;
    expect(
      lines
        .find((line) => /^ +2 /.test(line))!
        .trim()
        .split(/ +/),
    ).toEqual([
      ...['2', layer!.testTop1!.toFixed(2), layer!.testTop5!.toFixed(2), '-', '-', layer!.seconds!.toFixed(1)],
    ]);
    expect(text).toContain(`Open the report: ${endToEnd}/report.html`);
    // What is trained is not VGG-11 itself, and the table says so.
    expect(text).toContain('Note: Width 2: VGG-11 itself has 64.');
  });

  it('writes the whole run directory, the resolved recipe with the values of the flags in it', () => {
    expect(readdirSync(run).sort()).toEqual([
      ...['auxiliary-heads.safetensors', 'config.json', 'metrics.jsonl', 'model.safetensors', 'report.html'],
      'result.json',
    ]);
    const { recipe, seed, device, precision, versions } = JSON.parse(readFileSync(`${run}/config.json`, 'utf8'));
    expect(recipe).toMatchObject({
      preset: 'vgg11-layerwise',
      model: { width: 2, layers: 2 },
      dataset: { name: 'shapes', trainLimit: 64, testLimit: 40 },
      training: { epochs: 2, batchSize: 32, learningRate: 0.05 },
    });
    expect({ seed, device, precision }).toEqual({ seed: 1, device: 'cpu', precision: 'fp32' });
    expect(Object.keys(versions).sort()).toEqual(['layerwise', 'libtorch', 'node']);
  });

  it('takes values of a file, and flags before them', async () => {
    const config = at('config.json');
    writeFileSync(config, '{"seed": 7, "training": {"epochs": 1, "momentum": 0.5}, "model": {"width": 3}}');
    const out = at('configured');
    const flags = ['--config', config, '--width', '2', '--layers', '1', '--train-limit', '32', '--test-limit', '8'];
    expect(await layerwise(['train', ...flags, '--device', 'cpu', '--out', out])).toMatchObject({ code: 0 });
    expect(JSON.parse(readFileSync(`${out}/config.json`, 'utf8')).recipe).toMatchObject({
      seed: 7,
      model: { width: 2, layers: 1 },
      training: { epochs: 1, momentum: 0.5, batchSize: 64 },
    });
  });

  it('takes the config.json of a run, also from an editor that writes UTF-16', async () => {
    const config = at('recorded.json');
    writeFileSync(config, `\ufeff${readFileSync(`${run}/config.json`, 'utf8').replaceAll('\n', '\r\n')}`, 'utf16le');
    const out = at('the same again');
    expect(await layerwise(['train', '--config', config, '--out', out])).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(readFileSync(`${out}/config.json`, 'utf8')).recipe).toEqual(
      JSON.parse(readFileSync(`${run}/config.json`, 'utf8')).recipe,
    );
    expect(readFileSync(`${out}/model.safetensors`).equals(readFileSync(`${run}/model.safetensors`))).toBe(true);
  });

  it('makes a new directory under runs/ unless told', async () => {
    const cwd = at('elsewhere');
    mkdirSync(cwd);
    const { code } = await layerwise(['train', ...TINY, '--epochs', '1', '--layers', '1'], { cwd });
    expect(code).toBe(0);
    const [made, ...others] = readdirSync(`${cwd}/runs`);
    expect(others).toEqual([]);
    expect(made).toMatch(/^vgg11-layerwise-shapes-\d{8}-\d{6}$/);
    expect(existsSync(`${cwd}/runs/${made}/report.html`)).toBe(true);
  });

  it('refuses a directory that holds a run, and loses nothing of it', async () => {
    const before = readdirSync(run).map((name) => readFileSync(`${run}/${name}`, 'base64'));
    const { code, stdout, stderr } = await layerwise(['train', ...TINY, '--out', run, '--json']);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toBe(`layerwise: ${run} already holds a run: go on with --resume ${run}, or give another --out\n`);
    expect(readdirSync(run).map((name) => readFileSync(`${run}/${name}`, 'base64'))).toEqual(before);
  });

  it('says of a finished run that nothing is left to train, and shows its table', async () => {
    const { code, stdout, stderr } = await layerwise(['train', '--resume', run]);
    expect([code, stderr]).toEqual([0, `${run} was finished before: nothing is left to train.\n`]);
    expect(stdout).toContain('layer  top-1 %');
  });

  it('stops with exit code 1 when the loss is not finite, and says where', async () => {
    const { code, stderr } = await layerwise(['train', ...TINY, '--learning-rate', '1e30', '--out', at('diverged')]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^layerwise: the loss is (NaN|Infinity) at layer 1, epoch 1, step 2, learning rate 1e\+30;/);
  });

  it('stops with a checkpoint when nobody reads on, as in `| head -1`', async () => {
    const { process: child, ended } = start(['train', ...TINY, '--epochs', '30', '--out', at('unread'), '--json']);
    child.stdout.once('data', () => child.stdout.destroy());
    const { code, stderr } = await ended;
    expect([code, stderr]).toEqual([
      1,
      `layerwise: standard output was closed; training was interrupted; go on with --resume ${at('unread')}\n`,
    ]);
  });

  it('does not make a run directory again that was moved away while it trained', async () => {
    const out = at('removed');
    const { line, ended } = start(['train', ...TINY, '--epochs', '200', '--out', out, '--json']);
    await line(({ type }) => type === 'epoch');
    renameSync(out, at('moved'));
    const { code, stderr } = await ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/^layerwise: .*removed\/[^\n]*\n$/);
    expect(stderr).not.toContain('    at ');
    expect(existsSync(out)).toBe(false);
  });
});

describe.concurrent('what is wrong with the arguments is said, with exit code 2 and nothing on standard output', () => {
  const config = (text: string): string => {
    const file = at(`config-${text.replaceAll(/\W/g, '')}.json`);
    writeFileSync(file, text);
    return file;
  };

  it.each<[args: () => string[], message: string | RegExp]>([
    [() => ['train', '--widht', '3'], "unknown option '--widht'"],
    [() => ['train', 'stray'], 'too many arguments'],
    [() => ['trian'], "unknown command 'trian'"],
    [() => [], 'Usage: layerwise'],
    [
      () => ['train', '--preset', 'vgg12'],
      /preset: expected one of vgg11-layerwise, vgg11-simultaneous, vgg11-end-to-end, .*got "vgg12"/,
    ],
    [() => ['train', '--data-dir', '.'], '--data-dir: shapes is drawn by the program'],
    [() => ['train', '--dataset', 'mnist'], 'Allowed choices are shapes, cifar10, folder, imagenet.'],
    [() => ['train', '--dataset', 'cifar10'], '--data-dir DIR'],
    [() => ['train', '--width', '0'], 'Expected an integer of at least 1, got "0".'],
    [() => ['train', '--epochs'], 'argument missing'],
    [() => ['train', '--epochs', '--json'], 'Expected a value, got the flag --json.'],
    [() => ['train', '--resume', '--json'], 'Expected a value, got the flag --json.'],
    [() => ['train', '--precision', '--json'], 'Expected a value, got the flag --json.'],
    [() => ['evaluate', '--run', '--json'], 'Expected a value, got the flag --json.'],
    ...[
      'train --out',
      'train --resume',
      'train --data-dir',
      'train --config',
      'plan --start-from',
      'evaluate --run',
    ].map((flag): [() => string[], string] => [() => [...flag.split(' '), ''], 'Expected a value, got an empty one.']),
    [() => ['export', '--run', run, '--to', ''], 'Expected a value, got an empty one.'],
    [() => ['data', 'download', 'cifar10', '--data-dir='], 'Expected a value, got an empty one.'],
    [() => ['train', '--learning-rate', 'abc'], 'Expected a number above 0, got "abc".'],
    [() => ['train', ...TINY, '--layers', '9', '--out', at('no')], 'expected an integer from 1 to 8 for layers, got 9'],
    [() => ['train', '--precision', 'int8'], 'Allowed choices are auto, fp32, bf16, fp16.'],
    [() => ['train', '--config', at('none.json')], `--config: ${at('none.json')}: cannot be read`],
    [() => ['train', '--config', config('{"training": {"lr": 1}}')], 'unknown key training.lr'],
    [() => ['train', '--config', config('{"dataset": {"name": "mnist"}}')], /dataset\.name: .*, got "mnist"/],
    [() => ['train', '--config', config('{"preset": 5}')], /preset: .*, got 5/],
    [() => ['train', '--config', config('[1]')], '--config: expected a JSON object in'],
    [() => ['train', '--config', config('{"seed": 1,}')], /--config: .*json:1:12: a comma before }: take it out\n/],
    [() => ['train', '--config', config('{"seed": 1, "seed": 2}')], /json:1:13: the name "seed" is there twice\n/],
    [() => ['train', '--config', config('{"package": "layerwise"}')], '--config: expected the recipe of a run in'],
    [() => ['train', '--resume', run, '--learning-rate', '1'], '--learning-rate cannot be given with --resume'],
    [() => ['train', '--resume', run, '--out', run], '--out cannot be given with --resume'],
    [() => ['evaluate'], "required option '--run <dir>' not specified"],
    [() => ['evaluate', '--run', run, '--layer', '1', '--ensemble'], '--layer and --ensemble exclude each other'],
    [() => ['evaluate', '--run', run, '--layer', '3'], 'expected a layer from 1 to 2, got 3'],
    [() => ['predict', '--run', run], "missing required argument 'image'"],
    [() => ['export', '--run', run], "required option '--to <file>' not specified"],
    [() => ['data', 'download', 'mnist', '--data-dir', at('x')], 'Allowed choices are cifar10.'],
    [() => ['data', 'download', 'cifar10'], "required option '--data-dir <dir>' not specified"],
  ])('%s', async (args, message) => {
    const { code, stdout, stderr } = await layerwise(args());
    expect(stderr).toMatch(message);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).not.toContain('    at ');
    // No run directory is left behind; while another of these commands is at work, its own may be there.
    if (args().includes(at('no'))) expect(existsSync(at('no'))).toBe(false);
  });

  it.each([
    [['--help'], 'Usage: layerwise'],
    [['train', '--help'], '--train-limit <n>'],
    [['--version'], /^\d+\.\d+\.\d+\n$/],
  ])('%j is no mistake', async (args, text) => {
    const { code, stdout, stderr } = await layerwise(args);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(text);
  });
});

describe('what is wrong outside the arguments is said, with exit code 1', () => {
  it('a directory that is no run', async () => {
    for (const args of [
      ['train', '--resume', at('nowhere')],
      ['evaluate', '--run', at('nowhere')],
      ['predict', '--run', at('nowhere'), 'x.png'],
      ['report', '--run', at('nowhere')],
      ['export', '--run', at('nowhere'), '--to', at('x.safetensors')],
    ]) {
      const { code, stdout, stderr } = await layerwise(args);
      expect([args[0], code, stdout]).toEqual([args[0], 1, '']);
      expect(stderr).toMatch(/^layerwise: .*nowhere.*config\.json.*\n$/);
      expect(stderr).toContain('expected a run directory');
    }
  });

  it('a directory where nothing can be written', async () => {
    const file = at('a file');
    writeFileSync(file, '');
    for (const out of [file, `${file}/below`]) {
      const { code, stderr } = await layerwise(['train', ...TINY, '--out', out]);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^layerwise: .*a file.*\n$/);
    }
  });

  it.runIf(process.platform === 'linux')('a folder that takes no directories', async () => {
    for (const args of [
      ['train', ...TINY, '--out', '/proc/runs/one'],
      ['data', 'download', 'cifar10', '--data-dir', '/proc/data'],
    ]) {
      const { code, stdout, stderr } = await layerwise(args);
      expect([code, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(/^layerwise: \/proc\/\S+: could not be made: no such file or directory \(ENOENT\)\n$/);
    }
  });

  it('a CUDA device on a machine that has none: the CPU is never taken for it', async () => {
    const { code, stdout, stderr } = await layerwise(['train', ...TINY, '--device', 'cuda:77', '--out', at('no cuda')]);
    expect(code).not.toBe(0);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^layerwise: device: cuda:77 was asked for, but .+\n$/);
    expect(existsSync(at('no cuda'))).toBe(false);
  });

  it('refuses a CUDA graph on the CPU', async () => {
    const { code, stderr } = await layerwise(['train', ...TINY, '--cuda-graph', '--out', at('no graph')]);
    expect(code).toBe(2);
    expect(stderr).toBe('layerwise: cudaGraph (--cuda-graph): needs a CUDA device, this run is on the cpu\n');
    expect(existsSync(at('no graph'))).toBe(false);
  });

  it('data that is not there, with the command that gets it', async () => {
    const { code, stderr } = await layerwise(['train', '--dataset', 'cifar10', '--data-dir', at('no data')]);
    expect(code).toBe(1);
    expect(stderr).toContain(`layerwise data download cifar10 --data-dir ${at('no data')}`);
  });

  it('a data file that is cut off, by its name', async () => {
    await writeBinary(at('cifar', 'cifar-10-batches-bin'), 3);
    const { code, stderr } = await layerwise(['train', '--dataset', 'cifar10', '--data-dir', at('cifar')]);
    expect(code).toBe(1);
    expect(stderr).toContain(at('cifar', 'cifar-10-batches-bin', 'data_batch_1.bin'));
  });

  it('a damaged run, by the name of the file', async () => {
    const damaged = at('damaged');
    cpSync(run, damaged, { recursive: true });
    truncateSync(`${damaged}/model.safetensors`, 500);
    const evaluated = await layerwise(['evaluate', '--run', damaged]);
    expect(evaluated.code).toBe(1);
    expect(evaluated.stderr).toContain(`${damaged}/model.safetensors`);
    writeFileSync(`${damaged}/config.json`, '{"package": "lay');
    const reported = await layerwise(['report', '--run', damaged]);
    expect(reported.code).toBe(1);
    expect(reported.stderr).toContain(`${damaged}/config.json`);
  });
});

describe('evaluate', () => {
  it.each([
    [['--layer', '1'], 0, 'test'],
    [['--layer', '2'], 1, 'test'],
    [[], 1, 'test'],
    [['--ensemble'], 1, 'ensemble'],
  ] as const)('%j gives what the run recorded', async (flags, layer, kind) => {
    const { code, stdout, stderr } = await layerwise(['evaluate', '--run', run, ...flags, '--json']);
    expect([code, stderr]).toEqual([0, '']);
    const [got, ...others] = jsonLines(stdout);
    expect(others).toEqual([]);
    const recorded = resultOf(run).layers[layer]!;
    expect(got).toMatchObject({
      ...{ run, dataset: 'shapes', images: 40, layer: kind === 'ensemble' ? 'ensemble' : layer },
      ...{ top1: recorded[`${kind}Top1`], top5: recorded[`${kind}Top5`] },
    });
    if (kind === 'ensemble') expect(got!.loss).toBeNull();
    else expect(Math.abs((got!.loss as number) - recorded.testLoss!)).toBeLessThan(1e-6);
  });

  it('prints a few lines without --json', async () => {
    const { stdout } = await layerwise(['evaluate', '--run', run]);
    expect(stdout).toMatch(/images +40\n.*read by +layer 2\n/);
    expect(stdout).toMatch(new RegExp(`top-1 % +${resultOf(run).layers[1]!.testTop1!.toFixed(2)}\\n`));
  });

  it('knows only the last layer of a network that was trained end to end', async () => {
    const last = await layerwise(['evaluate', '--run', endToEnd, '--json']);
    expect(jsonLines(last.stdout)[0]).toMatchObject({ layer: 1, top1: resultOf(endToEnd).layers[0]!.testTop1 });
    for (const flags of [['--ensemble'], ['--layer', '1']]) {
      const { code, stderr } = await layerwise(['evaluate', '--run', endToEnd, ...flags]);
      expect(code).toBe(1);
      expect(stderr).toBe('layerwise: this network was trained end to end: only its last layer has a head\n');
    }
  });
});

describe('predict', () => {
  const image = async (name: string): Promise<string> => {
    const file = at(name);
    await sharp({ create: { width: 50, height: 40, channels: 3, background: { r: 200, g: 30, b: 90 } } }).toFile(file);
    return file;
  };

  it('names the likeliest classes of each image, with --json one object each', async () => {
    const files = [await image('one.png'), await image('two.jpg')];
    const { code, stdout, stderr } = await layerwise(['predict', '--run', run, '--top', '3', '--json', ...files]);
    expect([code, stderr]).toEqual([0, '']);
    const lines = jsonLines(stdout) as { image: string; predictions: { class: string; probability: number }[] }[];
    expect(lines.map((line) => line.image)).toEqual(files);
    const { classes } = JSON.parse(readFileSync(`${run}/config.json`, 'utf8'));
    for (const { predictions } of lines) {
      expect(predictions).toHaveLength(3);
      const probabilities = predictions.map(({ probability }) => probability);
      expect(probabilities).toEqual(probabilities.toSorted((a, b) => b - a));
      for (const { class: name } of predictions) expect(classes).toContain(name);
    }
  });

  it('gives probabilities of all classes that sum to 1, also when more are asked for than there are', async () => {
    const { stdout } = await layerwise(['predict', '--run', run, '--top', '99', '--json', await image('all.png')]);
    const [{ predictions }] = jsonLines(stdout) as [{ predictions: { class: string; probability: number }[] }];
    expect(new Set(predictions.map((p) => p.class)).size).toBe(10);
    expect(predictions.reduce((sum, p) => sum + p.probability, 0)).toBeCloseTo(1, 5);
  });

  it('says what is wrong with an image, answers the others, and ends with exit code 1', async () => {
    const good = await image('good.png');
    const corrupt = at('corrupt.png');
    writeFileSync(corrupt, readFileSync(good).subarray(0, 60));
    const text = at('text.txt');
    writeFileSync(text, 'no image');
    const files = [at('missing.png'), corrupt, good, text];
    const { code, stdout, stderr } = await layerwise(['predict', '--run', run, '--json', ...files]);
    expect(code).toBe(1);
    expect(jsonLines(stdout).map((line) => line.image)).toEqual([good]);
    const errors = stderr.trimEnd().split('\n');
    expect(errors).toHaveLength(3);
    for (const [i, file] of [files[0]!, corrupt, text].entries()) {
      expect(errors[i]).toMatch(/^layerwise: /);
      expect(errors[i]).toContain(file);
    }
  });
});

/** The bytes of a safetensors file. */
function safetensorsIn(file: string): { header: Record<string, { shape: number[] }>; tensors: Buffer } {
  const bytes = readFileSync(file);
  const end = 8 + Number(bytes.readBigUInt64LE());
  return { header: JSON.parse(bytes.subarray(8, end).toString()), tensors: bytes.subarray(end) };
}

describe('export and report', () => {
  it('what export writes is taken in place of the run, with --auxiliary-heads in place of all of its layers', async () => {
    const figuresOf = async (of: string, ...flags: string[]): Promise<unknown> => {
      const { code, stdout } = await layerwise(['evaluate', '--run', of, '--json', ...flags]);
      expect(code).toBe(0);
      const { run: _, ...figures } = jsonLines(stdout)[0]!;
      return figures;
    };
    const [last, all] = [at('last.safetensors'), at('all.safetensors')];
    expect(await layerwise(['export', '--run', run, '--to', last])).toMatchObject({ code: 0, stderr: '' });
    expect(await layerwise(['export', '--run', run, '--to', all, '--auxiliary-heads'])).toMatchObject({ code: 0 });
    expect(await figuresOf(last)).toEqual(await figuresOf(run));
    expect(await figuresOf(all, '--ensemble')).toEqual(await figuresOf(run, '--ensemble'));
    const { code, stderr } = await layerwise(['evaluate', '--run', last, '--ensemble']);
    expect([code, stderr]).toEqual([1, expect.stringContaining('export it with --auxiliary-heads')]);
    for (const [flags, problem] of [
      [['--run', run, '--auxiliary-heads', '--torchvision'], 'expected none with --torchvision'],
      [['--run', endToEnd, '--auxiliary-heads'], 'this network was trained end to end'],
    ] as const) {
      const refused = await layerwise(['export', ...flags, '--to', at('none.safetensors')]);
      expect(refused.stderr).toContain(problem);
      expect(existsSync(at('none.safetensors'))).toBe(false);
    }
  });

  it('export writes the network with the names of torchvision', async () => {
    const to = at('exported.safetensors');
    const { code, stdout } = await layerwise(['export', '--run', run, '--to', to]);
    expect([code, stdout]).toEqual([0, `${to}: 20 tensors\n`]);
    const { header, tensors } = safetensorsIn(to);
    expect(tensors.equals(safetensorsIn(join(run, 'model.safetensors')).tensors)).toBe(true);
    // vgg11_bn's features 0 to 6: convolution, batch norm, ReLU, max-pooling, convolution, batch norm.
    const norm = ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'];
    expect(Object.keys(header).filter((name) => name !== '__metadata__')).toEqual([
      ...['features.0.weight', 'features.0.bias', ...norm.map((name) => `features.1.${name}`)],
      ...['features.4.weight', 'features.4.bias', ...norm.map((name) => `features.5.${name}`)],
      ...['0', '3', '6'].flatMap((index) => [`classifier.${index}.weight`, `classifier.${index}.bias`]),
    ]);
    expect(header['features.4.weight']!.shape).toEqual([4, 2, 3, 3]);
  });

  it('export says so when it cannot write', async () => {
    const { code, stderr } = await layerwise(['export', '--run', run, '--to', at('no', 'such', 'x.safetensors')]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^layerwise: .*no\/such\/x\.safetensors: could not be written: no such file or directory \(ENOENT\)\n$/,
    );
  });

  it('export replaces an older export, and nothing else', async () => {
    const older = at('older.safetensors');
    cpSync(join(endToEnd, 'model.safetensors'), older);
    expect(await layerwise(['export', '--run', run, '--to', older])).toMatchObject({ code: 0, stderr: '' });
    const { tensors } = safetensorsIn(older);
    expect(tensors.equals(safetensorsIn(join(run, 'model.safetensors')).tensors)).toBe(true);

    const notes = at('notes.txt');
    writeFileSync(notes, 'mine');
    writeFileSync(at('broken.safetensors'), readFileSync(older).subarray(0, -1));
    mkdirSync(at('folder'));
    const own = (folder: string, name: string): [to: string, problem: string] => {
      const to = join(folder, name);
      return [to, `expected another path, got ${to}, which is a file of the run in ${folder}`];
    };
    const other = (to: string): [to: string, problem: string] => [
      to,
      `expected a new file, or an older safetensors file to replace, got ${to}, which is neither`,
    ];
    const contents = (): string[] =>
      [run, endToEnd].flatMap((folder) =>
        readdirSync(folder).map((name) => `${name} ${readFileSync(join(folder, name), 'base64')}`),
      );
    const before = contents();
    for (const [to, problem] of [
      own(run, 'model.safetensors'),
      own(endToEnd, 'result.json'),
      ...[notes, at('broken.safetensors'), at('folder')].map(other),
    ]) {
      const ended = await layerwise(['export', '--run', run, '--to', to]);
      expect(ended).toEqual({ code: 2, stdout: '', stderr: `layerwise: --to: ${problem}\n` });
    }
    expect(contents()).toEqual(before);
    expect(readFileSync(notes, 'utf8')).toBe('mine');
  });

  it('report writes the page again, also of a run that is not finished', async () => {
    const unfinished = at('unfinished');
    cpSync(run, unfinished, { recursive: true });
    rmSync(`${unfinished}/result.json`);
    rmSync(`${unfinished}/report.html`);
    const { code, stdout } = await layerwise(['report', '--run', unfinished]);
    expect([code, stdout]).toEqual([0, `${unfinished}/report.html\n`]);
    expect(readFileSync(`${unfinished}/report.html`, 'utf8')).toContain('</html>');
  });
});
