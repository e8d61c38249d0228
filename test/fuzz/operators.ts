// Calls of operators with whatever a caller without types may pass.
import { readFileSync } from 'node:fs';
import * as library from '../../lib/tensor/index.js';
import {
  autocast,
  Generator,
  inferenceMode,
  memoryStats,
  noGrad,
  scope,
  Tensor,
  TensorError,
} from '../../lib/tensor/index.js';
import { Choices } from './choices.js';
import type { Fuzzed } from './fuzzed.js';
import { anyDType, anyShape, anyTensor, elements, laidOut } from './tensors.js';

interface Argument {
  readonly type: string;
  readonly name: string;
  readonly isOption: boolean;
}

interface Operator {
  readonly name: string;
  /** Whether it is more than a call of LibTorch's function. */
  readonly isOwn: boolean;
  readonly args: readonly Argument[];
}

const operatorsFile = new URL('../../native/operators.json', import.meta.url);
const OPERATORS: readonly Operator[] = (
  JSON.parse(readFileSync(operatorsFile, 'utf8')) as { schema: string; call?: string }[]
).map(({ schema, call }) => {
  const [, name, list] = /^(\w+)\((.*)\) ->/.exec(schema)!;
  const [positional, options] = list!.split(/, \*, /).map((part) => part.split(', '));
  const argument = (isOption: boolean) => (text: string) => {
    const [type, nameAndDefault] = text.split(' ');
    return { type: type!, name: nameAndDefault!.split('=')[0]!, isOption };
  };
  const isOwn = call !== undefined && !call.startsWith('at::');
  return { name: name!, isOwn, args: [...positional!.map(argument(false)), ...(options ?? []).map(argument(true))] };
});

const OWN_OPERATORS = OPERATORS.filter(({ isOwn }) => isOwn);

/** What a getter throws in the middle of a call. */
class Mischief extends Error {}

const NO_TENSORS = [undefined, null, 3, 'x', {}, { handle: 1 }, [], () => 1];
const NO_NUMBERS = [undefined, null, 'x', {}, 1n, [1]];
/** 2^48 and more: what cannot be allocated anywhere, so that no case takes the machine's memory. */
const ODD_INTEGERS = [-1, -2, 7, 0.5, NaN, Infinity, 2 ** 48 + 1, 2 ** 53 - 1, 2 ** 53, -(2 ** 53 - 1), -(2 ** 32) - 1];
/** Names of numbers that nothing is allocated by: those that a narrowing to 32 bits would make small may come too. */
const INDICES = ['dim', 'dim0', 'dim1', 'startDim', 'endDim', 'index', 'start', 'k', 'groups'];
const ODD_INDICES = [2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 31 - 1];
const ODD_FLOATS = [-1, NaN, Infinity, 1e300, 1e-300, 2, 300, -0];

/** The arguments of one call. */
class Arguments {
  readonly #choices: Choices;
  readonly #operator: string;
  /** The good tensors so far: others take after them, or are the same again. */
  readonly tensors: Tensor[] = [];

  constructor(choices: Choices, operator: string) {
    this.#choices = choices;
    this.#operator = operator;
  }

  make({ type, name }: Argument): unknown {
    const choices = this.#choices;
    if (type.endsWith('?') && choices.chance(0.3)) return null;
    switch (type.replace('?', '')) {
      case 'Operand':
        return choices.chance(0.4) ? this.#number() : this.#tensor(name);
      case 'Tensor':
        return choices.chance(0.03) ? choices.of(NO_TENSORS) : this.#tensor(name);
      case 'Tensor[]':
        return this.#tensors(name);
      case 'int':
        return this.#integer(name);
      case 'int[]':
        return this.#integers(name);
      case 'int[2]':
        return choices.chance(0.5) ? this.#integer(name) : this.#list([this.#integer(name), this.#integer(name)]);
      case 'bool':
        return choices.chance(0.97) ? choices.chance(0.5) : choices.of(NO_NUMBERS);
      case 'DType':
        return choices.chance(0.9) ? anyDType(choices) : choices.of(['x', 6, {}, 'complex64']);
      case 'Device':
        return choices.chance(0.7) ? choices.of(['cpu', 'meta']) : choices.of(['cuda', 'cuda:1', 'cuda:999', 'x', 0]);
      case 'MemoryFormat':
        return choices.of(['contiguous', 'channelsLast', 'preserve', 'x', 2]);
      case 'Reduction':
        return choices.of(['none', 'mean', 'sum', 'sum', 'x', 1]);
      case 'GeluApproximation':
        return choices.of(['none', 'tanh', 'x', 1]);
      case 'Generator':
        return this.#generator();
      default:
        return this.#number();
    }
  }

  #number(): unknown {
    const choices = this.#choices;
    if (choices.chance(0.8)) return choices.of([0, 1, -1, 2, 0.5, 0.1, 3]);
    return choices.chance(0.8) ? choices.of([...ODD_FLOATS, ...ODD_INTEGERS]) : choices.of(NO_NUMBERS);
  }

  #integer(name: string): unknown {
    const choices = this.#choices;
    if (choices.chance(0.85)) {
      if (/^(kernelSize|stride|dilation|groups)$/.test(name)) return 1 + choices.below(choices.chance(0.7) ? 2 : 4);
      return choices.below(4) - (INDICES.includes(name) && choices.chance(0.3) ? 4 : 0);
    }
    if (choices.chance(0.1)) return choices.of(NO_NUMBERS);
    return choices.of(INDICES.includes(name) ? [...ODD_INTEGERS, ...ODD_INDICES] : ODD_INTEGERS);
  }

  /** Mostly one that the operator takes, by the shape of self. */
  #integers(name: string): unknown {
    const choices = this.#choices;
    const shape = shapeOf(this.tensors[0]);
    if (choices.chance(0.03)) return choices.of(NO_TENSORS);
    if (choices.chance(0.3)) return this.#list(choices.list(choices.below(5), () => this.#integer(name)));
    if (name === 'padding')
      return this.#list(choices.list(2 * choices.below(shape.length + 1), () => choices.below(3)));
    if (this.#operator === 'reshape') return this.#list(choices.of([[-1], [elements(shape)], [...shape].reverse()]));
    if (this.#operator === 'expand') return this.#list(shape.map((size) => (size === 1 ? choices.below(4) : size)));
    const dims = shape.map((_, i) => i);
    for (let i = dims.length - 1; i > 0; i--) {
      const j = choices.below(i + 1);
      [dims[i], dims[j]] = [dims[j]!, dims[i]!];
    }
    return this.#list(this.#operator === 'permute' ? dims : dims.slice(0, choices.below(dims.length + 1)));
  }

  #tensors(name: string): unknown {
    const choices = this.#choices;
    if (choices.chance(0.03)) return choices.of(NO_TENSORS);
    const list = choices.list(choices.below(4), (): unknown =>
      choices.chance(0.02) ? choices.of(NO_TENSORS) : this.#tensor(name),
    );
    return this.#list(list);
  }

  #tensor(name: string): Tensor {
    const choices = this.#choices;
    const self = this.tensors[0];
    if (self !== undefined && choices.chance(0.05)) return choices.of(this.tensors);
    const made = self === undefined ? this.#first() : this.#beside(self, name);
    this.tensors.push(made);
    return made;
  }

  #first(): Tensor {
    const choices = this.#choices;
    const isOfMaps = /2d$|Norm/.test(this.#operator) && choices.chance(0.85);
    const isMatrix = /^cholesky|^crossEntropy$|^linear$/.test(this.#operator) && choices.chance(0.8);
    const shape = anyShape(choices, isOfMaps ? 4 : isMatrix ? 2 : undefined);
    if (this.#operator === 'cholesky' && shape.length === 2) shape[1] = shape[0]!;
    return anyTensor(choices, shape, this.#operator === 'where' && choices.chance(0.8) ? 'bool' : anyDType(choices));
  }

  #beside(self: Tensor, name: string): Tensor {
    const choices = this.#choices;
    const shape = shapeOf(self);
    const dtype = choices.chance(0.8) && !self.isDisposed ? self.dtype : anyDType(choices);
    if (choices.chance(0.06)) return anyTensor(choices, anyShape(choices), anyDType(choices));
    if (['index', 'target', 'indices'].includes(name)) {
      const rank = this.#operator === 'gather' ? shape.length : 1;
      const own = name === 'target' ? shape.slice(0, 1) : anyShape(choices, rank);
      return anyTensor(choices, own, choices.chance(0.9) ? 'int64' : dtype);
    }
    const channels = shape[1] ?? 1;
    if (/Norm/.test(this.#operator)) {
      const own = choices.chance(0.95) ? 'float32' : dtype;
      // Statistics that require gradients are refused.
      return choices.chance(0.9) ? laidOut(choices, [channels], own) : anyTensor(choices, [channels], own);
    }
    const rows = 1 + choices.below(4);
    const weight = this.tensors[1];
    if (name === 'bias') return anyTensor(choices, shapeOf(weight).slice(0, 1), dtype);
    if (this.#operator === 'linear') return anyTensor(choices, [rows, shape.at(-1) ?? 1], dtype);
    if (this.#operator === 'matmul') return anyTensor(choices, [...shape.slice(0, -2), shape.at(-1) ?? 1, rows], dtype);
    if (this.#operator === 'conv2d') {
      return anyTensor(choices, [rows, channels, 1 + choices.below(3), 1 + choices.below(3)], dtype);
    }
    return anyTensor(
      choices,
      choices.chance(0.3) ? shape.map((size) => (choices.chance(0.3) ? 1 : size)) : shape,
      dtype,
    );
  }

  #generator(): unknown {
    const choices = this.#choices;
    switch (choices.below(4)) {
      case 0:
        return null;
      case 1: {
        const generator = Generator.create({ seed: 1 });
        generator.dispose();
        return generator;
      }
      case 2:
        return choices.of([
          {},
          3,
          this.#tensor('generator'),
          { generatorHandle: 2 ** 32 + 1 },
          { generatorHandle: -1 },
        ]);
      default:
        return { generatorHandle: 1 + choices.below(3) };
    }
  }

  /** A list, now and then one that does something while it is read. */
  #list(list: unknown[]): unknown {
    if (list.length === 0 || this.#choices.chance(0.93)) return list;
    const i = this.#choices.below(list.length);
    return this.meddling(list, i, list[i]);
  }

  /** Gives `target` a getter for `key` that meddles with what the call reads. */
  meddling<T extends object>(target: T, key: string | number, value: unknown): T {
    const choices = this.#choices;
    const victim = this.tensors.length === 0 ? undefined : choices.of(this.tensors);
    const deeds = [
      () => victim?.dispose(),
      () => library.zeros([3]),
      () => {
        if (Array.isArray(target)) target.length = 0;
      },
      () => {
        throw new Mischief('by a getter');
      },
      () => {
        victim?.dispose();
        for (let n = 0; n < 4; n++) library.zeros([2 ** n]);
      },
    ];
    const deed = choices.of(deeds);
    return Object.defineProperty(target, key, {
      configurable: true,
      enumerable: true,
      get: () => {
        deed();
        return value;
      },
    });
  }
}

const shapeOf = (tensor: Tensor | undefined): readonly number[] =>
  tensor === undefined || tensor.isDisposed ? [] : tensor.shape;

type AnyFunction = (this: unknown, ...args: unknown[]) => unknown;

function call({ name, args }: Operator, choices: Choices): void {
  const made = new Arguments(choices, name);
  const positional: unknown[] = [];
  const options: Record<string, unknown> = {};
  for (const argument of args) {
    if (!argument.isOption) positional.push(made.make(argument));
    else if (choices.chance(0.5)) options[argument.name] = made.make(argument);
  }
  for (const key of Object.keys(options)) if (choices.chance(0.03)) made.meddling(options, key, options[key]);

  const given = [...positional];
  const isMethod = args[0]!.name === 'self';
  const self: unknown = isMethod ? positional.shift() : undefined;
  if (isMethod && !(self instanceof Tensor)) return;
  const operator = ((isMethod ? self : library) as Readonly<Record<string, AnyFunction>>)[name]!;
  if (args.some(({ isOption }) => isOption)) positional.push(options);

  const changed = args.flatMap(({ name: argument }, i) =>
    argument.startsWith('running') || (argument === 'self' && name.endsWith('_')) ? [given[i]] : [],
  );
  const unchanged = made.tensors.filter((tensor) => !changed.includes(tensor));
  const before = unchanged.map(bytesOf);
  const result = inSomeMode(choices, () => operator.apply(self, positional));
  unchanged.forEach((tensor, i) => {
    const [was, is] = [before[i]!, bytesOf(tensor)];
    if (was !== null && is !== null && !was.equals(is)) throw new Error(`${name} changed its argument ${i}`);
  });
  const results = result instanceof Tensor ? [result] : (Object.values(result as object) as unknown[]);
  for (const tensor of results) if (tensor instanceof Tensor) use(tensor, choices);
}

function inSomeMode<T>(choices: Choices, body: () => T): T {
  switch (choices.below(10)) {
    case 0:
      return noGrad(body);
    case 1:
      return inferenceMode(body);
    case 2:
      return autocast({ device: 'cpu', dtype: choices.of(['bfloat16', 'float16']) }, body);
    default:
      return body();
  }
}

function bytesOf(tensor: Tensor): Buffer | null {
  if (tensor.isDisposed || tensor.device !== 'cpu') return null;
  const { buffer } = tensor.detach().toTypedArray();
  return Buffer.from(buffer);
}

/** Reads what a result says of itself, and sends a gradient back. */
function use(tensor: Tensor, choices: Choices): void {
  void [
    tensor.shape,
    tensor.strides,
    tensor.dtype,
    tensor.byteLength,
    tensor.isContiguous('channelsLast'),
    `${tensor}`,
  ];
  if (tensor.requiresGrad && choices.chance(0.5)) tensor.sum().backward();
  if (choices.chance(0.1)) tensor.item();
  if (choices.chance(0.05)) tensor.backward({ gradient: choices.chance(0.5) ? tensor : (3 as never) });
  if (choices.chance(0.1)) tensor.requiresGrad = choices.chance(0.5);
  tensor.toTypedArray();
}

/** Operators of native/operators.json, on tensors of any kind, with arguments of any kind. */
export const operators: Fuzzed = {
  name: 'operators',
  runCase(position) {
    const choices = new Choices(position);
    const before = memoryStats();
    try {
      scope(() => call(choices.of(choices.chance(0.3) ? OWN_OPERATORS : OPERATORS), choices));
    } catch (error) {
      if (!(error instanceof TensorError) && !(error instanceof Mischief)) throw error;
    }
    const after = memoryStats();
    if (after.liveTensors !== before.liveTensors)
      throw new Error(`${after.liveTensors - before.liveTensors} tensors leaked`);
  },
};
