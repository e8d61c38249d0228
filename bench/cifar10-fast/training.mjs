// Trains stages by their own losses: all at once, each on what the one before gives, or one after the other.
import * as lw from 'layerwise';
import { Batches, normalized } from './images.mjs';

/** @import { Batch, Images } from './images.mjs' */
/** @import { Stage, StagedNetwork } from './network.mjs' */

export const TRAINING = {
  seed: 1,
  /** Images that are trained on. */
  train: 45_000,
  epochs: 4,
  /** Of each stage, where the schedule is layerwise; null: `epochs`. @type {number[] | null} */
  stageEpochs: null,
  batchSize: 512,
  schedule: 'simultaneous',
  rate: 0.4,
  /** constant, triangle or cosine: up from a fifth of the rate until `peak` of the way, then down, to `finalRate` of it or to 0. */
  shape: 'triangle',
  peak: 0.23,
  finalRate: 0.05,
  momentum: 0.9,
  nesterov: true,
  weightDecay: 5e-4,
  /** What the rate of batch norm's parameters is multiplied by; their decay a step stays. */
  biasScale: 1,
  decayNorms: true,
  /** Whether batch norm's weights learn, of those after convolutions. */
  trainScales: true,
  /** Filters of convolutions are stepped by Muon in place of SGD. @type {MuonOptions | null} */
  muon: null,
  labelSmoothing: 0.2,
  flip: 'random',
  padding: 2,
  pad: 'reflect',
  cutout: 0,
  /** A running average of the weights. @type {AverageOptions | null} */
  average: null,
  /** Of the similarity loss beside the cross entropy, in all stages but the last. */
  similarity: 0,
  testEvery: 1,
};

/** @typedef {typeof TRAINING} Config */
/** @typedef {{ every: number, decay: number, lookahead: boolean }} AverageOptions */
/** @typedef {{ rate: number, momentum: number, iterations: number, decay?: number }} MuonOptions `decay` in place of rows of length 1 */
/** @typedef {{ optimizer: lw.Sgd | Muon, scale: number }} ScaledOptimizer */

const TEST_BATCH = 500;
const PIXELS = 32 * 32 * 3;

/** @template T @param {() => T} work */
const inBf16 = (work) => lw.autocast({ device: 'cpu', dtype: 'bfloat16' }, work);

/** @param {lw.Module} module @param {lw.Tensor} input */
const forward = (module, input) => inBf16(() => module.forward(input));

/** @param {readonly Stage[]} stages */
const modulesOf = (stages) => stages.flatMap(({ block, head }) => [block, head]);

export class Training {
  /** @param {StagedNetwork} network @param {Images} images @param {Config} config */
  constructor(network, images, config) {
    this.network = network;
    this.images = images;
    this.config = config;
    this.batches = new Batches(images.train, config);
  }

  *run() {
    const { stages } = this.network;
    const { schedule, epochs, stageEpochs } = this.config;
    if (schedule === 'simultaneous') yield* this.train(0, stages.length, epochs);
    else for (const s of stages.keys()) yield* this.train(s, s + 1, stageEpochs?.[s] ?? epochs);
  }

  /** Stages `first` to `end` - 1 at once; those below are frozen. @param {number} first @param {number} end @param {number} epochs */
  *train(first, end, epochs) {
    const { config, batches } = this;
    const mine = this.network.stages.slice(first, end);
    const optimizers = this.optimizers(mine);
    const total = epochs * batches.steps;
    const average = config.average === null ? null : new Average(mine, config.average);
    let step = 0;
    for (let epoch = 0; epoch < epochs; epoch++) {
      for (const module of modulesOf(mine)) module.train();
      /** @type {number[][]} */
      const losses = [];
      for (const batch of batches.epoch(epoch)) {
        for (const { optimizer, scale } of optimizers) optimizer.learningRate = scale * rateAt(config, step / total);
        lw.scope(() => {
          const ofStages = this.step(first, mine, batch, optimizers);
          if (step % 10 === 9) losses.push(ofStages.map((loss) => loss.item()));
        });
        batch.images.dispose();
        batch.labels.dispose();
        step++;
        average?.update(step / total);
      }
      const loss = mine.map((_, i) => {
        const sum = losses.reduce((all, one) => all + (one[i] ?? Number.NaN), 0);
        return Number((sum / losses.length).toFixed(3));
      });
      const report = { stages: `${first + 1} to ${end}`, epoch: epoch + 1, loss };
      const isLast = epoch + 1 === epochs;
      if (isLast) average?.standIn();
      yield isLast || (epoch + 1) % config.testEvery === 0 ? { ...report, ...this.test(end) } : report;
    }
    for (const { optimizer } of optimizers) optimizer.dispose();
  }

  /** @param {readonly Stage[]} stages @returns {ScaledOptimizer[]} */
  optimizers(stages) {
    const { rate, momentum, nesterov, weightDecay, biasScale, decayNorms, trainScales, muon } = this.config;
    const { norms } = this.network;
    const ofNorms = new Set(norms.flatMap(({ weight, bias }) => [weight, bias]));
    const scales = new Set(norms.map(({ weight }) => weight));
    const whole = modulesOf(stages).flatMap((module) => module.parameters());
    const filters = whole.filter((p) => p.shape.length === 4 && p.requiresGrad);
    const all = muon === null ? whole : whole.filter((p) => !filters.includes(p));
    const byMuon = muon === null ? [] : [{ scale: muon.rate / rate, optimizer: new Muon(filters, muon) }];
    /** @param {lw.Tensor[]} parameters @param {number} scale @param {number} decay */
    const make = (parameters, scale, decay) => {
      const options = { learningRate: rate, momentum, nesterov, weightDecay: decay };
      return { scale, optimizer: new lw.Sgd(parameters, options) };
    };
    if (biasScale === 1 && decayNorms && trainScales) return [make(all, 1, weightDecay), ...byMuon];
    const weights = all.filter((p) => !ofNorms.has(p));
    const biases = all.filter((p) => ofNorms.has(p) && (trainScales || !scales.has(p)));
    // A step's decay is the rate times the decay.
    return [
      make(weights, 1, weightDecay),
      make(biases, biasScale, decayNorms ? weightDecay / biasScale : 0),
      ...byMuon,
    ];
  }

  /** @param {number} first @param {readonly Stage[]} stages @param {Batch} batch @param {readonly ScaledOptimizer[]} optimizers */
  step(first, stages, { images, labels }, optimizers) {
    const { labelSmoothing, similarity } = this.config;
    let features = first === 0 ? images : this.below(first, images);
    const losses = stages.map(({ block, head }, i) => {
      const { output, loss } = lw.scope(() => {
        const made = forward(block, features);
        const logits = forward(head, made).to({ dtype: 'float32' });
        const entropy = logits.crossEntropy(labels, { labelSmoothing });
        const isLast = first + i + 1 === this.network.stages.length;
        const whole = similarity === 0 || isLast ? entropy : entropy.add(similarityLoss(made, labels).mul(similarity));
        whole.backward();
        return { output: lw.keep(made.detach()), loss: lw.keep(whole.detach()) };
      });
      if (features !== images) features.dispose();
      features = output;
      return loss;
    });
    features.dispose();
    for (const { optimizer } of optimizers) {
      optimizer.step();
      optimizer.zeroGrad();
    }
    return losses;
  }

  /** @param {number} count @param {lw.Tensor} images */
  below(count, images) {
    const blocks = this.network.stages.slice(0, count).map(({ block }) => block.eval());
    return lw.noGrad(() => lw.scope(() => lw.keep(blocks.reduce((x, block) => forward(block, x), images))));
  }

  /**
   * Per cent of the held-out images that each stage knows, and the mean of the logits' softmax of all: of the images as they are,
   * and averaged with their mirror images.
   *
   * @param {number} count
   */
  test(count) {
    const { held } = this.images;
    const stages = this.network.stages.slice(0, count);
    for (const module of modulesOf(stages)) module.eval();
    const hits = { plain: stages.map(() => 0), mirrored: stages.map(() => 0), ensemble: [0, 0] };
    for (let start = 0; start < held.count; start += TEST_BATCH) {
      const end = Math.min(start + TEST_BATCH, held.count);
      lw.scope(() =>
        lw.noGrad(() => {
          const images = normalized(held.pixels.slice(start * PIXELS, end * PIXELS), end - start);
          const labels = lw.tensor(held.labels.slice(start, end));
          const [plain, mirror] = [this.logits(stages, images), this.logits(stages, images.flip([3]))];
          /** @param {lw.Tensor} x */
          const score = (x) => x.argmax({ dim: 1 }).eq(labels).sum().item();
          /** @param {number[]} into @param {lw.Tensor[]} logits */
          const add = (into, logits) => {
            for (const [i, x] of logits.entries()) into[i] = (into[i] ?? 0) + score(x);
          };
          /** @param {readonly lw.Tensor[]} logits */
          const mean = (logits) => lw.stack(logits.map((x) => x.logSoftmax(1))).mean({ dims: [0] });
          const both = plain.map((x, i) => x.add(/** @type {lw.Tensor} */ (mirror[i])));
          add(hits.plain, plain);
          add(hits.mirrored, both);
          add(hits.ensemble, [mean(plain), mean([...plain, ...mirror])]);
        }),
      );
    }
    /** @param {number[]} counts */
    const percent = (counts) => counts.map((n) => Number(((100 * n) / held.count).toFixed(2)));
    return { plain: percent(hits.plain), mirrored: percent(hits.mirrored), ensemble: percent(hits.ensemble) };
  }

  /** @param {readonly Stage[]} stages @param {lw.Tensor} images */
  logits(stages, images) {
    let features = images;
    return stages.map(({ block, head }) => {
      features = forward(block, features);
      return forward(head, features).to({ dtype: 'float32' });
    });
  }
}

/** The rate at a part of the way, from 0 to 1. @param {Config} config @param {number} part */
function rateAt({ rate, shape, peak, finalRate }, part) {
  if (shape === 'constant') return rate;
  if (part < peak) return rate * (0.2 + 0.8 * (part / peak));
  const rest = (part - peak) / (1 - peak);
  if (shape === 'cosine') return rate * (0.5 + 0.5 * Math.cos(Math.PI * rest));
  return rate * (1 - rest + finalRate * rest);
}

/**
 * How far the cosines of the images' averaged features are from those of their labels (Nokland and Eidnes, 2019).
 *
 * @param {lw.Tensor} output
 * @param {lw.Tensor} labels
 */
function similarityLoss(output, labels) {
  /** @param {lw.Tensor} x */
  const cosines = (x) => {
    const centred = x.sub(x.mean({ dims: [1], keepDim: true }));
    const squares = centred.pow(2).sum({ dims: [1], keepDim: true });
    const unit = centred.div(squares.sqrt().add(1e-6));
    return unit.matmul(unit.transpose(0, 1));
  };
  const pooled = output.adaptiveAvgPool2d(2).to({ dtype: 'float32' });
  const classes = lw.arange(10).reshape([1, 10]);
  const oneHot = labels.reshape([-1, 1]).eq(classes).to({ dtype: 'float32' });
  const differences = cosines(pooled.flatten({ startDim: 1 })).sub(cosines(oneHot));
  return differences.pow(2).mean();
}

/** Steps along the momentum's nearest matrix of orthonormal rows (Jordan et al., 2024); weights keep rows of length 1 on average. */
class Muon {
  learningRate = 0;

  /** @param {readonly lw.Tensor[]} parameters @param {MuonOptions} options */
  constructor(parameters, options) {
    this.options = options;
    this.gradients = new lw.Sgd(parameters, { learningRate: 0, momentum: 0 });
    this.parameters = parameters.map((weight) => ({ weight, momentum: lw.keep(weight.detach().mul(0)) }));
  }

  step() {
    const { momentum: kept } = this.options;
    lw.noGrad(() => {
      for (const { weight, momentum } of this.parameters) {
        lw.scope(() => {
          const gradient = weight.grad;
          if (gradient === null) return;
          const [rows = 0] = weight.shape;
          momentum.mul_(kept).add_(gradient);
          const direction = gradient.add(momentum, { alpha: kept });
          const { decay } = this.options;
          const length = Math.sqrt(weight.detach().pow(2).sum().item());
          const factor = decay === undefined ? Math.sqrt(rows) / length : 1 - this.learningRate * decay;
          const update = this.orthogonal(direction.reshape([rows, -1])).reshape(weight.shape);
          weight.mul_(factor).add_(update, { alpha: -this.learningRate });
        });
      }
    });
  }

  /** @param {lw.Tensor} matrix */
  orthogonal(matrix) {
    const [a, b, c] = [3.4445, -4.775, 2.0315];
    const [rows = 0, columns = 0] = matrix.shape;
    let x = rows > columns ? matrix.transpose(0, 1) : matrix;
    x = x.div(x.pow(2).sum().sqrt().add(1e-7)).to({ dtype: 'bfloat16' });
    for (let i = 0; i < this.options.iterations; i++) {
      const square = x.matmul(x.transpose(0, 1));
      x = square.mul(b).add(square.matmul(square).mul(c)).matmul(x).add(x.mul(a));
    }
    const found = rows > columns ? x.transpose(0, 1) : x;
    return found.to({ dtype: 'float32' });
  }

  zeroGrad() {
    this.gradients.zeroGrad();
  }

  dispose() {
    this.gradients.dispose();
    for (const { momentum } of this.parameters) momentum.dispose();
  }
}

/** A running average of weights, which pulls them back every few steps (Lookahead), or stands in for them at the end. */
class Average {
  #steps = 0;

  /** @param {readonly Stage[]} stages @param {AverageOptions} options */
  constructor(stages, options) {
    this.options = options;
    const all = modulesOf(stages).flatMap((module) => [...module.stateDict().values()]);
    this.weights = all
      .filter(({ dtype }) => dtype === 'float32')
      .map((weight) => ({ weight, average: lw.keep(weight.detach().clone()) }));
  }

  /** @param {number} part of the way */
  update(part) {
    const { every, decay, lookahead } = this.options;
    if (++this.#steps % every !== 0) return;
    const kept = lookahead ? decay ** 5 * part ** 3 : Math.min(decay, this.#steps / (this.#steps + 50));
    lw.noGrad(() =>
      lw.scope(() => {
        for (const { weight, average } of this.weights) {
          average.mul_(kept);
          average.add_(weight.detach(), { alpha: 1 - kept });
          if (lookahead) weight.copy_(average);
        }
      }),
    );
  }

  standIn() {
    if (this.options.lookahead) return;
    lw.noGrad(() => {
      for (const { weight, average } of this.weights) weight.copy_(average);
    });
  }
}
