import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { overrideRecipe, presetRecipe } from '../../lib/recipe/index.js';
import { palette } from '../../lib/report/chart-styles.js';
import { accuracyByDepthChart, learningCurvesChart, renderReport, writeReport } from '../../lib/report/index.js';
import {
  type EpochRecord,
  NO_FIGURES,
  type RunConfig,
  type RunRecord,
  RunRecordError,
  type RunResult,
  readRunRecord,
} from '../../lib/run/index.js';

const config: RunConfig = {
  package: 'layerwise',
  formatVersion: 1,
  preset: 'vgg11-layerwise',
  recipe: overrideRecipe(presetRecipe('vgg11-layerwise', { onCuda: false }), {
    model: { layers: 3 },
    dataset: { title: 'shapes', trainCount: 20_000, testCount: 2_000 },
    training: { epochs: 2, milestones: [1] },
    precision: 'bf16',
  }),
  seed: 1,
  device: 'cpu',
  deviceName: 'a processor',
  precision: 'bf16',
  threads: 2,
  versions: { layerwise: '0.1.0', libtorch: '2.13.0', node: 'v20.20.2' },
  startedAt: '2026-03-12T14:03:22.120Z',
};

const epoch = (layer: number, epoch: number, more: Partial<EpochRecord> = {}): EpochRecord => ({
  layer,
  epoch,
  learningRate: epoch === 0 ? 0.1 : 0.02,
  trainLoss: 1.25 - 0.1 * layer,
  trainTop1: 51 + 10 * layer + epoch,
  testLoss: 1.5 - 0.1 * layer,
  testTop1: 41.25 + 10 * layer + epoch,
  testTop5: 90,
  ensembleTop1: 41.75 + 10 * layer + epoch,
  ensembleTop5: 91,
  seconds: 30,
  imagesPerSecond: 700,
  ...more,
});

const epochs = [0, 1, 2].flatMap((layer) => [epoch(layer, 0), epoch(layer, 1)]);
const result: RunResult = {
  layers: [
    {
      ...NO_FIGURES,
      layer: 0,
      testTop1: 42.25,
      ensembleTop1: 42.25,
      testTop5: 90,
      seconds: 60,
      parameters: { block: 480, head: 11834 },
    },
    {
      ...NO_FIGURES,
      layer: 1,
      testTop1: 52.25,
      ensembleTop1: 53.5,
      testTop5: 92,
      seconds: 61,
      parameters: { block: 4704, head: 42122 },
    },
    {
      ...NO_FIGURES,
      layer: 2,
      testTop1: 62.25,
      ensembleTop1: 64.5,
      testTop5: 95,
      seconds: 62,
      parameters: { block: 18624, head: 157962 },
    },
  ],
  seconds: 183,
  notes: ['small-image variant: the project’s own, not the paper’s'],
};
const finished: RunRecord = { config, epochs, result };
const endToEnd: RunRecord = {
  config: {
    ...config,
    preset: 'vgg11-end-to-end',
    recipe: { ...presetRecipe('vgg11-end-to-end', { onCuda: false }) },
  },
  epochs: [0, 1].map((at) => epoch(7, at, { ensembleTop1: null, ensembleTop5: null })),
  result: {
    layers: [{ ...NO_FIGURES, layer: 7, testTop1: 67.9, testTop5: 88, seconds: 60, parameters: null }],
    seconds: 60,
  },
};

/** What a reader sees: tags and style out, white space as one space. */
function textOf(html: string): string {
  return html
    .replace(/<style>[\s\S]*?<\/style>/g, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/gu, ' ');
}

/** The body rows of the report's table, as the text of their cells. */
function tableRows(html: string): string[][] {
  const [body = ''] = /<tbody>[\s\S]*?<\/tbody>/.exec(html) ?? [];
  return [...body.matchAll(/<tr>([\s\S]*?)<\/tr>/g)].map(([, row = '']) =>
    [...row.matchAll(/<t[hd][^>]*>([^<]*)</g)].map(([, cell = '']) => cell),
  );
}

describe('renderReport', () => {
  it('counts layers from 1 and prints the figures of each', () => {
    expect(tableRows(renderReport(finished))).toEqual([
      ['1', '42.25', '90.00', '42.25', '1\u00a0min\u00a000\u00a0s', '480', '11,834'],
      ['2', '52.25', '92.00', '53.50', '1\u00a0min\u00a001\u00a0s', '4,704', '42,122'],
      ['3', '62.25', '95.00', '64.50', '1\u00a0min\u00a002\u00a0s', '18,624', '157,962'],
    ]);
  });

  it('leads with the last layer, the ensemble and the rise from the first layer', () => {
    const text = textOf(renderReport(finished));
    expect(text).toContain('VGG-11 on shapes');
    expect(text).toContain('rises from 42.3 % after layer 1 to 62.3 % after layer 3');
    expect(text).toContain('the ensemble of all three heads reaches 64.5 %');
    expect(text).toContain('+20.0 points');
  });

  it('shows the notes of the result', () => {
    expect(textOf(renderReport(finished))).toContain('small-image variant: the project’s own, not the paper’s');
  });

  it('prints a recipe of any shape, names in words', () => {
    const text = textOf(
      renderReport({
        ...finished,
        config: {
          ...config,
          recipe: {
            ...config.recipe,
            newGroup: { someKey: [1, 2], steps: [{ name: 'randomCrop', padding: 4 }], inner: { deepKey: true } },
          },
        },
      }),
    );
    for (const words of [
      'weight decay 0.0005',
      'train count 20,000',
      'random crop: padding 4',
      'new group',
      'some key 1, 2',
      'deep key yes',
    ]) {
      expect(text).toContain(words);
    }
  });

  it('keeps a list of a thousand classes out of the way, and whole', () => {
    const classes = Array.from({ length: 1000 }, (_, index) => `kind ${index}`);
    const html = renderReport({
      ...finished,
      config: { ...config, recipe: { dataset: { name: 'imagenet', classes } } },
    });
    expect(html).toContain('<summary>1,000 values</summary>');
    expect(html).toContain('kind 999');
    expect(textOf(html)).toContain('on ImageNet');
  });

  it('says that training is unfinished, and where it is', () => {
    const text = textOf(renderReport({ config, epochs: epochs.slice(0, 3) }));
    expect(text).toContain('Training is not finished. The last record is of layer 2 of 3, epoch 1 of 2.');
    expect(tableRows(renderReport({ config, epochs: epochs.slice(0, 3) })).map(([layer]) => layer)).toEqual([
      '1',
      '2 (in training)',
    ]);
  });

  it.each([
    [2, 2],
    [[2, 1], 2],
    [[1, 1, 1], 3],
    [null, 3],
  ])('counts the blocks that layers are grouped into: %j', (blocks, expected) => {
    const { recipe } = config;
    const training = { ...(recipe.training as object), blocks };
    const text = textOf(
      renderReport({ config: { ...config, recipe: { ...recipe, training } }, epochs: epochs.slice(0, 1) }),
    );
    expect(text).toContain(`The last record is of layer 1 of ${expected}, epoch 1 of 2.`);
  });

  it('reports a run without any epoch', () => {
    const text = textOf(renderReport({ config, epochs: [] }));
    expect(text).toContain('No epoch has finished yet');
    expect(text).toContain('weight decay 0.0005');
  });

  it('reports an end-to-end run as one network, without depth and without ensemble', () => {
    const html = renderReport(endToEnd);
    const text = textOf(html);
    expect(text).toContain('Trained end to end, as one network. It puts 67.9 % of the test images in the right class.');
    // The recipe has its kind of ensemble also where there is none.
    const [figures] = text.split('Every setting of the run');
    expect(figures).not.toMatch(/ensemble|by depth|NaN|undefined/i);
    expect(tableRows(html)).toEqual([['network', '67.90', '88.00', '1\u00a0min\u00a000\u00a0s']]);
  });

  it('says that layers below are frozen only where they are', () => {
    const of = (schedule: string) => {
      const { recipe } = config;
      const training = { ...(recipe.training as object), schedule };
      return textOf(renderReport({ ...finished, config: { ...config, recipe: { ...recipe, training } } }));
    };
    expect(of('layerwise')).toContain('Each layer learns on top of the frozen layers below it');
    expect(of('simultaneous')).toContain(
      'Each layer learns on top of what the layers below it give, without a gradient',
    );
    expect(of('simultaneous')).not.toContain('frozen');
  });

  it('survives a run that diverged', () => {
    const diverged = epoch(0, 1, { trainLoss: null, testLoss: null, testTop1: null, ensembleTop1: null });
    const html = renderReport({ config, epochs: [epoch(0, 0), diverged] });
    expect(textOf(html)).not.toMatch(/NaN|null|undefined/);
    expect(html).not.toMatch(/d="[^"]*NaN/);
  });

  it('escapes every text that comes from a file', () => {
    const evil = `<img src=x onerror="alert(1)">&'</style></title><script>`;
    const html = renderReport({
      config: {
        ...config,
        preset: evil,
        device: evil,
        deviceName: evil,
        startedAt: evil,
        versions: { [evil]: evil },
        recipe: {
          [evil]: evil,
          model: { name: evil, [evil]: [evil, { name: evil, [evil]: evil }] },
          dataset: { title: evil },
        },
      },
      epochs,
      result: { ...result, notes: [evil] },
    });
    expect(html).not.toMatch(/<img|<script|onerror="/i);
    expect(html.match(/<\/style>/g)).toHaveLength(1);
    expect(html).toContain('&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;&#39;');
  });

  it('needs no other file, no network and no script', () => {
    for (const run of [finished, endToEnd]) {
      const html = renderReport(run);
      expect(html).not.toMatch(/https?:|url\(|@import|<script|<iframe|\bsrc=|\son[a-z]+=/i);
      expect([...html.matchAll(/\bhref="([^"]*)"/g)].map(([, address]) => address)).toEqual(['data:,']);
    }
  });

  it('gives every element an id of its own, and every reference its element', () => {
    const html = renderReport(finished);
    const ids = [...html.matchAll(/\sid="([^"]*)"/g)].map(([, id]) => id);
    const references = [...html.matchAll(/aria-(?:labelledby|describedby)="([^"]*)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toEqual(expect.arrayContaining(references));
  });
});

describe('the charts', () => {
  const manyEpochs = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((layer) =>
    Array.from({ length: 50 }, (_, at) => epoch(layer, at, { testLoss: 12 / (at + 1), testTop1: 40 + layer + at / 2 })),
  );
  const charts = {
    'accuracy by depth': accuracyByDepthChart(result.layers, { standalone: true, title: 'a < b & "c"\u0000' }),
    'accuracy by depth, one layer': accuracyByDepthChart([{ layer: 0, testTop1: 50 }], { standalone: true }),
    'accuracy by depth, planned, narrow': accuracyByDepthChart([{ layer: 0, testTop1: 50, inTraining: true }], {
      standalone: true,
      width: 344,
      plannedLayers: 8,
    }),
    'accuracy by depth, empty': accuracyByDepthChart([], { standalone: true }),
    'learning curves': learningCurvesChart(manyEpochs, { standalone: true }),
    'learning curves of the loss, narrow': learningCurvesChart(manyEpochs, {
      standalone: true,
      measure: 'loss',
      width: 344,
    }),
    'learning curves, one epoch': learningCurvesChart([epoch(0, 0)], { standalone: true, panelTitle: null }),
    'learning curves, empty': learningCurvesChart([], { standalone: true }),
  };

  it.each(Object.entries(charts))('draws %s as an SVG file that an XML parser accepts', async (_, svg) => {
    const { format, width } = await sharp(Buffer.from(svg)).metadata();
    expect(format).toBe('svg');
    expect([800, 344]).toContain(width);
    await sharp(Buffer.from(svg)).png().toBuffer();
    expect(svg).not.toMatch(/NaN|undefined|null/);
  });

  it('is checked by a parser that refuses what is not XML', async () => {
    await expect(
      sharp(Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"><g></svg>')).png().toBuffer(),
    ).rejects.toThrow();
  });

  it('says in words what it shows', () => {
    const svg = charts['accuracy by depth'];
    expect(svg).toContain('role="img"');
    expect(svg).toContain('a &lt; b &amp; &quot;c&quot;\ufffd</title>');
    expect(svg).toContain('Layer 3: 62.3\u00a0%, ensemble 64.5\u00a0%.');
  });

  it('marks the drops of the learning rate once a layer', () => {
    const [, ...panels] = learningCurvesChart(epochs).split('<rect class="lw-panel"');
    expect(panels.map((panel) => panel.split('lw-rate-drop').length - 1)).toEqual([1, 1, 1]);
  });

  it.each(Object.entries(palette))('have %s text with a contrast of at least 4.5 on page and panel', (_, colours) => {
    // Relative luminance and contrast as WCAG 2.2 defines them.
    const luminance = (colour: string) => {
      const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
        const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
        return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const contrast = (one: string, other: string) => {
      const [dark = 0, light = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
      return (light + 0.05) / (dark + 0.05);
    };
    const { ground, panel, rule: _rule, right, wrong, ...texts } = colours;
    for (const text of Object.values(texts)) {
      expect(Math.min(contrast(text, ground), contrast(text, panel))).toBeGreaterThanOrEqual(4.5);
    }
    // Cells of a matrix are these over the panel, more or less opaque.
    for (const cell of [right, wrong]) expect(contrast(colours.ink, cell)).toBeGreaterThanOrEqual(4.5);
  });

  it('leaves the ensemble out where there is none', () => {
    expect(
      accuracyByDepthChart([
        { layer: 0, testTop1: 50 },
        { layer: 1, testTop1: 60 },
      ]),
    ).not.toContain('ensemble');
  });
});

describe('a run directory', () => {
  let runDir: string;
  const write = (file: string, text: string) => writeFile(path.join(runDir, file), text);
  const lines = epochs.map((one) => `${JSON.stringify(one)}\n`);

  beforeEach(async () => {
    runDir = await mkdtemp(path.join(tmpdir(), 'layerwise-report-'));
    await write('config.json', JSON.stringify(config));
    await write('metrics.jsonl', lines.join(''));
    await write('result.json', JSON.stringify(result));
  });
  afterEach(() => rm(runDir, { recursive: true }));

  it('is read as it was written', async () => {
    expect(await readRunRecord(runDir)).toEqual(finished);
  });

  it('gets its report, and no other file', async () => {
    const file = await writeReport(runDir);
    expect(file).toBe(path.join(runDir, 'report.html'));
    expect(await readFile(file, 'utf8')).toBe(renderReport(finished));
    expect((await readdir(runDir)).sort()).toEqual(['config.json', 'metrics.jsonl', 'report.html', 'result.json']);
  });

  it('may still lack its result and its metrics', async () => {
    await rm(path.join(runDir, 'result.json'));
    expect(await readRunRecord(runDir)).toEqual({ config, epochs });
    await rm(path.join(runDir, 'metrics.jsonl'));
    expect(await readRunRecord(runDir)).toEqual({ config, epochs: [] });
  });

  it('may end in a line that a killed run left incomplete, which the report says', async () => {
    await write('metrics.jsonl', `${lines.slice(0, 3).join('')}${lines[3]!.slice(0, 40)}`);
    const run = await readRunRecord(runDir);
    expect(run.epochs).toEqual(epochs.slice(0, 3));
    expect(run.incompleteLine).toBe(4);
    expect(textOf(renderReport(run))).toContain(
      'Line 4 of metrics.jsonl, the last, was left incomplete and is not counted.',
    );
  });

  it('may lack only the end of the last line', async () => {
    await write('metrics.jsonl', lines.join('').trimEnd());
    expect(await readRunRecord(runDir)).toEqual(finished);
  });

  it.each([
    ['an epoch twice', [0, 0, 1], 2, 'epoch: expected 1, the next of layer 0, got 0'],
    ['an epoch out of order', [1, 0], 1, 'epoch: expected 0, the first of layer 0, got 1'],
    ['no first epoch of a layer', [0, 1, 3], 3, 'epoch: expected 0, the first of layer 1, got 1'],
    ['a layer after a higher one', [2, 0], 2, 'layer: expected at least 1, the layer of the line before, got 0'],
  ])('is refused where metrics.jsonl has %s', async (_, order, line, problem) => {
    await write('metrics.jsonl', order.map((i) => lines[i]).join(''));
    await expect(readRunRecord(runDir)).rejects.toThrow(`metrics.jsonl:${line}: ${problem}`);
  });

  it.each<[string, object, string]>([
    [
      'of another format',
      { formatVersion: 3 },
      'formatVersion: expected 1, the format of this version of layerwise, got 3',
    ],
    [
      'with a precision that there is not',
      { precision: 'x' },
      'precision: expected one of "fp32"|"bf16"|"fp16", got "x"',
    ],
    ['with a device that is none', { device: 'auto' }, 'device: expected cpu or cuda:N, got "auto"'],
    ['with no threads', { threads: 0 }, 'threads: '],
    ['with half a seed', { seed: 0.5 }, 'seed: expected int, got 0.5'],
    ['whose seed is not that of its recipe', { seed: 2 }, 'seed: expected 1, recipe.seed, got 2'],
    [
      'whose preset is not that of its recipe',
      { preset: 'other' },
      'preset: expected vgg11-layerwise, recipe.preset, got other',
    ],
    ['without classes', { classes: [] }, 'classes: '],
    ['with a class without a name', { classes: ['circle', ''] }, 'classes.1: '],
    ['with a deviation of 0', { normalization: { mean: [0, 0, 0], std: [1, 0, 1] } }, 'normalization.std.1: '],
    [
      'with fewer deviations than means',
      { normalization: { mean: [0, 0], std: [1] } },
      'normalization: expected as many means as standard deviations',
    ],
    ['with no channel', { normalization: { mean: [], std: [] } }, 'normalization.mean: '],
    ['that began at no time', { startedAt: 'yesterday' }, 'startedAt: expected a date and time, got "yesterday"'],
    ['that took no layers', { startedFrom: { runDirectory: 'x', layers: 0, head: 'new' } }, 'startedFrom.layers: '],
    ['with a recipe that is none', { recipe: [] }, 'recipe: expected an object, got []'],
  ])('is refused by field where config.json is %s', async (_, change, problem) => {
    await write('config.json', JSON.stringify({ ...config, ...change }));
    await expect(readRunRecord(runDir)).rejects.toMatchObject({
      code: 'RUN_FILE_CORRUPTED',
      message: expect.stringContaining(`config.json: ${problem}`),
    });
  });

  it.each<[string, object, string]>([
    ['a layer twice', { layers: [result.layers[0], result.layers[0]] }, 'layers: expected rising layers'],
    ['less time than its layers', { seconds: 100 }, 'seconds: expected at least the sum of the layers, got 100'],
    ['a loss below 0', { layers: [{ ...result.layers[0], testLoss: -1 }] }, 'layers.0.testLoss: '],
    ['an accuracy above 100', { layers: [{ ...result.layers[0], testTop1: 100.5 }] }, 'layers.0.testTop1: '],
    ['no layers', { layers: [] }, 'layers: '],
  ])('is refused by field where result.json has %s', async (_, change, problem) => {
    await write('result.json', JSON.stringify({ ...result, ...change }));
    await expect(readRunRecord(runDir)).rejects.toThrow(`result.json: ${problem}`);
  });

  it('is refused by line and column where config.json has a mistake', async () => {
    await write('config.json', '{\n  "package": "layerwise",\n}');
    await expect(readRunRecord(runDir)).rejects.toThrow('config.json:3: a comma before }: take it out');
  });

  it('is read from files that an editor has put a byte-order mark on', async () => {
    await write('config.json', `\ufeff${JSON.stringify(config)}`);
    expect((await readRunRecord(runDir)).config).toEqual(config);
  });

  it.each([
    ['is not square', [[1, 2]], /result\.json: confusion: expected as many columns as rows/],
    ['is empty', [], /result\.json: confusion: /],
    ['holds what is no count', [[1.5]], /result\.json: confusion\.0\.0: /],
    [
      'has not as many rows as there are classes',
      [[7]],
      /result\.json: confusion: expected 2, one row a class of config\.json, got 1/,
    ],
  ])('is refused by name where the confusion matrix %s', async (_, confusion, problem) => {
    await write('config.json', JSON.stringify({ ...config, classes: ['circle', 'square'] }));
    await write('result.json', JSON.stringify({ ...result, confusion }));
    await expect(readRunRecord(runDir)).rejects.toMatchObject({
      code: 'RUN_FILE_CORRUPTED',
      message: expect.stringMatching(problem),
    });
  });

  it('may hold a confusion matrix', async () => {
    const confusion = [
      [3, 1],
      [0, 4],
    ];
    await write('result.json', JSON.stringify({ ...result, confusion }));
    expect((await readRunRecord(runDir)).result?.confusion).toEqual(confusion);
  });

  it.each([
    ['is not JSON', '{"layer":1,', 'not JSON'],
    ['lacks a figure that every epoch has', '{"layer":1,"epoch":0,"learningRate":0.1}', 'seconds: '],
    ['holds text for a number', JSON.stringify({ ...epoch(1, 0), testTop1: '52' }), 'testTop1: '],
    ['holds an accuracy above 100', JSON.stringify(epoch(1, 0, { trainTop1: 101 })), 'trainTop1: '],
    ['is not an object', '7', 'the whole: '],
    ['is empty', '', 'not JSON'],
  ])('is refused by file and line where a line of metrics.jsonl %s', async (_, line, problem) => {
    await write('metrics.jsonl', `${lines.slice(0, 2).join('')}${line}\n${lines.slice(2).join('')}`);
    const error = await readRunRecord(runDir).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(RunRecordError);
    expect(error).toMatchObject({ code: 'RUN_FILE_CORRUPTED', file: path.join(runDir, 'metrics.jsonl'), line: 3 });
    expect((error as RunRecordError).message).toContain(`metrics.jsonl:3: ${problem}`);
  });

  it('is refused by name where config.json is missing, of another format, or result.json is corrupted', async () => {
    await write('result.json', '{"layers":[{"layer":-1}],"seconds":1}');
    await expect(writeReport(runDir)).rejects.toThrow(/result\.json: layers\.0\.layer: /);
    await write('config.json', JSON.stringify({ ...config, formatVersion: 2 }));
    await expect(writeReport(runDir)).rejects.toThrow(/config\.json: formatVersion: .*expected 1/);
    await rm(path.join(runDir, 'config.json'));
    await expect(writeReport(runDir)).rejects.toMatchObject({ code: 'RUN_FILE_MISSING' });
    expect(await readdir(runDir)).not.toContain('report.html');
  });
});
