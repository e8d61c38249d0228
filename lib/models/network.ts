import { drawFrom, type Module, type Placement, type StateDict } from '../nn/index.js';
import type { Generator, Tensor } from '../tensor/index.js';

/**
 * What the greedy curriculum trains: a list of blocks, each with the auxiliary head that reads it (paper, section 3).
 * The last head is the finished network's classifier.
 */
export interface Network {
  readonly name: string;
  readonly classes: number;
  /** [channels, height, width] of an input image, or [length] of a vector. */
  readonly inputShape: readonly number[];
  readonly blocks: readonly Module[];
  readonly heads: readonly Module[];
  /** Differences from the paper's model, one sentence each; shown with all results. */
  readonly notes: readonly string[];
  /** The same for the auxiliary heads below the last. */
  readonly auxiliaryNotes: readonly string[];
  /** The network whose layers are grouped into these blocks; none where each block is a layer. */
  readonly ungrouped?: Network;
  /**
   * Where something of the network follows from the training images: sets it, before the first step of a run that starts from no other
   * run's layers. It gets some of the images [n, channels, height, width], or vectors [n, length], a batch at a time, normalised and without
   * augmentation, on the network's device. What it sets is in the state dict: other processes and later runs have it from there.
   */
  fitToImages?(batches: AsyncIterable<Tensor>): Promise<void>;
  /** The parameters and buffers of the finished network: all blocks and the last head, by their PyTorch names. */
  stateDict(): StateDict;
  /** Those of the auxiliary heads below the last. */
  auxiliaryStateDict(): StateDict;
}

const modulesOf = (network: Network): Module[] => [...network.blocks, ...network.heads];

/** Moves a whole network. */
export function placeNetwork(network: Network, placement: Placement): void {
  for (const module of modulesOf(network)) module.to(placement);
}

/** Lets every dropout of a network draw from `generator`. */
export function drawNetworkFrom(network: Network, generator: Generator): void {
  for (const module of modulesOf(network)) drawFrom(module, generator);
}

/** Frees a whole network. */
export function disposeNetwork(network: Network): void {
  for (const module of modulesOf(network)) module.dispose();
}

/** The state dicts of several modules under a prefix each. */
export function joinStateDicts(parts: readonly (readonly [prefix: string, module: Module])[]): StateDict {
  const joined: StateDict = new Map();
  for (const [prefix, module] of parts) {
    for (const [name, tensor] of module.stateDict()) joined.set(`${prefix}${name}`, tensor);
  }
  return joined;
}

/** The finished network's: its blocks as `blocks.0.` and so on, its last head as `head.`. */
export const finishedStateDict = ({ blocks, heads }: Pick<Network, 'blocks' | 'heads'>): StateDict =>
  joinStateDicts([
    ...blocks.map((block, layer) => [`blocks.${layer}.`, block] as const),
    ...heads.slice(-1).map((head) => ['head.', head] as const),
  ]);

/** That of the heads below the last, as `auxiliary.0.` and so on. */
export const auxiliaryStateDict = (heads: Network['heads']): StateDict =>
  joinStateDicts(heads.slice(0, -1).map((head, layer) => [`auxiliary.${layer}.`, head] as const));

/** A seed for each layer, so that a layer's initial weights do not depend on how many layers there are. */
export function layerSeed(seed: number, layer: number): number {
  return (seed % 2 ** 40) * 4096 + layer;
}
