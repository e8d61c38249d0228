// A VGG that opens with whitened patches, for small images in little time: of the kind, and without its heads of the size, of the network of
// Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (arXiv 2404.00498).
import { z } from 'zod';
import { type ImageSize, shownSize, sidesOf } from '../data/index.js';
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  defaultInit,
  Flatten,
  type Initializer,
  Linear,
  MaxPool2d,
  type Module,
  ReLU,
  Scale,
  Sequential,
  type StateDict,
  Whitening,
} from '../nn/index.js';
import { Generator, type Tensor } from '../tensor/index.js';
import { channels, convolutions, declareModel, imagesOf, layerCount, SCHEDULES } from './declaration.js';
import { ModelError } from './errors.js';
import { auxiliaryStateDict, finishedStateDict, layerSeed, type Network } from './network.js';

/** What a `WhitenedVgg` is made of. Its constructor throws ModelError, naming the option. */
export interface WhitenedVggOptions {
  readonly classes: number;
  /** Channels of an input image; default: 3. */
  readonly channels?: number;
  /** Height and width of an input image; default: 32. */
  readonly imageSize?: ImageSize;
  /** Pixels a side of the whitened patches; 0: the first convolution reads the image. */
  readonly whitening: number;
  /** Channels of the first layer; the others have four times as many. */
  readonly width: number;
  readonly layers: number;
  /** Of each layer. */
  readonly convolutions: number;
  /** Of each auxiliary head. */
  readonly auxConvolutions: number;
  /** Height and width that an auxiliary head averages its features to. */
  readonly headPool: number;
  /** What all logits are multiplied by. */
  readonly logitScale: number;
  /** Of the initial weights; layer j's are a function of the seed and j alone. */
  readonly seed: number;
}

type Sides = readonly [height: number, width: number];

const halved = ([height, width]: Sides): Sides => [Math.floor(height / 2), Math.floor(width / 2)];

/** Height and width of each layer's output. */
function outputSizes({ imageSize = 32, whitening, layers }: WhitenedVggOptions): Sides[] {
  const [height, width] = sidesOf(imageSize);
  const lost = Math.max(0, whitening - 1);
  let size: Sides = [height - lost, width - lost];
  return Array.from({ length: layers }, () => (size = halved(size)));
}

function checkOptions(options: WhitenedVggOptions): void {
  const check = (holds: boolean, expected: string, name: string, got: unknown) => {
    if (!holds) throw new ModelError(`whitened-vgg: expected ${expected} for ${name}, got ${String(got)}`);
  };
  const { channels = 3, imageSize = 32, ...given } = options;
  const least = {
    ...{ classes: 2, width: 1, layers: 1, convolutions: 1, headPool: 1 },
    ...{ whitening: 0, auxConvolutions: 0, seed: 0 },
  };
  for (const [name, minimum] of Object.entries(least)) {
    const value = given[name as keyof typeof least];
    check(Number.isSafeInteger(value) && value >= minimum, `an integer of at least ${minimum}`, name, value);
  }
  check(Number.isInteger(channels) && channels >= 1, 'an integer of at least 1', 'channels', channels);
  const { logitScale } = options;
  check(Number.isFinite(logitScale) && logitScale > 0, 'a number above 0', 'logitScale', logitScale);
  const sides = sidesOf(imageSize);
  for (const side of sides) check(Number.isInteger(side) && side >= 1, 'sides of at least 1', 'imageSize', side);
  const last = outputSizes(options).at(-1)!;
  check(Math.min(...last) >= 1, 'an image that is left after every pooling', 'imageSize', shownSize(sides));
}

/** Makes the parts of one layer, with its own draws. */
class Parts {
  readonly #init: Initializer;

  constructor(init: Initializer) {
    this.#init = init;
  }

  /** conv 3x3 -> max-pooling, where there is something to pool -> BN -> ReLU, then conv 3x3 -> BN -> ReLU for each other one. */
  convolutions(inChannels: number, outChannels: number, count: number, isPooled: boolean): [string, Module][] {
    return Array.from({ length: count }, (_, i) => i).flatMap((i): [string, Module][] => {
      const from = i === 0 ? inChannels : outChannels;
      const conv = { inChannels: from, outChannels, kernelSize: 3, padding: 1, bias: false, init: this.#init };
      return [
        [`conv${i}`, new Conv2d(conv)],
        ...(i === 0 && isPooled ? [['pool', new MaxPool2d({ kernelSize: 2 })] as [string, Module]] : []),
        [`bn${i}`, new BatchNorm2d({ features: outChannels })],
        [`relu${i}`, new ReLU({ inPlace: true })],
      ];
    });
  }

  logits(inFeatures: number, classes: number, scale: number): [string, Module][] {
    return [
      ['flatten', new Flatten()],
      ['linear', new Linear({ inFeatures, outFeatures: classes, init: this.#init })],
      ...(scale === 1 ? [] : [['scale', new Scale({ factor: scale })] as [string, Module]]),
    ];
  }
}

/**
 * Layers of convolutions as (block, auxiliary head) pairs. A block is conv 3x3 -> max-pooling -> BN -> ReLU, then conv 3x3 -> BN -> ReLU
 * for each other convolution; the first opens with whitened patches and a ReLU, where `whitening` is above 0. An auxiliary head has as many
 * convolutions as `auxConvolutions` says, of the block's channels and in the same order (the pooling only where there are 2 x 2 features or
 * more), then an average to `headPool`, BN, a linear layer. The last head takes the maximum of the map, and has a linear layer alone.
 */
export class WhitenedVgg implements Network {
  readonly name = 'whitened-vgg';
  readonly classes: number;
  readonly inputShape: readonly [channels: number, height: number, width: number];
  readonly blocks: readonly Module[];
  readonly heads: readonly Module[];
  readonly notes: readonly string[] = [];
  readonly auxiliaryNotes: readonly string[] = [];
  readonly #whitening: Whitening | null;

  constructor(options: WhitenedVggOptions) {
    checkOptions(options);
    const { classes, channels: inputChannels = 3, imageSize = 32, whitening, width, layers, seed } = options;
    this.classes = classes;
    this.inputShape = [inputChannels, ...sidesOf(imageSize)];
    const sizes = outputSizes(options);
    const blocks: Module[] = [];
    const heads: Module[] = [];
    let first: Whitening | null = null;
    let read = inputChannels;
    for (const [j, size] of sizes.entries()) {
      using generator = Generator.create({ seed: layerSeed(seed, j) });
      const init = defaultInit(generator);
      const parts = new Parts(init);
      const opening: [string, Module][] = [];
      if (j === 0 && whitening > 0) {
        first = new Whitening({ channels: inputChannels, size: whitening, init });
        opening.push(['whitening', first], ['relu', new ReLU({ inPlace: true })]);
        read = first.weight.shape[0]!;
      }
      const outChannels = j === 0 ? width : 4 * width;
      blocks.push(new Sequential([...opening, ...parts.convolutions(read, outChannels, options.convolutions, true)]));
      heads.push(new Sequential(headOf(parts, { channels: outChannels, size, isLast: j === layers - 1 }, options)));
      read = outChannels;
    }
    this.blocks = blocks;
    this.heads = heads;
    this.#whitening = first;
  }

  async fitToImages(batches: AsyncIterable<Tensor>): Promise<void> {
    await this.#whitening?.fit(batches);
  }

  stateDict(): StateDict {
    return finishedStateDict(this);
  }

  auxiliaryStateDict(): StateDict {
    return auxiliaryStateDict(this.heads);
  }
}

function headOf(
  parts: Parts,
  { channels, size, isLast }: { channels: number; size: Sides; isLast: boolean },
  { classes, auxConvolutions, headPool, logitScale }: WhitenedVggOptions,
): [string, Module][] {
  if (isLast) {
    return [['pool', new MaxPool2d({ kernelSize: [...size] })], ...parts.logits(channels, classes, logitScale)];
  }
  return [
    ...parts.convolutions(channels, channels, auxConvolutions, Math.min(...size) >= 2),
    ['average', new AdaptiveAvgPool2d({ outputSize: headPool })],
    ['bn', new BatchNorm2d({ features: channels })],
    ...parts.logits(headPool ** 2 * channels, classes, logitScale),
  ];
}

export const whitenedVgg = declareModel({
  family: 'whitened VGG',
  names: ['whitened-vgg'],
  titleOf: () => 'Whitened VGG',
  schema: z.strictObject({
    name: z.literal('whitened-vgg'),
    layers: layerCount.meta({ flag: 'layers', description: 'layers that are trained; each halves height and width' }),
    width: channels.meta({
      flag: 'width',
      description: 'channels of the first layer; the others have four times as many',
    }),
    convolutions: convolutions.min(1).meta({ description: 'of each layer' }),
    auxConvolutions: convolutions.min(0).meta({ description: 'of each auxiliary head; the last head has none' }),
    headPool: z
      .int()
      .min(1)
      .max(64)
      .meta({ description: 'height and width that an auxiliary head averages its features to' }),
    whitening: z.int().min(0).max(8).meta({
      description:
        'pixels a side of the patches of an image that the first layer reads whitened, by filters that follow from the training images and stay; 0: it reads the image',
    }),
    logitScale: z.number().positive().max(1e3).meta({ description: 'what all logits are multiplied by' }),
  }),
  presets: SCHEDULES.map((schedule) => ({
    name: schedule === 'simultaneous' ? 'cifar10-fast' : `cifar10-fast-${schedule}`,
    schedule,
    dataset: 'cifar10',
    options: ({ isNarrow }) => ({
      ...{ name: 'whitened-vgg' as const, layers: 3, width: isNarrow ? 16 : 64, convolutions: 2 },
      ...{ auxConvolutions: 2, headPool: 3, whitening: 2, logitScale: 1 / 8 },
    }),
    augmentation: {
      ...{ cropPadding: 2, cropPaddingMode: 'reflect', randomResizedCrop: false, horizontalFlip: 'alternating' },
    },
    training: {
      ...{ blocks: schedule === 'end-to-end' ? null : [2, 1], epochs: 15, batchSize: 1024, microBatchSize: 128 },
      ...{ optimizer: 'muon', learningRate: 0.2, weightDecay: 0.05, momentum: 0.7, nesterov: true },
      ...{ sgdLearningRate: 1.5, sgdWeightDecay: 5e-4 },
      ...{ rateSchedule: 'one-cycle', milestones: [], labelSmoothing: 0.2 },
    },
  })),
  build: (options, { inputShape, ...request }) =>
    new WhitenedVgg({ ...request, ...imagesOf(options.name, inputShape), ...options }),
});
