// Networks of stages, each a list of convolutions with a head of its own: what is tried for the preset.
import * as lw from 'layerwise';
import { normalized } from './images.mjs';

/** @import { Images, Part } from './images.mjs' */

/**
 * A stage and the multiply-adds of an image's forward pass through it.
 *
 * @typedef {{ block: lw.Sequential, head: lw.Sequential, blockOps: number, headOps: number }} Stage
 *
 * @typedef {{ stages: Stage[], norms: lw.BatchNorm2d[] }} StagedNetwork `norms`: those after convolutions
 */

export const NETWORK = {
  /** Pixels a side of the whitened patches; 0 leaves the whitening out. */
  whitening: 2,
  epsilon: 5e-4,
  /** Channels of each block. */
  widths: [64, 256, 256],
  /** Convolutions of each block; the first is followed by a pooling. */
  convolutions: [2, 2, 2],
  /** Blocks of each stage. */
  stages: [1, 1, 1],
  activation: 'relu',
  /** Convolutions of each stage's head, and their channels. */
  headConvolutions: [0, 0, 0],
  headWidths: [0, 0, 0],
  /** Whether a head's first convolution is followed by a pooling, as a block's. */
  headDownsampling: false,
  /** Height and width of what a head's linear layer reads. */
  headPool: 2,
  /** Of the logits. */
  scale: 1,
  /** Whether a convolution begins as the identity of its inputs. */
  dirac: true,
  normMomentum: 0.1,
};

/** @typedef {typeof NETWORK} NetworkOptions */

const FITTED_TO = 5_000;

/** @param {Partial<NetworkOptions>} given @param {number} seed @param {Images} images @returns {Promise<StagedNetwork>} */
export async function buildNetwork(given, seed, images) {
  const options = { ...NETWORK, ...given };
  const layers = new Layers(options, seed);
  const shape = { channels: 3, side: 32 };
  let block = 0;
  const stages = options.stages.map((count, s) => {
    const opening = s === 0 && options.whitening > 0 ? whitened(options, shape, layers) : { modules: [], ops: 0 };
    const mine = Array.from({ length: count }, () => blockOf(options, block++, shape, layers));
    const parts = [opening, ...mine];
    const isLast = s === options.stages.length - 1;
    const head = isLast ? lastHead(options, shape, layers) : headOf(options, s, shape, layers);
    return {
      block: sequence(parts.flatMap(({ modules }) => modules)),
      head: sequence(head.modules),
      blockOps: parts.reduce((sum, { ops }) => sum + ops, 0),
      headOps: head.ops,
    };
  });
  await layers.whitening?.fit(firstOf(images.train));
  for (const { block, head } of stages) for (const module of [block, head]) module.to({ memoryFormat: 'channelsLast' });
  return { stages, norms: layers.norms };
}

/** @param {Part} part */
async function* firstOf({ pixels, count }) {
  const fitted = Math.min(FITTED_TO, count);
  const inputs = normalized(pixels.subarray(0, fitted * 3 * 32 * 32), fitted);
  yield inputs;
  inputs.dispose();
}

/** Makes layers with initial weights of a seed. */
class Layers {
  /** @type {lw.BatchNorm2d[]} */
  norms = [];
  /** @type {lw.Whitening | null} */
  whitening = null;

  /** @param {NetworkOptions} options @param {number} seed */
  constructor(options, seed) {
    this.options = options;
    this.init = lw.defaultInit(lw.Generator.create({ seed }));
  }

  /** @param {number} inChannels @param {number} outChannels */
  conv(inChannels, outChannels) {
    const options = { inChannels, outChannels, kernelSize: 3, padding: 1, bias: false, init: this.init };
    const layer = new lw.Conv2d(options);
    if (this.options.dirac) makeIdentity(layer.weight);
    return layer;
  }

  activation() {
    return this.options.activation === 'gelu' ? new lw.GELU() : new lw.ReLU({ inPlace: true });
  }

  /** Batch norm and activation. @param {number} features */
  normed(features) {
    const norm = new lw.BatchNorm2d({ features, momentum: this.options.normMomentum });
    this.norms.push(norm);
    return [norm, this.activation()];
  }

  /** @param {number} inFeatures */
  logits(inFeatures) {
    const linear = new lw.Linear({ inFeatures, outFeatures: 10, init: this.init });
    const { scale } = this.options;
    return [new lw.Flatten(), linear, ...(scale === 1 ? [] : [new lw.Scale({ factor: scale })])];
  }
}

/** @param {lw.Module[]} modules */
export const sequence = (modules) => new lw.Sequential(modules.map((module, i) => [String(i), module]));

/** @typedef {{ channels: number, side: number }} Shape of what a layer reads; each of the following moves it on */
/** @typedef {{ modules: lw.Module[], ops: number }} Convolved */

/** @param {NetworkOptions} options @param {Shape} shape @param {Layers} layers @returns {Convolved} */
function whitened({ whitening, epsilon }, shape, layers) {
  layers.whitening = new lw.Whitening({ channels: 3, size: whitening, eps: epsilon });
  shape.channels = 6 * whitening ** 2;
  shape.side = 32 - whitening + 1;
  const ops = shape.side ** 2 * shape.channels * 3 * whitening ** 2;
  return { modules: [layers.whitening, layers.activation()], ops };
}

/** Convolutions, the first with a pooling. @param {Shape} shape @param {number} count @param {number} width @param {boolean} pools @param {Layers} layers */
function convolutions(shape, count, width, pools, layers) {
  /** @type {Convolved} */
  const part = { modules: [], ops: 0 };
  for (let i = 0; i < count; i++) {
    part.modules.push(layers.conv(shape.channels, width));
    part.ops += shape.side ** 2 * shape.channels * width * 9;
    if (i === 0 && pools) {
      part.modules.push(new lw.MaxPool2d({ kernelSize: 2 }));
      shape.side = Math.floor(shape.side / 2);
    }
    part.modules.push(...layers.normed(width));
    shape.channels = width;
  }
  return part;
}

/** @param {NetworkOptions} options @param {number} block @param {Shape} shape @param {Layers} layers */
function blockOf({ widths, convolutions: counts }, block, shape, layers) {
  return convolutions(shape, counts[block] ?? 0, widths[block] ?? 0, true, layers);
}

/** @param {NetworkOptions} options @param {number} stage @param {Shape} read @param {Layers} layers @returns {Convolved} */
function headOf({ headConvolutions, headWidths, headDownsampling, headPool, normMomentum }, stage, read, layers) {
  const shape = { ...read };
  const width = headWidths[stage] || shape.channels;
  const opening = convolutions(shape, headConvolutions[stage] ?? 0, width, headDownsampling, layers);
  const inFeatures = headPool ** 2 * shape.channels;
  const average = new lw.AdaptiveAvgPool2d({ outputSize: headPool });
  const norm = new lw.BatchNorm2d({ features: shape.channels, momentum: normMomentum });
  return {
    modules: [...opening.modules, average, norm, ...layers.logits(inFeatures)],
    ops: opening.ops + 10 * inFeatures,
  };
}

/** @param {NetworkOptions} _ @param {Shape} shape @param {Layers} layers @returns {Convolved} */
function lastHead(_, { channels, side }, layers) {
  return { modules: [new lw.MaxPool2d({ kernelSize: side }), ...layers.logits(channels)], ops: 10 * channels };
}

/** Of as many filters as there are inputs; the others stay. @param {lw.Tensor} weight */
export function makeIdentity(weight) {
  const [outs = 0, ins = 0] = weight.shape;
  const count = Math.min(outs, ins);
  const identities = new Float32Array(count * ins * 9);
  for (let o = 0; o < count; o++) identities[(o * ins + o) * 9 + 4] = 1;
  lw.noGrad(() =>
    lw.scope(() => weight.narrow(0, 0, count).copy_(lw.tensor(identities, { shape: [count, ins, 3, 3] }))),
  );
}

/**
 * An image's forward pass, and TFLOP of the training: a forward pass is counted once, a backward pass as two.
 *
 * @param {readonly Stage[]} stages
 * @param {{ epochs: number, stageEpochs: number[] | null, schedule: string, train: number }} config
 */
export function operationsOf(stages, { epochs, stageEpochs, schedule, train }) {
  const perImage = stages.map(({ blockOps, headOps }, s) => {
    const below = stages.slice(0, s).reduce((sum, { blockOps: ops }) => sum + ops, 0);
    const own = 6 * (blockOps + headOps);
    return schedule === 'simultaneous' ? epochs * own : (stageEpochs?.[s] ?? epochs) * (own + 2 * below);
  });
  return {
    gflopForward: Number(stages.reduce((sum, { blockOps }) => sum + 2e-9 * blockOps, 0).toFixed(4)),
    headShare: stages.map(({ blockOps, headOps }) => Number((headOps / (blockOps + headOps)).toFixed(3))),
    tflop: Math.round((perImage.reduce((sum, ops) => sum + ops, 0) * train) / 1e12),
  };
}
