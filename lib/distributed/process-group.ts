import {
  buildInfo,
  type CollectiveFailure,
  type CollectiveOutcome,
  type GroupRequest,
  isTensor,
  NativeGroup,
  REDUCE_OPERATIONS,
  type ReduceOperation,
  type Tensor,
} from '../tensor/index.js';
import { DistributedError, type DistributedErrorCode } from './errors.js';
import { type Backend, groupRequest, type JoinOptions } from './options.js';

/**
 * One rank of a group of processes, or worker threads, that work together. Every rank calls the same collectives in the same order, with
 * tensors of the same shape and dtype. Calls return at once; the collectives are begun in the order of the calls, whether or not one
 * is awaited before the next. A tensor that was given must not be changed before the promise settles; its handle may be disposed.
 *
 * All methods reject with DistributedError where the ranks do not come together, and with TensorError for a tensor that cannot be sent:
 * of another device than the backend takes, or no single block of memory.
 */
export class ProcessGroup {
  readonly #native: NativeGroup;
  readonly #request: GroupRequest;
  #failure: DistributedError | null = null;
  #left: Promise<void> | null = null;

  /** @internal Use `joinGroup`. */
  constructor(native: NativeGroup, request: GroupRequest) {
    this.#native = native;
    this.#request = request;
  }

  get rank(): number {
    return this.#request.rank;
  }

  get worldSize(): number {
    return this.#request.worldSize;
  }

  get backend(): Backend {
    return this.#request.backend as Backend;
  }

  /** Gives the tensor of every rank the values of rank `root`'s. */
  async broadcast(tensor: Tensor, root = 0): Promise<void> {
    this.#require('broadcast', { tensor });
    await this.#call('broadcast', () => this.#native.broadcast(tensor, root));
  }

  /**
   * Gives the tensor of every rank the sum, mean or maximum of all ranks', element by element; all have the same bits afterwards. Sums
   * are formed in the tensor's dtype, rank by rank: those of float16 and bfloat16 are rounded each time. A mean is the sum over
   * `worldSize`, of floating-point dtypes alone. bool is refused.
   */
  async allReduce(tensor: Tensor, operation: ReduceOperation = 'sum'): Promise<void> {
    this.#require('allReduce', { tensor });
    if (!REDUCE_OPERATIONS.includes(operation)) {
      const problem = `expected one of ${REDUCE_OPERATIONS.join(', ')} for operation, got ${String(operation)}`;
      throw this.#error({ code: 'INVALID_ARGUMENT', operation: 'allReduce', problem });
    }
    await this.#call('allReduce', () => this.#native.allReduce(tensor, operation));
  }

  /** Writes the tensors of all ranks, [...shape], to `output`, [worldSize, ...shape], in the order of the ranks. Both are contiguous. */
  async allGather(tensor: Tensor, output: Tensor): Promise<void> {
    this.#require('allGather', { tensor, output });
    await this.#call('allGather', () => this.#native.allGather(tensor, output));
  }

  /**
   * Sends the tensor's values to another rank, which receives them into a tensor of the same shape, dtype and order of memory; what two
   * ranks send each other arrives in the order of the calls. Nothing is compared: sizes that differ fail or mix values. Resolves when the
   * values have been taken, which may be when the other rank receives them.
   */
  async send(tensor: Tensor, to: number): Promise<void> {
    this.#require('send', { tensor });
    await this.#call('send', () => this.#native.send(tensor, to));
  }

  /** Gives the tensor the values that another rank sends. */
  async receive(tensor: Tensor, from: number): Promise<void> {
    this.#require('receive', { tensor });
    await this.#call('receive', () => this.#native.receive(tensor, from));
  }

  /** Resolves when every rank has called it, and what this rank called before is done. */
  async barrier(): Promise<void> {
    await this.#call('barrier', () => this.#native.barrier());
  }

  /**
   * Runs `body`, and gives its result, while batch norm in training takes its statistics from the values of all ranks, as
   * torch.nn.SyncBatchNorm does; all ranks run the same forward and backward passes, each on its part of a batch. The gradients of weight
   * and bias are those of this rank's values: their sum over the ranks is that of the batch. This thread waits for the other ranks in
   * each such layer, in the backward pass too. Throws TensorError (COLLECTIVE_FAILED) where they do not come: see `failureBehind`.
   */
  synchronizedBatchNorm<T>(body: () => T): T {
    if (this.#left !== null) {
      throw this.#error({
        code: 'GROUP_LEFT',
        operation: 'synchronizedBatchNorm',
        problem: 'this rank has left the group',
      });
    }
    return this.#native.synchronizedBatchNorm(body);
  }

  /** The DistributedError that `error` comes from, where that is a TensorError (COLLECTIVE_FAILED); else `error` itself. */
  async failureBehind(error: unknown): Promise<unknown> {
    if ((error as { code?: unknown } | null)?.code !== 'COLLECTIVE_FAILED') return error;
    // After a failure every call fails, by the same cause.
    return (
      this.#failure ??
      (await this.barrier().then(
        () => error,
        (failure: unknown) => failure,
      ))
    );
  }

  /**
   * Leaves the group at once, since this rank cannot go on: calls that are not over reject, and those of the other ranks do, with the
   * reason, one line. Never rejects.
   */
  giveUp(reason: string): Promise<void> {
    if (this.#left === null) this.#native.giveUp(reason);
    return this.leave();
  }

  /**
   * Leaves the group after what was called before; waits up to 5 seconds for the others to leave too, so that none loses the store that
   * another serves. Never rejects. A process may also end without it.
   */
  leave(): Promise<void> {
    this.#left ??= this.#native.leave();
    return this.#left;
  }

  async #call(operation: string, submit: () => CollectiveOutcome): Promise<void> {
    if (this.#left !== null) {
      throw this.#error({ code: 'GROUP_LEFT', operation, problem: 'this rank has left the group' });
    }
    if (this.#failure !== null) {
      const problem = `the group failed earlier, in ${this.#failure.operation}`;
      throw this.#error({ code: 'GROUP_FAILED', operation, problem, cause: this.#failure });
    }
    const failure = await submit();
    if (failure === undefined) return;
    const error = failureOf(failure, this.#request);
    // Where nothing was begun nothing is lost.
    if (error.code !== 'MISMATCH') this.#failure ??= error;
    throw error;
  }

  /** Callers without types may pass anything. */
  #require(operation: string, tensors: Readonly<Record<string, unknown>>): void {
    for (const [name, value] of Object.entries(tensors)) {
      if (isTensor(value)) continue;
      const got = value === null ? 'null' : typeof value;
      throw this.#error({ code: 'INVALID_ARGUMENT', operation, problem: `expected a tensor for ${name}, got ${got}` });
    }
  }

  #error(details: ConstructorParameters<typeof DistributedError>[0]): DistributedError {
    return new DistributedError({ ...details, rank: this.rank, worldSize: this.worldSize });
  }
}

function failureOf(failure: CollectiveFailure, { rank, worldSize }: GroupRequest): DistributedError {
  const { code, operation, reason, missing } = failure;
  return new DistributedError({
    ...{ code: code as DistributedErrorCode, operation, problem: reason },
    ...{ rank, worldSize, missing },
  });
}

/**
 * Joins a group of processes: resolves when all of its ranks are there and connected. A process, or thread, may be a rank of several
 * groups, each with a store or a prefix of its own. Rejects with DistributedError: TIMEOUT where not all come within `timeoutMs`, with
 * those that are `missing`; RANK_TAKEN; MISMATCH where another rank wants another group; STORE_UNAVAILABLE; BACKEND_UNAVAILABLE;
 * INVALID_ARGUMENT.
 *
 * Ranks on several machines connect by the address that the machine's own name resolves to, or that of the interface in
 * GLOO_SOCKET_IFNAME (NCCL_SOCKET_IFNAME). Connections are neither encrypted nor authenticated: only for networks that are trusted.
 */
export async function joinGroup(options: JoinOptions): Promise<ProcessGroup> {
  const request = groupRequest(options);
  requireBackend(request);
  const native = new NativeGroup(request);
  const failure = await native.joined;
  if (failure !== undefined) throw failureOf(failure, request);
  return new ProcessGroup(native, request);
}

function requireBackend({ backend, rank, worldSize }: GroupRequest): void {
  const { glooReason, ncclReason } = buildInfo();
  const reason = backend === 'nccl' ? ncclReason : glooReason;
  if (reason === '') return;
  const problem = `${backend} is not available: ${reason}`;
  throw new DistributedError({ code: 'BACKEND_UNAVAILABLE', operation: 'join', problem, rank, worldSize });
}
