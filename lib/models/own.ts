// A network of the caller's own: what a recipe says of it is that it is one.
import { z } from 'zod';
import { inEvaluation, Module, modulesIn } from '../nn/index.js';
import { noGrad, scope, type Tensor, zeros } from '../tensor/index.js';
import { declareModel, type NetworkRequest } from './declaration.js';
import { ModelError } from './errors.js';
import { joinStateDicts, type Network } from './network.js';

/**
 * Builds a network of one's own. Its initial weights must follow from `seed` alone, layer by layer: the network is built more
 * than once, also where a run is resumed.
 */
export type NetworkBuilder = (request: NetworkRequest) => Network;

export interface LayeredNetworkOptions extends Omit<NetworkRequest, 'seed'> {
  /** How notes and errors call it; default: 'own'. */
  readonly name?: string;
  /** The first reads images [n, channels, height, width], each other what the one before gives. */
  readonly blocks: readonly Module[];
  /** One a block: reads what the block gives, and gives logits [n, classes]. The last is the network's classifier. */
  readonly heads: readonly Module[];
  /** What is shown with its results. */
  readonly notes?: readonly string[];
}

/** A network of blocks and heads, whose tensors are named `blocks.0.`, `auxiliary.0.` and so on, and `head.` for the last head. */
export function layeredNetwork(options: LayeredNetworkOptions): Network {
  const { name = 'own', classes, inputShape, blocks, heads, notes = [] } = options;
  return {
    ...{ name, classes, inputShape, blocks, heads, notes },
    auxiliaryNotes: [],
    stateDict: () =>
      joinStateDicts([
        ...blocks.map((block, layer) => [`blocks.${layer}.`, block] as const),
        ...heads.slice(-1).map((head) => ['head.', head] as const),
      ]),
    auxiliaryStateDict: () =>
      joinStateDicts(heads.slice(0, -1).map((head, layer) => [`auxiliary.${layer}.`, head] as const)),
  };
}

/** Throws ModelError for what a builder gave that is no network, such as a promise of one. */
export function requireNetwork(built: unknown): asserts built is Network {
  const refuse = (expected: string, got: unknown): never => {
    throw new ModelError(`network: expected ${expected}, got ${got}`);
  };
  if (typeof built !== 'object' || built === null) return refuse('a function that gives a Network', built);
  if (built instanceof Promise) refuse('a function that gives a Network', 'a promise');
  for (const name of ['blocks', 'heads']) {
    const modules: unknown = Reflect.get(built, name);
    if (!Array.isArray(modules) || !modules.every((module) => module instanceof Module)) {
      refuse(
        `a Network with a list of modules for ${name}`,
        Array.isArray(modules) ? 'other values in it' : typeof modules,
      );
    }
  }
  for (const name of ['stateDict', 'auxiliaryStateDict']) {
    const method: unknown = Reflect.get(built, name);
    if (typeof method !== 'function') refuse(`a Network with ${name}(), as layeredNetwork gives one`, typeof method);
  }
  for (const name of ['notes', 'auxiliaryNotes']) {
    if (!Array.isArray(Reflect.get(built, name)))
      refuse(`a Network with a list of ${name}`, typeof Reflect.get(built, name));
  }
  const { name } = built as Network;
  if (typeof name !== 'string' || name === '') refuse('a Network with a name', typeof name);
}

/**
 * Throws ModelError for a network that cannot be trained: blocks and heads of different number, a block that does not take what
 * the one before gives, a head that does not give logits [n, classes]; with the layer and the shapes. Two images are sent through.
 */
export function requireTrainable(network: Network, { classes, inputShape }: NetworkRequest): void {
  const { name, blocks, heads } = network;
  const refuse = (problem: string, cause?: unknown): never => {
    throw new ModelError(`${name}: ${problem}`, cause === undefined ? undefined : { cause });
  };
  if (blocks.length === 0 || blocks.length !== heads.length) {
    refuse(`expected as many heads as blocks, and at least one, got ${blocks.length} blocks and ${heads.length} heads`);
  }
  if (network.classes !== classes) refuse(`expected ${classes} classes, got ${network.classes}`);
  if (network.inputShape.join() !== inputShape.join()) {
    refuse(`expected images of ${inputShape.join(' x ')}, got ${network.inputShape.join(' x ')}`);
  }
  const pass = (layer: number, what: string, module: Module, input: Tensor): Tensor => {
    try {
      return module.forward(input);
    } catch (error) {
      const { message } = error as Error;
      return refuse(`layer ${layer + 1}: its ${what} does not take [${input.shape.join(', ')}]: ${message}`, error);
    }
  };
  const sendThrough = (): void => {
    let features = zeros([2, ...inputShape]);
    for (const [layer, block] of blocks.entries()) {
      features = pass(layer, 'block', block, features);
      const logits = pass(layer, 'head', heads[layer]!, features);
      if (logits.shape.join() === `2,${classes}`) continue;
      refuse(`layer ${layer + 1}: expected [2, ${classes}] from its head, got [${logits.shape.join(', ')}]`);
    }
  };
  inEvaluation([...blocks, ...heads].flatMap(modulesIn), () => scope(() => noGrad(sendThrough)));
}

export const own = declareModel({
  family: "network of one's own",
  names: ['own'],
  titleOf: () => "a network of one's own",
  schema: z.strictObject({
    name: z.literal('own').meta({ description: 'built by the function that is given as `network` in code' }),
  }),
  presets: [{ name: 'own', schedule: 'layerwise', dataset: 'shapes', options: () => ({ name: 'own' as const }) }],
  build: () => {
    throw new ModelError(
      'own: expected the function that builds the network, as the option `network` of the call in code',
    );
  },
});
