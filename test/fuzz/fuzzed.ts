// What is fuzzed, and how its cases are run.
import { type FuzzedFormat, mutation } from './format.js';

/** A case is a pure function of these. */
export interface Case {
  readonly seed: number;
  readonly number: number;
}

/** A kind of input. Each case is made from its seed and number alone, so that it can be run again by itself. */
export interface Fuzzed {
  readonly name: string;
  /** Throws for any end that is neither a result nor a typed error of this project. */
  runCase(position: Case): void | Promise<void>;
}

/** Runs the cases 0 to `count - 1`. Throws on the first that ends otherwise, with what runs it again. */
export async function runCases(fuzzed: Fuzzed, { seed, count }: { seed: number; count: number }): Promise<void> {
  for (let number = 0; number < count; number++) {
    try {
      await fuzzed.runCase({ seed, number });
    } catch (error) {
      throw new Error(`${fuzzed.name}: ${again(fuzzed.name, { seed, number })}: ${String(error)}`, { cause: error });
    }
  }
}

/** The command that runs one case. */
export const again = (name: string, { seed, number }: Case): string =>
  `npm run fuzz -- --only ${name} --seed ${seed} --case ${number}`;

/** Files of a format, each damaged by its case. */
export function damagedFiles({ name, seeds, run }: FuzzedFormat): Fuzzed {
  let good: Promise<readonly Uint8Array[]> | undefined;
  return {
    name,
    async runCase(position) {
      good ??= seeds();
      await run(mutation(await good, position));
    },
  };
}
