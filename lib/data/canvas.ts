/**
 * A small software renderer for `shapes`. Only +, -, *, / and square roots of doubles, floor and integer operations, all of
 * which IEEE 754 fixes to the last bit: the pixels are the same on every machine. (Math.sin and the like are not.)
 */

export type Rgb = readonly [number, number, number];
/** A unit vector (cosine, sine). */
export type Direction = readonly [number, number];
/** Signed distance to the outline in units of the form's radius; negative inside. Mirror images of it are turned copies. */
export type Form = (x: number, y: number) => number;
/** The share of the second colour at a position: 0 to 1. `u` and `v` are in periods, `sharpness` in periods^-1. */
export type Texture = (u: number, v: number, sharpness: number) => number;

/** No form reaches further from its centre, in radii. */
const EXTENT = 1.2;

const COS_72 = (Math.sqrt(5) - 1) / 4;
const COS_144 = -(Math.sqrt(5) + 1) / 4;
const SIN_72 = Math.sqrt(1 - COS_72 * COS_72);
const SIN_144 = Math.sqrt(1 - COS_144 * COS_144);
const SIN_120 = Math.sqrt(3) / 2;

export const FORMS = {
  disc: (x, y) => Math.sqrt(x * x + y * y) - 0.8,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) - 0.72,
  triangle: (x, y) => Math.max(x, -0.5 * x + SIN_120 * y, -0.5 * x - SIN_120 * y) - 0.52,
  cross: (x, y) => {
    const across = Math.abs(x);
    const along = Math.abs(y);
    return Math.min(Math.max(across - 0.95, along - 0.32), Math.max(along - 0.95, across - 0.32));
  },
  // A pentagram: inside at least four of the five half-planes whose edges it is drawn along, so the second largest distance.
  star: (x, y) => {
    const edges = [
      x,
      COS_72 * x + SIN_72 * y,
      COS_144 * x + SIN_144 * y,
      COS_144 * x - SIN_144 * y,
      COS_72 * x - SIN_72 * y,
    ];
    let largest = Number.NEGATIVE_INFINITY;
    let second = Number.NEGATIVE_INFINITY;
    for (const edge of edges) {
      if (edge > largest) {
        second = largest;
        largest = edge;
      } else if (edge > second) {
        second = edge;
      }
    }
    return second - 0.36;
  },
} satisfies Record<string, Form>;

export const TEXTURES = {
  striped: (u, _v, sharpness) => stripe(u, sharpness),
  checkered: (u, v, sharpness) => {
    const first = stripe(u, sharpness);
    const second = stripe(v, sharpness);
    return first + second - 2 * first * second;
  },
} satisfies Record<string, Texture>;

export interface FigureOptions {
  readonly form: Form;
  readonly texture: Texture;
  /** The two colours of the texture. */
  readonly colours: readonly [Rgb, Rgb];
  /** Pixels, from the centre of the top left pixel. */
  readonly centre: readonly [number, number];
  /** Pixels. */
  readonly radius: number;
  readonly rotation: Direction;
  /** The texture's own direction and offset, independent of those of the form. */
  readonly grain: Direction;
  readonly phase: readonly [number, number];
  /** Pixels. */
  readonly period: number;
}

export interface StrokeOptions {
  readonly colour: Rgb;
  readonly centre: readonly [number, number];
  readonly direction: Direction;
  /** Pixels. */
  readonly halfLength: number;
  readonly halfWidth: number;
}

/** A square of RGB pixels as doubles, 0 to 255 but not clamped: [3, side, side]. What is drawn later covers what is there. */
export class Canvas {
  readonly side: number;
  readonly values: Float64Array;
  readonly #plane: number;

  constructor(side: number) {
    this.side = side;
    this.#plane = side * side;
    this.values = new Float64Array(3 * this.#plane);
  }

  /** Fills everything with a linear gradient along `direction`. */
  gradient(from: Rgb, to: Rgb, direction: Direction): void {
    const middle = (this.side - 1) / 2;
    // Half the diagonal each way, so that the ends lie in the corners.
    const length = this.side * Math.SQRT2;
    for (let y = 0; y < this.side; y++) {
      for (let x = 0; x < this.side; x++) {
        const t = clamp01(0.5 + (direction[0] * (x - middle) + direction[1] * (y - middle)) / length);
        this.#cover(
          x,
          y,
          1,
          from[0] + (to[0] - from[0]) * t,
          from[1] + (to[1] - from[1]) * t,
          from[2] + (to[2] - from[2]) * t,
        );
      }
    }
  }

  /** A textured form, its outline smoothed over one pixel. */
  figure({ form, texture, colours, centre, radius, rotation, grain, phase, period }: FigureOptions): void {
    const [a, b] = colours;
    const reach = radius * EXTENT + 1;
    const top = this.#clampRow(Math.floor(centre[1] - reach));
    const bottom = this.#clampRow(Math.floor(centre[1] + reach));
    const left = this.#clampRow(Math.floor(centre[0] - reach));
    const right = this.#clampRow(Math.floor(centre[0] + reach));
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        const dx = x - centre[0];
        const dy = y - centre[1];
        const distance = form(
          (rotation[0] * dx + rotation[1] * dy) / radius,
          (rotation[0] * dy - rotation[1] * dx) / radius,
        );
        const alpha = clamp01(0.5 - distance * radius);
        if (alpha === 0) continue;
        const u = (grain[0] * dx + grain[1] * dy) / period + phase[0];
        const v = (grain[0] * dy - grain[1] * dx) / period + phase[1];
        const t = texture(u, v, period);
        this.#cover(x, y, alpha, a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t);
      }
    }
  }

  /** A straight bar, its outline smoothed over one pixel. */
  stroke({ colour, centre, direction, halfLength, halfWidth }: StrokeOptions): void {
    for (let y = 0; y < this.side; y++) {
      for (let x = 0; x < this.side; x++) {
        const dx = x - centre[0];
        const dy = y - centre[1];
        const along = Math.abs(direction[0] * dx + direction[1] * dy) - halfLength;
        const across = Math.abs(direction[0] * dy - direction[1] * dx) - halfWidth;
        const alpha = clamp01(0.5 - Math.max(along, across));
        if (alpha > 0) this.#cover(x, y, alpha, colour[0], colour[1], colour[2]);
      }
    }
  }

  #cover(x: number, y: number, alpha: number, red: number, green: number, blue: number): void {
    const { values } = this;
    const plane = this.#plane;
    const at = y * this.side + x;
    values[at]! += alpha * (red - values[at]!);
    values[at + plane]! += alpha * (green - values[at + plane]!);
    values[at + 2 * plane]! += alpha * (blue - values[at + 2 * plane]!);
  }

  #clampRow(at: number): number {
    return at < 0 ? 0 : at >= this.side ? this.side - 1 : at;
  }
}

/** A square wave of period 1 with smoothed edges, 0 to 1. */
function stripe(u: number, sharpness: number): number {
  const fromMiddle = Math.abs(u - Math.floor(u) - 0.5);
  return clamp01((0.25 - fromMiddle) * sharpness + 0.5);
}

function clamp01(value: number): number {
  return Math.min(Math.max(value, 0), 1);
}
