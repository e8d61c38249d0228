import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { frequentConfusions } from '../../lib/evaluation/class-figures.js';
import { classFigures } from '../../lib/evaluation/index.js';
import { classAccuracyChart } from '../../lib/report/class-accuracy-chart.js';
import { confusionChart } from '../../lib/report/confusion-chart.js';
import { renderReport } from '../../lib/report/index.js';
import { type LayerResult, NO_FIGURES, type RunRecord } from '../../lib/run/index.js';
import { outside, overlaps, textsOf } from './svg-texts.js';

const names = ['cat', 'dog', 'frog'];
const layer = (layer: number, testTop1: number): LayerResult => ({
  ...NO_FIGURES,
  ...{ layer, testTop1, seconds: null, parameters: null },
});
const confusion = [
  [6, 3, 1],
  [2, 2, 0],
  [0, 0, 0],
];

it('counts what became of the images of each class', () => {
  expect(classFigures(confusion, names)).toEqual([
    { class: 'cat', images: 10, correct: 6, top1: 60, mistake: { class: 'dog', images: 3 } },
    { class: 'dog', images: 4, correct: 2, top1: 50, mistake: { class: 'cat', images: 2 } },
    { class: 'frog', images: 0, correct: 0, top1: null, mistake: null },
  ]);
});

it('lists the most frequent mistakes, with their share of the class', () => {
  expect(frequentConfusions(confusion, names, 2)).toEqual([
    { class: 'cat', takenFor: 'dog', images: 3, share: 30 },
    { class: 'dog', takenFor: 'cat', images: 2, share: 50 },
  ]);
  expect(frequentConfusions(confusion, names, 9)).toHaveLength(3);
});

/** Of `count` classes, `images` each, most of them right and many of the others taken for the next class. */
function made(count: number, images: number): { names: string[]; confusion: number[][] } {
  return {
    names: Array.from({ length: count }, (_, i) =>
      i % 3 === 1 ? `class ${i} of a long name, and a synonym` : `class ${i}`,
    ),
    confusion: Array.from({ length: count }, (_, row) => {
      const wrong = Math.floor((images * (row + 1)) / (2 * count + 2));
      return Array.from({ length: count }, (_, column) => {
        if (count === 1) return images;
        if (column === row) return images - wrong - (count > 2 && wrong > 0 ? 1 : 0);
        if (column === (row + 1) % count) return wrong;
        return count > 2 && wrong > 0 && column === (row + 2) % count ? 1 : 0;
      });
    }),
  };
}

describe.each([
  [2, 40],
  [10, 1000],
  [20, 345],
  [1, 5],
])('the charts of %d classes', (count, images) => {
  const all = made(count, images);
  const charts = (width: number): Record<string, string> => ({
    bars: classAccuracyChart(classFigures(all.confusion, all.names), { width, overall: 98.75, standalone: true }),
    matrix: confusionChart(all.confusion, all.names, { width, standalone: true }),
  });

  it.each([1000, 800, 344])(
    'are well-formed at a width of %d, with nothing outside and no text on another',
    async (width) => {
      for (const svg of Object.values(charts(width))) {
        expect((await sharp(Buffer.from(svg)).metadata()).format).toBe('svg');
        await sharp(Buffer.from(svg)).png().toBuffer();
        expect(svg).not.toMatch(/NaN|undefined|null|Infinity/);
        expect(outside(svg)).toEqual([]);
        expect(overlaps(textsOf(svg))).toEqual([]);
      }
    },
  );

  it('print every figure', () => {
    const { bars, matrix } = charts(800);
    const texts = textsOf(matrix!).map(({ text }) => text);
    for (const one of classFigures(all.confusion, all.names)) {
      expect(textsOf(bars!).map(({ text }) => text)).toContain(one.top1!.toFixed(1));
      expect(bars).toContain(
        `${one.class}: ${one.top1!.toFixed(1)}\u00a0%, ${one.correct.toLocaleString('en')} of ${images.toLocaleString('en')}`,
      );
      expect(texts).toContain(one.correct.toLocaleString('en'));
    }
  });
});

it('a matrix has a cell for every count that is not zero, coloured by its share of the row', () => {
  const svg = confusionChart(confusion, names);
  const cells = [...svg.matchAll(/<title>([^<]*)<\/title><rect class="lw-(right|wrong)" fill-opacity="([\d.]+)"/g)];
  // 0.1 and up to 0.9 more: of all images where right, of the largest share of mistakes, 50 %, where wrong.
  expect(cells.map(([, words, kind, opacity]) => [words, kind, Number(opacity)])).toEqual([
    ['cat recognised: 6 of 10 (60.0\u00a0%)', 'right', 0.64],
    ['cat taken for dog: 3 of 10 (30.0\u00a0%)', 'wrong', 0.64],
    ['cat taken for frog: 1 of 10 (10.0\u00a0%)', 'wrong', 0.28],
    ['dog taken for cat: 2 of 4 (50.0\u00a0%)', 'wrong', 1],
    ['dog recognised: 2 of 4 (50.0\u00a0%)', 'right', 0.55],
  ]);
  expect(svg).toContain('cat: 6 of 10 right, most often taken for dog (3).');
  expect(svg).toContain('frog: no images.');
});

it('leaves counts out that would be too small to read, and says so', () => {
  const { names, confusion } = made(20, 345);
  const [narrow, wide] = [confusionChart(confusion, names, { width: 344 }), confusionChart(confusion, names)];
  expect(narrow).not.toContain('lw-count');
  expect(narrow).toContain('too small here for their counts');
  expect(wide).toContain('lw-count');
  expect(wide).not.toContain('too small');
});

describe('the report', () => {
  const report = (classes: string[] | undefined, confusion?: number[][], preset = 'vgg11-layerwise'): string => {
    const run: RunRecord = {
      config: {
        package: 'layerwise',
        formatVersion: 1,
        preset,
        recipe: { training: { schedule: preset.endsWith('layerwise') ? 'layerwise' : 'end-to-end' } },
        ...(classes === undefined ? {} : { classes }),
        seed: 1,
        device: 'cpu',
        precision: 'fp32',
        versions: {},
        startedAt: '2026-03-12T14:03:22.120Z',
      },
      epochs: [],
      result: {
        layers: [layer(0, 50), ...(preset.endsWith('layerwise') ? [layer(1, 57.1)] : [])],
        seconds: 1,
        ...(confusion === undefined ? {} : { confusion }),
      },
    };
    return renderReport(run);
  };
  const section = (html: string): string =>
    /<section aria-labelledby="by-class">[\s\S]*?<\/section>/.exec(html)?.[0] ?? '';
  const words = (html: string): string =>
    html
      .replace(/<svg[\s\S]*?<\/svg>/g, ' ')
      .replace(/<[^>]*>/g, ' ')
      .replace(/\s+/gu, ' ');

  it('has a section by class: accuracies, matrix and the most frequent mistakes', () => {
    const html = section(report(names, confusion));
    expect(words(html)).toContain(
      'What the last layer’s head makes of 14 test images: from 60.0 % of cat down to 50.0 % of dog.',
    );
    expect(html.match(/<svg/g)).toHaveLength(4);
    expect(html.match(/id="confusion-(wide|narrow)-title"/g)).toHaveLength(2);
    expect(words(html)).toMatch(/Class taken for images share, % cat dog 3 30.0 dog cat 2 50.0 cat frog 1 10.0/);
    expect(html).toContain('frog: no images');
  });

  it('speaks of the network where it was trained end to end', () => {
    expect(words(section(report(names, confusion, 'vgg11-end-to-end')))).toContain('What the network makes of 14');
  });

  it('has none without a confusion matrix or without images', () => {
    expect(section(report(names))).toBe('');
    expect(section(report(['a'], [[0]]))).toBe('');
  });

  it('numbers classes that have no names', () => {
    expect(words(section(report(undefined, confusion)))).toContain('60.0 % of class 1 down to 50.0 % of class 2');
  });

  it('shows of many classes the best, the worst and the most frequent mistakes, and says so', () => {
    const many = made(1000, 50);
    const html = section(report(many.names, many.confusion));
    expect(html).not.toContain('id="confusion-');
    expect(words(html)).toContain(
      'Shown are the best and the worst of 1,000 classes and the most frequent mistakes; for more than 20 classes there is no matrix.',
    );
    expect(words(html)).toContain('The ten best classes');
    expect(words(html)).toContain('The ten worst classes');
    expect(html.match(/<rect class="lw-bar"/g)).toHaveLength(2 * 2 * 10);
    expect(html.match(/<tr>/g)).toHaveLength(1 + 15);
    expect(html.length).toBeLessThan(60_000);
  });

  it('says where there is not one mistake', () => {
    const html = section(
      report(
        ['a', 'b'],
        [
          [5, 0],
          [0, 4],
        ],
      ),
    );
    expect(words(html)).toContain('There is not one mistake.');
    expect(html).not.toContain('mistaken, 0 to');
  });

  it('escapes the names of classes', () => {
    const evil = `<img src=x onerror="alert(1)">`;
    expect(
      report(
        [evil, 'b'],
        [
          [5, 1],
          [1, 4],
        ],
      ),
    ).not.toContain('<img');
  });

  it('gives every element an id of its own', () => {
    for (const of of [made(3, 9), made(40, 9)]) {
      const ids = [...report(of.names, of.confusion).matchAll(/\sid="([^"]*)"/g)].map(([, id]) => id);
      expect(new Set(ids).size).toBe(ids.length);
    }
  });
});
