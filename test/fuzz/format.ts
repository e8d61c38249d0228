// Fuzzing, by format: a file that is damaged in a known way gives a result or an error of the format's own, and no other end.
import { Choices } from './choices.js';
import type { Case } from './fuzzed.js';

export interface FuzzedFormat {
  readonly name: string;
  /** Good files, to be damaged. */
  seeds(): Promise<readonly Uint8Array[]>;
  /** Reads a damaged file. Throws for any end that is neither a result nor the format's own error. */
  run(damaged: Uint8Array): Promise<void>;
}

/** The mutation of a number: one of the seeds, damaged in one to four places. A pure function of its arguments. */
export function mutation(seeds: readonly Uint8Array[], position: Case): Uint8Array {
  const choices = new Choices(position);
  const below: Below = (bound) => choices.below(bound);
  let bytes = Uint8Array.from(choices.of(seeds));
  for (let damages = 1 + below(4); damages > 0 && bytes.length > 1; damages--)
    bytes = choices.of(DAMAGES)(bytes, below);
  return bytes;
}

/** An integer from 0 to `bound - 1`. */
type Below = (bound: number) => number;

type Damage = (bytes: Uint8Array, below: Below) => Uint8Array<ArrayBuffer>;

/** Near the beginning half of the time, where the headers are. */
const somewhere = (bytes: Uint8Array, below: Below): number =>
  below(below(2) === 0 ? Math.min(bytes.length, 64) : bytes.length);

const DAMAGES: readonly Damage[] = [
  // A bit.
  (bytes, below) => {
    const out = Uint8Array.from(bytes);
    out[somewhere(bytes, below)]! ^= 1 << below(8);
    return out;
  },
  // A byte, often one at a limit.
  (bytes, below) => {
    const out = Uint8Array.from(bytes);
    out[somewhere(bytes, below)] = [0, 0x7f, 0x80, 0xff, below(256)][below(5)]!;
    return out;
  },
  // Cut short.
  (bytes, below) => bytes.slice(0, somewhere(bytes, below)),
  // A part left out.
  (bytes, below) => {
    const from = somewhere(bytes, below);
    return Uint8Array.from([...bytes.subarray(0, from), ...bytes.subarray(from + 1 + below(64))]);
  },
  // A part twice.
  (bytes, below) => {
    const from = somewhere(bytes, below);
    const to = from + 1 + below(64);
    return Uint8Array.from([...bytes.subarray(0, to), ...bytes.subarray(from)]);
  },
  // A part of another place.
  (bytes, below) => {
    const out = Uint8Array.from(bytes);
    const from = below(bytes.length);
    const to = somewhere(bytes, below);
    out.set(bytes.subarray(from, Math.min(from + 1 + below(64), from + bytes.length - to)), to);
    return out;
  },
];
