// VGG with batch norm as the paper trains VGG-11: section 4.3, with the structure of torchvision's vgg11_bn to vgg19_bn.
import { z } from 'zod';
import { type ImageSize, shownSize, sidesOf } from '../data/index.js';
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
import { channels, declareModel, imagesOf, layerCount, SCHEDULES } from './declaration.js';
import { ModelError } from './errors.js';
import { auxiliaryStateDict, joinStateDicts, layerSeed, type Network } from './network.js';

/**
 * Convolutions of each of the five sizes that max-pooling leaves (Simonyan and Zisserman 2015, table 1: configurations
 * A, B, D and E).
 */
const CONVOLUTIONS = {
  vgg11: [1, 1, 2, 2, 2],
  vgg13: [2, 2, 2, 2, 2],
  vgg16: [2, 2, 3, 3, 3],
  vgg19: [2, 2, 4, 4, 4],
} as const;
/** Their output channels at full width. */
const CHANNELS = [64, 128, 256, 512, 512] as const;

/** VGG's configurations A, B, D and E (Simonyan and Zisserman 2015), each with batch norm. */
export type VggName = keyof typeof CONVOLUTIONS;

export const VGG_NAMES = Object.keys(CONVOLUTIONS) as [VggName, ...VggName[]];

/** The name as the literature writes it, such as VGG-16. */
export const vggTitle = (name: VggName): string => name.replace('vgg', 'VGG-');

/** The width of the networks themselves: channels of their first layer. */
export const VGG_FULL_WIDTH = 64;
const CLASSIFIER_UNITS = 4096;

interface LayerPlan {
  /** Output channels at full width. */
  readonly channels: number;
  /** Whether a max-pooling opens the block. */
  readonly pooled: boolean;
}

const layersOf = (name: VggName): LayerPlan[] =>
  CONVOLUTIONS[name].flatMap((convolutions, i) =>
    Array.from({ length: convolutions }, (_, n) => ({ channels: CHANNELS[i]!, pooled: i > 0 && n === 0 })),
  );

/** How many layers, each a convolution, a whole network has before its classifier: 8, 10, 13 or 16. */
export const vggLayerCount = (name: VggName): number => layersOf(name).length;

/** What a `Vgg` is made of. Its constructor throws ModelError, naming the option. */
export interface VggOptions {
  readonly name: VggName;
  readonly classes: number;
  /** Channels of an input image; default: 3. */
  readonly channels?: number;
  /** Height and width of an input image, even wherever it is pooled: for all layers multiples of 32; default: 224. */
  readonly imageSize?: ImageSize;
  /** Channels of the first layer; all other widths scale with it. Default: 64, the network itself. */
  readonly width?: number;
  /** Layers that are built, from the first; the last of them is read by the last head. Default: all. */
  readonly layers?: number;
  /** Of the initial weights; layer j's are a function of the seed and j alone. */
  readonly seed: number;
  /** The classifier of torchvision's definition, with this dropout, for training as one network. Default: none. */
  readonly dropout?: number;
}

type CheckedOptions = Omit<Required<VggOptions>, 'imageSize'> & { readonly imageSize: Sides };

function checkOptions(options: VggOptions): CheckedOptions {
  const { name } = options;
  if (!VGG_NAMES.includes(name)) {
    throw new ModelError(`vgg: expected one of ${VGG_NAMES.join(', ')} for name, got ${String(name)}`);
  }
  const all = vggLayerCount(name);
  const { classes, channels = 3, width = VGG_FULL_WIDTH, layers = all, seed, dropout = 0 } = options;
  const imageSize = sidesOf(options.imageSize ?? 224);
  const check = (holds: boolean, expected: string, option: string, got: unknown) => {
    if (!holds) throw new ModelError(`${name}: expected ${expected} for ${option}, got ${got}`);
  };
  check(Number.isInteger(classes) && classes >= 2, 'an integer of at least 2', 'classes', classes);
  check(Number.isInteger(channels) && channels >= 1, 'an integer of at least 1', 'channels', channels);
  check(Number.isInteger(width) && width >= 1, 'an integer of at least 1', 'width', width);
  check(Number.isInteger(layers) && layers >= 1 && layers <= all, `an integer from 1 to ${all}`, 'layers', layers);
  check(Number.isSafeInteger(seed) && seed >= 0, 'an integer from 0 to 2^53 - 1', 'seed', seed);
  check(dropout >= 0 && dropout < 1, '0 or more, below 1', 'dropout', dropout);
  for (const side of imageSize) check(Number.isInteger(side) && side >= 2, 'sides of at least 2', 'imageSize', side);
  const plan = layersOf(name).slice(0, layers);
  for (const [j, size] of outputSizes(plan, imageSize).entries()) {
    const reader = j + 1 === layers ? 'the last head' : plan[j + 1]!.pooled ? `layer ${j + 2}` : null;
    if (reader === null) continue;
    const isEven = size.every((side) => side >= 2 && side % 2 === 0);
    const there = `${shownSize(imageSize)}, ${shownSize(size)} there`;
    check(isEven, `an even size at the pooling of ${reader}`, 'imageSize', there);
  }
  return { name, classes, channels, imageSize, width, layers, seed, dropout };
}

type Sides = readonly [height: number, width: number];

/** Half of a size, as max-pooling gives it. */
const pooledSize = ([height, width]: Sides): Sides => [Math.floor(height / 2), Math.floor(width / 2)];

/** Height and width of each layer's output. */
function outputSizes(plan: readonly LayerPlan[], imageSize: Sides): Sides[] {
  let size = imageSize;
  return plan.map(({ pooled }) => {
    if (pooled) size = pooledSize(size);
    return size;
  });
}

const scaled = (channels: number, width: number): number =>
  Math.max(1, Math.round((channels * width) / VGG_FULL_WIDTH));

/**
 * The auxiliary head of all layers but the last: average to half the size, two 3x3 convolutions of twice the channels,
 * average to 2x2, linear. `padding` is 0 in the paper; 1 where images are too small for it.
 */
function auxiliaryHead(
  inputs: { channels: number; size: Sides },
  classes: number,
  padding: number,
  init: { conv: Initializer; linear: Initializer },
): Module {
  const { channels, size } = inputs;
  const [height, width] = size;
  const wide = 2 * channels;
  const conv = (from: number) =>
    new Conv2d({ inChannels: from, outChannels: wide, kernelSize: 3, padding, bias: false, init: init.conv });
  return new Sequential([
    ['pool', new AdaptiveAvgPool2d({ outputSize: [Math.ceil(height / 2), Math.ceil(width / 2)] })],
    ['conv0', conv(channels)],
    ['bn0', new BatchNorm2d({ features: wide })],
    ['relu0', new ReLU({ inPlace: true })],
    ['conv1', conv(wide)],
    ['bn1', new BatchNorm2d({ features: wide })],
    ['relu1', new ReLU({ inPlace: true })],
    ['average', new AdaptiveAvgPool2d({ outputSize: 2 })],
    ['bn2', new BatchNorm2d({ features: wide })],
    ['flatten', new Flatten()],
    ['linear', new Linear({ inFeatures: 4 * wide, outFeatures: classes, init: init.linear })],
  ]);
}

/** The last head is VGG's classifier: max-pooling, then three linear layers. */
function classifier(
  inputs: { channels: number; size: Sides },
  options: { classes: number; units: number; dropout: number; init: Initializer },
): Module {
  const { channels, size } = inputs;
  const { classes, units, dropout, init } = options;
  const [height, width] = pooledSize(size);
  // The names are the positions in torchvision's Sequential; dropout stands at 2 and 5.
  const drop = (name: string): [string, Module][] => (dropout > 0 ? [[name, new Dropout({ p: dropout })]] : []);
  return new Sequential([
    ['pool', new MaxPool2d({ kernelSize: 2 })],
    ['flatten', new Flatten()],
    ['0', new Linear({ inFeatures: channels * height * width, outFeatures: units, init })],
    ['1', new ReLU({ inPlace: true })],
    ...drop('2'),
    ['3', new Linear({ inFeatures: units, outFeatures: units, init })],
    ['4', new ReLU({ inPlace: true })],
    ...drop('5'),
    ['6', new Linear({ inFeatures: units, outFeatures: classes, init })],
  ]);
}

/** Two 3x3 convolutions without padding take 4 off the size; at least the 2x2 that is averaged to must be left. */
const fitsUnpadded = (size: Sides): boolean => Math.ceil(Math.min(...size) / 2) - 4 >= 2;

/**
 * VGG-11, 13, 16 or 19 with batch norm, as (block, auxiliary head) pairs. Block j is [max-pooling] -> conv 3x3 -> BN ->
 * ReLU; the fifth pooling opens the last head. At 224 x 224 and width 64, all blocks and the last head are torchvision's
 * vgg11_bn (vgg13_bn, ...) to the last parameter, and so are their names. The heads follow the rule of the paper's
 * VGG-11; at sizes where these unpadded heads would vanish they are padded by 1, and `auxiliaryNotes` says so.
 * Throws ModelError, naming the option, before anything is allocated.
 */
export class Vgg implements Network {
  readonly name: VggName;
  readonly classes: number;
  readonly inputShape: readonly [channels: number, height: number, width: number];
  /** Channels of the first layer. */
  readonly width: number;
  readonly blocks: readonly Module[];
  readonly heads: readonly Module[];
  readonly notes: readonly string[];
  readonly auxiliaryNotes: readonly string[];

  constructor(options: VggOptions) {
    const { name, classes, channels: inputChannels, imageSize, width, layers, seed, dropout } = checkOptions(options);
    this.name = name;
    this.classes = classes;
    this.inputShape = [inputChannels, ...imageSize];
    this.width = width;

    const all = layersOf(name);
    const plan = all.slice(0, layers);
    const sizes = outputSizes(all, imageSize);
    const channels = plan.map((layer) => scaled(layer.channels, width));
    // Of all layers, also when fewer are built: a layer's head must not depend on how many follow it.
    const padding = sizes.every(fitsUnpadded) ? 0 : 1;

    const blocks: Module[] = [];
    const heads: Module[] = [];
    let position = 0; // in torchvision's `features`
    plan.forEach(({ pooled }, j) => {
      using generator = Generator.create({ seed: layerSeed(seed, j) });
      const init = { conv: kaimingNormalFanOut(generator), linear: normalInit(0.01, generator) };
      const inChannels = channels[j - 1] ?? inputChannels;
      const outChannels = channels[j]!;
      const modules: Module[] = [
        ...(pooled ? [new MaxPool2d({ kernelSize: 2 })] : []),
        new Conv2d({ inChannels, outChannels, kernelSize: 3, padding: 1, init: init.conv }),
        new BatchNorm2d({ features: outChannels }),
        new ReLU({ inPlace: true }),
      ];
      blocks.push(new Sequential(modules.map((module) => [String(position++), module])));
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
    const title = vggTitle(name);
    this.notes = [
      ...(width !== VGG_FULL_WIDTH ? [`Width ${width}: ${title} itself has ${VGG_FULL_WIDTH}.`] : []),
      ...(layers !== all.length ? [`The first ${layers} of ${title}'s ${all.length} layers.`] : []),
    ];
    this.auxiliaryNotes =
      padding === 1
        ? [
            `Auxiliary heads padded by 1 for ${imageSize.join(' x ')} images: this project's own variant, not the paper's.`,
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
    return auxiliaryStateDict(this.heads);
  }
}

/** Paper, section 4.3; end to end, the same blocks with torchvision's classifier and dropout 0.5, trained as one network. */
export const vgg = declareModel({
  family: 'VGG',
  names: VGG_NAMES,
  titleOf: (name) => vggTitle(name as VggName),
  schema: z.strictObject({
    name: z.enum(VGG_NAMES).meta({ flag: 'model', description: "another VGG than the preset's" }),
    width: channels.meta({
      flag: 'width',
      description: 'channels of the first layer; the others are multiples (VGG itself: 64)',
    }),
    layers: layerCount.meta({ flag: 'layers', description: 'layers that are trained, at most all' }),
    dropout: z.number().min(0).lt(1).meta({ description: 'of the classifier; end to end: 0.5' }),
  }),
  presets: VGG_NAMES.flatMap((name) =>
    SCHEDULES.map((schedule) => ({
      name: `${name}-${schedule}`,
      schedule,
      dataset: 'shapes',
      options: ({ isNarrow }) => ({
        name,
        width: isNarrow ? 16 : VGG_FULL_WIDTH,
        layers: vggLayerCount(name),
        dropout: schedule === 'end-to-end' ? 0.5 : 0,
      }),
    })),
  ),
  build: (options, { inputShape, ...request }) =>
    new Vgg({ ...request, ...imagesOf(options.name, inputShape), ...options }),
});
