// The processes that train one run together: which of them does what, and what one tells the others.
import { hostname } from 'node:os';
import { usableProcessors } from '#scripts/support/limits.mjs';
import { DistributedError, type JoinOptions, joinGroup, type ProcessGroup } from '../distributed/index.js';
import type { Share } from '../features/index.js';
import { RecipeError } from '../recipe/index.js';
import { cat, type Device, isCuda, keep, noGrad, scope, type Tensor, tensor, zeros } from '../tensor/index.js';

/** The place of a process among those that train one run together, and where they meet. */
export interface RunGroup extends Omit<JoinOptions, 'verify'> {
  /** Of the processes of one machine, from 0: the GPU that it takes where the recipe says no number; default: 0. */
  readonly localRank?: number;
  /**
   * What each process has: of `data` a share of every batch, and all layers; of `layers` some of the layers that train at once, with the
   * schedule `simultaneous`, and all images. Default: data.
   */
  readonly parallel?: 'data' | 'layers';
  /**
   * With `layers`: how many batches a process keeps to learn from again while the next has not come; default: 0, it waits, and the
   * run has the bits of one process.
   */
  readonly replay?: number;
}

/** Seconds that a process waits for the others; PyTorch's, for NCCL. */
const DEFAULT_TIMEOUT_MS = 10 * 60 * 1000;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const MOST_SHOWN = 120;

const shortened = (text: string): string => (text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}...` : text);

/** Which of `count` things the process `rank` of `size` takes: the first ones take one more where they cannot be divided. */
export function shareOf(count: number, rank: number, size: number): Share {
  const [least, rest] = [Math.floor(count / size), count % size];
  return { start: rank * least + Math.min(rank, rest), length: least + (rank < rest ? 1 : 0) };
}

/** What rank 0 tells: a value of JSON, or in words why there is none. */
type Told = { readonly value: unknown } | { readonly problem: string };

/** All processes of a run: this one is one of them. Without a group it is the only one, and nothing is sent. */
export class Peers {
  /** A run of one process. */
  static readonly none = new Peers(null, 'cpu', { localSize: 1, parallel: 'data', replay: 0 });
  readonly #group: ProcessGroup | null;
  readonly #device: Device;
  /** Of this run on this machine. */
  readonly localSize: number;
  readonly parallel: 'data' | 'layers';
  readonly replay: number;

  private constructor(
    group: ProcessGroup | null,
    device: Device,
    { localSize, parallel, replay }: Pick<Peers, 'localSize' | 'parallel' | 'replay'>,
  ) {
    this.#group = group;
    this.#device = device;
    this.localSize = localSize;
    this.parallel = parallel;
    this.replay = replay;
  }

  /** Waits for all of them. Throws DistributedError where not all come, and RecipeError for a backend that does not go with the device. */
  static async join(asked: RunGroup, device: Device): Promise<Peers> {
    const { localRank: _, parallel = 'data', replay = 0, ...options } = asked;
    const backend = isCuda(device) ? 'nccl' : 'gloo';
    if (options.backend !== undefined && options.backend !== backend) {
      throw new RecipeError(`group.backend: expected ${backend} for a run on ${device}, got ${options.backend}`);
    }
    // They compare what they are to do once, at the start.
    const group = await joinGroup({ timeoutMs: DEFAULT_TIMEOUT_MS, ...options, backend, verify: false });
    if (group.worldSize === 1) {
      await group.leave();
      return Peers.none;
    }
    const how = { parallel, replay };
    try {
      const hosts = await new Peers(group, device, { localSize: 1, ...how }).gather(hostname());
      const localSize = hosts.filter((host) => host === hostname()).length;
      const peers = new Peers(group, device, { localSize, ...how });
      await peers.requireSame({ 'what they have each (parallel)': parallel, replay });
      return peers;
    } catch (error) {
      await group.leave();
      throw error;
    }
  }

  get rank(): number {
    return this.#group?.rank ?? 0;
  }

  get size(): number {
    return this.#group?.worldSize ?? 1;
  }

  get isFirst(): boolean {
    return this.rank === 0;
  }

  /** How many of them share each batch. */
  get sharing(): number {
    return this.parallel === 'data' ? this.size : 1;
  }

  /** Of what this process may use, its part, since others of the run are on this machine; null: it has no need to share. */
  get processors(): number | null {
    return this.localSize === 1 ? null : Math.max(1, Math.floor(usableProcessors() / this.localSize));
  }

  /** Which of `count` things a process takes, default this one: as many as the others, or one more. Of fewer it takes no more. */
  shareOf(count: number, rank = this.rank): Share {
    return shareOf(count, rank, this.size);
  }

  /**
   * Rank 0 does the work, and all get its result, as JSON has it. Where the work fails, rank 0 throws its error and the others a
   * DistributedError (RANK_FAILED) with its words.
   */
  async byFirst<T>(work: () => Promise<T>): Promise<T> {
    if (this.#group === null) return work();
    if (!this.isFirst) {
      const told = (await this.#receive()) as Told;
      if ('problem' in told) throw this.#failed(0, told.problem);
      return told.value as T;
    }
    let value: T;
    try {
      value = await work();
    } catch (error) {
      await this.#send({ problem: messageOf(error) }).catch(() => {});
      throw error;
    }
    await this.#send({ value: value ?? null });
    return value;
  }

  /**
   * All do the work, each its own, and go on when all have done it. Where it fails, this process throws its own error, or a
   * DistributedError (RANK_FAILED) with the words of the first that failed.
   */
  async together<T>(work: () => Promise<T>): Promise<T> {
    if (this.#group === null) return work();
    let done: { readonly value: T } | { readonly error: unknown };
    try {
      done = { value: await work() };
    } catch (error) {
      done = { error };
    }
    const problems = await this.gather('error' in done ? messageOf(done.error) || 'unknown' : '').catch(
      (lost: unknown) => {
        throw 'error' in done ? done.error : lost;
      },
    );
    if ('error' in done) throw done.error;
    const rank = problems.findIndex((problem) => problem !== '');
    if (rank >= 0) throw this.#failed(rank, problems[rank]!);
    return done.value;
  }

  /** Throws DistributedError (MISMATCH) where the processes have different facts, each a value of JSON, naming the first. */
  async requireSame(facts: Readonly<Record<string, unknown>>): Promise<void> {
    if (this.#group === null) return;
    const texts = Object.fromEntries(
      Object.entries(facts).map(([name, value]) => [name, JSON.stringify(value) ?? 'null']),
    );
    const all = (await this.gather(JSON.stringify(texts))).map((text) => JSON.parse(text) as Record<string, string>);
    for (const name of Object.keys(texts)) {
      const rank = all.findIndex((theirs) => theirs[name] !== all[0]![name]);
      if (rank < 0) continue;
      const [first, other] = [all[0]![name], all[rank]![name]].map((text) => shortened(text ?? 'none'));
      throw this.#error('MISMATCH', `the processes differ in ${name}: rank 0 has ${first}, rank ${rank} has ${other}`);
    }
  }

  #failed(rank: number, problem: string): DistributedError {
    return this.#error('RANK_FAILED', `rank ${rank} failed: ${problem}`);
  }

  #error(code: 'RANK_FAILED' | 'MISMATCH', problem: string): DistributedError {
    return new DistributedError({ code, operation: 'train', problem, rank: this.rank, worldSize: this.size });
  }

  /** The texts of all ranks, in their order. */
  async gather(text: string): Promise<string[]> {
    if (this.#group === null) return [text];
    const bytes = Buffer.from(text);
    const lengths = [...(await this.#gatherAll(Float64Array.of(bytes.length)))];
    const longest = Math.max(1, ...lengths);
    const own = new Uint8Array(longest);
    own.set(bytes);
    const all = Buffer.from(await this.#gatherAll(own));
    return lengths.map((length, rank) => all.subarray(rank * longest, rank * longest + length).toString());
  }

  /** As many numbers of each rank, one rank after the other. */
  async #gatherAll<T extends Float64Array | Uint8Array>(values: T): Promise<T> {
    const [sent, all] = scope(() => {
      const own = tensor(values, { device: this.#device });
      return [keep(own), keep(zeros([this.size, values.length], { dtype: own.dtype, device: this.#device }))];
    });
    try {
      await this.#group!.allGather(sent!, all!);
      return all!.toTypedArray() as T;
    } finally {
      sent!.dispose();
      all!.dispose();
    }
  }

  /**
   * Rows [n, ...rowShape] of float32 of all ranks, one after another in the order of the ranks; `rows` says how many each has. The
   * result belongs to the caller, and takes the place of `own`, which is disposed.
   */
  async gatherRows(own: Tensor, rows: readonly number[]): Promise<Tensor> {
    if (this.#group === null) return own;
    const [, ...rowShape] = own.shape;
    const most = Math.max(...rows);
    const { device, dtype } = own;
    const [sent, all] = scope(() => {
      const padding = zeros([most - own.shape[0]!, ...rowShape], { dtype, device });
      return [keep(cat([own, padding]).contiguous()), keep(zeros([this.size, most, ...rowShape], { dtype, device }))];
    });
    try {
      await this.#group.allGather(sent!, all!);
      return scope(() => keep(cat(rows.map((length, rank) => all!.select(0, rank).narrow(0, 0, length)))));
    } finally {
      for (const one of [own, sent!, all!]) one.dispose();
    }
  }

  /** Gives the tensors of every process the values of rank 0's. */
  takeFromFirst(tensors: Iterable<Tensor>): Promise<void> {
    return this.takeFrom(0, tensors);
  }

  /** Gives the tensors of every process the values of those of a rank. */
  async takeFrom(rank: number, tensors: Iterable<Tensor>): Promise<void> {
    if (this.#group === null) return;
    for (const one of tensors) {
      // Such as an optimiser's count of steps, which stays on the CPU.
      const sent = scope(() => keep(noGrad(() => one.detach().to({ device: this.#device }))));
      try {
        await this.#group.broadcast(sent, rank);
        if (one.device !== this.#device) noGrad(() => one.copy_(sent));
      } finally {
        sent.dispose();
      }
    }
  }

  /** Gives the tensor of every process the sum of all. */
  async sum(values: Tensor): Promise<void> {
    await this.#group?.allReduce(values, 'sum');
  }

  /** Of what is sent between processes. */
  get device(): Device {
    return this.#device;
  }

  /** Sends values to a rank, which receives them into a tensor of the same shape, dtype and order of memory. */
  async send(values: Tensor, to: number): Promise<void> {
    await this.#group!.send(values, to);
  }

  async receive(values: Tensor, from: number): Promise<void> {
    await this.#group!.receive(values, from);
  }

  async sendText(text: string, to: number): Promise<void> {
    const bytes = new Uint8Array(Buffer.from(text));
    const [length, sent] = scope(() => [
      keep(tensor(Float64Array.of(bytes.length), { device: this.#device })),
      keep(tensor(bytes, { device: this.#device })),
    ]);
    try {
      await Promise.all([this.send(length!, to), this.send(sent!, to)]);
    } finally {
      length!.dispose();
      sent!.dispose();
    }
  }

  async receiveText(from: number): Promise<string> {
    const length = scope(() => keep(zeros([1], { dtype: 'float64', device: this.#device })));
    let received: Tensor | null = null;
    try {
      await this.receive(length, from);
      received = scope(() => keep(zeros([length.item()], { dtype: 'uint8', device: this.#device })));
      await this.receive(received, from);
      return Buffer.from(received.toTypedArray() as Uint8Array).toString();
    } finally {
      length.dispose();
      received?.dispose();
    }
  }

  /** Computes with batch norm's statistics of the images of all processes. */
  synchronized<T>(body: () => T): T {
    return this.#group === null ? body() : this.#group.synchronizedBatchNorm(body);
  }

  /** What an operator's failure comes from. */
  async failureBehind(error: unknown): Promise<unknown> {
    return this.#group === null ? error : this.#group.failureBehind(error);
  }

  /** Never rejects. */
  async leave(): Promise<void> {
    await this.#group?.leave();
  }

  /** Leaves since this process has failed: the others hear why. Never rejects. */
  async giveUp(error: unknown): Promise<void> {
    await this.#group?.giveUp(messageOf(error).split('\n')[0]!);
  }

  async #send(told: Told): Promise<void> {
    const bytes = Buffer.from(JSON.stringify(told));
    await this.#broadcast(Float64Array.of(bytes.length));
    await this.#broadcast(new Uint8Array(bytes));
  }

  async #receive(): Promise<unknown> {
    const [length] = await this.#broadcast(Float64Array.of(0));
    return JSON.parse(Buffer.from(await this.#broadcast(new Uint8Array(length!))).toString());
  }

  /** Rank 0's values. */
  async #broadcast<T extends Float64Array | Uint8Array>(values: T): Promise<T> {
    const sent = scope(() => keep(tensor(values, { device: this.#device })));
    try {
      await this.#group!.broadcast(sent);
      return sent.toTypedArray() as T;
    } finally {
      sent.dispose();
    }
  }
}
