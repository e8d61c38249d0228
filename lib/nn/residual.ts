import { requireOptions } from '../options.js';
import { scope, type Tensor } from '../tensor/index.js';
import { ReLU } from './activations.js';
import { ModuleError } from './errors.js';
import { Module } from './module.js';
import { Sequential } from './sequential.js';
import { declareTraits, isExactly, traitsOf } from './traits.js';

const OPTIONS = ['body', 'shortcut'] as const;

/**
 * body(input) + shortcut(input), with no activation after the sum (He et al. 2016, equation 1). The default shortcut is the
 * identity. Its tensors are named `body.` and `shortcut.`. Neither branch changes what the other reads: a branch that may write
 * to its input, as an in-place ReLU at its beginning does, gets a copy. Throws ModuleError for branches that do not give one
 * shape: sums are not broadcast.
 */
export class Residual extends Module {
  readonly body: Module;
  /** Null: the identity. */
  readonly shortcut: Module | null;

  constructor(options: { body: Module; shortcut?: Module | null }) {
    super();
    requireOptions(options, 'options', (problem) => new ModuleError(`Residual: ${problem}`), OPTIONS);
    const { body, shortcut = null } = options;
    requireModule('body', body);
    if (shortcut !== null) requireModule('shortcut', shortcut);
    this.body = this.child('body', body);
    this.shortcut = shortcut === null ? null : this.child('shortcut', shortcut);
  }

  forward(input: Tensor): Tensor {
    // The outputs of the branches are freed here: the gradient of a sum does not need them.
    return scope(() => {
      const body = branch(this.body, input);
      const shortcut = this.shortcut === null ? input : branch(this.shortcut, input);
      requireOneShape(body, shortcut);
      return body.add(shortcut);
    });
  }
}

function requireModule(name: string, module: unknown): void {
  if (module instanceof Module) return;
  throw new ModuleError(`Residual: expected a module for ${name}, got ${module === null ? 'null' : typeof module}`);
}

const branch = (module: Module, input: Tensor): Tensor =>
  module.forward(mayWriteToInput(module) ? input.clone() : input);

/** Throws ModuleError where the branches of a `Residual` do not give one shape. */
export function requireOneShape(body: Tensor, shortcut: Tensor): void {
  if (body.shape.join() === shortcut.shape.join()) return;
  throw new ModuleError(
    `Residual: expected one shape of body and shortcut, got [${body.shape.join(', ')}] and [${shortcut.shape.join(', ')}]`,
  );
}

/** Whether a module may write to its input. A forward pass of its own may. */
export function mayWriteToInput(module: Module): boolean {
  if (isExactly(module, ReLU)) return module.inPlace;
  if (!isExactly(module, Sequential)) return traitsOf(module) === null;
  for (const part of module.children.values()) {
    if (mayWriteToInput(part)) return true;
    // The parts that follow read memory that this one allocated.
    if (traitsOf(part)?.allocates === true) return false;
  }
  return false;
}

declareTraits(Residual, { allocates: true, fixed: true });
