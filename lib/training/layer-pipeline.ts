// Layers that train at once, each group of them in a process of its own (Belilovsky, Eickenberg, Oyallon, "Decoupled Greedy Learning",
// ICML 2020): what a layer gives is sent on as it is made, and no layer waits for those above it.
import type { ImageSource } from '../data/index.js';
import { type EpochPass, epochOrder, type FeatureBatch, type Share, type TrainingFeatures } from '../features/index.js';
import { type LocalProblem, localProblems, type Stage } from '../models/index.js';
import { Dropout, Dropout2d, type Module, modulesIn } from '../nn/index.js';
import { type Precision, type Recipe, RecipeError } from '../recipe/index.js';
import type { MeterState } from '../run/index.js';
import {
  channelsLast,
  type Device,
  type DType,
  empty,
  keep,
  noGrad,
  scope,
  type Tensor,
  tensor,
} from '../tensor/index.js';
import { type AuxiliaryProblem, type StepResult, wholeBatch } from './auxiliary-problem.js';
import type { Peers } from './peers.js';

/** Batches that are on their way to the next process, at most: more would fill the memory of a slow one. */
const ON_THE_WAY = 2;

/** What all processes do together after a batch. */
export type Wish = 'none' | 'checkpoint' | 'stop';
const WISHES: readonly Wish[] = ['none', 'checkpoint', 'stop'];

/** What is sent before the first batch: how the values of an image lie. */
interface Format {
  readonly dtype: DType;
  /** Of one image. */
  readonly shape: readonly number[];
  readonly isChannelsLast: boolean;
}

/** A batch of what a process reads. */
export interface PipelineBatch extends FeatureBatch {
  /** Whether it was used before, and is learned from again while the next has not come: its step counts for nothing else. */
  readonly isAgain?: boolean;
}

interface Received {
  readonly number: number;
  readonly features: Tensor;
  readonly wish: Wish;
}

export interface LayerPipelineOptions {
  readonly peers: Peers;
  readonly problem: AuxiliaryProblem;
  /** Of each problem, what it costs; the processes have consecutive ones, and about the same of it. */
  readonly costs: readonly number[];
  readonly images: ImageSource;
  readonly recipe: Recipe;
  readonly device: Device;
}

/** Throws RecipeError for a stage whose layers do not train at once, or share what processes do not, or has fewer than there are processes. */
export function requirePipeline(
  { training }: Recipe,
  { stages, precision, processes }: { stages: readonly Stage[]; precision: Precision; processes: number },
): void {
  if (training.schedule !== 'simultaneous') {
    throw new RecipeError(
      `training.schedule: expected simultaneous for processes that have a layer each (--parallel layers), got ${training.schedule}`,
    );
  }
  if (precision === 'fp16') {
    throw new RecipeError(
      'precision: fp16 has one loss scale for all layers, which processes with a layer each do not share; use bf16',
    );
  }
  if (drawsDropout([...stages[0]!.trained, ...localProblems(stages[0]!).map(({ head }) => head)])) {
    throw new RecipeError(
      '--parallel layers: expected a network without dropout, whose draws processes with a layer each do not share',
    );
  }
  const problems = localProblems(stages[0]!).length;
  if (problems >= processes) return;
  throw new RecipeError(
    `--parallel layers: expected at most ${problems} processes, one a layer or block that is trained, got ${processes}`,
  );
}

const drawsDropout = (modules: readonly Module[]): boolean =>
  modules.flatMap(modulesIn).some((module) => module instanceof Dropout || module instanceof Dropout2d);

/** This process's part of the layers that train at once. */
export class LayerPipeline {
  /** Which of the problems this process solves. */
  readonly own: Share;
  readonly #options: LayerPipelineOptions;
  readonly #shares: readonly Share[];
  readonly #sending: Promise<void>[] = [];
  #sentFormat: Format | null = null;
  #format: Format | null = null;
  #wish: Wish = 'none';

  constructor(options: LayerPipelineOptions) {
    this.#options = options;
    this.#shares = balanced(options.costs, options.peers.size);
    this.own = this.#shares[options.peers.rank]!;
    options.problem.solveOnly(this.own);
  }

  get #isLast(): boolean {
    const { rank, size } = this.#options.peers;
    return rank + 1 === size;
  }

  /** What comes after the batch that was given out last. Rank 0 decides, and its wish goes the way of the batches. */
  get wish(): Wish {
    return this.#wish;
  }

  /** The batches of an epoch: made of the images by rank 0, and by the others received. */
  batches(features: TrainingFeatures, pass: EpochPass): AsyncIterable<PipelineBatch> {
    return this.#options.peers.isFirst ? features.batches(pass) : this.#received(pass);
  }

  /** A step of this process's problems, whose output goes to the next one. The result belongs to the caller. */
  async step({ indices, tensors, isAgain = false }: PipelineBatch, wish: Wish): Promise<StepResult> {
    const { peers, problem, recipe } = this.#options;
    if (peers.isFirst) this.#wish = wish;
    while (this.#sending.length >= ON_THE_WAY) await this.#sending.shift();
    const parts = wholeBatch(indices.length, recipe.training.microBatchSize);
    const givesOutput = !this.#isLast && !isAgain;
    const { output, ...result } = scope(() => {
      const { loss, correct, output } = problem.accumulate(parts, tensors, { givesOutput });
      const stepped = problem.update();
      return { loss: keep(loss), correct: keep(correct), stepped, output: output === null ? null : keep(output) };
    });
    if (output !== null) this.#send(output);
    return result;
  }

  /** Waits until what was sent has been taken. */
  async flush(): Promise<void> {
    await Promise.all(this.#sending.splice(0));
  }

  #send(output: Tensor): void {
    const { peers } = this.#options;
    const next = peers.rank + 1;
    const isFirstOutput = this.#sentFormat === null;
    this.#sentFormat ??= formatOf(output);
    const format = this.#sentFormat;
    const wish = WISHES.indexOf(this.#wish);
    const send = async (): Promise<void> => {
      const dense = scope(() => keep(inFormat(output, format)));
      const flag = scope(() => keep(tensor(Uint8Array.of(wish), { device: peers.device })));
      try {
        const sent = [
          ...(isFirstOutput ? [peers.sendText(JSON.stringify(format), next)] : []),
          peers.send(flag, next),
          peers.send(dense, next),
        ];
        await Promise.all(sent);
      } finally {
        for (const one of [dense, flag, output]) one.dispose();
      }
    };
    const sending = send();
    // It is awaited some steps later.
    sending.catch(() => {});
    this.#sending.push(sending);
  }

  async *#received(pass: EpochPass): AsyncGenerator<PipelineBatch> {
    const { images, recipe, problem, peers } = this.#options;
    const { layer } = localProblems(problem.stage)[0]!;
    const order = epochOrder(recipe, layer, pass.epoch, images.count);
    const { batchSize, firstStep } = pass;
    const steps = Math.ceil(images.count / batchSize);
    const indicesOf = (number: number): Int32Array => order.subarray(number * batchSize, (number + 1) * batchSize);
    const incoming = new Incoming((number) => this.#receive(indicesOf(number).length, number), {
      ...{ first: firstStep, end: steps, kept: peers.replay },
    });
    try {
      for (let batch = await incoming.next(); batch !== null; batch = await incoming.next()) {
        const { number, features, isAgain } = batch;
        this.#wish = batch.wish;
        const indices = indicesOf(number);
        yield {
          ...{ indices, isAgain },
          tensors: (start, length) => ({
            features: features.narrow(0, start, length),
            labels: images.labels.indexSelect(
              0,
              tensor(indices.subarray(start, start + length), { device: this.#options.device }),
            ),
          }),
        };
        incoming.release();
      }
    } finally {
      incoming.dispose();
    }
  }

  async #receive(count: number, number: number): Promise<Received> {
    const { peers } = this.#options;
    const before = peers.rank - 1;
    // Batches come one after another: the first brings it.
    this.#format ??= JSON.parse(await peers.receiveText(before)) as Format;
    const { dtype, shape, isChannelsLast } = this.#format;
    const [flag, features] = scope(() => {
      const flag = empty([1], { dtype: 'uint8', device: peers.device });
      const features = empty([count, ...shape], { dtype, device: peers.device });
      return [keep(flag), keep(isChannelsLast ? channelsLast(features) : features)];
    });
    try {
      await Promise.all([peers.receive(flag!, before), peers.receive(features!, before)]);
      return { number, features: features!, wish: WISHES[(flag!.toTypedArray() as Uint8Array)[0]!]! };
    } catch (error) {
      features!.dispose();
      throw error;
    } finally {
      flag!.dispose();
    }
  }

  /**
   * Gives every process the weights, statistics and state of the optimiser of all problems, each from the process that solves it, and
   * the sums of all meters.
   */
  async collect(meters: readonly MeterState[]): Promise<MeterState[]> {
    const { peers, problem } = this.#options;
    await this.flush();
    const { parameters, state } = problem.optimizer;
    const owners = this.#ownersOf(parameters);
    const isNumbered = (name: string): boolean => /\.\d+$/.test(name);
    for (const [rank, { start, length }] of this.#shares.entries()) {
      const solved = localProblems(problem.stage).slice(start, start + length);
      const states = [...state.tensors].filter(
        ([name]) => isNumbered(name) && owners[Number(/\d+$/.exec(name)![0])] === rank,
      );
      await peers.takeFrom(rank, new Set([...solved.flatMap(weightsOf), ...states.map(([, tensor]) => tensor)]));
    }
    // AdamW's counts of steps: a row a parameter.
    for (const [name, tensor] of state.tensors) if (!isNumbered(name)) await this.#collectRows(tensor, owners);
    const all = await peers.gather(JSON.stringify(meters));
    return all.flatMap((text) => JSON.parse(text) as MeterState[]);
  }

  /** The rank that learns each parameter: the first, where several problems have it. */
  #ownersOf(parameters: readonly Tensor[]): number[] {
    const problems = localProblems(this.#options.problem.stage);
    const weights = this.#shares.map(
      ({ start, length }) => new Set(problems.slice(start, start + length).flatMap(weightsOf)),
    );
    return parameters.map((parameter) => weights.findIndex((own) => own.has(parameter)));
  }

  /** Gives every process rows [parameters] of the ranks that own them. */
  async #collectRows(rows: Tensor, owners: readonly number[]): Promise<void> {
    const { peers } = this.#options;
    const isOwn = Float32Array.from(owners, (owner) => (owner === peers.rank ? 1 : 0));
    const own = scope(() =>
      keep(noGrad(() => rows.to({ device: peers.device }).mul(tensor(isOwn, { device: peers.device })))),
    );
    try {
      await peers.sum(own);
      noGrad(() => rows.copy_(own));
    } finally {
      own.dispose();
    }
  }
}

const weightsOf = ({ trained, head }: LocalProblem): Tensor[] =>
  [...trained, head].flatMap((module) => [...module.stateDict().values()]);

const isImages = (x: Tensor): boolean => x.dim === 4 && x.isContiguous('channelsLast') && !x.isContiguous();

/** A tensor that is one block of memory in the order that the other side knows, and of the dtype. */
const inFormat = (x: Tensor, { dtype, isChannelsLast }: Format): Tensor =>
  noGrad(() => {
    const typed = x.to({ dtype });
    return (isChannelsLast ? channelsLast(typed) : typed.contiguous()).detach();
  });

const formatOf = (x: Tensor): Format => ({ dtype: x.dtype, shape: x.shape.slice(1), isChannelsLast: isImages(x) });

/** Consecutive problems for each process, so that the largest sum of costs is the least; each has one at least. */
export function balanced(costs: readonly number[], processes: number): Share[] {
  const fits = (most: number): Share[] | null => {
    const shares: Share[] = [];
    let start = 0;
    for (let rank = 0; rank < processes; rank++) {
      const mustLeave = processes - rank - 1;
      let [end, sum] = [start, 0];
      while (end < costs.length - mustLeave && (end === start || sum + costs[end]! <= most)) sum += costs[end++]!;
      if (sum > most) return null;
      shares.push({ start, length: end - start });
      start = end;
    }
    return start === costs.length ? shares : null;
  };
  const sums = costs.flatMap((_, i) =>
    costs.slice(i).map((__, j) => costs.slice(i, i + j + 1).reduce((a, b) => a + b)),
  );
  for (const most of sums.sort((a, b) => a - b)) {
    const shares = fits(most);
    if (shares !== null) return shares;
  }
  throw new RangeError(`expected at least ${processes} costs, got ${costs.length}`);
}

const NEVER = new Promise<never>(() => {});

/** Batches that are received ahead of their use, in order, and the last used ones, to be given again while none has come. */
class Incoming {
  readonly #receive: (number: number) => Promise<Received>;
  readonly #end: number;
  readonly #kept: number;
  readonly #unread: Promise<Received>[] = [];
  readonly #arrived = new Set<Promise<Received>>();
  readonly #used: Received[] = [];
  #next: number;
  #replays = 0;

  /** Of the numbers from `first` to before `end`; `kept` of those that were used are kept. */
  constructor(
    receive: (number: number) => Promise<Received>,
    { first, end, kept }: { first: number; end: number; kept: number },
  ) {
    this.#receive = receive;
    this.#next = first;
    this.#end = end;
    this.#kept = kept;
  }

  /** The next batch, or while it has not come one that was used; null after the last. */
  async next(): Promise<(Received & { readonly isAgain: boolean }) | null> {
    this.#fill();
    const first = this.#unread[0];
    if (first === undefined) return null;
    if (!this.#arrived.has(first) && this.#used.length > 0) {
      return { ...this.#used[this.#replays++ % this.#used.length]!, isAgain: true };
    }
    const received = await first;
    this.#unread.shift();
    this.#arrived.delete(first);
    this.#used.push(received);
    return { ...received, isAgain: false };
  }

  /** What was given is used: frees what is not kept. */
  release(): void {
    while (this.#used.length > this.#kept) this.#used.shift()!.features.dispose();
  }

  /** One after another, and none after the one that the run stops with: it would never come. */
  #fill(): void {
    while (this.#next < this.#end && this.#unread.length < ON_THE_WAY) {
      const before = this.#unread.at(-1) ?? Promise.resolve(null);
      const number = this.#next++;
      const one = before.then((earlier) => (earlier?.wish === 'stop' ? NEVER : this.#receive(number)));
      const arrive = (): unknown => this.#arrived.add(one);
      one.then(arrive, arrive);
      this.#unread.push(one);
    }
  }

  dispose(): void {
    for (const { features } of this.#used.splice(0)) features.dispose();
    for (const one of this.#unread.splice(0)) {
      one.then(
        ({ features }) => features.dispose(),
        () => {},
      );
    }
  }
}
