// A residual network of one's own, grown layer by layer on images that this program makes: npm run example -- own-network
import * as lw from 'layerwise';
import { isProgram, trainModule } from './support/own-module.js';

/** Layers relu(x + BN(conv(relu(BN(conv(x)))))), each with a linear classifier of its averaged output. */
export const network: lw.NetworkBuilder = ({ classes, inputShape, seed, options: { depth = 3, width = 12 } }) => {
  const channels = Number(width);
  const layers = Array.from({ length: Number(depth) }, (_, layer) => {
    // A layer's weights follow from the seed and its index alone: the network is built again where a run is resumed.
    using generator = lw.Generator.create({ seed: 1000 * seed + layer });
    const init = lw.defaultInit(generator);
    const conv = (inChannels: number) =>
      new lw.Conv2d({ inChannels, outChannels: channels, kernelSize: 3, padding: 1, bias: false, init });
    const norm = () => new lw.BatchNorm2d({ features: channels });
    const body = { conv0: conv(channels), bn0: norm(), relu: new lw.ReLU(), conv1: conv(channels), bn1: norm() };
    const enter: Record<string, lw.Module> = layer === 0 ? { enter: conv(inputShape[0]) } : {};
    const block = { ...enter, residual: new lw.Residual({ body: sequence(body) }), relu: new lw.ReLU() };
    const linear = new lw.Linear({ inFeatures: 4 * channels, outFeatures: classes, init });
    const head = { average: new lw.AdaptiveAvgPool2d({ outputSize: 2 }), flatten: new lw.Flatten(), linear };
    return { block: sequence(block), head: sequence(head) };
  });
  const [blocks, heads] = [layers.map(({ block }) => block), layers.map(({ head }) => head)];
  return lw.layeredNetwork({ name: 'residual network', classes, inputShape, blocks, heads });
};

const sequence = (modules: Record<string, lw.Module>) => new lw.Sequential(Object.entries(modules));
const SIDE = 16;

/** Grey images of stripes across, down or both ways, of any width and phase, under noise. */
function stripes(count: number, seed: number): lw.InMemoryImages {
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const labels = Array.from({ length: count }, (_, i) => i % 3);
  const images = labels.flatMap((label) => {
    const [width, phase] = [2 + random(3), random(8)];
    const stripe = (at: number): number => Math.floor((at + phase) / width) % 2;
    return Array.from({ length: SIDE * SIDE }, (_, pixel) => {
      const [across, down] = [stripe(pixel % SIDE), stripe(Math.floor(pixel / SIDE))];
      return 50 * [across, down, across ^ down][label]! + random(190);
    });
  });
  return { images: Uint8Array.from(images), labels };
}

const classes = ['across', 'down', 'both'];

export const data: lw.DataBuilder = () => {
  return { title: 'stripes', classes, imageShape: [1, SIDE, SIDE], train: stripes(900, 1), test: stripes(300, 2) };
};

// As a module this file gives network and data, and does no more.
if (isProgram(import.meta.url)) {
  const preset = lw.presetRecipe('own', { dataset: 'own', onCuda: false });
  const training = { epochs: 3, batchSize: 32, milestones: [2] };
  const augmentation = { cropPadding: 2, horizontalFlip: true };
  await trainModule(import.meta.url, lw.overrideRecipe(preset, { training, augmentation }), { leastTop1: 90 });
}
