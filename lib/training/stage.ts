import type { Network } from '../models/index.js';
import type { Module } from '../nn/index.js';

/**
 * One auxiliary problem of the curriculum: which blocks are frozen, which train, and which head reads them. A schedule
 * is a list of stages, so layerwise and end-to-end training are two lists for one trainer.
 */
export interface Stage {
  /** The layer whose auxiliary problem this is; end to end, the last. */
  readonly layer: number;
  /** Run in evaluation mode and without autograd. */
  readonly frozen: readonly Module[];
  readonly trained: readonly Module[];
  readonly head: Module;
  /** What the stage's files hold: all that it trains, and frozen layers that no stage before it holds. */
  readonly owned: readonly Module[];
}

/** Algorithm 1: for each layer j, blocks below j are frozen, block j and head j train. */
export function layerwiseStages(network: Network): Stage[] {
  return network.blocks.map((block, layer) => {
    const head = network.heads[layer]!;
    return { layer, frozen: network.blocks.slice(0, layer), trained: [block], head, owned: [block, head] };
  });
}

/** The baseline: all blocks and the last head train as one network. */
export function endToEndStages(network: Network): Stage[] {
  const head = network.heads.at(-1)!;
  const layer = network.blocks.length - 1;
  return [{ layer, frozen: [], trained: network.blocks, head, owned: [...network.blocks, head] }];
}

/** The last head alone, on layers that stay as they are: a new head for a trained network, or a probe of it. */
export function headStage(network: Network): Stage {
  const { blocks } = network;
  const head = network.heads.at(-1)!;
  return { layer: blocks.length - 1, frozen: blocks, trained: [], head, owned: [blocks.at(-1)!, head] };
}

/** Everything of the stage that the optimiser changes. */
export const trainedModules = (stage: Stage): readonly Module[] => [...stage.trained, stage.head];
