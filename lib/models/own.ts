// A network of the caller's own. A recipe says only that there is one, and with which options.
import { types } from 'node:util';
import { z } from 'zod';
import { inEvaluation, Module, modulesIn } from '../nn/index.js';
import { noGrad, scope, Tensor, zeros } from '../tensor/index.js';
import { declareModel, type NetworkRequest, type TrainingSchedule, trainsAllHeads } from './declaration.js';
import { ModelError } from './errors.js';
import { auxiliaryStateDict, finishedStateDict, type Network } from './network.js';

/** What a network of one's own is to be built for. */
export interface OwnNetworkRequest extends NetworkRequest {
  /** The recipe's `model.options`: what the builder makes of it. */
  readonly options: Readonly<Record<string, unknown>>;
}

/**
 * Builds a network of one's own. Its initial weights must follow from `seed` and `options` alone, layer by layer: the network is
 * built more than once, also where a run is resumed.
 */
export type NetworkBuilder = (request: OwnNetworkRequest) => Network;

/** What `layeredNetwork` makes a network of: the request without its seed, and its layers. */
export interface LayeredNetworkOptions extends Omit<NetworkRequest, 'seed'> {
  /** How notes and errors call it; default: 'own'. */
  readonly name?: string;
  /** The first reads images [n, channels, height, width] or vectors [n, length], each other what the one before gives. */
  readonly blocks: readonly Module[];
  /** One a block: reads what the block gives, and gives logits [n, classes]. The last is the network's classifier. */
  readonly heads: readonly Module[];
  /** What is shown with its results. */
  readonly notes?: readonly string[];
  /** Sets what follows from the training images, see `Network.fitToImages`. */
  readonly fitToImages?: Network['fitToImages'];
}

/** A network of blocks and heads, whose tensors are named `blocks.0.`, `auxiliary.0.` and so on, and `head.` for the last head. */
export function layeredNetwork(options: LayeredNetworkOptions): Network {
  const { name = 'own', classes, inputShape, blocks, heads, notes = [], fitToImages } = options;
  return {
    ...{ name, classes, inputShape, blocks, heads, notes },
    auxiliaryNotes: [],
    ...(fitToImages === undefined ? {} : { fitToImages }),
    stateDict: () => finishedStateDict({ blocks, heads }),
    auxiliaryStateDict: () => auxiliaryStateDict(heads),
  };
}

/** Throws ModelError for what a builder gave that is no network, such as a promise of one. */
export function requireNetwork(built: unknown): asserts built is Network {
  const refuse = (expected: string, got: unknown): never => {
    throw new ModelError(`network: expected ${expected}, got ${got}`);
  };
  if (typeof built !== 'object' || built === null) return refuse('a function that gives a Network', built);
  if (typeof Reflect.get(built, 'then') === 'function') {
    // Nobody waits for it: a rejection must not end the process.
    Promise.resolve(built).catch(() => {});
    refuse('a function that gives a Network', 'a promise');
  }
  for (const name of ['blocks', 'heads']) {
    const modules: unknown = Reflect.get(built, name);
    if (!Array.isArray(modules)) refuse(`a Network with a list of modules for ${name}`, typeof modules);
    const other = (modules as unknown[]).find((module) => !(module instanceof Module));
    if (other !== undefined) refuse(`a Network with a list of modules for ${name}`, describeOther(other));
  }
  for (const name of ['stateDict', 'auxiliaryStateDict']) {
    const method: unknown = Reflect.get(built, name);
    if (typeof method !== 'function') refuse(`a Network with ${name}(), as layeredNetwork gives one`, typeof method);
  }
  for (const name of ['notes', 'auxiliaryNotes']) {
    if (!Array.isArray(Reflect.get(built, name)))
      refuse(`a Network with a list of ${name}`, typeof Reflect.get(built, name));
  }
  const fit: unknown = Reflect.get(built, 'fitToImages');
  if (fit !== undefined && typeof fit !== 'function')
    refuse('a Network with a function for fitToImages, or none', typeof fit);
  const { name } = built as Network;
  if (typeof name !== 'string' || name === '') refuse('a Network with a name', typeof name);
}

/** Describes what is no module of this package. A module of another copy of it has other classes and other tensors. */
function describeOther(value: unknown): string {
  const isModule = typeof value === 'object' && value !== null && 'forward' in value && 'namedParameters' in value;
  return isModule ? 'one of another installed copy of layerwise' : 'other values in it';
}

/** What a network is to be trained for. */
export interface TrainingRequest extends NetworkRequest {
  readonly schedule: TrainingSchedule;
}

/**
 * Throws ModelError for a network that cannot be trained: blocks and heads of different number, a block that does not take what
 * the one before gives, one whose output is not [n, ...] of n images, a head that does not give logits [n, classes]; with the layer
 * and the shapes. Two images are sent through. Also for a layer with nothing to learn, and, layer by layer, for weights that two
 * layers share: those of the first must stay as they are while the second is trained.
 */
export function requireTrainable(network: Network, { classes, inputShape, schedule }: TrainingRequest): void {
  const { name, blocks, heads } = network;
  const refuse = (problem: string, cause?: unknown): never => {
    throw new ModelError(`${name}: ${problem}`, cause === undefined ? undefined : { cause });
  };
  if (blocks.length === 0 || blocks.length !== heads.length) {
    refuse(`expected as many heads as blocks, and at least one, got ${blocks.length} blocks and ${heads.length} heads`);
  }
  if (network.classes !== classes) refuse(`expected ${classes} classes, got ${network.classes}`);
  if (network.inputShape.join() !== inputShape.join()) {
    refuse(`expected ${inputsOf(inputShape)}, got ${inputsOf(network.inputShape)}`);
  }
  if (trainsAllHeads(schedule)) requireOwnWeights(network, refuse);
  else if ([...blocks, heads.at(-1)!].every((module) => module.parameterCount() === 0))
    refuse('expected weights, got none');
  const pass = (layer: number, what: string, module: Module, input: Tensor): Tensor => {
    let output: unknown;
    try {
      output = module.forward(input);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return refuse(`layer ${layer + 1}: its ${what} does not take [${input.shape.join(', ')}]: ${message}`, error);
    }
    if (output instanceof Tensor) return output;
    return refuse(`layer ${layer + 1}: expected a tensor from its ${what}, got ${describeNoTensor(output)}`);
  };
  const sendThrough = (): void => {
    let features = zeros([2, ...inputShape]);
    for (const [layer, block] of blocks.entries()) {
      features = pass(layer, 'block', block, features);
      if (features.shape[0] !== 2) {
        refuse(`layer ${layer + 1}: expected [2, ...] from its block of 2 images, got [${features.shape.join(', ')}]`);
      }
      const logits = pass(layer, 'head', heads[layer]!, features);
      if (logits.shape.join() === `2,${classes}`) continue;
      refuse(`layer ${layer + 1}: expected [2, ${classes}] from its head, got [${logits.shape.join(', ')}]`);
    }
  };
  inEvaluation([...blocks, ...heads].flatMap(modulesIn), () => scope(() => noGrad(sendThrough)));
}

/** What a forward pass gave: nothing where a return was forgotten, a promise where it is asynchronous. */
const describeNoTensor = (value: unknown): string =>
  value === undefined ? 'nothing' : types.isPromise(value) ? 'a promise' : typeof value;

const inputsOf = (shape: readonly number[]): string =>
  shape.length === 1 ? `vectors of ${shape[0]} values` : `images of ${shape.join(' x ')}`;

/** Each layer has something to learn, and no tensor is of two layers. */
function requireOwnWeights({ blocks, heads }: Network, refuse: (problem: string) => never): void {
  const layerOf = new Map<Tensor, number>();
  for (const [layer, block] of blocks.entries()) {
    const modules = [block, heads[layer]!];
    if (modules.every((module) => module.parameterCount() === 0)) {
      refuse(`layer ${layer + 1}: expected weights in its block or its head, got none`);
    }
    for (const [name, tensor] of modules.flatMap((module) => [...module.stateDict()])) {
      const other = layerOf.get(tensor) ?? layer;
      if (other !== layer) {
        refuse(
          `layer ${layer + 1}: expected weights of its own, which no other layer has, got ${name} of layer ${other + 1}`,
        );
      }
      layerOf.set(tensor, layer);
    }
  }
}

export const own = declareModel({
  family: "network of one's own",
  names: ['own'],
  titleOf: () => "a network of one's own",
  schema: z.strictObject({
    name: z
      .literal('own')
      .meta({ description: 'built by the function that is given as `network` in code, or by a module' }),
    options: z.record(z.string(), z.json()).default({}).meta({
      flag: 'network-options',
      values: 'a JSON object',
      description: "options that the module or function of one's own network gets",
    }),
  }),
  presets: [
    { name: 'own', schedule: 'layerwise', dataset: 'shapes', options: () => ({ name: 'own' as const, options: {} }) },
  ],
  build: () => {
    throw new ModelError(
      'own: expected the function that builds the network, as the option `network` of the call in code, or --network FILE',
    );
  },
});
