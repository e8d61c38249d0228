import { Draws } from '../../lib/data/draws.js';
import type { Case } from './fuzzed.js';

/** The choices that make a case: each a pure function of the case and of how many were made before. */
export class Choices {
  readonly #draws: Draws;
  readonly #number: Int32Array;
  readonly #unit = new Float64Array(1);
  #made = 0;

  constructor({ seed, number }: Case) {
    this.#draws = new Draws({ seed });
    this.#number = Int32Array.of(number);
  }

  /** An integer from 0 to `bound - 1`. */
  below(bound: number): number {
    this.#draws.uniforms(this.#made++, 0, this.#number, this.#unit);
    return Math.floor(this.#unit[0]! * bound);
  }

  chance(probability: number): boolean {
    return this.below(2 ** 20) < probability * 2 ** 20;
  }

  of<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  list<T>(length: number, make: (i: number) => T): T[] {
    return Array.from({ length }, (_, i) => make(i));
  }
}
