// What may be assumed of a module: only of modules of known classes with the methods of their class.
import { ModuleError } from './errors.js';
import type { Module } from './module.js';

type ModuleClass<M extends Module> = abstract new (...options: never[]) => M;

/** What is true of every module of a class. */
export interface Traits {
  /** The output is always memory of its own: never the input, a view of it, or a tensor of the module. */
  readonly allocates?: boolean;
  /** Takes an input of any floating-point dtype, whatever that of its own tensors is. */
  readonly anyDtype?: boolean;
  /** Always computes the same function, where its modules do: draws nothing, and is the same in training and in evaluation. */
  readonly fixed?: boolean;
}

interface Declared {
  readonly traits: Traits;
  readonly methods: readonly (readonly [name: string, method: unknown])[];
}

const declared = new Map<unknown, Declared>();

/** Declares a class, where it is defined: its methods are remembered as they are now. */
export function declareTraits(type: ModuleClass<Module>, traits: Traits = {}): void {
  const methods = Object.entries(Object.getOwnPropertyDescriptors(type.prototype))
    .filter(([name, { value }]) => name !== 'constructor' && typeof value === 'function')
    .map(([name, { value }]) => [name, value] as const);
  declared.set(type, { traits, methods });
}

/**
 * Whether a module is of this class itself, with the methods that the class was declared with, and so may be run in another way
 * than by its `forward`. Not a subclass, nor a module or a class that was given another method afterwards. Throws ModuleError
 * for a class that is not declared.
 */
export function isExactly<M extends Module>(module: Module, type: ModuleClass<M>): module is M {
  const known = declared.get(type);
  if (known === undefined) throw new ModuleError(`isExactly: expected a declared class, got ${type.name}`);
  return (
    Object.getPrototypeOf(module) === type.prototype &&
    known.methods.every(([name, method]) => Reflect.get(module, name) === method)
  );
}

/** The traits of a module's class; null where the module may have behaviour of its own. */
export function traitsOf(module: Module): Traits | null {
  const type = Object.getPrototypeOf(module).constructor as ModuleClass<Module>;
  const known = declared.get(type);
  return known !== undefined && isExactly(module, type) ? known.traits : null;
}
