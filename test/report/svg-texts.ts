// Where a chart's texts stand, without a browser: its transforms are translations, and rotations of single texts.

export interface PlacedText {
  readonly text: string;
  /** In pixels of the view box; widths are an estimate, a little less than sans-serif faces take. */
  readonly box: { left: number; right: number; top: number; bottom: number };
  readonly turned: boolean;
}

export function viewBoxOf(svg: string): { width: number; height: number } {
  const [, width, height] = /viewBox="0 0 ([\d.]+) ([\d.]+)"/.exec(svg)!;
  return { width: Number(width), height: Number(height) };
}

/** Every text element, marks and titles not among them. */
export function textsOf(svg: string): PlacedText[] {
  const body = svg.replace(/<style>[\s\S]*?<\/style>/g, '').replace(/<title[\s\S]*?<\/title>/g, '');
  const baseSize = Number(/<svg[^>]*font-size="([\d.]+)"/.exec(svg)![1]);
  const origins = [{ x: 0, y: 0 }];
  const texts: PlacedText[] = [];
  for (const [tag, ofGroup, ofText, inner = ''] of body.matchAll(
    /<\/g>|<g\b([^>]*)>|<text\b([^>]*)>([\s\S]*?)<\/text>/g,
  )) {
    if (tag === '</g>') {
      origins.pop();
      continue;
    }
    const attributes = ofGroup ?? ofText ?? '';
    const number = (name: string): number | undefined => {
      const found = new RegExp(`\\b${name}="(-?[\\d.]+)"`).exec(attributes);
      return found === null ? undefined : Number(found[1]);
    };
    const moved = /translate\((-?[\d.]+) (-?[\d.]+)\)/.exec(attributes);
    const origin = origins.at(-1)!;
    const here = moved ? { x: origin.x + Number(moved[1]), y: origin.y + Number(moved[2]) } : origin;
    if (ofGroup !== undefined) {
      origins.push(here);
      continue;
    }
    const size = number('font-size') ?? baseSize;
    const words = inner.replace(/<[^>]*>/g, '').replace(/&[a-z#0-9]+;/g, '.');
    const width = 0.52 * size * [...words].length;
    const [x, y] = [here.x + (number('x') ?? 0), here.y + (number('y') ?? 0)];
    const turned = attributes.includes('rotate(-45)');
    const reach = turned ? width * Math.SQRT1_2 : width;
    const left = attributes.includes('lw-end') ? x - reach : attributes.includes('lw-middle') ? x - reach / 2 : x;
    texts.push({
      text: words,
      box: { left, right: left + reach, top: turned ? y - reach : y - 0.72 * size, bottom: y },
      turned,
    });
  }
  return texts;
}

/** Pairs of upright texts that lie on each other. */
export function overlaps(texts: readonly PlacedText[]): [string, string][] {
  const upright = texts.filter(({ turned }) => !turned);
  return upright.flatMap((one, i) =>
    upright.slice(i + 1).flatMap((other): [string, string][] => {
      const [a, b] = [one.box, other.box];
      const apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
      return apart ? [] : [[one.text, other.text]];
    }),
  );
}

/** Texts that are not wholly inside the view box. */
export function outside(svg: string): string[] {
  const { width, height } = viewBoxOf(svg);
  return textsOf(svg)
    .filter(({ box }) => box.left < 0 || box.top < 0 || box.right > width || box.bottom > height)
    .map(({ text }) => text);
}
