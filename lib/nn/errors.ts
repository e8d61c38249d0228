import { LayerwiseError } from '../errors.js';
import type { DType } from '../tensor/index.js';

/**
 * How a state dict differs from the one that was expected, key by key: keys that are missing or too many, shapes and dtypes
 * that do not fit.
 */
export interface StateDictMismatch {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshapen: readonly { name: string; expected: readonly number[]; got: readonly number[] }[];
  /** Integers for a floating-point tensor: quantised weights, whose scale is elsewhere. */
  readonly mistyped: readonly { name: string; expected: DType; got: DType }[];
}

/** A state dict does not fit a module: keys are missing, unexpected, of another shape, or integers for floating-point numbers. */
export class StateDictError extends LayerwiseError implements StateDictMismatch {
  override readonly name = 'StateDictError';
  readonly code = 'STATE_DICT_MISMATCH';
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshapen: StateDictMismatch['misshapen'];
  readonly mistyped: StateDictMismatch['mistyped'];
  /** All of it in words: the first ten keys of each, and how many more there are. */
  readonly summary: string;

  constructor(mismatch: StateDictMismatch) {
    const summary = describeMismatch(mismatch);
    super(`the state dict does not fit the module; ${summary}`);
    this.summary = summary;
    this.missing = mismatch.missing;
    this.unexpected = mismatch.unexpected;
    this.misshapen = mismatch.misshapen;
    this.mistyped = mismatch.mistyped;
  }
}

/** Keys of each kind that a message names. */
const NAMED = 10;

function describeMismatch({ missing, unexpected, misshapen, mistyped }: StateDictMismatch): string {
  const some = (what: string, texts: readonly string[]): string[] => {
    if (texts.length === 0) return [];
    const more = texts.length > NAMED ? ` and ${texts.length - NAMED} more` : '';
    return [`${what}${texts.slice(0, NAMED).join(', ')}${more}`];
  };
  const shapes = misshapen.map(
    ({ name, expected, got }) => `${name}: expected [${expected.join(', ')}], got [${got.join(', ')}]`,
  );
  const dtypes = mistyped.map(({ name, expected, got }) => `${name}: expected ${expected}, got ${got}`);
  return [
    ...some('missing: ', missing),
    ...some('unexpected: ', unexpected),
    ...some('', shapes),
    ...some('', dtypes),
  ].join('; ');
}

/**
 * A file that should hold tensors does not: what is wrong, and where. SAFETENSORS_CORRUPT for one that is damaged or breaks the
 * format's rules, SAFETENSORS_UNSUPPORTED for a dtype that is not read, NOT_SAFETENSORS for a file of another format.
 */
export class SafetensorsError extends LayerwiseError {
  override readonly name = 'SafetensorsError';

  constructor(
    readonly file: string,
    problem: string,
    readonly code: 'SAFETENSORS_CORRUPT' | 'SAFETENSORS_UNSUPPORTED' | 'NOT_SAFETENSORS' = 'SAFETENSORS_CORRUPT',
  ) {
    super(`${file}: ${problem}`);
  }
}

/** A module was asked for with options that make no sense, or given an input that it cannot take. */
export class ModuleError extends LayerwiseError {
  override readonly name = 'ModuleError';
  readonly code = 'INVALID_ARGUMENT';
}
