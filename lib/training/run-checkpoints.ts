import type { Stage } from '../models/index.js';
import type { Optimizer } from '../optim/index.js';
import type { CheckpointState, CheckpointStore } from '../run/index.js';
import type { Generator, Tensor } from '../tensor/index.js';
import type { Peers } from './peers.js';

/**
 * The checkpoints of a run, for each of the processes that train it: rank 0 has the files, and all load what it reads. All processes
 * load in the same order; saving is no business of the others, whose state is the same.
 */
export class RunCheckpoints {
  /** Of rank 0. */
  readonly store: CheckpointStore;
  readonly #peers: Peers;
  #existed: boolean;

  private constructor(store: CheckpointStore, peers: Peers, existed: boolean) {
    this.store = store;
    this.#peers = peers;
    this.#existed = existed;
  }

  static async open(store: CheckpointStore, peers: Peers): Promise<RunCheckpoints> {
    return new RunCheckpoints(store, peers, await peers.byFirst(async () => store.exists));
  }

  get directory(): string {
    return this.store.directory;
  }

  get exists(): boolean {
    return this.#peers.isFirst ? this.store.exists : this.#existed;
  }

  /** As `CheckpointStore.loadFinished`. */
  async loadFinished(state: CheckpointState, stages: readonly Stage[], generator: Generator): Promise<void> {
    await this.#peers.byFirst(() => this.store.loadFinished(state, stages, generator));
    await this.#peers.takeFromFirst(stages.slice(0, state.finished.length).flatMap(weightsOf));
  }

  /** As `CheckpointStore.loadCurrent`. */
  async loadCurrent(state: CheckpointState, stage: Stage, optimizer: Optimizer, generator: Generator): Promise<void> {
    await this.#peers.byFirst(() => this.store.loadCurrent(state, stage, optimizer, generator));
    if (state.current === null || this.#peers.size === 1) return;
    const { tensors } = optimizer.state;
    await this.#peers.takeFromFirst([...weightsOf(stage), ...tensors.values()]);
    const { epoch, step } = state.position;
    if (!this.#peers.isFirst && (epoch > 0 || step > 0)) {
      optimizer.restore({ tensors, isFirstStep: state.isFirstStep });
    }
  }

  readonly save: CheckpointStore['save'] = (...args) => this.#saving(() => this.store.save(...args));

  readonly saveFinished: CheckpointStore['saveFinished'] = (...args) =>
    this.#saving(() => this.store.saveFinished(...args));

  async #saving(save: () => Promise<void>): Promise<void> {
    this.#existed = true;
    if (this.#peers.isFirst) await save();
  }
}

const weightsOf = (stage: Stage): Tensor[] => stage.owned.flatMap((module) => [...module.stateDict().values()]);
