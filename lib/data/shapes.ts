import { Canvas, type Direction, FORMS, type Form, type Rgb, TEXTURES, type Texture } from './canvas.js';
import { type DatasetOptions, declareDataset, requireImages32 } from './declaration.js';
import { DataError } from './errors.js';
import { serveEventLoop } from './event-loop.js';
import type { Dataset, LabelledImages } from './labelled-images.js';
import { KEY_DOMAIN, philox4x32, seedWords } from './philox.js';

/** Pixels along each side of an image of `shapes`. */
const SHAPES_SIDE = 32;

/** A class is a texture and a form: neither alone tells it, and both are the same in a mirror. */
const KINDS: readonly { name: string; form: Form; texture: Texture }[] = Object.entries(TEXTURES).flatMap(
  ([textureName, texture]) =>
    Object.entries(FORMS).map(([formName, form]) => ({ name: `${textureName} ${formName}`, form, texture })),
);

/** "striped disc", "striped square" and so on: the class of label i is the i-th. */
export const SHAPES_CLASSES: readonly string[] = KINDS.map(({ name }) => name);

const SPLITS = { train: 0, test: 1 } as const;
/** 3 GiB of pixels. */
const MAX_COUNT = 2 ** 20;
/** The event loop is served each time so many images are drawn: about every twenty milliseconds. */
const IMAGES_AT_A_TIME = 128;

export interface ShapesOptions {
  readonly split: keyof typeof SPLITS;
  /** How many images; the first n of a larger set are those of a smaller one. */
  readonly count: number;
  /** Any integer from 0 to 2^53 - 1; 0 by default. */
  readonly seed?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Images of `shapes`: [count, 3, 32, 32] with labels [count], the same bits on every machine. Image i is a pure function of
 * (seed, split, i) and of class i mod 10, so that the classes are balanced.
 *
 * One large figure, whose form and texture are the class, among smaller figures of any form and texture and bars before and
 * behind it, on a gradient, under noise. Position, size, rotation and colours are random and say nothing about the class.
 *
 * Throws `DataError`: DATA_ARGUMENT for a count below 1 or above 2^20, or a bad seed; DATA_CANCELLED on `signal`.
 */
export async function generateShapes({ split, count, seed = 0, signal }: ShapesOptions): Promise<LabelledImages> {
  if (!Number.isInteger(count) || count < 1 || count > MAX_COUNT) {
    throw new DataError(
      'DATA_ARGUMENT',
      `shapes: the number of images must be an integer from 1 to ${MAX_COUNT}, got ${count}`,
    );
  }
  const imageLength = 3 * SHAPES_SIDE * SHAPES_SIDE;
  const images = new Uint8Array(count * imageLength);
  const labels = new Uint8Array(count);
  const canvas = new Canvas(SHAPES_SIDE);
  const random = new ImageRandom(seed, SPLITS[split]);
  for (let index = 0; index < count; index++) {
    if (index % IMAGES_AT_A_TIME === 0) await serveEventLoop(signal);
    const label = index % KINDS.length;
    labels[index] = label;
    random.startImage(index);
    paint(canvas, random, label);
    expose(canvas, random, images.subarray(index * imageLength, (index + 1) * imageLength));
  }
  return { images, labels, count, channels: 3, height: SHAPES_SIDE, width: SHAPES_SIDE };
}

/** Differences of summed channels that two colours must have to be told apart: of the figure, of the small ones. */
const FIGURE_CONTRAST = 150;
const TEXTURE_CONTRAST = 90;
const DISTRACTOR_CONTRAST = 60;

function paint(canvas: Canvas, random: ImageRandom, label: number): void {
  const last = SHAPES_SIDE - 1;
  const background = random.colour();
  const shift = () => random.between(-50, 50);
  const otherEnd: Rgb = [background[0] + shift(), background[1] + shift(), background[2] + shift()];
  canvas.gradient(background, otherEnd, random.direction());

  for (let i = random.integer(1, 4); i > 0; i--) {
    const { form, texture } = KINDS[random.integer(0, KINDS.length - 1)]!;
    const first = random.colourAwayFrom([background], DISTRACTOR_CONTRAST);
    const second = random.colourAwayFrom([first, background], TEXTURE_CONTRAST);
    const centre = [random.between(0, last), random.between(0, last)] as const;
    const radius = random.between(3, 6);
    const period = random.between(3.5, 5.5);
    canvas.figure({ form, texture, colours: [first, second], centre, radius, period, ...random.pose() });
  }
  for (let i = random.integer(0, 2); i > 0; i--) bar(canvas, random, random.between(0.5, 1.2));

  const { form, texture } = KINDS[label]!;
  const first = random.colourAwayFrom([background], FIGURE_CONTRAST);
  const second = random.colourAwayFrom([first, background], TEXTURE_CONTRAST);
  const radius = random.between(9, 15);
  const margin = 0.85 * radius;
  const centre = [random.between(margin, last - margin), random.between(margin, last - margin)] as const;
  const period = random.between(4, 7);
  canvas.figure({ form, texture, colours: [first, second], centre, radius, period, ...random.pose() });

  for (let i = random.integer(0, 1); i > 0; i--) bar(canvas, random, random.between(0.4, 0.9));
}

function bar(canvas: Canvas, random: ImageRandom, halfWidth: number): void {
  const centre = [random.between(0, SHAPES_SIDE - 1), random.between(0, SHAPES_SIDE - 1)] as const;
  const halfLength = random.between(5, 20);
  canvas.stroke({ colour: random.colour(), centre, direction: random.direction(), halfLength, halfWidth });
}

/** Rounds the canvas to bytes under noise whose strength varies from image to image. */
function expose({ values }: Canvas, random: ImageRandom, out: Uint8Array): void {
  const plane = SHAPES_SIDE * SHAPES_SIDE;
  // The sum of two 5-bit integers has standard deviation sqrt(2 * (32^2 - 1) / 12): a triangular density, three to a word.
  const strength = random.between(4, 16) / Math.sqrt((32 * 32 - 1) / 6);
  for (let at = 0; at < plane; at++) {
    const word = random.word();
    out[at] = toByte(values[at]! + strength * ((word & 31) + ((word >>> 5) & 31) - 31));
    out[at + plane] = toByte(values[at + plane]! + strength * (((word >>> 10) & 31) + ((word >>> 15) & 31) - 31));
    out[at + 2 * plane] = toByte(
      values[at + 2 * plane]! + strength * (((word >>> 20) & 31) + ((word >>> 25) & 31) - 31),
    );
  }
}

function toByte(value: number): number {
  return value < 0 ? 0 : value > 255 ? 255 : Math.floor(value + 0.5);
}

/** The random numbers of one image after another, each image its own sequence: counter (block, image, split, 0). */
class ImageRandom {
  readonly #key0: number;
  readonly #key1: number;
  readonly #split: number;
  readonly #words = new Uint32Array(4);
  #next = 4;
  #block = 0;
  #image = 0;

  constructor(seed: number, split: number) {
    const { low, high } = seedWords(seed);
    this.#key0 = low;
    this.#key1 = high | KEY_DOMAIN.shapes;
    this.#split = split;
  }

  startImage(image: number): void {
    this.#image = image;
    this.#block = 0;
    this.#next = 4;
  }

  word(): number {
    if (this.#next === 4) {
      philox4x32(this.#block++, this.#image, this.#split, 0, this.#key0, this.#key1, this.#words);
      this.#next = 0;
    }
    return this.#words[this.#next++]!;
  }

  between(low: number, high: number): number {
    return low + (high - low) * (this.word() * 2 ** -32);
  }

  /** From `low` to `high`, both included. */
  integer(low: number, high: number): number {
    return low + Math.floor((high - low + 1) * (this.word() * 2 ** -32));
  }

  /** Uniform on the circle, by rejection from the square. */
  direction(): Direction {
    for (;;) {
      const x = this.between(-1, 1);
      const y = this.between(-1, 1);
      const squared = x * x + y * y;
      if (squared > 0.01 && squared <= 1) {
        const length = Math.sqrt(squared);
        return [x / length, y / length];
      }
    }
  }

  pose(): { rotation: Direction; grain: Direction; phase: readonly [number, number] } {
    const unit = () => this.between(0, 1);
    return { rotation: this.direction(), grain: this.direction(), phase: [unit(), unit()] };
  }

  colour(): Rgb {
    return [this.between(20, 235), this.between(20, 235), this.between(20, 235)];
  }

  /** A colour whose summed channels differ by `contrast` from each of `others`, brighter or darker; the last of 30 tries as it is. */
  colourAwayFrom(others: readonly Rgb[], contrast: number): Rgb {
    const sum = (c: Rgb) => c[0] + c[1] + c[2];
    let candidate = this.colour();
    for (let tries = 1; tries < 30; tries++) {
      const brightness = sum(candidate);
      if (others.every((other) => Math.abs(brightness - sum(other)) >= contrast)) break;
      candidate = this.colour();
    }
    return candidate;
  }
}

/** Where no limit is given. */
const DEFAULT_COUNT = { train: 8_000, test: 2_000 } as const;

async function load(options: DatasetOptions): Promise<Dataset<LabelledImages>> {
  const {
    trainLimit = DEFAULT_COUNT.train,
    testLimit = DEFAULT_COUNT.test,
    testOnly = false,
    seed = 0,
    signal,
  } = options;
  requireImages32('shapes', options, { train: testOnly ? 0 : trainLimit, test: testLimit });
  const test = await generateShapes({ split: 'test', count: testLimit, seed, signal });
  return {
    name: 'shapes',
    title: 'shapes',
    classes: SHAPES_CLASSES,
    train: testOnly
      ? { ...test, images: new Uint8Array(0), labels: new Uint8Array(0), count: 0 }
      : await generateShapes({ split: 'train', count: trainLimit, seed, signal }),
    test,
    normalization: { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] },
  };
}

/** Drawn by the program; its protocol is the project's own: minutes on two cores. */
export const shapes = declareDataset({
  name: 'shapes',
  title: 'shapes',
  source: 'program',
  hasImageFiles: false,
  protocol: {
    imageSize: 32,
    testResize: null,
    augmentation: { cropPadding: 4, randomResizedCrop: false, horizontalFlip: true },
    training: {
      epochs: 6,
      batchSize: 64,
      learningRate: 0.05,
      milestones: [4, 5],
      decay: 0.2,
      momentum: 0.9,
      weightDecay: 5e-4,
    },
    evaluation: { batchSize: 500, ensemble: 'logits' },
  },
  load,
  check: null,
  download: null,
});
