import { Conv2d, isFixed, isSequential, Linear, type Module, modulesIn, Sequential } from '../nn/index.js';
import type { Tensor } from '../tensor/index.js';
import type { Network } from './network.js';

/** One of several auxiliary problems that are solved at once: it reads what the one before gives, without its gradient. */
export interface LocalProblem {
  readonly layer: number;
  readonly trained: readonly Module[];
  readonly head: Module;
  /** Of the stage's files, what this problem trains. */
  readonly owned: readonly Module[];
}

/**
 * One auxiliary problem of the curriculum: which blocks are frozen, which train, and which head reads them; or several of them that
 * are solved at once. A schedule is a list of stages, so layerwise, simultaneous and end-to-end training are three lists for one
 * trainer.
 */
export interface Stage {
  /** The layer whose auxiliary problem this is; end to end, the last. */
  readonly layer: number;
  /**
   * Run in evaluation mode and without autograd: the layers below, and the modules that open this layer and have nothing to
   * learn.
   */
  readonly frozen: readonly Module[];
  readonly trained: readonly Module[];
  readonly head: Module;
  /** What the stage's files hold: all that it trains, and frozen layers that no stage before it holds. */
  readonly owned: readonly Module[];
  /** The problems that are solved at once, in the order of their layers; `trained` and `head` are then all blocks and the last head. */
  readonly local?: readonly LocalProblem[];
}

/** Algorithm 1: for each layer j, blocks below j are frozen, block j and head j train. */
export function layerwiseStages(network: Network): Stage[] {
  const below: Module[] = [];
  return network.blocks.map((block, layer) => {
    const head = network.heads[layer]!;
    const { opening, rest } = splitBlock(block);
    below.push(...opening);
    const stage = { layer, frozen: [...below], trained: [rest], head, owned: [block, head] };
    below.push(rest);
    return stage;
  });
}

/**
 * Splits a block into the fixed modules that open it, such as its downsampling, and the rest. A block with a forward pass of its
 * own is not split, and one with nothing to learn is left whole: it is the block of its stage. Of layers in one block the first is
 * split.
 */
function splitBlock(block: Module): { opening: Module[]; rest: Module } {
  const parts = isSequential(block) ? [...block.children] : [];
  const first = parts.findIndex(([, part]) => !isFixed(part));
  if (first < 0) return { opening: [], rest: block };
  const [name, leading] = parts[first]!;
  const inner = splitBlock(leading);
  const opening = [...parts.slice(0, first).map(([, part]) => part), ...inner.opening];
  if (opening.length === 0) return { opening, rest: block };
  return { opening, rest: new Sequential([[name, inner.rest], ...parts.slice(first + 1)]) };
}

/**
 * Decoupled Greedy Learning (Belilovsky, Eickenberg, Oyallon, ICML 2020, Algorithm 1): each layer and its head take every batch, on
 * what the layer below gives for it while that learns too. No gradient crosses from one layer to another.
 */
export function simultaneousStages(network: Network): Stage[] {
  const { blocks, heads } = network;
  const [first, ...others] = blocks;
  const { opening, rest } = splitBlock(first!);
  const trained = [rest, ...others];
  const local = trained.map((block, layer) => {
    const head = heads[layer]!;
    return { layer, trained: [block], head, owned: [blocks[layer]!, head] };
  });
  const owned = [...blocks, ...heads];
  return [{ layer: blocks.length - 1, frozen: opening, trained, head: heads.at(-1)!, owned, local }];
}

/** What a stage solves: one problem, or several at once. */
export const localProblems = (stage: Stage): readonly LocalProblem[] => stage.local ?? [stage];

/** The baseline: all blocks and the last head train as one network. */
export function endToEndStages(network: Network): Stage[] {
  const head = network.heads.at(-1)!;
  const layer = network.blocks.length - 1;
  return [{ layer, frozen: [], trained: network.blocks, head, owned: [...network.blocks, head] }];
}

/** The last layer's head alone, on layers that stay as they are: a new head for a trained network, or a probe of it. */
export function headStage(last: Stage): Stage {
  return { ...last, frozen: [...last.frozen, ...last.trained], trained: [] };
}

/** Everything of the stage that the optimiser changes. */
export const trainedModules = (stage: Stage): readonly Module[] =>
  localProblems(stage).flatMap(({ trained, head }) => [...trained, head]);

/** The parameters that the optimiser changes, each once: a block and its head may have one in common. */
export const trainedParameters = (stage: Stage): Tensor[] => [
  ...new Set(trainedModules(stage).flatMap((module) => module.parameters())),
];

/**
 * The trained parameters that an optimiser steps as matrices (Jordan et al., "Muon", 2024): filters of convolutions that are not grouped,
 * and weights of linear layers of blocks. And all others: linear layers of heads too, which read and give what has meaning value by value.
 */
export function matricesAndOthers(stage: Stage): { matrices: Tensor[]; others: Tensor[] } {
  const found = new Set(
    localProblems(stage)
      .flatMap(({ trained, head }) => [
        ...trained.flatMap(modulesIn).filter((module) => module instanceof Linear || isConvolution(module)),
        ...modulesIn(head).filter(isConvolution),
      ])
      .map(({ weight }) => weight),
  );
  const all = trainedParameters(stage);
  return { matrices: all.filter((one) => found.has(one)), others: all.filter((one) => !found.has(one)) };
}

/** Whether filters read all channels; grouped ones are no rows of one matrix. */
const isConvolution = (module: Module): module is Conv2d => module instanceof Conv2d && module.groups === 1;

/** The number of weights in a stage's files: of the head, and of the layers before it. */
export function parametersOf({ owned, head }: LocalProblem): { block: number; head: number } {
  const all = owned.reduce((sum, module) => sum + module.parameterCount(), 0);
  return { block: all - head.parameterCount(), head: head.parameterCount() };
}
