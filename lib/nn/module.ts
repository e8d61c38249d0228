import { requireOptions } from '../options.js';
import { type Device, type DType, keep, type MemoryFormat, noGrad, scope, type Tensor } from '../tensor/index.js';
import { ModuleError, StateDictError } from './errors.js';

/** Where a module's tensors lie: what is left out stays as it is. */
export interface Placement {
  readonly device?: Device;
  /** A floating-point one; applies to floating-point tensors. */
  readonly dtype?: DType;
  /** Applies to 4-dimensional parameters. */
  readonly memoryFormat?: MemoryFormat;
}

const PLACEMENT: readonly (keyof Placement)[] = ['device', 'dtype', 'memoryFormat'];

const FLOATING: ReadonlySet<DType> = new Set<DType>(['float16', 'bfloat16', 'float32', 'float64']);

/** The tensors of a module by name, in PyTorch's order and with PyTorch's names. */
export type StateDict = Map<string, Tensor>;

/**
 * A part of a network: parameters that train, buffers that do not, and children. A subclass registers them in its
 * constructor with `parameter`, `buffer` and `child`; their names make the state dict. These throw ModuleError for a name that is
 * empty, has a dot, or is taken in this module: two tensors of one name would be one in the state dict, and the other not train.
 */
export abstract class Module {
  #training = true;
  readonly #parameters = new Map<string, Tensor>();
  readonly #buffers = new Map<string, Tensor>();
  readonly #children = new Map<string, Module>();

  /** This module's output for a batch. */
  abstract forward(input: Tensor): Tensor;

  /** Registers a tensor that trains, and gives it back. */
  protected parameter(name: string, tensor: Tensor): Tensor {
    this.#requireFreeName(name);
    tensor.requiresGrad = true;
    this.#parameters.set(name, keep(tensor));
    return tensor;
  }

  /** Registers a tensor that does not train, such as a running mean, and gives it back. */
  protected buffer(name: string, tensor: Tensor): Tensor {
    this.#requireFreeName(name);
    this.#buffers.set(name, keep(tensor));
    return tensor;
  }

  /** Registers a module as a part of this one, and gives it back. */
  protected child<M extends Module>(name: string, module: M): M {
    this.#requireFreeName(name);
    this.#children.set(name, module);
    return module;
  }

  #requireFreeName(name: string): void {
    const refuse = (problem: string): never => {
      throw new ModuleError(`${this.constructor.name}: ${problem}`);
    };
    if (typeof name !== 'string' || name === '' || name.includes('.')) {
      refuse(`expected a text without dots for the name of a parameter, buffer or child, got ${JSON.stringify(name)}`);
    }
    const isTaken = [this.#parameters, this.#buffers, this.#children].some((named) => named.has(name));
    if (isTaken) refuse(`expected another name for each parameter, buffer and child, got ${name} twice`);
  }

  /** In training, batch norm uses the batch's statistics and dropout drops. */
  get training(): boolean {
    return this.#training;
  }

  /** Puts the module and its children into training mode, or with `false` into evaluation mode. */
  train(training = true): this {
    this.#training = training;
    for (const child of this.#children.values()) child.train(training);
    return this;
  }

  /** Puts the module and its children into evaluation mode. */
  eval(): this {
    return this.train(false);
  }

  /**
   * Whether a module without parameters and buffers always computes the same function: it draws nothing, and is the same in
   * training and in evaluation. Where such a module opens a block, its outputs may be kept while the block is trained. A subclass
   * of `Module` with a `forward` of its own may say so of itself. Default: false.
   */
  get isFixed(): boolean {
    return false;
  }

  get children(): ReadonlyMap<string, Module> {
    return this.#children;
  }

  /** The parameters by name, without the buffers. */
  namedParameters(): StateDict {
    return this.#named((module) => module.#parameters);
  }

  /** Each once, also where a module is used in two places. */
  parameters(): Tensor[] {
    return [...new Set(this.namedParameters().values())];
  }

  /** The number of trained values. */
  parameterCount(): number {
    return this.parameters().reduce((sum, parameter) => sum + parameter.numel, 0);
  }

  /** Parameters and buffers by name; the tensors themselves, not copies. */
  stateDict(): StateDict {
    return this.#named((module) => [...module.#parameters, ...module.#buffers]);
  }

  #named(own: (module: Module) => Iterable<[string, Tensor]>, prefix = '', into: StateDict = new Map()): StateDict {
    for (const [name, tensor] of own(this)) into.set(prefix + name, tensor);
    for (const [name, child] of this.#children) child.#named(own, `${prefix}${name}.`, into);
    return into;
  }

  /**
   * Copies values into the module's own tensors, converting the dtype. Throws StateDictError, before anything is changed, for
   * missing, unexpected and misshapen keys, and for integers where the module has floating-point numbers.
   */
  loadStateDict(source: ReadonlyMap<string, Tensor>): void {
    loadInto(this.stateDict(), source);
  }

  /** Moves and converts every tensor of the module, in place, and the gradients with them. */
  to(placement: Placement): this {
    requireOptions(placement, 'placement', (problem) => new ModuleError(`Module.to: ${problem}`), PLACEMENT);
    const { device = null, dtype = null, memoryFormat = null } = placement;
    if (dtype !== null && !FLOATING.has(dtype)) {
      throw new ModuleError(`Module.to: expected one of ${[...FLOATING].join(', ')} for dtype, got ${String(dtype)}`);
    }
    const convert = (tensor: Tensor): Tensor =>
      tensor.detach().to({
        device,
        dtype: FLOATING.has(tensor.dtype) ? dtype : null,
        memoryFormat: tensor.dim === 4 ? memoryFormat : null,
      });
    noGrad(() => {
      for (const [, tensor] of this.stateDict()) {
        scope(() => {
          const { grad } = tensor;
          const moved = convert(tensor);
          moved.requiresGrad = tensor.requiresGrad;
          // The backward pass of a lone leaf accumulates the gradient that it is given.
          if (grad !== null) moved.backward({ gradient: convert(grad) });
          tensor.become(moved);
        });
      }
    });
    return this;
  }

  /** Frees the module's tensors. It must not be used afterwards. */
  dispose(): void {
    for (const tensor of this.stateDict().values()) tensor.dispose();
  }
}

/** Copies `source` into the tensors of `target`, strictly. */
export function loadInto(target: StateDict, source: ReadonlyMap<string, Tensor>): void {
  const missing = [...target.keys()].filter((name) => !source.has(name));
  const unexpected = [...source.keys()].filter((name) => !target.has(name));
  const misshapen = [...target]
    .filter(([name, own]) => source.has(name) && source.get(name)!.shape.join() !== own.shape.join())
    .map(([name, own]) => ({ name, expected: own.shape, got: source.get(name)!.shape }));
  const mistyped = [...target]
    .filter(([name, own]) => source.has(name) && FLOATING.has(own.dtype) && !FLOATING.has(source.get(name)!.dtype))
    .map(([name, own]) => ({ name, expected: own.dtype, got: source.get(name)!.dtype }));
  if (missing.length + unexpected.length + misshapen.length + mistyped.length > 0) {
    throw new StateDictError({ missing, unexpected, misshapen, mistyped });
  }
  noGrad(() => {
    for (const [name, own] of target) own.copy_(source.get(name)!);
  });
}
