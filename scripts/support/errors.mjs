/**
 * A failure that a person can mend. `code` is stable and meant for programs; `mend` is what to type or change, when
 * there is such a thing, and is printed on a line of its own.
 */
export class SetupError extends Error {
  constructor(code, message, { mend, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SetupError';
    this.code = code;
    this.mend = mend;
  }
}

/** One line that says what went wrong, the system's error code included where there is one. */
export function reasonOf(error) {
  if (!(error instanceof Error)) return String(error);
  const text = error.message || error.code || error.name;
  // Connecting to a name with several addresses fails with an AggregateError whose own message is empty.
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return text.trim();
}

/** What the system said: "no space left on device (ENOSPC)", without the call and the path that Node puts around it. */
export function systemReason(error) {
  const [, text] = /^\w+: (.*?), \w+/.exec(error.message ?? '') ?? [];
  return text === undefined ? reasonOf(error) : `${text} (${error.code})`;
}

/**
 * The code of an error that has one: the system's, such as ENOENT, Node's or this project's.
 * @param {unknown} error
 * @returns {string | undefined}
 */
export function codeOf(error) {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
