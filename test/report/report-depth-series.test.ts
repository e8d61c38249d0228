import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { ChartError, type DepthPanel, depthSeriesChart } from '../../lib/report/index.js';
import { outside, overlaps, textsOf } from './svg-texts.js';

const panel = (title: string, names: readonly string[], layers: number, spread = 0): DepthPanel => ({
  title,
  series: names.map((name, position) => ({
    name,
    points: Array.from({ length: layers }, (_, layer) => {
      const value = 40.25 + 4 * layer + 0.5 * position;
      return { layer, value, ...(spread === 0 ? {} : { low: value - spread, high: value + spread }) };
    }),
  })),
});

const kinds = ['k = 1', 'k = 2', 'k = 3'];
const downsampling = ["invertible, the paper's", 'stride 2', 'average pooling', 'max pooling'];
const cases: [string, DepthPanel[], { ownScales?: boolean; id?: string }?][] = [
  [
    'separability: three panels of three series',
    ['Linear', 'CNN-1', 'CNN-2'].map((title) => panel(title, kinds, 5, 1)),
  ],
  [
    'the same on scales of their own',
    ['Linear', 'CNN-1'].map((title) => panel(title, kinds, 5, 1)),
    { ownScales: true },
  ],
  ['one panel of four long names', [panel('Top-1 after each layer', downsampling, 3)]],
  ['one panel of one series and one layer', [panel('Top-1', ['k = 3'], 1)]],
  ['six series over many layers', [panel('Top-1', [...'abcdef'], 16, 2), panel('Top-5', [...'abcdef'], 16)]],
  ['five panels', [...'12345'].map((title) => panel(title, kinds, 4))],
  [
    'figures at the ends of the scale',
    [{ title: 'x', series: ['a', 'b', 'c'].map((name) => ({ name, points: [{ layer: 0, value: 100 }] })) }],
  ],
  ['no panels', []],
  ['a panel without points', [{ title: 'x', series: [{ name: 'a', points: [] }] }]],
];

describe.each(cases)('depthSeriesChart of %s', (_, panels, options = {}) => {
  it.each([1000, 800, 520, 344])(
    'is well-formed at a width of %d, with nothing outside and no text on another',
    async (width) => {
      const svg = depthSeriesChart(panels, { ...options, width, standalone: true, title: 'a < b & "c"' });
      const { format, width: drawn } = await sharp(Buffer.from(svg)).metadata();
      expect([format, drawn]).toEqual(['svg', width]);
      await sharp(Buffer.from(svg)).png().toBuffer();
      expect(svg).not.toMatch(/NaN|undefined|null|Infinity/);
      expect(outside(svg)).toEqual([]);
      expect(overlaps(textsOf(svg))).toEqual([]);
    },
  );

  it('says every value in words, and on its mark', () => {
    const svg = depthSeriesChart(panels, options);
    for (const { series } of panels) {
      for (const { name, points } of series) {
        for (const { layer, value } of points) {
          const figure = `${value.toFixed(1)}\u00a0%`;
          expect(svg).toContain(`<title>${name.replace("'", '&#39;')}, layer ${layer + 1}: ${figure}`);
          expect(svg).toContain(`layer ${layer + 1} ${figure}`);
        }
      }
    }
  });
});

describe('depthSeriesChart', () => {
  it('has an accessible name and description', () => {
    const svg = depthSeriesChart([panel('Linear', ['k = 1'], 2, 1)], { title: 'Separability', id: 'm64' });
    expect(svg).toContain('role="img" aria-labelledby="m64-title" aria-describedby="m64-desc"');
    expect(svg).toContain('<title id="m64-title">Separability</title>');
    expect(svg).toContain('Linear: k = 1: layer 1 40.3\u00a0% (39.3 to 41.3), layer 2 44.3\u00a0% (43.3 to 45.3).');
  });

  it('tells series apart by colour, dashes and mark, and knows a name again in another panel', () => {
    const svg = depthSeriesChart([panel('1', [...'abcdef'], 2), panel('2', ['f', 'a'], 2)]);
    const marks = [
      ...svg.matchAll(
        /<path class="lw-mark (lw-series-\d)" transform="[^"]*?( rotate\(\d+\))?" d="([^"]*)"><title>(\w),/g,
      ),
    ];
    const styles = new Map<string, Set<string>>();
    for (const [, colour, turn, shape, name] of marks) {
      styles.set(name!, (styles.get(name!) ?? new Set()).add(`${colour} ${turn} ${shape}`));
    }
    expect([...styles.keys()].sort()).toEqual([...'abcdef']);
    expect([...styles.values()].map(({ size }) => size)).toEqual([1, 1, 1, 1, 1, 1]);
    const looks = [...styles.values()].map((one) => [...one][0]!);
    expect(new Set(looks.map((look) => look.split(' ')[0])).size).toBe(6);
    expect(new Set(looks.map((look) => look.split(' ').slice(1).join())).size).toBe(6);
  });

  it('draws an interval where it has a width', () => {
    const ranges = (spread: number) =>
      depthSeriesChart([panel('1', ['a'], 4, spread)]).split('class="lw-range').length - 1;
    expect([ranges(1), ranges(0)]).toEqual([4, 0]);
    const point = { layer: 0, value: 50, low: 50, high: 50 };
    expect(depthSeriesChart([{ title: '1', series: [{ name: 'a', points: [point] }] }])).not.toContain('lw-range ');
  });

  it('puts the panels on one scale unless told', () => {
    const panels = [
      panel('low', ['a'], 2),
      { title: 'high', series: [{ name: 'a', points: [{ layer: 0, value: 95 }] }] },
    ];
    const ticks = (svg: string) => textsOf(svg).filter(({ text }) => text.endsWith('\u00a0%')).length;
    expect(ticks(depthSeriesChart(panels))).toBe(1);
    expect(ticks(depthSeriesChart(panels, { ownScales: true }))).toBe(2);
  });

  it('draws more than six series, each by itself', () => {
    const svg = depthSeriesChart([panel('1', [...'abcdefgh'], 2)]);
    expect(svg).not.toContain('undefined');
    expect(svg).toContain('<title>h, layer 2:');
  });

  it.each([
    [[{ layer: 0, value: Number.NaN }], 'Linear, a, layer 0: expected a finite value, got NaN'],
    [[{ layer: -1, value: 1 }], 'Linear, a: expected a layer from 0, got -1'],
    [[{ layer: 0.5, value: 1 }], 'Linear, a: expected a layer from 0, got 0.5'],
    [
      [{ layer: 0, value: 1, low: 0 }],
      'Linear, a, layer 0: expected low and high around the value 1, got 0 and undefined',
    ],
    [[{ layer: 0, value: 1, low: 2, high: 3 }], 'expected low and high around the value 1, got 2 and 3'],
  ])('refuses %j by name', (points, message) => {
    const draw = () => depthSeriesChart([{ title: 'Linear', series: [{ name: 'a', points }] }]);
    expect(draw).toThrow(ChartError);
    expect(draw).toThrow(message);
  });

  it('refuses two series of one name in a panel', () => {
    expect(() => depthSeriesChart([panel('Linear', ['a', 'a'], 1)])).toThrow(
      'Linear: expected one series of each name, got "a" twice',
    );
  });
});

it('is checked by a reading of the SVG that sees texts on each other and outside', () => {
  const svg = `<svg viewBox="0 0 100 50" font-size="10"><g transform="translate(10 0)"><text x="10" y="20">one</text></g>
<g><text class="lw-end" x="25" y="22">two</text><text x="95" y="40">three</text></g></svg>`;
  expect(overlaps(textsOf(svg))).toEqual([['one', 'two']]);
  expect(outside(svg)).toEqual(['three']);
});
