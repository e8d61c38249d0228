import { execFile } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { readImage } from '../../lib/data/index.js';
import { LayerEnsemble } from '../../lib/evaluation/index.js';
import { evaluateEarlyExit, TrainedRun } from '../../lib/finished/index.js';
import type { Classification, Predictor as PredictorType } from '../../lib/predictor/index.js';
import { RunDirectory } from '../../lib/run/index.js';
import { scope, tensor } from '../../lib/tensor/index.js';
import { train } from '../../lib/training/index.js';
import { smallRecipe, temporaryFolder } from '../training/runs.js';
import {
  closeAfterEachTest,
  computing,
  image,
  LIBRARY,
  library,
  open,
  Predictor,
  PredictorError,
} from './predictors.js';

const at = temporaryFolder();
closeAfterEachTest();

const recipe = smallRecipe({ model: { layers: 3 } });

beforeAll(async () => {
  await train({ recipe, out: at('run') });
  await train({ recipe: { ...recipe, seed: 9 }, out: at('other') });
  await train({ recipe: smallRecipe({}, 'vgg11-end-to-end'), out: at('end-to-end') });
  await sharp({ create: { width: 50, height: 40, channels: 3, background: '#c08040' } })
    .composite([
      { input: Buffer.from('<svg width="50" height="40"><circle cx="20" cy="18" r="11" fill="navy"/></svg>') },
    ])
    .png()
    .toFile(at('image.png'));
  writeFileSync(at('broken.png'), (await sharp(at('image.png')).toBuffer()).subarray(0, 60));
});

/** What the run itself makes of one image, alone in its batch. */
async function expected(
  pixels: Uint8Array,
  selection: number | 'ensemble' = 2,
  name = 'run',
): Promise<{ class: string; index: number; probability: number }[]> {
  using run = await TrainedRun.open(at(name), { device: 'cpu' });
  const probabilities = scope(() => {
    const batch = tensor(pixels, { shape: [1, 3, 32, 32] });
    if (selection !== 'ensemble') return run.logits(batch, selection).softmax(1).toFloat32Array();
    const ensemble = new LayerEnsemble(recipe.evaluation.ensemble);
    for (const layer of [0, 1]) ensemble.add(run.logits(batch, layer));
    const scores = ensemble.with(run.logits(batch, 2));
    ensemble.dispose();
    return (recipe.evaluation.ensemble === 'logits' ? scores.softmax(1) : scores).toFloat32Array();
  });
  return Array.from(probabilities, (probability, index) => ({ class: run.classes[index]!, index, probability })).sort(
    (a, b) => b.probability - a.probability,
  );
}

function expectClose(
  { predictions }: Classification,
  wanted: readonly { class: string; index: number; probability: number }[],
): void {
  expect(predictions.length).toBeGreaterThan(0);
  for (const [i, { class: name, index, probability }] of predictions.entries()) {
    const own = wanted.find((one) => one.index === index)!;
    expect(name).toBe(own.class);
    expect(Math.abs(probability - own.probability)).toBeLessThan(1e-6);
    expect(probability).toBeLessThanOrEqual(predictions[i - 1]?.probability ?? 1);
  }
}

const all = (predictor: PredictorType, count: number): Promise<Classification[]> =>
  Promise.all(Array.from({ length: count }, (_, i) => predictor.classify(image(i))));

describe('a call', () => {
  it('is answered with the bits of the run, where it is alone in its batch', async () => {
    const predictor = await open(at('run'));
    const pixels = await readImage(at('image.png'), 32);
    expect(await predictor.classify(at('image.png'), { top: 10 })).toEqual({
      predictions: await expected(pixels),
      layer: 2,
    });
    const { predictions } = await predictor.classify(at('image.png'));
    expect(predictions).toEqual((await expected(pixels)).slice(0, 5));
    expect((await predictor.classify(at('image.png'), { top: 99 })).predictions).toHaveLength(10);
  });

  it.each([0, 1, 'ensemble'] as const)('is answered by layer %s where that is asked for', async (layer) => {
    const predictor = await open(at('run'), { layer });
    const answer = await predictor.classify(image(1), { top: 10 });
    expect(answer.layer).toBe(layer);
    expectClose(answer, await expected(image(1).pixels, layer));
    // Layers differ.
    const last = await expected(image(1).pixels);
    expect(Math.abs(answer.predictions[0]!.probability - last[0]!.probability)).toBeGreaterThan(1e-5);
  });

  it('is answered by every layer, too, where that is asked for', async () => {
    const predictor = await open(at('run'), { layer: 'ensemble', everyLayer: true });
    const [answer, other] = await Promise.all([1, 2].map((i) => predictor.classify(image(i), { top: 10 })));
    expect(answer!.layer).toBe('ensemble');
    expectClose(answer!, await expected(image(1).pixels, 'ensemble'));
    expect(answer!.byLayer!.map(({ layer }) => layer)).toEqual([0, 1, 2]);
    for (const layer of [0, 1, 2]) {
      expectClose(answer!.byLayer![layer]!, await expected(image(1).pixels, layer));
      expectClose(other!.byLayer![layer]!, await expected(image(2).pixels, layer));
    }
    const endToEnd = await open(at('end-to-end'), { everyLayer: true });
    const last = await endToEnd.classify(image(1));
    expect(last.byLayer).toEqual([{ predictions: last.predictions, layer: last.layer }]);
    expect((await (await open(at('run'))).classify(image(1))).byLayer).toBeUndefined();
  });

  it('takes a path, bytes, pixels and tensors for the same, and leaves them to their owner', async () => {
    const predictor = await open(at('run'));
    const bytes = await sharp(at('image.png')).png().toBuffer();
    const pixels = await readImage(at('image.png'), 32);
    using asTensor = library.tensor(pixels, { shape: [3, 32, 32] });
    using asBatch = library.tensor(pixels, { shape: [1, 3, 32, 32] });
    const inputs = [at('image.png'), bytes, { pixels, imageShape: [3, 32, 32] as const }, asTensor, asBatch];
    const calls = inputs.map((input) => predictor.classify(input));
    bytes.fill(0);
    pixels.fill(0);
    const wanted = await expected(await readImage(at('image.png'), 32));
    for (const answer of await Promise.all(calls)) expectClose(answer, wanted);
  });

  it('is refused for what is no input of the network', async () => {
    const predictor = await open(at('run'));
    const { pixels } = image(0);
    for (const [input, message] of [
      [7, 'expected the path or the bytes of an image file'],
      [null, 'expected the path or the bytes of an image file'],
      ['', 'expected the path of an image file, got ""'],
      [{ pixels, imageShape: [3, 64, 16] }, 'expected pixels of 3 x 32 x 32, got pixels of 3 x 64 x 16'],
      [{ pixels: pixels.subarray(1), imageShape: [3, 32, 32] }, 'expected 3072 values, those of pixels of 3 x 32 x 32'],
      [{ pixels }, 'expected [channels, height, width] for imageShape, got nothing'],
      [{ vector: new Float32Array(3) }, 'expected pixels of 3 x 32 x 32, got a vector of 3 values'],
    ] as const) {
      const refused = predictor.classify(input as never);
      await expect(refused).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(message),
      });
      await expect(refused).rejects.toBeInstanceOf(PredictorError);
    }
    using floats = library.tensor(new Float32Array(3072), { shape: [3, 32, 32] });
    await expect(predictor.classify(floats)).rejects.toThrow('expected a tensor uint8 [3, 32, 32]');
    await expect(predictor.classify(image(0), { top: 0 })).rejects.toThrow('top: expected an integer from 1, got 0');
    await expect(predictor.classify(image(0), { Top: 1 } as never)).rejects.toThrow('unknown option Top');
    expect(predictor.statistics.batches).toBe(0);
  });

  it('fails alone where its image cannot be used, with the error of whoever read it', async () => {
    const predictor = await open(at('run'), { maxPixels: 2000 });
    await sharp({ create: { width: 51, height: 40, channels: 3, background: 'red' } })
      .png()
      .toFile(at('large.png'));
    const calls = [
      at('image.png'),
      at('broken.png'),
      at('missing.png'),
      at('large.png'),
      Buffer.from('text'),
      at('image.png'),
    ];
    const outcomes = await Promise.allSettled(calls.map((input) => predictor.classify(input)));
    expect(outcomes.map(({ status }) => status)).toEqual([
      ...['fulfilled', 'rejected', 'rejected', 'rejected', 'rejected', 'fulfilled'],
    ]);
    const reasons = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
    expect(reasons.map(({ name, code }) => [name, code])).toEqual([
      ['DataError', 'DATA_CORRUPT'],
      ['DataError', 'DATA_NOT_FOUND'],
      ['DataError', 'DATA_UNSUPPORTED'],
      ['DataError', 'DATA_CORRUPT'],
    ]);
    expect(reasons[3].message).toBe('the image is text: expected a JPEG or PNG image');
  });
});

describe('calls at once', () => {
  it('have the answers of each alone, to rounding', async () => {
    const predictor = await open(at('run'), { maxBatchSize: 7 });
    const answers = await all(predictor, 20);
    for (const [i, answer] of answers.entries()) expectClose(answer, await expected(image(i).pixels));
    expect(predictor.statistics).toEqual({ batches: 3, images: 20, largestBatch: 7, waiting: 0, running: 0 });
  });

  it('that come while a batch is computed are the next one', async () => {
    const predictor = await open(at('run'));
    const { calls } = await computing(predictor, () => [predictor.classify(image(0))]);
    const before = predictor.statistics;
    const others = all(predictor, 5);
    await Promise.all([...calls, others]);
    const [batches, images] = [before.batches + 1, before.images + 5];
    expect(predictor.statistics).toMatchObject({ batches, images, largestBatch: 5 });
  });

  it('wait for each other as long as they are told to, and no longer than until the batch is full', async () => {
    const predictor = await open(at('run'), { maxBatchSize: 3, maxWaitMs: 2 ** 31 - 1 });
    const two = all(predictor, 2);
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
    expect(predictor.statistics).toMatchObject({ waiting: 2, running: 0, batches: 0 });
    const third = predictor.classify(image(2));
    await Promise.all([two, third]);
    expect(predictor.statistics).toMatchObject({ batches: 1, largestBatch: 3 });
    const short = await open(at('run'), { maxWaitMs: 5 });
    await all(short, 2);
    expect(short.statistics).toMatchObject({ batches: 1, largestBatch: 2 });
  });

  it('are refused where too many wait, and those that are given up leave room', async () => {
    const predictor = await open(at('run'), { maxQueue: 2, maxWaitMs: 2 ** 31 - 1 });
    const controller = new AbortController();
    const kept = predictor.classify(image(0));
    const givenUp = predictor.classify(image(1), { signal: controller.signal });
    const refused = predictor.classify(image(2));
    await expect(refused).rejects.toMatchObject({
      code: 'QUEUE_FULL',
      message: 'expected at most 2 calls that wait (maxQueue), got one more',
    });
    controller.abort(new Error('too late'));
    await expect(givenUp).rejects.toThrow('too late');
    const third = predictor.classify(image(3));
    expect(predictor.statistics.waiting).toBe(2);
    await predictor.close();
    expectClose(await kept, await expected(image(0).pixels));
    expectClose(await third, await expected(image(3).pixels));
    expect(predictor.statistics).toMatchObject({ images: 2, largestBatch: 2 });
  });
});

describe('early exit', () => {
  it('answers each image by the first layer that is sure, also where they leave one batch at different layers', async () => {
    const wanted = await Promise.all(
      Array.from({ length: 12 }, (_, i) => Promise.all([0, 1, 2].map((layer) => expected(image(i).pixels, layer)))),
    );
    // In the middle of a gap between the confidences of the first layer.
    const sorted = wanted.map(([first]) => first![0]!.probability).sort((a, b) => a - b);
    const threshold = (sorted[5]! + sorted[6]!) / 2;
    expect(sorted[6]! - sorted[5]!).toBeGreaterThan(1e-5);
    const predictor = await open(at('run'), { earlyExit: { threshold } });
    const answers = await all(predictor, 12);
    expect(predictor.statistics.batches).toBe(1);
    for (const [i, answer] of answers.entries()) {
      const heads = wanted[i]!;
      const sure = heads.findIndex((head) => head[0]!.probability > threshold);
      expect(answer.layer).toBe(sure < 0 ? 2 : sure);
      expectClose(answer, heads[answer.layer as number]!);
    }
    expect(answers.filter(({ layer }) => layer === 0)).toHaveLength(6);
  });

  it('takes the layers that it is given, and what was chosen for the run', async () => {
    const given = await open(at('run'), { earlyExit: { threshold: 0, layers: [1] } });
    expect((await given.classify(image(0))).layer).toBe(1);
    await train({ recipe, out: at('chosen') });
    const chosen = (): Promise<PredictorType> => open(at('chosen'), { earlyExit: 'chosen' });
    await expect(chosen()).rejects.toThrow('expected early exit to have been evaluated');
    using run = await TrainedRun.open(at('chosen'));
    const record = await evaluateEarlyExit(run, { tolerance: 100, layers: [1] });
    await RunDirectory.open(at('chosen')).writeEarlyExit(record);
    expect(record).toMatchObject({ threshold: 0, layers: [1, 2] });
    expect((await (await chosen()).classify(image(0))).layer).toBe(1);
  });

  it('is refused for thresholds and layers that there are not', async () => {
    for (const [options, message] of [
      [{ earlyExit: { threshold: 1.1 } }, 'earlyExit.threshold: expected a number from 0 to 1, got 1.1'],
      [{ earlyExit: { treshold: 1 } as never }, 'unknown option treshold'],
      [{ earlyExit: { threshold: 1, layers: 2 } as never }, 'earlyExit.layers: expected a list of layers'],
      [{ earlyExit: { threshold: 1 }, layer: 1 }, 'layer: expected none beside earlyExit, got 1'],
      [{ earlyExit: { threshold: 1, layers: [5] } }, 'expected a layer from 1 to 3, got 6'],
    ] as [Parameters<typeof Predictor.open>[1], string][]) {
      await expect(Predictor.open(at('run'), options)).rejects.toThrow(message);
    }
    await expect(Predictor.open(at('end-to-end'), { earlyExit: { threshold: 0.5 } })).rejects.toThrow(
      'this network was trained end to end',
    );
  });
});

describe('a signal', () => {
  it('that is aborted already refuses the call', async () => {
    const predictor = await open(at('run'));
    await expect(predictor.classify(image(0), { signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    });
    expect(predictor.statistics).toMatchObject({ waiting: 0, images: 0 });
  });

  it('leaves nothing behind that would keep a process alive', async () => {
    const program = `
      import { Predictor } from ${JSON.stringify(LIBRARY)};
      const predictor = await Predictor.open(${JSON.stringify(at('run'))}, { maxWaitMs: 2 ** 31 - 1 });
      const controller = new AbortController();
      const call = predictor.classify({ pixels: new Uint8Array(3072), imageShape: [3, 32, 32] }, { signal: controller.signal });
      setImmediate(() => setImmediate(() => controller.abort()));
      await call.catch(({ name }) => console.log(name));
      await predictor.close();
      console.log('closed');
    `;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
    expect(stdout).toBe('AbortError\nclosed\n');
  });

  it('takes a call out of the batch that is being computed, and leaves the others', async () => {
    const predictor = await open(at('run'));
    const controller = new AbortController();
    const { signal } = controller;
    const { calls } = await computing(predictor, () => [
      predictor.classify(image(0), { signal }),
      predictor.classify(image(1)),
    ]);
    const before = predictor.statistics;
    controller.abort();
    await expect(calls[0]).rejects.toMatchObject({ name: 'AbortError' });
    expectClose((await calls[1])!, await expected(image(1).pixels));
    const { batches, images } = before;
    expect(predictor.statistics).toMatchObject({ batches, images });
  });
});

describe('reload', () => {
  it('takes new calls with the new run, and answers those that have been made with the old one', async () => {
    const predictor = await open(at('run'), { maxBatchSize: 2 });
    const [ofRun, ofOther] = [await expected(image(0).pixels), await expected(image(0).pixels, 2, 'other')];
    expect(Math.abs(ofRun[0]!.probability - ofOther[0]!.probability)).toBeGreaterThan(1e-5);
    const before = Array.from({ length: 9 }, () => predictor.classify(image(0)));
    let isReloaded = false;
    const reloading = predictor.reload(at('other')).finally(() => {
      isReloaded = true;
    });
    const flying: Promise<Classification>[] = [];
    while (!isReloaded) {
      if (predictor.statistics.waiting < 8) flying.push(predictor.classify(image(0)));
      await new Promise(setImmediate);
    }
    await reloading;
    const after = await predictor.classify(image(0));
    expectClose(after, ofOther);
    for (const answer of await Promise.all([...before, ...flying])) expectClose(answer, ofRun);
    expect(flying.length).toBeGreaterThan(0);
  });

  it('that fails leaves the old run serving', async () => {
    const predictor = await open(at('run'));
    await expect(predictor.reload(at('nowhere'))).rejects.toMatchObject({
      name: 'RunDirectoryError',
      message: expect.stringContaining(at('nowhere')),
    });
    expectClose(await predictor.classify(image(0)), await expected(image(0).pixels));
  });

  it('takes effect in the order in which it is asked for, and not after close', async () => {
    const predictor = await open(at('run'));
    await Promise.all([predictor.reload(at('other')), predictor.reload(at('run'))]);
    expectClose(await predictor.classify(image(0)), await expected(image(0).pixels));
    const late = predictor.reload(at('other'));
    const closed = predictor.close();
    await expect(late).rejects.toMatchObject({ code: 'CLOSED' });
    await closed;
    await expect(predictor.reload(at('run'))).rejects.toMatchObject({ code: 'CLOSED' });
  });
});

describe('predictors', () => {
  it('beside each other answer for their own runs', async () => {
    const predictors = await Promise.all([
      ...[open(at('run')), open(at('run'), { layer: 0 }), open(at('other'), { threads: 1 })],
    ]);
    const answers = await Promise.all(predictors.map((predictor) => predictor.classify(image(4))));
    expectClose(answers[0]!, await expected(image(4).pixels));
    expectClose(answers[1]!, await expected(image(4).pixels, 0));
    expectClose(answers[2]!, await expected(image(4).pixels, 2, 'other'));
    expect(predictors[0]).toMatchObject({
      ...{ layers: 3, inputShape: [3, 32, 32], device: 'cpu', precision: 'fp32', notes: [] },
      classes: expect.arrayContaining(['striped disc']),
    });
  });

  it('that are closed answer what they have taken, and take no more', async () => {
    let calls: Promise<Classification[]>;
    let predictor: PredictorType;
    {
      await using own = await Predictor.open(at('run'), { maxBatchSize: 2 });
      predictor = own;
      calls = all(own, 5);
      await new Promise(setImmediate);
    }
    expect(await calls).toHaveLength(5);
    await expect(predictor.classify(image(0))).rejects.toMatchObject({ code: 'CLOSED' });
    await predictor.close();
  });

  it('are refused for options that there are not, and for runs that they cannot serve', async () => {
    const refusals: [Parameters<typeof Predictor.open>[1], string][] = [
      [{ maxBatchsize: 2 } as never, 'unknown option maxBatchsize'],
      [{ maxBatchSize: 0 }, 'maxBatchSize: expected an integer from 1, got 0'],
      [{ maxWaitMs: '5' as never }, 'maxWaitMs: expected milliseconds from 0 to 2147483647, got "5"'],
      [{ maxWaitMs: null as never }, 'maxWaitMs: expected milliseconds from 0 to 2147483647, got null'],
      [{ earlyExit: { threshold: '0.5' as never } }, 'earlyExit.threshold: expected a number from 0 to 1, got "0.5"'],
      [{ maxWaitMs: Number.NaN }, 'maxWaitMs: expected milliseconds from 0 to 2147483647, got NaN'],
      [{ maxQueue: 1.5 }, 'maxQueue: expected an integer from 1, got 1.5'],
      [{ layer: -1 }, "layer: expected a layer, from 0, or 'ensemble', got -1"],
      [{ network: () => 1 } as never, 'got a function, which no thread can be given'],
      [{ module: './own.mjs' } as never, 'module: expected the URL of a module'],
    ];
    for (const [options, message] of refusals) {
      await expect(Predictor.open(at('run'), options)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(message),
      });
    }
    await expect(Predictor.open('')).rejects.toThrow('expected the path of a run directory or of an exported file');
    await expect(Predictor.open(at('run'), { layer: 3 })).rejects.toThrow('expected a layer from 1 to 3, got 4');
    await expect(Predictor.open(at('end-to-end'), { layer: 'ensemble' })).rejects.toMatchObject({
      name: 'RunDirectoryError',
      message: 'this network was trained end to end: only its last layer has a head',
    });
    await expect(Predictor.open(at('run'), { threads: 1_000_000 })).rejects.toMatchObject({ name: 'RecipeError' });
    await expect(Predictor.open(at('run'), { device: 'cuda:77' })).rejects.toMatchObject({ name: 'RecipeError' });
    await train({ recipe, out: at('damaged') });
    rmSync(join(at('damaged'), 'model.safetensors'));
    await expect(Predictor.open(at('damaged'))).rejects.toThrow('not found; has the run finished?');
  });
});
