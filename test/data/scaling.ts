// Antialiased bilinear scaling as Pillow defines it, in doubles: what the decoder's integers are compared with.

/** Pixels `start` to `start + length` of a side become `count`; those from `first` to `end` exist. */
export interface Axis {
  readonly start: number;
  readonly length: number;
  readonly count: number;
  readonly first: number;
  readonly end: number;
}

interface Tap {
  readonly at: number;
  readonly weight: number;
}

/** Each pixel that is made: those that it is made of. */
function taps({ start, length, count, first, end }: Axis): Tap[][] {
  const scale = length / count;
  const support = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const from = Math.max(first, Math.floor(centre - support + 0.5));
    const to = Math.min(end, Math.floor(centre + support + 0.5));
    const found = Array.from({ length: to - from }, (_, k) => {
      const at = from + k;
      return { at, weight: Math.max(0, 1 - Math.abs(at + 0.5 - centre) / support) };
    });
    const sum = found.reduce((total, { weight }) => total + weight, 0);
    return found.map(({ at, weight }) => ({ at, weight: weight / sum }));
  });
}

/** Scales pixels [height, width, 3], `width` of them a row, to [down.count, across.count, 3], first along the rows. */
export function scaledBy(pixels: Uint8Array, width: number, across: Axis, down: Axis): Uint8Array {
  const columns = taps(across);
  const narrow = new Uint8Array(down.end * across.count * 3);
  for (let y = down.first; y < down.end; y++) {
    for (const [x, from] of columns.entries()) {
      for (let channel = 0; channel < 3; channel++) {
        const sum = from.reduce((total, { at, weight }) => total + weight * pixels[3 * (y * width + at) + channel]!, 0);
        narrow[3 * (y * across.count + x) + channel] = Math.round(sum);
      }
    }
  }
  const out = new Uint8Array(down.count * across.count * 3);
  for (const [y, from] of taps(down).entries()) {
    for (let i = 0; i < 3 * across.count; i++) {
      const sum = from.reduce((total, { at, weight }) => total + weight * narrow[at * 3 * across.count + i]!, 0);
      out[y * 3 * across.count + i] = Math.round(sum);
    }
  }
  return out;
}
