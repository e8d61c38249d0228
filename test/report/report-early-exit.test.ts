import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { earlyExitChart } from '../../lib/report/early-exit-chart.js';
import { renderReport } from '../../lib/report/index.js';
import type { EarlyExitRecord, RunRecord } from '../../lib/run/index.js';
import { outside, overlaps, textsOf } from './svg-texts.js';

/** A curve from `share` percent of the whole network's cost upwards. */
function made({
  tops = [26.5, 46.5, 59.75, 63.5, 63.4, 63.35],
  shares = [36, 74, 102, 142, 226, 293],
  chosen = 3,
  wholeTop1 = 63.35,
  counted = true,
} = {}): EarlyExitRecord {
  const thresholds = [0, 0.3, 0.5, 0.7, 0.9, 1];
  return {
    ...{ layers: [1, 4, 7], threshold: thresholds[chosen]!, tolerance: 0.5, images: 2000 },
    chosenOn: { part: 'train', images: 2000, top1: 63.6, wholeTop1: 63.8 },
    whole: { top1: wholeTop1, multiplyAdds: counted ? 2e6 : null, milliseconds: 0.5 },
    points: thresholds.map((threshold, i) => ({
      ...{ threshold, top1: tops[i]!, exits: [1000, 500, 500], meanLayers: 2 + i },
      ...{ multiplyAdds: counted ? (2e6 * shares[i]!) / 100 : null, milliseconds: (0.5 * shares[i]!) / 100 },
    })),
    timing: { batchSize: 32, device: 'cpu', precision: 'bf16', threads: 2 },
  };
}

const CURVES: Record<string, EarlyExitRecord> = {
  'of which the whole network is far': made(),
  'of which the whole network is near': made({ shares: [20, 40, 60, 90, 95, 101] }),
  'above the whole network': made({ wholeTop1: 60, shares: [20, 40, 60, 90, 95, 101] }),
  'that is flat': made({ tops: Array(6).fill(99.2), wholeTop1: 99.2, shares: Array(6).fill(100) }),
  'whose cheapest point is taken': made({ chosen: 0, tops: [50, 51, 52, 53, 54, 55], wholeTop1: 50.2 }),
};

describe.each(Object.entries(CURVES))('the chart of a curve %s', (_, record) => {
  it.each([1000, 800, 344])(
    'is well-formed at a width of %d, with nothing outside and no text on another',
    async (width) => {
      const svg = earlyExitChart(record, { width, standalone: true });
      await sharp(Buffer.from(svg)).png().toBuffer();
      expect(svg).not.toMatch(/NaN|undefined|null|Infinity/);
      expect(outside(svg)).toEqual([]);
      expect(overlaps(textsOf(svg))).toEqual([]);
    },
  );
});

it('the chart names every threshold with its accuracy and cost', () => {
  const svg = earlyExitChart(made());
  const titles = [...svg.matchAll(/<title>([^<]*)<\/title><\/circle>/g)].map(([, words]) => words);
  expect(titles).toEqual([
    'Threshold 0: 26.50\u00a0% at 36\u00a0%',
    'Threshold 0.3: 46.50\u00a0% at 74\u00a0%',
    'Threshold 0.5: 59.75\u00a0% at 102\u00a0%',
    'Threshold 0.7: 63.50\u00a0% at 142\u00a0%',
    'Threshold 0.9: 63.40\u00a0% at 226\u00a0%',
    'Threshold 1: 63.35\u00a0% at 293\u00a0%',
    'Whole network: 63.35\u00a0%',
  ]);
  const texts = textsOf(svg).map(({ text }) => text);
  expect(texts).toEqual(expect.arrayContaining(['63.5 at 0.7', '63.4 whole network']));
});

it('the chart takes time for cost where multiply-adds are not known', () => {
  expect(earlyExitChart(made({ counted: false }))).toBe(earlyExitChart(made()));
});

describe('the report', () => {
  const run: RunRecord = {
    config: {
      ...{
        package: 'layerwise',
        formatVersion: 1,
        preset: 'vgg11-layerwise',
        seed: 1,
        device: 'cpu',
        precision: 'fp32',
      },
      ...{ recipe: {}, versions: {}, startedAt: '2026-11-29T12:00:00Z' },
    },
    epochs: [],
  };

  it('has a section on early exit where that was evaluated, and none where it was not', () => {
    expect(renderReport(run)).not.toContain('Early exit');
    const page = renderReport({ ...run, earlyExit: made() });
    expect(page).toContain('<h2 id="early-exit">Early exit</h2>');
    expect(page).toContain('at the first of the layers 2, 5 and 8 whose head is surer');
    expect(page).toContain(
      'At 0.7 it puts 63.5\u00a0% of the test images in the right class, the whole network 63.4\u00a0%',
    );
    expect(page).toContain('with 142\u00a0% of its multiply-adds, after 5.0 layers in the mean');
    expect(page).toContain('loses at most 0.5 points on 2,000 training images that were held out');
    expect(page).toContain('0.71 ms an image, of 0.50 ms');
  });

  it('says so where it was chosen on test images', () => {
    const record = made();
    const page = renderReport({ ...run, earlyExit: { ...record, chosenOn: { ...record.chosenOn, part: 'test' } } });
    expect(page).toContain('on 2,000 test images; all figures are of the other 2,000');
  });
});
