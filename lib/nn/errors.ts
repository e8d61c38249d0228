export interface StateDictMismatch {
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshapen: readonly { name: string; expected: readonly number[]; got: readonly number[] }[];
}

/** A state dict does not fit a module: which keys are missing, unexpected or of another shape. */
export class StateDictError extends Error implements StateDictMismatch {
  override readonly name = 'StateDictError';
  readonly code = 'STATE_DICT_MISMATCH';
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshapen: StateDictMismatch['misshapen'];

  constructor({ missing, unexpected, misshapen }: StateDictMismatch) {
    const parts = [
      missing.length > 0 ? `missing: ${missing.join(', ')}` : '',
      unexpected.length > 0 ? `unexpected: ${unexpected.join(', ')}` : '',
      ...misshapen.map(
        ({ name, expected, got }) => `${name}: expected [${expected.join(', ')}], got [${got.join(', ')}]`,
      ),
    ].filter((part) => part !== '');
    super(`the state dict does not fit the module; ${parts.join('; ')}`);
    this.missing = missing;
    this.unexpected = unexpected;
    this.misshapen = misshapen;
  }
}

/** A file that should hold tensors does not: what is wrong, and where. */
export class SafetensorsError extends Error {
  override readonly name = 'SafetensorsError';
  readonly code = 'SAFETENSORS_CORRUPT';

  constructor(
    readonly file: string,
    problem: string,
  ) {
    super(`${file}: ${problem}`);
  }
}

/** A module was asked for with sizes that make no sense. */
export class ModuleError extends Error {
  override readonly name = 'ModuleError';
  readonly code = 'INVALID_ARGUMENT';
}
