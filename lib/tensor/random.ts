import { type Device, deviceCode } from './device.js';
import { TensorError } from './errors.js';
import { checkOptions, DISPOSED, handleOf } from './handle.js';
import { native } from './native.js';
import { Tensor } from './tensor.js';

function checkSeed(seed: number): number {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new TensorError({
      code: 'INVALID_ARGUMENT',
      operator: 'seed',
      message: `expected an integer from 0 to 2^53 - 1 for seed, got ${String(seed)}`,
    });
  }
  return seed;
}

/** Seeds the default generator of every device. They belong to the process: workers share them. */
export function manualSeed(seed: number): void {
  native.manualSeed(checkSeed(seed));
}

/** A source of random numbers of its own. Dispose it, or declare it with `using`. */
export class Generator {
  #handle: number;

  private constructor(handle: number) {
    this.#handle = handle;
  }

  /** A new one, on `device` (default: cpu). `seed`: an integer from 0 to 2^53 - 1; throws TensorError for others. */
  static create(options: { seed: number; device?: Device }): Generator {
    checkOptions(options, 'Generator.create', ['seed', 'device']);
    return new Generator(native.createGenerator(deviceCode(options.device ?? 'cpu'), checkSeed(options.seed)));
  }

  /** The generator that operators without one of their own, such as dropout, draw from. */
  static default(device: Device = 'cpu'): Generator {
    return new Generator(native.defaultGenerator(deviceCode(device)));
  }

  /** @internal */
  get generatorHandle(): number {
    return this.#handle;
  }

  /** The state as uint8 [n], to be given to `setState` later. */
  state(): Tensor {
    return new Tensor(native.generatorState(this.#handle));
  }

  /** Goes on from a state that `state` gave, uint8 [n]. Throws TensorError for another. */
  setState(state: Tensor): void {
    native.setGeneratorState(this.#handle, handleOf(state, 'state', 'setState'));
  }

  /** Frees it. It cannot be used afterwards; a second call does nothing. */
  dispose(): void {
    if (this.#handle === DISPOSED) return;
    native.disposeGenerator(this.#handle);
    this.#handle = DISPOSED;
  }

  /** As `dispose`, at the end of a `using` declaration. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
