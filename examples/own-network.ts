// A residual network of one's own, trained layer by layer on images that this program makes: npm run example -- own-network
import { parseArgs } from 'node:util';
import * as lw from 'layerwise';

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

/** relu(x + BN(conv(relu(BN(conv(x)))))), where the input has as many channels; else without x. */
class ResidualBlock extends lw.Module {
  readonly #body: lw.Module;
  readonly #hasShortcut: boolean;

  constructor(inChannels: number, outChannels: number, init: lw.Initializer) {
    super();
    const conv = (from: number) =>
      new lw.Conv2d({ inChannels: from, outChannels, kernelSize: 3, padding: 1, bias: false, init });
    const norm = () => new lw.BatchNorm2d({ features: outChannels });
    const parts = { conv0: conv(inChannels), bn0: norm(), relu: new lw.ReLU(), conv1: conv(outChannels), bn1: norm() };
    this.#body = this.child('body', new lw.Sequential(Object.entries(parts)));
    this.#hasShortcut = inChannels === outChannels;
  }

  forward(x: lw.Tensor): lw.Tensor {
    const y = this.#body.forward(x);
    return (this.#hasShortcut ? y.add(x) : y).relu();
  }
}

/** Three residual layers, each with a linear classifier of its averaged output. */
const network: lw.NetworkBuilder = ({ classes, inputShape, seed }) => {
  const channels = [12, 12, 12];
  const layers = channels.map((width, layer) => {
    // The weights of a layer follow from the seed and its index alone: the network is built again where a run is resumed.
    using generator = lw.Generator.create({ seed: 1000 * seed + layer });
    const init = lw.defaultInit(generator);
    const head = {
      average: new lw.AdaptiveAvgPool2d({ outputSize: 2 }),
      flatten: new lw.Flatten(),
      linear: new lw.Linear({ inFeatures: 4 * width, outFeatures: classes, init }),
    };
    const block = new ResidualBlock(channels[layer - 1] ?? inputShape[0], width, init);
    return { block, head: new lw.Sequential(Object.entries(head)) };
  });
  const [blocks, heads] = [layers.map(({ block }) => block), layers.map(({ head }) => head)];
  return lw.layeredNetwork({ name: 'residual network', classes, inputShape, blocks, heads });
};

const classes = ['across', 'down', 'both'];
const test = stripes(300, 2);
const data: lw.InMemoryData = { title: 'stripes', classes, imageShape: [1, SIDE, SIDE], train: stripes(900, 1), test };
const recipe = lw.overrideRecipe(lw.presetRecipe('own', { dataset: 'own', onCuda: lw.buildInfo().cudaAvailable }), {
  training: { epochs: 3, batchSize: 32, milestones: [2] },
  augmentation: { cropPadding: 2, horizontalFlip: true },
});
const { out } = parseArgs({ options: { out: { type: 'string' } } }).values;
const { runDirectory, result } = await lw.train({ recipe, network, data, ...(out === undefined ? {} : { out }) });
for (const { layer, testTop1, ensembleTop1 } of result.layers) {
  console.log(
    `layer ${layer + 1}: ${testTop1?.toFixed(1)} % of the test images, ensemble ${ensembleTop1?.toFixed(1)} %`,
  );
}

using run = await lw.TrainedRun.open(runDirectory, { network });
lw.scope(() => {
  const image = lw.tensor(test.images.subarray(0, SIDE * SIDE), { shape: [1, 1, SIDE, SIDE], device: run.device });
  console.log(
    `the first test image, ${classes[test.labels[0]!]}: ${classes[run.logits(image).argmax({ dim: 1 }).item()]}`,
  );
});
console.log(`report: ${runDirectory}/report.html`);
const last = result.layers.at(-1)!.testTop1 ?? 0;
if (last < 90) throw new Error(`expected 90 % of the test images at least, got ${last.toFixed(1)} %`);
