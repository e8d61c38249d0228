// A finished run from weights that were trained elsewhere: torchvision's vgg*_bn, or an export of this project.

import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { z } from 'zod';
import { type ImageSize, sidesOf } from '../data/index.js';
import { LayerwiseError } from '../errors.js';
import {
  disposeNetwork,
  type Network,
  pooledSizeOf,
  TORCHVISION_POOLED_SIZE,
  unpooledClassifierWeight,
  VGG_NAMES,
  Vgg,
  type VggName,
  vggLayerCount,
} from '../models/index.js';
import {
  loadInto,
  readSafetensors,
  readSafetensorsHeader,
  type StateDict,
  StateDictError,
  type StateDictMismatch,
} from '../nn/index.js';
import { requireOptions } from '../options.js';
import { buildNetwork, notesOf, overrideRecipe, presetRecipe, type Recipe, resolveDevice } from '../recipe/index.js';
import {
  describeRun,
  describeUnfitValues,
  NO_FIGURES,
  RunDirectory,
  type RunResult,
  saveNetwork,
} from '../run/index.js';
import { describeIssue } from '../schema.js';
import { type Tensor, zeros } from '../tensor/index.js';
import { finishRun } from './finish-run.js';

/** Which file becomes a run, of which network, and where. */
export interface ImportOptions {
  /**
   * The safetensors file, with torchvision's state_dict names. Prefixes that all names have are left out: `module.`, `_orig_mod.`,
   * `model.` and `state_dict.`, in any order.
   */
  readonly from: string;
  readonly model: VggName;
  /** The run directory to make: new or empty. */
  readonly out: string;
  /**
   * Pixels a side of the images that the run is for, or [height, width], multiples of 32; default: 224. torchvision's classifier
   * reads features averaged to 7 x 7: where the size gives others, its first weight is rewritten so that the logits stay.
   */
  readonly imageSize?: ImageSize | undefined;
  /** A name for each row of `classifier.6.weight`; default: `class 0`, `class 1` and so on. Two may be the same. */
  readonly classes?: readonly string[];
}

/** The run that `importWeights` made, its classes by label, and the notes that its report shows. */
export interface ImportOutcome {
  readonly runDirectory: string;
  /** Path of report.html. */
  readonly report: string;
  readonly classes: readonly string[];
  readonly notes: readonly string[];
}

/** A file's tensors are not those that were asked for: which, what was expected, what came. */
export class WeightsError extends LayerwiseError {
  override readonly name = 'WeightsError';
  readonly code = 'WEIGHTS_MISMATCH';
}

/** How torchvision's ImageNet weights want their images, of values 0 to 1. */
const NORMALIZATION = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

const FIRST_LAYER = 'features.0.weight';
const FIRST_LINEAR = 'classifier.0.weight';
const LAST_LINEAR = 'classifier.6.weight';

/** The image size is checked by the network. */
const OPTIONS = z.object({
  from: z.string().min(1),
  model: z.enum(VGG_NAMES),
  out: z.string().min(1),
  imageSize: z.unknown().optional(),
  classes: z.array(z.string()).optional(),
});

/** Throws WeightsError that names the option. */
function requireImport(options: ImportOptions): void {
  const refuse = (problem: string): WeightsError => new WeightsError(`importWeights: ${problem}`);
  requireOptions(options, 'options', refuse, Object.keys(OPTIONS.shape));
  const checked = OPTIONS.safeParse(options);
  if (!checked.success) throw refuse(checked.error.issues.map((issue) => describeIssue(issue, options)).join('; '));
}

/**
 * Makes the run directory of a network that was trained elsewhere, as one network, on ImageNet's normalisation and crop.
 * Weights of float16, bfloat16 and float64 become float32; a missing `num_batches_tracked`, which the oldest files lack,
 * is 0. The width is the file's.
 * Throws WeightsError for a file that does not hold this network, has values that weights cannot have or another number of
 * classes than `classes`, and for a class without a name, SafetensorsError for one that is no safetensors file, ModelError for an image size that VGG does not take, and
 * RunDirectoryError for an `out` that is not empty. Nothing is written before all fits.
 */
export async function importWeights(options: ImportOptions): Promise<ImportOutcome> {
  requireImport(options);
  const { from, out } = options;
  if (!existsSync(from)) throw new WeightsError(`${from}: not found`);
  // Whether it can be this network shows without its tensors, which may be larger than memory.
  const { shapes: stored } = await readSafetensorsHeader(from);
  const prefixLength = sharedPrefix([...stored.keys()]);
  const unprefixed = <T>(all: ReadonlyMap<string, T>): Map<string, T> =>
    new Map([...all].map(([name, value]) => [name.slice(prefixLength), value]));
  const shapes = unprefixed(stored);
  checkLayers(shapes, options);
  const classes = classesOf(shapes, options);
  const recipe = recipeOf(shapes, options);
  const network = buildNetwork(recipe, classes.length, 'cpu');
  try {
    checkNames(network, shapes, options);
    const tensors = unprefixed((await readSafetensors(from)).tensors);
    try {
      load(network, tensors, options);
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
    return await writeRun(network, recipe, classes, { from, out });
  } finally {
    disposeNetwork(network);
  }
}

/** What DataParallel, torch.compile, Lightning and training scripts put before each name of a state dict. */
const PREFIXES = ['module.', '_orig_mod.', 'model.', 'state_dict.'];

/** Letters of the prefixes that all names have, where the names of a VGG follow; else 0. */
function sharedPrefix(stored: readonly string[]): number {
  if (stored.length === 0) return 0;
  let names = stored;
  const shared = (): string | undefined => PREFIXES.find((prefix) => names.every((name) => name.startsWith(prefix)));
  for (let prefix = shared(); prefix !== undefined; prefix = shared()) {
    const { length } = prefix;
    names = names.map((name) => name.slice(length));
  }
  return names.includes(FIRST_LAYER) ? stored[0]!.length - names[0]!.length : 0;
}

/** Of a file's tensors, by name. */
type Shapes = ReadonlyMap<string, readonly number[]>;

/** Which VGG it is shows in the number of its convolutions. */
function checkLayers(shapes: Shapes, { from, model }: ImportOptions): void {
  const count = [...shapes].filter(([name, { length }]) => /^features\.\d+\.weight$/.test(name) && length === 4).length;
  if (count === vggLayerCount(model)) return;
  const other = VGG_NAMES.find((name) => vggLayerCount(name) === count);
  const found =
    other === undefined
      ? `${count} among ${shapes.size} tensors: ${[...shapes.keys()].slice(0, 10).join(', ')}`
      : `${count}, as ${other}_bn has`;
  throw new WeightsError(
    `${from}: expected the ${vggLayerCount(model)} convolutions of torchvision's ${model}_bn, got ${found}`,
  );
}

/** A tensor's size along its first dimension: outputs of a convolution or a linear layer. */
function rowsOf(shapes: Shapes, name: string, dims: number, options: ImportOptions): number {
  const { from } = options;
  const shape = shapes.get(name);
  if (shape === undefined) throw misnamed(shapes, options);
  if (shape.length !== dims) {
    throw new WeightsError(`${from}: ${name}: expected ${dims} dimensions, got [${shape.join(', ')}]`);
  }
  return shape[0]!;
}

/** The names are the same for any width, number of classes and image size: those of the smallest network tell which are missing. */
function misnamed(shapes: Shapes, { from, model }: ImportOptions): WeightsError {
  const smallest = new Vgg({ name: model, classes: 2, imageSize: 32, width: 1, seed: 0 });
  const names = [...smallest.stateDict().keys()];
  disposeNetwork(smallest);
  const mismatch = { ...namesApart(names, shapes), misshapen: [], mistyped: [] };
  return unfit({ from, model }, new StateDictError(mismatch).summary);
}

/** Throws WeightsError where names are missing or too many; it tells of shapes, too. */
function checkNames(network: Network, shapes: Shapes, { from, model }: ImportOptions): void {
  const own = network.stateDict();
  const apart = namesApart([...own.keys()], shapes);
  if (apart.missing.length + apart.unexpected.length === 0) return;
  const misshapen = [...own]
    // The first linear layer's may be rewritten.
    .filter(([name, { shape }]) => name !== FIRST_LINEAR && shapes.has(name) && `${shapes.get(name)}` !== `${shape}`)
    .map(([name, { shape }]) => ({ name, expected: shape, got: shapes.get(name)! }));
  throw unfit({ from, model }, new StateDictError({ ...apart, misshapen, mistyped: [] }).summary);
}

const namesApart = (names: readonly string[], shapes: Shapes): Pick<StateDictMismatch, 'missing' | 'unexpected'> => ({
  missing: names.filter((name) => !shapes.has(name) && !isOptional(name)),
  unexpected: [...shapes.keys()].filter((name) => !names.includes(name)),
});

const unfit = ({ from, model }: Pick<ImportOptions, 'from' | 'model'>, problems: string): WeightsError =>
  new WeightsError(`${from}: expected the tensors of torchvision's ${model}_bn; ${problems}`);

/** The oldest files lack it. */
const isOptional = (name: string): boolean => name.endsWith('num_batches_tracked');

function classesOf(shapes: Shapes, options: ImportOptions): readonly string[] {
  const count = rowsOf(shapes, LAST_LINEAR, 2, options);
  const { classes, from } = options;
  if (classes !== undefined && classes.length !== count) {
    throw new WeightsError(
      `classes: expected ${count} names, one a row of ${LAST_LINEAR} in ${from}, got ${classes.length}`,
    );
  }
  const blank = classes?.findIndex((name) => name.trim() === '') ?? -1;
  if (blank >= 0) throw new WeightsError(`classes: expected a name for each label, got none for label ${blank}`);
  return classes ?? Array.from({ length: count }, (_, label) => `class ${label}`);
}

/** The usual lists of ImageNet's classes have two cranes and two maillots: a reader of predictions is told. */
function notesOfNames(classes: readonly string[]): string[] {
  const repeated = new Set(classes.filter((name, label) => classes.indexOf(name) !== label));
  return [...repeated].map((name) => {
    const labels = [...classes.keys()].filter((label) => classes[label] === name);
    return `The classes with labels ${labels.join(' and ')} have the same name, ${name}.`;
  });
}

/** ImageNet's evaluation: the shorter side at 8/7 of that of the image size, 256 for 224, and a centre crop. */
function recipeOf(shapes: Shapes, options: ImportOptions): Recipe {
  const { model, imageSize = 224 } = options;
  const width = rowsOf(shapes, FIRST_LAYER, 4, options);
  const preset = presetRecipe('vgg11-end-to-end', { dataset: 'imagenet', model, onCuda: false });
  return overrideRecipe(preset, {
    model: { width },
    dataset: { imageSize, testResize: Math.round((Math.min(...sidesOf(imageSize)) * 8) / 7) },
    precision: 'fp32',
  });
}

function load(network: Network, tensors: StateDict, { from, model }: ImportOptions): void {
  const own = network.stateDict();
  const made: Tensor[] = [];
  const source = new Map(tensors);
  const give = (name: string, tensor: Tensor): void => {
    made.push(tensor);
    source.set(name, tensor);
  };
  try {
    for (const name of own.keys()) {
      if (isOptional(name) && !source.has(name)) give(name, zeros([], { dtype: 'int64' }));
    }
    const weight = tensors.get(FIRST_LINEAR);
    const [, imageHeight, imageWidth] = network.inputShape as [number, number, number];
    const sides = [pooledSizeOf(imageHeight), pooledSizeOf(imageWidth)] as const;
    const isAsRead = sides.every((side) => side === TORCHVISION_POOLED_SIZE);
    if (weight !== undefined && !isAsRead && readsPooled(weight, own.get(FIRST_LINEAR)!, sides)) {
      give(FIRST_LINEAR, unpooledClassifierWeight(weight, sides));
    }
    loadInto(own, source);
  } catch (error) {
    if (!(error instanceof StateDictError)) throw error;
    const { missing, unexpected, misshapen, mistyped, summary } = error;
    const isOfOtherImages =
      missing.length + unexpected.length + mistyped.length === 0 &&
      misshapen.every(({ name }) => name === FIRST_LINEAR);
    throw unfit({ from, model }, isOfOtherImages ? `${summary}; is it of another image size?` : summary);
  } finally {
    for (const tensor of made) tensor.dispose();
  }
  // As they are now: a float64 beyond float32 has become infinite.
  const values = describeUnfitValues(own);
  if (values !== null) throw new WeightsError(`${from}: ${values}`);
}

/** Whether a classifier weight reads the channels of `own` at 7 x 7, not at the network's own size. */
function readsPooled(weight: Tensor, own: Tensor, [height, width]: readonly [number, number]): boolean {
  const channels = own.shape[1]! / (height * width);
  return weight.dim === 2 && weight.shape[1] === channels * TORCHVISION_POOLED_SIZE ** 2;
}

async function writeRun(
  network: Network,
  recipe: Recipe,
  classes: readonly string[],
  { from, out }: Pick<ImportOptions, 'from' | 'out'>,
): Promise<ImportOutcome> {
  const notes = [
    `Weights imported from ${basename(from)}, not trained here: what the recipe says of training is not theirs.`,
    ...notesOfNames(classes),
    ...notesOf(recipe, network),
  ];
  const head = network.heads.at(-1)!;
  const parameters = {
    block: network.blocks.reduce((sum, block) => sum + block.parameterCount(), 0),
    head: head.parameterCount(),
  };
  const last = { ...NO_FIGURES, layer: network.blocks.length - 1, seconds: null, parameters };
  const result: RunResult = { layers: [last], seconds: 0, notes };
  return RunDirectory.fill(out, async (directory) => {
    const normalization = NORMALIZATION;
    // Where it is evaluated by default.
    const device = resolveDevice(recipe.device);
    await directory.writeConfig(describeRun({ recipe, classes, normalization, device, precision: 'fp32' }));
    await saveNetwork(network, { model: directory.model, auxiliaryHeads: null });
    const { report } = await finishRun(directory, result);
    return { runDirectory: directory.path, report, classes, notes };
  });
}
