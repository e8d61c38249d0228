// VGG-11 as the paper trains it: section 4.3, with the structure of torchvision's vgg11_bn.
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout,
  Flatten,
  type Initializer,
  kaimingNormalFanOut,
  Linear,
  MaxPool2d,
  type Module,
  normalInit,
  ReLU,
  Sequential,
  type StateDict,
} from '../nn/index.js';
import { Generator } from '../tensor/index.js';
import { ModelError } from './errors.js';
import { joinStateDicts, layerSeed, type Network } from './network.js';

/** Output channels of each convolution at full width, and where a max-pooling opens the block. */
const VGG11_LAYERS = [
  { channels: 64, pooled: false },
  { channels: 128, pooled: true },
  { channels: 256, pooled: true },
  { channels: 256, pooled: false },
  { channels: 512, pooled: true },
  { channels: 512, pooled: false },
  { channels: 512, pooled: true },
  { channels: 512, pooled: false },
] as const;

const FULL_WIDTH = 64;
const CLASSIFIER_UNITS = 4096;

export interface VggOptions {
  readonly classes: number;
  /** Height and width of an input image; a multiple of 32. 224 unless told. */
  readonly imageSize?: number;
  /** Channels of the first layer; all other widths scale with it. 64, VGG-11 itself, unless told. */
  readonly width?: number;
  /** Layers that are built, from the first; the last of them is read by the last head. 8 unless told. */
  readonly layers?: number;
  /** Of the initial weights; layer j's are a function of the seed and j alone. */
  readonly seed: number;
  /** The classifier of torchvision's vgg11_bn, with this dropout, for training as one network. No dropout unless told. */
  readonly dropout?: number;
}

interface Sizes {
  readonly classes: number;
  readonly imageSize: number;
  readonly width: number;
  readonly layers: number;
  readonly seed: number;
  readonly dropout: number;
}

function checkOptions(options: VggOptions): Sizes {
  const { classes, imageSize = 224, width = FULL_WIDTH, layers = VGG11_LAYERS.length, seed, dropout = 0 } = options;
  const check = (holds: boolean, expected: string, name: string, got: number) => {
    if (!holds) throw new ModelError(`vgg11: expected ${expected} for ${name}, got ${got}`);
  };
  check(Number.isInteger(classes) && classes >= 2, 'an integer of at least 2', 'classes', classes);
  check(
    Number.isInteger(imageSize) && imageSize >= 32 && imageSize % 32 === 0,
    'a multiple of 32',
    'imageSize',
    imageSize,
  );
  check(Number.isInteger(width) && width >= 1, 'an integer of at least 1', 'width', width);
  check(
    Number.isInteger(layers) && layers >= 1 && layers <= VGG11_LAYERS.length,
    `an integer from 1 to ${VGG11_LAYERS.length}`,
    'layers',
    layers,
  );
  check(Number.isSafeInteger(seed) && seed >= 0, 'an integer from 0 to 2^53 - 1', 'seed', seed);
  check(dropout >= 0 && dropout < 1, '0 or more, below 1', 'dropout', dropout);
  return { classes, imageSize, width, layers, seed, dropout };
}

/** Height and width of each layer's output. */
function outputSizes(imageSize: number): number[] {
  let size = imageSize;
  return VGG11_LAYERS.map(({ pooled }) => {
    if (pooled) size /= 2;
    return size;
  });
}

const scaled = (channels: number, width: number): number => Math.max(1, Math.round((channels * width) / FULL_WIDTH));

/**
 * The auxiliary head of all layers but the last: average to half the size, two 3x3 convolutions of twice the channels,
 * average to 2x2, linear. `padding` is 0 in the paper; 1 where images are too small for it.
 */
function auxiliaryHead(
  inputs: { channels: number; size: number },
  classes: number,
  padding: number,
  init: { conv: Initializer; linear: Initializer },
): Module {
  const { channels, size } = inputs;
  const wide = 2 * channels;
  const conv = (from: number) =>
    new Conv2d({ inChannels: from, outChannels: wide, kernelSize: 3, padding, bias: false, init: init.conv });
  return new Sequential([
    ['pool', new AdaptiveAvgPool2d({ outputSize: Math.ceil(size / 2) })],
    ['conv0', conv(channels)],
    ['bn0', new BatchNorm2d({ features: wide })],
    ['relu0', new ReLU()],
    ['conv1', conv(wide)],
    ['bn1', new BatchNorm2d({ features: wide })],
    ['relu1', new ReLU()],
    ['average', new AdaptiveAvgPool2d({ outputSize: 2 })],
    ['bn2', new BatchNorm2d({ features: wide })],
    ['flatten', new Flatten()],
    ['linear', new Linear({ inFeatures: 4 * wide, outFeatures: classes, init: init.linear })],
  ]);
}

/** The last head is VGG's classifier: max-pooling, then three linear layers. */
function classifier(
  inputs: { channels: number; size: number },
  options: { classes: number; units: number; dropout: number; init: Initializer },
): Module {
  const { channels, size } = inputs;
  const { classes, units, dropout, init } = options;
  const pooled = Math.floor(size / 2);
  // The names are the places in torchvision's Sequential; dropout stands at 2 and 5.
  const drop = (name: string): [string, Module][] => (dropout > 0 ? [[name, new Dropout({ p: dropout })]] : []);
  return new Sequential([
    ['pool', new MaxPool2d({ kernelSize: 2 })],
    ['flatten', new Flatten()],
    ['0', new Linear({ inFeatures: channels * pooled * pooled, outFeatures: units, init })],
    ['1', new ReLU()],
    ...drop('2'),
    ['3', new Linear({ inFeatures: units, outFeatures: units, init })],
    ['4', new ReLU()],
    ...drop('5'),
    ['6', new Linear({ inFeatures: units, outFeatures: classes, init })],
  ]);
}

/** Two 3x3 convolutions without padding take 4 off the size; at least the 2x2 that is averaged to must be left. */
const fitsUnpadded = (size: number): boolean => Math.ceil(size / 2) - 4 >= 2;

/**
 * VGG-11 with batch norm, as (block, auxiliary head) pairs. Block j is [max-pooling] -> conv 3x3 -> BN -> ReLU; the
 * fifth pooling opens the last head. At 224 x 224 and width 64, all blocks and the last head are torchvision's vgg11_bn
 * to the last parameter, and so are their names. At sizes where the paper's unpadded heads would vanish they are padded
 * by 1; `auxiliaryNotes` says so.
 */
export class Vgg11 implements Network {
  readonly name = 'vgg11';
  readonly classes: number;
  readonly inputShape: readonly [number, number, number];
  readonly blocks: readonly Module[];
  readonly heads: readonly Module[];
  readonly notes: readonly string[];
  readonly auxiliaryNotes: readonly string[];

  constructor(options: VggOptions) {
    const { classes, imageSize, width, layers, seed, dropout } = checkOptions(options);
    this.classes = classes;
    this.inputShape = [3, imageSize, imageSize];

    const plan = VGG11_LAYERS.slice(0, layers);
    const sizes = outputSizes(imageSize);
    const channels = plan.map((layer) => scaled(layer.channels, width));
    // Of all eight layers, also when fewer are built: a layer's head must not depend on how many follow it.
    const padding = sizes.every(fitsUnpadded) ? 0 : 1;

    const blocks: Module[] = [];
    const heads: Module[] = [];
    let place = 0; // in torchvision's `features`
    plan.forEach(({ pooled }, j) => {
      using generator = Generator.create({ seed: layerSeed(seed, j) });
      const init = { conv: kaimingNormalFanOut(generator), linear: normalInit(0.01, generator) };
      const inChannels = channels[j - 1] ?? 3;
      const outChannels = channels[j]!;
      const modules: Module[] = [
        ...(pooled ? [new MaxPool2d({ kernelSize: 2 })] : []),
        new Conv2d({ inChannels, outChannels, kernelSize: 3, padding: 1, init: init.conv }),
        new BatchNorm2d({ features: outChannels }),
        new ReLU(),
      ];
      blocks.push(new Sequential(modules.map((module) => [String(place++), module])));
      const inputs = { channels: outChannels, size: sizes[j]! };
      heads.push(
        j === plan.length - 1
          ? classifier(inputs, {
              classes,
              units: scaled(CLASSIFIER_UNITS, width),
              dropout,
              init: init.linear,
            })
          : auxiliaryHead(inputs, classes, padding, init),
      );
    });
    this.blocks = blocks;
    this.heads = heads;
    this.notes = [
      ...(width !== FULL_WIDTH ? [`Width ${width}: VGG-11 itself has ${FULL_WIDTH}.`] : []),
      ...(layers !== VGG11_LAYERS.length ? [`The first ${layers} of VGG-11's ${VGG11_LAYERS.length} layers.`] : []),
    ];
    this.auxiliaryNotes =
      padding === 1
        ? [
            `Auxiliary heads padded by 1 for ${imageSize} x ${imageSize} images: this project's own variant, not the paper's.`,
          ]
        : [];
  }

  stateDict(): StateDict {
    return joinStateDicts([
      ...this.blocks.map((block) => ['features.', block] as const),
      ['classifier.', this.heads.at(-1)!],
    ]);
  }

  auxiliaryStateDict(): StateDict {
    return joinStateDicts(this.heads.slice(0, -1).map((head, j) => [`auxiliary.${j}.`, head] as const));
  }
}
