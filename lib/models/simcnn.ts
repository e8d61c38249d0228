// SimCNN: the paper's simple network of 3x3 convolutions, with auxiliary heads of k - 1 of them (sections 3 and 4.1).
import { z } from 'zod';
import { type ImageSize, shownSize, sidesOf } from '../data/index.js';
import {
  AdaptiveAvgPool2d,
  AvgPool2d,
  BatchNorm2d,
  Conv2d,
  defaultInit,
  Flatten,
  type Initializer,
  InvertibleDownsampling,
  Linear,
  MaxPool2d,
  type Module,
  ReLU,
  Sequential,
  type StateDict,
} from '../nn/index.js';
import { Generator, noGrad } from '../tensor/index.js';
import { channels, convolutions, declareModel, imagesOf, layerCount, type ModelContext } from './declaration.js';
import { ModelError } from './errors.js';
import { auxiliaryStateDict, finishedStateDict, layerSeed, type Network } from './network.js';

/** How a layer halves its input: the paper's invertible reordering, or one of the ablation's alternatives. */
export type Downsampling = (typeof DOWNSAMPLINGS)[number];

/**
 * The head of the last layer, where it is not to follow from the others: so many convolutions of `width` channels before
 * the linear layer.
 */
export interface LastHead {
  /** 0 leaves only the linear layer. */
  readonly convolutions: number;
  readonly width: number;
}

/**
 * What a `SimCnn` is made of; J, M, M~ and k are the paper's letters. Its constructor throws ModelError, naming the option.
 */
export interface SimCnnOptions {
  readonly classes: number;
  /** Channels of an input image; default: 3. */
  readonly channels?: number;
  /** Height and width of an input image; default: 32. */
  readonly imageSize?: ImageSize;
  /** Layers of an auxiliary problem: the layer that is grown counts as one, so a head has k - 1 convolutions. */
  readonly k: number;
  /** J, the number of layers. */
  readonly layers: number;
  /** M, the width of the first layer; it doubles at each downsampling after the first layer. */
  readonly width: number;
  /** M~, the width of the first head's convolutions; it doubles with M. Not used for k = 1. */
  readonly auxWidth?: number;
  /** Channels of each layer, where they do not follow from `width`, as in compressed networks. */
  readonly widths?: readonly number[] | null;
  /** The last layer's head, where it is another: so many convolutions of `width` channels (M~f in the paper). */
  readonly lastHead?: LastHead | null;
  /** The layers, from 0, whose input is downsampled. */
  readonly downsampleAt: readonly number[];
  /** Default: 'invertible'. */
  readonly downsampling?: Downsampling;
  /** What batch norm's weight starts from: 1, or U(0, 1) as in the PyTorch 0.4 that the authors ran. Default: 'ones'. */
  readonly batchNormInit?: 'ones' | 'uniform';
  /** For k = 1, which convolutions have a bias: all (the paper's text) or the first (its code). Default: 'all'. */
  readonly bias?: 'all' | 'first';
  /** Of the initial weights; layer j's are a function of the seed and j alone. */
  readonly seed: number;
}

const DOWNSAMPLINGS = ['invertible', 'stride', 'average', 'max'] as const;

function checkOptions(options: SimCnnOptions): void {
  const {
    classes,
    channels = 3,
    imageSize = 32,
    k,
    layers,
    width,
    auxWidth,
    widths,
    lastHead,
    downsampleAt,
    downsampling = 'invertible',
    seed,
  } = options;
  const check = (holds: boolean, expected: string, name: string, got: unknown) => {
    if (!holds) throw new ModelError(`simcnn: expected ${expected} for ${name}, got ${String(got)}`);
  };
  const there = (size: readonly [number, number]): string => `${shownSize(sides)}, ${shownSize(size)} there`;
  const atLeast = (minimum: number, name: string, got: number) =>
    check(Number.isInteger(got) && got >= minimum, `an integer of at least ${minimum}`, name, got);
  atLeast(2, 'classes', classes);
  atLeast(1, 'channels', channels);
  const sides = sidesOf(imageSize);
  for (const side of sides) atLeast(2, 'imageSize', side);
  atLeast(1, 'k', k);
  atLeast(1, 'layers', layers);
  atLeast(1, 'width', width);
  if (k > 1) atLeast(1, 'auxWidth', auxWidth ?? Number.NaN);
  if (widths) {
    check(widths.length === layers, `${layers} numbers, one a layer,`, 'widths', `${widths.length}`);
    for (const own of widths) atLeast(1, 'widths', own);
  }
  if (lastHead) {
    atLeast(0, 'lastHead.convolutions', lastHead.convolutions);
    atLeast(1, 'lastHead.width', lastHead.width);
  }
  check(DOWNSAMPLINGS.includes(downsampling), `one of ${DOWNSAMPLINGS.join(', ')}`, 'downsampling', downsampling);
  check(Number.isSafeInteger(seed) && seed >= 0, 'an integer from 0 to 2^53 - 1', 'seed', seed);
  let size = sides;
  for (const [i, position] of downsampleAt.entries()) {
    check(
      Number.isInteger(position) && position >= 0 && position < layers,
      `layers from 0 to ${layers - 1}`,
      'downsampleAt',
      position,
    );
    check(i === 0 || position > downsampleAt[i - 1]!, 'rising layers', 'downsampleAt', downsampleAt.join(', '));
    check(
      size.every((side) => side % 2 === 0),
      `an even size at the downsampling of layer ${position}`,
      'imageSize',
      there(size),
    );
    size = [size[0] / 2, size[1] / 2];
  }
  check(Math.min(...size) >= 2, 'a size of at least 2 after every downsampling', 'imageSize', there(size));
}

/** What the layers of one network share. */
interface Plan {
  readonly k: number;
  readonly classes: number;
  readonly downsampling: Downsampling;
  readonly bias: 'all' | 'first';
  readonly batchNorm: (features: number) => Module;
  readonly init: Initializer;
}

/** [downsampling] -> conv 3x3 -> BN (k > 1) -> ReLU. */
function block(
  plan: Plan,
  layer: { index: number; inChannels: number; outChannels: number; downsampled: boolean },
): Module {
  const { index, inChannels, outChannels, downsampled } = layer;
  const isInvertible = downsampled && plan.downsampling === 'invertible';
  const pooling: Record<Downsampling, () => [string, Module][]> = {
    invertible: () => [['downsampling', new InvertibleDownsampling()]],
    average: () => [['downsampling', new AvgPool2d({ kernelSize: 2 })]],
    max: () => [['downsampling', new MaxPool2d({ kernelSize: 2 })]],
    stride: () => [],
  };
  const conv = new Conv2d({
    inChannels: isInvertible ? 4 * inChannels : inChannels,
    outChannels,
    kernelSize: 3,
    padding: 1,
    stride: downsampled && plan.downsampling === 'stride' ? 2 : 1,
    bias: plan.k === 1 && (plan.bias === 'all' || index === 0),
    init: plan.init,
  });
  return new Sequential([
    ...(downsampled ? pooling[plan.downsampling]() : []),
    ['conv', conv],
    ...(plan.k > 1 ? [['bn', plan.batchNorm(outChannels)] as const] : []),
    ['relu', new ReLU({ inPlace: true })],
  ]);
}

/** Convolutions x [conv 3x3 -> BN -> ReLU] -> average to 2x2 -> BN -> linear; with k = 1 and no convolution, no BN. */
function auxiliaryHead(plan: Plan, inChannels: number, { convolutions, width }: LastHead): Module {
  const modules: [string, Module][] = [];
  let channels = inChannels;
  for (let i = 0; i < convolutions; i++) {
    const conv = {
      inChannels: channels,
      outChannels: width,
      kernelSize: 3,
      padding: 1,
      bias: false,
      init: plan.init,
    };
    modules.push([`conv${i}`, new Conv2d(conv)]);
    modules.push([`bn${i}`, plan.batchNorm(width)]);
    modules.push([`relu${i}`, new ReLU({ inPlace: true })]);
    channels = width;
  }
  return new Sequential([
    ...modules,
    ['average', new AdaptiveAvgPool2d({ outputSize: 2 })],
    ...(plan.k > 1 || convolutions > 0 ? [['bn', plan.batchNorm(channels)] as const] : []),
    ['flatten', new Flatten()],
    ['linear', new Linear({ inFeatures: 4 * channels, outFeatures: plan.classes, init: plan.init })],
  ]);
}

/** The paper's SimCNN as (block, auxiliary head) pairs. For k = 1 its blocks and linear heads have no batch norm. */
export class SimCnn implements Network {
  readonly name: string;
  readonly classes: number;
  readonly inputShape: readonly [channels: number, height: number, width: number];
  /** Output channels of each layer. */
  readonly widths: readonly number[];
  readonly blocks: readonly Module[];
  readonly heads: readonly Module[];
  readonly notes: readonly string[];
  readonly auxiliaryNotes: readonly string[] = [];

  constructor(options: SimCnnOptions) {
    checkOptions(options);
    const {
      classes,
      channels: inputChannels = 3,
      imageSize = 32,
      k,
      layers,
      width,
      auxWidth = 0,
      downsampleAt,
      seed,
    } = options;
    const { widths = null, lastHead = null } = options;
    const { downsampling = 'invertible', batchNormInit = 'ones', bias = 'all' } = options;
    this.name = `simcnn-k${k}`;
    this.classes = classes;
    this.inputShape = [inputChannels, ...sidesOf(imageSize)];
    const blocks: Module[] = [];
    const heads: Module[] = [];
    const ownWidths: number[] = [];
    let channels = inputChannels;
    let doublings = 0;
    for (let j = 0; j < layers; j++) {
      using generator = Generator.create({ seed: layerSeed(seed, j) });
      const plan: Plan = {
        k,
        classes,
        downsampling,
        bias,
        init: defaultInit(generator),
        batchNorm: (features) => batchNorm(features, batchNormInit, generator),
      };
      const downsampled = downsampleAt.includes(j);
      if (downsampled && j > 0) doublings++;
      const outChannels = widths?.[j] ?? width * 2 ** doublings;
      const head = { convolutions: k - 1, width: auxWidth * 2 ** doublings };
      blocks.push(block(plan, { index: j, inChannels: channels, outChannels, downsampled }));
      heads.push(auxiliaryHead(plan, outChannels, (j === layers - 1 ? lastHead : null) ?? head));
      ownWidths.push(outChannels);
      channels = outChannels;
    }
    this.widths = ownWidths;
    this.blocks = blocks;
    this.heads = heads;
    this.notes =
      downsampling === 'invertible'
        ? []
        : [`Downsampling by ${downsampling}: the paper's is the invertible reordering.`];
  }

  stateDict(): StateDict {
    return finishedStateDict(this);
  }

  auxiliaryStateDict(): StateDict {
    return auxiliaryStateDict(this.heads);
  }
}

function batchNorm(features: number, init: 'ones' | 'uniform', generator: Generator): BatchNorm2d {
  const bn = new BatchNorm2d({ features });
  if (init === 'uniform') noGrad(() => bn.weight.uniform_({ generator }));
  return bn;
}

const schema = z.strictObject({
  name: z.literal('simcnn'),
  k: convolutions
    .min(1)
    .meta({ flag: 'k', description: "layers of SimCNN's auxiliary problems; the layer itself counts as one" }),
  layers: layerCount.meta({ flag: 'layers', description: 'J, layers that are trained' }),
  width: channels.meta({
    flag: 'width',
    description: 'M, channels of the first layer; they double at each downsampling after it',
  }),
  auxWidth: channels.meta({
    flag: 'aux-width',
    description: "M~, channels of SimCNN's first auxiliary head; they double with M; k = 1 has none",
  }),
  widths: z.array(channels).max(512).nullable().default(null).meta({
    values: 'a list of 1 to 4,096, null',
    description: 'channels of each layer; null: `width`, doubled at each downsampling after the first layer',
  }),
  lastHead: z
    .strictObject({ convolutions: convolutions.min(0), width: channels })
    .nullable()
    .default(null)
    .meta({
      values: '`{"convolutions": 0 to 64, "width": N}`, null',
      description: 'another head for the last layer; null: as the others, k - 1 convolutions of M~',
    }),
  downsampleAt: z
    .array(z.int().min(0).max(511))
    .max(512)
    .meta({ values: 'a list of layers, from 0', description: 'layers whose input is downsampled' }),
  downsampling: z.enum(DOWNSAMPLINGS).meta({ description: "the paper's is `invertible`" }),
  batchNormInit: z.enum(['ones', 'uniform']).meta({
    description: "what batch norm's weight starts from; `uniform`: between 0 and 1, as in the authors' PyTorch",
  }),
  bias: z.enum(['all', 'first']).meta({ description: 'for k = 1: which convolutions have a bias' }),
});

/** Paper, section 4.1 and appendix; where its text and its code differ, the code. */
function optionsFor(k: number, { dataset, isNarrow }: ModelContext): z.output<typeof schema> {
  const shared = {
    name: 'simcnn',
    k,
    widths: null,
    lastHead: null,
    downsampling: 'invertible',
    batchNormInit: 'ones',
    bias: 'all',
  } as const;
  if (dataset === 'imagenet') {
    return k === 1
      ? { ...shared, layers: 8, width: 256, auxWidth: 256, downsampleAt: [0, 2, 3, 4, 6] }
      : { ...shared, layers: 8, width: 128, auxWidth: 256, downsampleAt: [0, 2, 4, 6] };
  }
  const [width, auxWidth] = isNarrow ? [32, 32] : [k === 1 ? 256 : 128, 128];
  // The text downsamples k = 1 at 1 and 3, and gives k > 1 heads of 256.
  return k === 1
    ? { ...shared, layers: 5, width, auxWidth, downsampleAt: [2, 3] }
    : { ...shared, layers: 4, width, auxWidth, downsampleAt: [2] };
}

export const simcnn = declareModel({
  family: 'SimCNN',
  names: ['simcnn'],
  titleOf: () => 'SimCNN',
  schema,
  presets: [1, 2, 3].map((k) => ({
    name: `simcnn-k${k}`,
    schedule: 'layerwise',
    dataset: 'cifar10',
    options: (context) => optionsFor(k, context),
  })),
  build: (options, { inputShape, ...request }) =>
    new SimCnn({ ...request, ...imagesOf(options.name, inputShape), ...options }),
});
