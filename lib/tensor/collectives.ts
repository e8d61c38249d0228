// A rank's collectives as the addon has them: handles and numbers. What they mean to a caller is lib/distributed/.
import { handleOf, handlesOf, tensorsOf } from './handle.js';
import { under } from './modes.js';
import { native } from './native.js';
import type { Tensor } from './tensor.js';

/** What a group is joined with; the addon checks the ranges alone. */
export interface GroupRequest {
  readonly backend: string;
  readonly rank: number;
  readonly worldSize: number;
  /** The store's file; empty: a TCP store at `host` and `port`. */
  readonly file: string;
  readonly host: string;
  readonly port: number;
  readonly hostsStore: boolean;
  readonly prefix: string;
  readonly timeoutMs: number;
  readonly verify: boolean;
}

/** Why an operation of a group failed. */
export interface CollectiveFailure {
  readonly code: string;
  /** In words, such as `allReduce of float32[2, 3] (mean)`. */
  readonly operation: string;
  readonly reason: string;
  /** Ranks that did not take part, as far as it is known. */
  readonly missing: readonly number[];
}

/** How an operation went: undefined where nothing is wrong. */
export type CollectiveOutcome = Promise<CollectiveFailure | undefined>;

/** How values of the ranks become one. */
export type ReduceOperation = 'sum' | 'mean' | 'max';
export const REDUCE_OPERATIONS: readonly ReduceOperation[] = ['sum', 'mean', 'max'];

/**
 * A group that is being joined, or was. Each call submits an operation and tells how it went; the operations are begun in the order of
 * the calls, and what they need of a tensor stays until they are over. Calls throw TensorError for a tensor that cannot be sent.
 */
export class NativeGroup {
  readonly #id: number;
  readonly #waiting = new Map<number, (failure: CollectiveFailure | undefined) => void>();
  readonly joined: CollectiveOutcome;

  constructor(request: GroupRequest) {
    const { backend, rank, worldSize, file, host, port, hostsStore, prefix, timeoutMs, verify } = request;
    const whenDone = (id: number, failure: CollectiveFailure | undefined): void => {
      const tell = this.#waiting.get(id);
      this.#waiting.delete(id);
      tell?.(failure);
    };
    this.#id = native.joinGroup(
      ...([backend, rank, worldSize, file, host, port, hostsStore, prefix, timeoutMs, verify, whenDone] as const),
    );
    this.joined = this.#join();
  }

  broadcast(tensor: Tensor, root: number): CollectiveOutcome {
    return this.#outcome(native.broadcastInGroup(this.#id, tensor.handle, root));
  }

  allReduce(tensor: Tensor, operation: ReduceOperation): CollectiveOutcome {
    const code = REDUCE_OPERATIONS.indexOf(operation);
    return this.#outcome(native.allReduceInGroup(this.#id, tensor.handle, code));
  }

  allGather(tensor: Tensor, output: Tensor): CollectiveOutcome {
    return this.#outcome(native.allGatherInGroup(this.#id, tensor.handle, output.handle));
  }

  send(tensor: Tensor, to: number): CollectiveOutcome {
    return this.#outcome(native.sendInGroup(this.#id, tensor.handle, to));
  }

  receive(tensor: Tensor, from: number): CollectiveOutcome {
    return this.#outcome(native.receiveInGroup(this.#id, tensor.handle, from));
  }

  barrier(): CollectiveOutcome {
    return this.#outcome(native.barrierOfGroup(this.#id));
  }

  /** Runs `body` while batch norm in training takes its statistics from all ranks' values; these wait for each other. */
  synchronizedBatchNorm<T>(body: () => T): T {
    return under('synchronizedBatchNorm', (run) => native.withSynchronizedBatchNorm(this.#id, run), body);
  }

  /** What was called and is not over fails, and the other ranks hear the reason. To be followed by `leave`. */
  giveUp(reason: string): void {
    native.giveUpGroup(this.#id, reason);
  }

  /** The last call. */
  async leave(): Promise<void> {
    await this.#outcome(native.leaveGroup(this.#id));
    native.forgetGroup(this.#id);
  }

  async #join(): CollectiveOutcome {
    // The addon's first operation.
    const failure = await this.#outcome(1);
    if (failure !== undefined) native.forgetGroup(this.#id);
    return failure;
  }

  #outcome(id: number): CollectiveOutcome {
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }
}

/**
 * Writes the values of tensors into one block of memory, [values], one after another, each in the order of its own memory. Throws
 * TensorError for a tensor that is no single block of memory itself, and for a block of another length.
 */
export function packTensors(tensors: readonly Tensor[], block: Tensor): void {
  const handles = handlesOf(tensorsOf(tensors, 'tensors', 'packTensors'));
  native.packTensors(handles, handleOf(block, 'block', 'packTensors'));
}

/** The other way: gives tensors the values that a block has for them. */
export function unpackTensors(tensors: readonly Tensor[], block: Tensor): void {
  const handles = handlesOf(tensorsOf(tensors, 'tensors', 'unpackTensors'));
  native.unpackTensors(handles, handleOf(block, 'block', 'unpackTensors'));
}
